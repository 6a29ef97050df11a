"""The gate over real detectors: what passes, what is refused and why, and what nobody can tell."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from finished_runs import PARAMS, PipelineRun
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.data.manifest import build_manifest, write_manifest
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.model.modulation import Modulation
from reconpatch.settings import DataSettings
from reconpatch.storage.detector_folder import write_model
from tasks.registry import gate_check
from tasks.registry.champion_change import hold_model
from tasks.registry.gate_policy import POLICY
from tasks.registry.gate_rules import CANNOT_TELL, FAILED, PASSED, REFUSED, UNDECIDED
from tasks.registry.promotion import read_log, roll_back
from tasks.registry.register import register_run
from tasks.registry.registered_model import RegisteredModel
from tasks.stages.evaluate import write_evaluation

NAME = "reconpatch-tiny-nut"


def write_category(root: Path, tested: int = 12, seed: int = 0) -> Path:
    """8 training images; ``tested`` nominal and as many dented test images, dents from faint to plain."""
    random = np.random.default_rng(seed)
    for number in range(8):
        _write(root / "train" / "good" / f"{number}.png", _texture(random))
    for number in range(tested):
        _write(root / "test" / "good" / f"{number:02}.png", _texture(random))
        image, mask = _texture(random), np.zeros((64, 64), np.uint8)
        top, left = random.integers(6, 40, 2)
        mask[top : top + 16, left : left + 16] = 255
        image[mask > 0] -= np.uint8(4 + 4 * number)
        _write(root / "test" / "dent" / f"{number:02}.png", image)
        _write(root / "ground_truth" / "dent" / f"{number:02}_mask.png", mask)
    return root


def _texture(random: np.random.Generator) -> np.ndarray:
    return random.integers(110, 120, (64, 64, 3)).astype(np.uint8)


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def spoil(detector: Path, folder: Path) -> Path:
    """The same detector with a head that throws every feature away."""
    parts = ReConPatch.load(detector).parts
    head = parts.modulation
    spoiled = Modulation(head.weight.detach() * 0, head.mean, head.scale)
    write_model(folder, replace(parts, modulation=spoiled))
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(images, detector, the detector spoiled)."""
    folder = tmp_path_factory.mktemp("fitted")
    images = write_category(folder / "nut")
    ReConPatch(params=PARAMS).fit(images).save(folder / "detector")
    return images, folder / "detector", spoil(folder / "detector", folder / "spoiled")


@pytest.fixture(autouse=True)
def _short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_check, "_ROUNDS", 1)
    monkeypatch.setattr(gate_check, "_MOST_ROUNDS", 1)
    monkeypatch.setattr(gate_check, "_TIMED", 2)


@pytest.fixture
def run(fitted, mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineRun:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    shutil.copytree(fitted[0], tmp_path / "data" / "tiny" / "nut")
    return PipelineRun(tmp_path, detector=fitted[1], images=tmp_path / "data" / "tiny" / "nut")


def register(run: PipelineRun, detector: Path, nudge: float = 0.0) -> RegisteredModel:
    """Evaluate a detector for real, and register it as a run of the pipeline does."""
    shutil.rmtree(run.root / "outputs", ignore_errors=True)
    finished = replace(run, detector=detector).finish()
    table = build_manifest(run.images, DataSettings())
    evaluation = evaluate(ReConPatch.load(detector), table, run.settings("evaluate.pictures=0"))
    noise = np.random.default_rng(7).normal(0, nudge, len(evaluation.table))
    nudged = evaluation.table.assign(score=evaluation.table["score"] + noise)
    evaluation = replace(evaluation, table=nudged, metrics=evaluation.metrics | {"nudge": nudge})
    shutil.rmtree(finished.folder)
    finished.folder.mkdir()
    write_evaluation(evaluation, finished.folder, {})
    write_manifest(table, finished.job.folder("validate") / "manifest.parquet")
    return register_run(run.settings(), [finished])[0]


def verdict_of(model: RegisteredModel, rule: str) -> tuple[str, str]:
    (found,) = (one for one in model.gate.results if one.rule.startswith(rule))
    return found.verdict, found.finding


def policy(run: PipelineRun, text: str) -> None:
    """Another policy than the one that finished runs come with."""
    (run.root / POLICY).parent.mkdir(exist_ok=True)
    (run.root / POLICY).write_text(text)


def test_a_spoiled_head_is_refused_with_the_rule_named(run: PipelineRun, fitted) -> None:
    first = register(run, fitted[1])
    assert first.aliases == ("challenger", "champion")
    spoiled = register(run, fitted[2])
    assert spoiled.aliases == ()
    assert spoiled.gate.outcome == REFUSED
    verdict, finding = verdict_of(spoiled, "image_auroc not worse")
    assert verdict == FAILED
    assert finding.startswith("worse: -0.")
    assert verdict_of(spoiled, "aupro not worse")[0] == FAILED
    assert "image_auroc not worse" in spoiled.gate.broken()
    aliases = {key: str(value) for key, value in run.client.get_registered_model(NAME).aliases.items()}
    assert aliases == {"challenger": "1", "champion": "1"}
    tags = run.client.get_model_version(NAME, "2").tags
    assert tags["gate"] == REFUSED
    assert '"verdict": "FAILED"' in tags["gate_table"]
    rows = run.client.get_registered_model(NAME).description.splitlines()[4:]
    assert [row.split()[1] for row in rows] == ["1", "2"]  # the best first
    assert "| refused |" in rows[1]


def test_the_first_version_is_champion_with_its_event_and_gate_table(run: PipelineRun, fitted) -> None:
    model = register(run, fitted[1])
    (entry,) = read_log(NAME, settings=run.settings(), project=run.root)
    assert (entry.event.kind, entry.event.to_version, entry.is_done) == ("first", "1", True)
    assert list(entry.event.gate_table) == model.gate.table
    assert len(entry.event.evaluation_set) == 64
    # No git and no DVC here: lineage is not complete, so a person decides; nothing passes silently.
    assert model.gate.outcome == UNDECIDED
    assert verdict_of(model, "lineage")[0] == CANNOT_TELL
    assert verdict_of(model, "image_auroc not worse") == (PASSED, "there is no champion yet")


def test_noise_is_never_better(run: PipelineRun, fitted) -> None:
    policy(run, "not_worse: {image_auroc: 0.01}\nlatency_ratio: 100\n")
    register(run, fitted[1])
    nudged = register(run, fitted[1], nudge=1e-3)
    _, finding = verdict_of(nudged, "image_auroc not worse")
    assert not finding.startswith("better")
    assert nudged.gate.outcome == UNDECIDED
    assert nudged.aliases == ("challenger",)
    verdict, finding = verdict_of(nudged, "at most 100 times")
    assert " s and " in finding
    assert verdict == PASSED


IMAGES_ONLY = "minimum: {image_auroc: 0.5}\nnot_worse: {image_auroc: 0.01}\n"


def test_six_images_cannot_tell(fitted, mlflow_template: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    images = write_category(tmp_path / "data" / "tiny" / "nut", tested=3, seed=1)
    run = PipelineRun(tmp_path, detector=fitted[1], images=images)
    policy(run, IMAGES_ONLY)
    register(run, fitted[1])
    spoiled = register(run, fitted[2])
    verdict, finding = verdict_of(spoiled, "image_auroc not worse")
    assert verdict == CANNOT_TELL
    assert "too small: 3 groups" in finding
    assert "may go unseen" in finding


def test_another_test_set_scores_the_champion_again(run: PipelineRun, fitted) -> None:
    policy(run, IMAGES_ONLY)
    first = register(run, fitted[1])
    (run.images / "test" / "good" / "00.png").unlink()
    second = register(run, fitted[2])
    assert second.gate.champion == first.version
    verdict, finding = verdict_of(second, "image_auroc not worse")
    assert (verdict, finding.startswith("worse: -0.")) == (FAILED, True)
    assert second.gate.evaluation_set != first.gate.evaluation_set


def test_missing_images_are_named_and_do_not_pass(run: PipelineRun, fitted, monkeypatch) -> None:
    register(run, fitted[1])
    policy(run, "not_worse: {}\nlatency_ratio: 1.5\nlineage: []\n")
    monkeypatch.setattr(gate_check, "sha256_file", lambda _: "other")
    second = register(run, fitted[1], nudge=1e-3)
    verdict, finding = verdict_of(second, "at most 1.5 times")
    assert verdict == CANNOT_TELL
    assert "is another image" in finding


def test_without_a_test_image_seconds_are_measured_on_held_out_ones(run: PipelineRun, fitted) -> None:
    policy(run, "minimum: {image_auroc: 0.5}\nnot_worse: {image_auroc: 0.01}\nlatency_ratio: 100\n")
    shutil.rmtree(run.images / "test")
    register(run, fitted[1])
    second = register(run, fitted[1], nudge=1e-3)
    verdict, finding = verdict_of(second, "at most 100 times")
    assert (verdict, finding.count(" s")) == (PASSED, 2)
    assert (second.gate.outcome, second.gate.broken()) == (UNDECIDED, "")
    assert second.aliases == ("challenger",)


def test_where_nothing_can_be_timed_a_person_decides(run: PipelineRun, fitted, monkeypatch) -> None:
    shutil.rmtree(run.images / "test")
    register(run, fitted[1])
    monkeypatch.setattr(gate_check, "heldout_rows", lambda _, table: table.head(0))
    second = register(run, fitted[1], nudge=1e-3)
    verdict, finding = verdict_of(second, "at most 1.5 times")
    assert verdict == CANNOT_TELL
    assert "neither a test image nor a held-out nominal one" in finding
    assert second.gate.outcome == UNDECIDED


def test_the_log_says_what_registration_and_the_gate_are_at(run: PipelineRun, fitted, caplog) -> None:
    register(run, fitted[1])
    (run.images / "test" / "good" / "00.png").unlink()
    caplog.clear()
    with caplog.at_level("INFO", logger="tasks"):
        register(run, fitted[1], nudge=1e-3)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("tasks.")]
    assert told[:-1] == [
        f"{NAME}: is being registered (tf_efficientnet_lite0)",
        f"registered {NAME}, version 2",
        f"{NAME}: version 2 goes through the gate against version 1",
        "gate: seconds an image of both versions are measured",
        "gate: version 1 is scored again on 23 images",
        "gate: image_auroc of both versions is compared on 23 images",
        "gate: aupro of both versions is compared on 23 images",
    ]


def test_the_best_former_champion_is_compared_with(run: PipelineRun, fitted) -> None:
    policy(run, IMAGES_ONLY + "broken_gate: keep\n")
    register(run, fitted[1])
    settings = run.settings()
    second = register(run, fitted[2])
    # As if the second had come in by many small steps: champion without having broken the gate.
    run.client.delete_registered_model_alias(NAME, "challenger")
    with hold_model(NAME, settings, run.root) as registry:
        registry.move("promotion", "1", second.version, "ada", "a small step", None, broken=False)
    third = register(run, fitted[2], nudge=1e-3)
    verdict, finding = verdict_of(third, "image_auroc not worse than the best former champion's (version 1)")
    assert (verdict, finding.startswith("worse: -0.")) == (FAILED, True)
    assert third.gate.best == {"image_auroc": "1"}
    # Gone back from: no reference any more, so that there is none but the champion.
    roll_back(NAME, "misses dents", settings=settings, project=run.root)
    fourth = register(run, fitted[2], nudge=2e-3)
    assert [one.rule for one in fourth.gate.results if "not worse" in one.rule] == [
        "image_auroc not worse than the champion's (version 1) by 0.01"
    ]


def test_by_policy_a_candidate_that_passed_is_promoted(run: PipelineRun, fitted) -> None:
    register(run, fitted[2])
    text = "promotion: automatic\nnot_worse: {image_auroc: 0.01}\nlineage: []\ndata_checks: false\n"
    policy(run, text)
    better = register(run, fitted[1])
    assert verdict_of(better, "image_auroc not worse")[1].startswith("better: +0.")
    assert better.aliases == ("challenger", "champion")
    last = read_log(NAME, settings=run.settings(), project=run.root)[-1].event
    assert (last.kind, last.who, last.gate) == ("promotion", "policy", "passed")

"""Updates and timings of real detectors on tiny images with the embedded weights."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from reconpatch import ReConPatch
from reconpatch.cli import app
from reconpatch.errors import DataError, ModelError
from reconpatch.evaluation.speed import measure_speed

TINY = {
    "features.image_size": 64,
    "modulation.dim": 160,
    "modulation.steps": 10,
    "modulation.batch_size": 64,
    "coreset.ratio": 0.1,
    "calibrate.holdout": 0.3,
    "threads": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve good images under good/, of which four come later, under later/."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(12):
        path = root / ("good" if i < 8 else "later") / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        grey = rng.normal(128, 12, (64, 64, 1)).clip(0, 255).astype(np.uint8)
        Image.fromarray(grey.repeat(3, axis=2)).save(path)
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def fitted(folder, cache, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "fitted"
    ReConPatch(params=TINY, cache=cache).fit(folder / "good").save(path)
    return path


@pytest.mark.parametrize("mode", ["frozen", "fine-tune"])
def test_an_update_is_calibrated_on_old_and_new_held_out_images_by_the_detector_that_ships(
    fitted, folder, cache, tmp_path, mode
):
    before = ReConPatch.load(fitted, threads=1)
    ReConPatch.load(fitted, threads=1, cache=cache).update(folder / "later", mode=mode).save(tmp_path / "m")
    after = ReConPatch.load(tmp_path / "m", threads=1)
    held = after.parts.training_set.holdout
    assert (len(before.parts.training_set.holdout), len(held)) == (3, 5)
    assert after.calibration.threshold.n == 5
    assert not after.calibration.carried_over
    assert len(after.parts.bank) == len(before.parts.bank) + round(0.1 * 2 * 64)
    paths = [p for p in sorted(folder.rglob("*.png")) if hashlib.sha256(p.read_bytes()).hexdigest() in held]
    scores = [prediction.score for prediction in after.predict(paths)]
    assert after.threshold == pytest.approx(max(scores), rel=1e-6)
    same_f = np.array_equal(after.parts.modulation.weight.detach(), before.parts.modulation.weight.detach())
    assert same_f == (mode == "frozen")


def test_held_out_images_are_found_among_the_earlier_ones_as_in_the_cache(fitted, folder, cache, tmp_path):
    ReConPatch.load(fitted, threads=1, cache=cache).update(folder / "later").save(tmp_path / "a")
    ReConPatch.load(fitted, threads=1).update(folder / "later", earlier=folder / "good").save(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_without_the_held_out_images_the_threshold_is_carried_over(fitted, folder, tmp_path):
    detector = ReConPatch.load(fitted, threads=1)
    threshold = detector.calibration.threshold
    detector.update(folder / "later").save(tmp_path / "m")
    loaded = ReConPatch.load(tmp_path / "m", threads=1)
    assert loaded.calibration.threshold == threshold
    assert loaded.calibration.carried_over
    with pytest.raises(ModelError, match="only 2 of the 3 held-out groups"):
        ReConPatch.load(fitted, threads=1).update(folder / "later", mode="fine-tune")


def test_known_images_are_passed_over(fitted, folder):
    detector = ReConPatch.load(fitted, threads=1)
    parts = detector.parts
    with pytest.raises(DataError, match="knows all 8 images"):
        detector.update(folder / "good")
    assert detector.parts is parts
    detector.update([folder / "good", folder / "later" / "08.png"])
    assert len(detector.parts.training_set) == 9
    assert detector.parts.training_set.updates == 1


def test_update_on_the_command_line(fitted, folder, cache, tmp_path):
    arguments = ["update", str(fitted), str(folder / "later"), "--out", str(tmp_path / "m")]
    arguments += ["--cache", str(cache), "--json", str(tmp_path / "m.json")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "4 new images added" in result.output
    values = json.loads((tmp_path / "m.json").read_text())
    assert (values["n_train"], values["carried_over"]) == (12, False)
    assert ReConPatch.load(tmp_path / "m").threshold == values["threshold"]


def test_bench(fitted, folder):
    detector = ReConPatch.load(fitted, threads=1)
    speed = measure_speed(detector, sorted((folder / "later").iterdir()), samples=6, warm_up=1)
    assert 0 < speed.latency_p50_ms <= speed.latency_p95_ms
    assert speed.images_per_second > 0
    assert 50 < speed.peak_rss_mib < 1e5
    assert (speed.samples, speed.threads) == (6, 1)
    with pytest.raises(DataError, match="no image was given"):
        measure_speed(detector, [])


def test_bench_on_the_command_line(fitted, folder, tmp_path):
    arguments = ["bench", str(fitted), str(folder / "later"), "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "s.json")], catch_exceptions=False)
    assert result.exit_code == 0
    assert "images/s" in result.output
    assert json.loads((tmp_path / "s.json").read_text())["samples"] == 100


def test_new_images_of_a_known_group_stay_on_its_side(folder, cache, tmp_path):
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        part, when = (i, "old") if i < 6 else (i - 4, "new")  # the last four again, and two others
        new = tmp_path / when / f"part{part}_{when}.png"
        new.parent.mkdir(exist_ok=True)
        new.write_bytes(path.read_bytes())
    for seed in range(3):
        params = {**TINY, "data.group_pattern": r"(part\d)_", "seed": seed}
        detector = ReConPatch(params=params, cache=cache).fit(tmp_path / "old")
        before = detector.training_set
        detector.update(tmp_path / "new")
        after = detector.training_set
        assert set(before.holdout_groups) <= set(after.holdout_groups)
        assert set(before.fit_groups) <= set(after.fit_groups)
        assert not set(after.holdout_groups) & set(after.fit_groups)
        assert detector.calibration.threshold.n == len(set(after.holdout_groups))


def test_parts_that_are_named_only_at_the_update_stay_on_their_side_too(folder, cache, tmp_path):
    digests = {}
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        name = f"part{i % 6}_{'old' if i < 6 else 'new'}"
        (tmp_path / f"{name}.png").write_bytes(path.read_bytes())
        digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    # Fitted on a list, each image is its own group.
    detector = ReConPatch(params={**TINY, "data.group_pattern": r"(part\d)_"}, cache=cache)
    detector.fit(sorted(tmp_path.glob("*_old.png")))
    held = [part for part in range(6) if digests[f"part{part}_old"] in detector.training_set.holdout]
    assert len(held) == 2
    detector.update(tmp_path)
    after = detector.training_set
    assert {digests[f"part{part}_new"] for part in held} <= set(after.holdout)
    assert {digests[f"part{part}_new"] for part in set(range(6)) - set(held)} <= set(after.fit)
    assert (detector.calibration.threshold.n, detector.calibration.carried_over) == (len(held), False)


def test_an_update_with_nothing_but_held_out_groups_leaves_the_bank(folder, cache, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for i, path in enumerate(sorted(folder.rglob("*.png"))[:8]):
        (old if i < 6 else new).mkdir(exist_ok=True)
        ((old if i < 6 else new) / f"part{i % 6}_{i}.png").write_bytes(path.read_bytes())
    params = {**TINY, "data.group_pattern": r"(part\d)_", "seed": 2}
    detector = ReConPatch(params=params, cache=cache).fit(old)
    held = {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in old.glob("*.png")}
    parts = [held[digest].split("_")[0] for digest in detector.training_set.holdout]
    for path, part in zip(sorted(new.glob("*.png")), parts, strict=True):
        path.rename(new / f"{part}_new.png")
    bank = detector.parts.bank.vectors.copy()
    detector.update(new, mode="fine-tune")
    np.testing.assert_array_equal(detector.parts.bank.vectors, bank)
    assert (len(detector.training_set.holdout), detector.training_set.updates) == (4, 1)

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from finished_runs import PipelineRun, fit_detector, write_images
from mlflow.exceptions import MlflowException

from reconpatch.errors import ReConPatchError
from reconpatch.settings import load_settings
from reconpatch.storage.atomic_files import sha256_json
from tasks.registry import mlflow_runs
from tasks.registry.candidates import choose_candidates
from tasks.registry.finished_evaluation import FinishedEvaluation
from tasks.registry.register import register_run

NAME = "reconpatch-tiny-nut"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(images, detector folder)."""
    folder = tmp_path_factory.mktemp("fitted")
    images = write_images(folder / "nut")
    return images, fit_detector(images, folder / "detector")


@pytest.fixture
def run(fitted, mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineRun:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    return PipelineRun(tmp_path, detector=fitted[1], images=fitted[0])


def _runs(run: PipelineRun) -> list:
    experiments = [one.experiment_id for one in run.client.search_experiments()]
    return run.client.search_runs(experiments)


def _aliases(run: PipelineRun, name: str = NAME) -> dict[str, str]:
    return {alias: str(version) for alias, version in run.client.get_registered_model(name).aliases.items()}


def test_the_same_outputs_are_registered_once(run: PipelineRun) -> None:
    finished = run.finish()
    first = register_run(run.settings(), [finished], flow_run_id="flow 1")
    logged = len(_runs(run))
    second = register_run(run.settings(), [finished], flow_run_id="flow 2")
    assert (first[0].created, second[0].created) == (True, False)
    assert (first[0].version, first[0].run_id) == (second[0].version, second[0].run_id)
    assert first[0].uri == f"models:/{NAME}/1"
    assert len(run.client.search_model_versions(f"name = '{NAME}'")) == 1
    assert len(_runs(run)) == logged == 3  # the pipeline run, its detector, and the first champion's event


def test_no_secret_is_logged_and_the_rest_still_makes_the_same_version(run: PipelineRun) -> None:
    store = f"sqlite:///{run.root / 'mlflow.db'}"
    settings = run.settings("retrain.webhook=https://hooks.example/SECRET", f"register.tracking_uri={store}")
    finished = run.finish()
    finished = replace(finished, job=replace(finished.job, settings=settings))
    (model,) = register_run(settings, [finished])
    params = run.client.get_run(model.run_id).data.params
    assert {"retrain.mode", "register.experiment"} <= params.keys()
    assert not {"retrain.webhook", "register.tracking_uri"} & params.keys()
    kept = Path(run.client.download_artifacts(model.run_id, "reproduce/params.yaml", str(run.root)))
    assert "SECRET" not in kept.read_text()
    assert load_settings(kept) == run.settings()


def test_a_new_version_is_challenger_and_champion_only_when_there_is_none(run: PipelineRun) -> None:
    assert register_run(run.settings(), [run.finish()])[0].aliases == ("challenger", "champion")
    again = register_run(run.settings(), [run.finish(image_auroc=0.95)])[0]
    assert (again.version, again.aliases) == ("2", ("challenger",))
    assert _aliases(run) == {"challenger": "2", "champion": "1"}


def test_a_run_beside_params_yaml_gets_a_version_and_touches_no_alias(run: PipelineRun) -> None:
    tried = run.finish(outputs="runs/0123456789ab", image_auroc=0.8)
    assert register_run(run.settings(), [tried])[0].aliases == ()
    assert _aliases(run) == {}
    register_run(run.settings(), [run.finish()])
    better = run.finish(outputs="runs/ba9876543210", image_auroc=0.99)
    model = register_run(run.settings(), [better])[0]
    assert (model.version, model.created, model.aliases) == ("3", True, ())
    assert _aliases(run) == {"challenger": "2", "champion": "2"}


def test_one_candidate_a_category_is_the_best_by_the_metric(run: PipelineRun) -> None:
    finished = [
        run.finish("nut", "weak", image_auroc=0.8, aupro=0.9),
        run.finish("nut", "strong", image_auroc=0.9, aupro=0.8),
        run.finish("bolt", "weak", image_auroc=0.5),
    ]
    models = register_run(run.settings(), finished)
    assert [bool(model.aliases) for model in models] == [False, True, True]
    assert _aliases(run) == {"challenger": "2", "champion": "2"}
    assert _aliases(run, "reconpatch-tiny-bolt") == {"challenger": "1", "champion": "1"}
    by_aupro = choose_candidates([FinishedEvaluation.of(item) for item in finished], "aupro")
    assert [one.backbone for one in by_aupro] == ["weak", "weak"]


def test_a_metric_that_is_not_available_is_absent_and_says_so(run: PipelineRun) -> None:
    unlabelled = dict.fromkeys(("image_auroc", "pixel_auroc"))
    reasons = {"image_auroc": "no defective test image"}
    model = register_run(run.settings(), [run.finish(**unlabelled, not_available=reasons)])[0]
    logged = run.client.get_run(model.run_id).data
    assert "image_auroc" not in logged.metrics
    assert logged.metrics["threshold"] == 1.5
    told = "image_auroc: no defective test image; pixel_auroc: not available"
    assert logged.tags["metrics_not_available"] == told
    assert model.aliases == ("challenger", "champion")
    version = run.client.get_model_version(NAME, model.version)
    assert "image AUROC not available" in version.description


def test_a_detector_without_labels_is_no_candidate_beside_one_with(run: PipelineRun) -> None:
    finished = [run.finish("nut", "blind", image_auroc=None), run.finish("nut", "seeing", image_auroc=0.1)]
    chosen = choose_candidates([FinishedEvaluation.of(item) for item in finished], "image_auroc")
    assert [one.backbone for one in chosen] == ["seeing"]


def test_run_and_version_say_where_the_detector_came_from(run: PipelineRun) -> None:
    (run.root / "data").mkdir()
    (run.root / "data" / "tiny.dvc").write_text(
        "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: tiny\n"
    )
    (run.root / "constraints.txt").write_text("numpy==2\n")
    model = register_run(run.settings(), [run.finish()], flow_run_id="flow 1")[0]
    nested = run.client.get_run(model.run_id)
    version = run.client.get_model_version(NAME, model.version)
    settings = run.settings()
    for tags in (nested.data.tags, version.tags):
        assert tags["kind"] == "single"
        assert tags["backbone"] == "tf_efficientnet_lite0"
        assert tags["flow_run_id"] == "flow 1"
        assert tags["dvc_data_hash"] == "0123456789abcdef0123456789abcdef.dir"
        assert tags["params_hash"] == sha256_json(settings.model_dump(mode="json", by_alias=True))
        assert len(tags["lock_file_hash"]) == len(tags["output_digest"]) == len(tags["weights_sha256"]) == 64
        assert tags["git_commit"] == tags["git_dirty"] == "unknown"
        assert {"python", "blas", "threads", "device", "training_set_sha256"} <= tags.keys()
    assert version.run_id == model.run_id
    assert nested.info.status == "FINISHED"
    assert nested.data.params["modulation.alpha"] == "0.5"
    assert nested.data.metrics["seconds_per_image"] == 0.1
    dataset = nested.inputs.dataset_inputs[0].dataset
    assert json.loads(dataset.profile) == {"test_nominal": 2, "train_nominal": 8}
    assert (dataset.name, dataset.digest) == ("tiny-nut", "0123456789abcdef0123456789abcdef.dir")
    parent = run.client.get_run(nested.data.tags["mlflow.parentRunId"])
    assert parent.data.metrics["mean_image_auroc"] == 0.9
    assert "mlflow.parentRunId" not in parent.data.tags


def test_pictures_figures_and_manifest_lie_in_the_project_whatever_the_working_folder(
    run: PipelineRun, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    model = register_run(run.settings(), [run.finish()])[0]
    names = {path.name for path in (run.root / "mlartifacts").rglob("*")}
    assert {"heatmap.png", "metrics.json", "manifest.parquet", "bank.safetensors", "pyfunc_model.py"} <= names
    assert not any(path.suffix in (".pkl", ".pickle") for path in (run.root / "mlartifacts").rglob("*"))
    assert {info.path for info in run.client.list_artifacts(model.run_id)} >= {"evaluation", "data"}
    logged = {info.path for info in run.client.list_artifacts(model.run_id, "evaluation")}
    assert "evaluation/report.html" in logged
    assert list(elsewhere.iterdir()) == []


def test_figures_hang_on_the_model_too(run: PipelineRun) -> None:
    model = register_run(run.settings(), [run.finish()])[0]
    (output,) = run.client.get_run(model.run_id).outputs.model_outputs
    logged = run.client.get_logged_model(output.model_id)
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": 1}]
    assert {metric.key: metric.value for metric in logged.metrics}["aupro"] == 0.7


def test_a_failure_leaves_a_failed_run_no_version_and_can_be_repeated(
    run: PipelineRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MlflowException("the disk is full")

    finished = run.finish()
    with monkeypatch.context() as patched:
        patched.setattr(mlflow_runs, "save_pyfunc", fail)
        with pytest.raises(ReConPatchError, match="the disk is full"):
            register_run(run.settings(), [finished])
    assert {one.info.status for one in _runs(run)} == {"FAILED"}
    assert run.client.search_model_versions(f"name = '{NAME}'") == []
    assert register_run(run.settings(), [finished])[0].version == "1"


def test_two_threads_register_one_version(run: PipelineRun) -> None:
    finished, created = run.finish(), []

    def work() -> None:
        created.append(register_run(run.settings(), [finished])[0].created)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(created) == [False, True]


def test_nothing_finished_is_nothing_registered(run: PipelineRun) -> None:
    assert register_run(run.settings(), []) == []

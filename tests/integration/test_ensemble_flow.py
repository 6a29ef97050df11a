"""Several backbones fused: the flow, DVC and the registry treat the ensemble as any other detector."""

import json

import pytest
from mlflow import MlflowClient

from flows.train import train
from reconpatch import load
from reconpatch.ensemble import Ensemble

NETS = ["tf_efficientnet_lite0", "tf_efficientnet_lite1"]


@pytest.mark.slow
@pytest.mark.server
def test_an_ensemble_is_fused_evaluated_recorded_and_registered(make_project) -> None:
    project = make_project(plain=False)
    project.set("pipeline.backbones", NETS)
    project.set("pipeline.fuse", ["modified_z"])
    rows = train(project=project.root)
    assert [row["backbone"] for row in rows] == [*NETS, "ensemble"]

    folder = project.root / "outputs" / "tiny" / "dents+ensemble"
    detector = load(folder / "model", threads=1)
    assert isinstance(detector, Ensemble)
    image = next((project.root / "data/tiny/dents/test/dent").glob("*.png"), None) or next(
        path for path in (project.root / "data/tiny/dents/test").rglob("*.png") if "good" not in path.parts
    )
    assert detector.predict(image)[0].is_anomalous is not None
    assert json.loads((folder / "evaluation" / "metrics.json").read_text())["n_test"] == 8

    assert json.loads(project.dvc("status", "--json")) == {}
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    train(project=project.root)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before

    client = MlflowClient(
        f"sqlite:///{project.root / 'mlflow.db'}", f"sqlite:///{project.root / 'mlflow.db'}"
    )
    versions = client.search_model_versions("name = 'reconpatch-tiny-dents'")
    kinds = {version.tags["backbone"]: version.tags["kind"] for version in versions}
    assert kinds == {NETS[0]: "single", NETS[1]: "single", "+".join(NETS): "ensemble"}

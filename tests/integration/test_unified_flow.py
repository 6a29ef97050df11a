"""One model for all categories: the flow, DVC and the registry treat it as any other detector."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from flows.train import train
from reconpatch import load
from reconpatch.integrations.mlflow_lineage import trace
from reconpatch.settings import load_settings
from reconpatch.unified.unified_detector import Unified
from tasks.registry.gate_check import run_gate
from tasks.registry.gate_policy import load_policy
from tasks.registry.reevaluate import reevaluate

NET = "tf_efficientnet_lite0"
NAME = "reconpatch-tiny-all"
_CLIENT = """
import json, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pd.DataFrame({"image": [open(name, "rb").read() for name in sys.argv[2:]]}))
print(json.dumps(answer["score"].tolist()))
"""


@pytest.mark.slow
@pytest.mark.server
def test_one_model_of_all_is_fitted_evaluated_recorded_registered_and_used(
    make_project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    project.set("pipeline.unify", [NET])
    for command in (["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=project.root, check=True)
    rows = train(project=project.root)
    told = [(row["category"], row["backbone"]) for row in rows]
    unified = f"unified, {NET}"
    assert told == [
        ("dents", NET), ("dents", unified), ("plain", NET), ("plain", unified), ("all", unified)
    ]  # fmt: skip

    folder = project.root / "outputs" / "tiny+unified" / NET
    figures = json.loads((folder / "evaluation" / "metrics.json").read_text())
    dents = json.loads((folder / "evaluation" / "categories" / "dents" / "metrics.json").read_text())
    assert figures["n_test"] == 12  # eight of dents, four of plain
    assert figures["dents.image_auroc"] == dents["image_auroc"]
    assert figures["plain.image_auroc"] is figures["mean_image_auroc"] is None  # plain shows no defect
    assert rows[1]["image_auroc"] == f"{dents['image_auroc']:.4f}"
    history = pd.read_csv(folder / "evaluation" / "history.csv")
    assert history[["train_loss", "validation_loss", "ratio"]].notna().all(axis=None)
    pictures = {path.stem for path in (folder / "evaluation" / "plots").iterdir()}
    assert pictures == {"scores", "curves", "heat_maps", "losses"}

    assert json.loads(project.dvc("status", "--json")) == {}
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert train(project=project.root) == rows
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == stamps

    store = f"sqlite:///{project.root / 'mlflow.db'}"
    client = MlflowClient(store, store)
    (version,) = client.search_model_versions(f"name = '{NAME}'")
    assert client.get_registered_model(NAME).aliases.keys() == {"challenger", "champion"}
    expected = {"kind": "unified", "category": "all", "backbone": NET, "n_train": "24", "n_test": "12"}
    assert expected.items() <= version.tags.items()
    assert int(version.tags["bank_vectors"]) > 0
    assert "| dents, category told | image AUROC" in version.description
    run = client.get_run(version.run_id)
    assert run.data.metrics["dents.image_auroc"] == pytest.approx(dents["image_auroc"])
    assert [one.value for one in client.get_metric_history(version.run_id, "ratio")] == pytest.approx(
        list(history["ratio"])
    )

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    champion = load(f"models:/{NAME}@champion", threads=1)
    file = load(folder / "model", threads=1)
    assert isinstance(champion, Unified)
    assert champion.categories == ("dents", "plain")
    images = sorted((project.root / "data/tiny/dents/test").rglob("*.png"))[:2]
    scores = [one.score for one in file.predict(images)]
    assert [one.score for one in champion.predict(images)] == scores
    assert [one.score for one in champion.predict(images, "dents")] == [
        one.score for one in file.predict(images, "dents")
    ]
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, f"models:/{NAME}@champion", *map(str, images)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=_environment(store),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(scores, abs=1e-4)

    settings = load_settings(project.root / "params.yaml")
    report = run_gate(client, NAME, "1", "1", load_policy(project.root), settings, project.root)
    findings = {result.rule: result.finding for result in report.results}
    assert not any("not comparable" in finding for finding in findings.values()), findings
    assert any("times the champion's" in rule and " s and " in finding for rule, finding in findings.items())
    (standing,) = reevaluate(settings, project.root, "all")
    assert standing.now["image_auroc"] == pytest.approx(figures["image_auroc"])
    assert standing.now["threshold"] == pytest.approx(figures["threshold"])
    commands = " ".join(trace(f"models:/{NAME}@champion").commands)
    assert f"--set 'pipeline.unify=[{NET}]'" in commands
    assert "pipeline.categories" not in commands


def _environment(store: str) -> dict[str, str]:
    """Of a process that loads models: the store, no pickles, no source tree."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"MLFLOW_TRACKING_URI": store, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}

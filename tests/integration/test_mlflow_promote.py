import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from reconpatch.errors import ModelError, ReConPatchError, SettingsError
from reconpatch.settings import Settings
from tasks.promote import EXPERIMENT, promote_version

NAME = "reconpatch-tiny-nut"


@pytest.fixture
def client(mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Of a project in ``tmp_path`` with two versions, the first of them champion."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model(NAME)
    for _ in range(2):
        client.create_model_version(NAME, str(tmp_path / "model"))
    client.set_registered_model_alias(NAME, "champion", "1")
    return client


def _aliases(client: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(NAME).aliases.items()}


def _events(client: MlflowClient) -> list:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return [] if experiment is None else client.search_runs([experiment.experiment_id])


def test_the_alias_moves_and_the_old_champion_stays_within_reach(
    client: MlflowClient, tmp_path: Path
) -> None:
    done = promote_version(NAME, "2", "fewer false alarms", settings=Settings(), project=tmp_path)
    assert (done.version, done.previous) == ("2", "1")
    assert _aliases(client) == {"champion": "2", "previous": "1"}


def test_who_when_and_why_are_one_run(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    done = promote_version(NAME, "2", " fewer false alarms ", settings=Settings(), project=tmp_path)
    (event,) = _events(client)
    assert event.info.run_id == done.run_id
    assert event.info.status == "FINISHED"
    told = {key: event.data.tags[key] for key in ("model", "from_version", "to_version", "who", "why")}
    assert told == {
        "model": NAME,
        "from_version": "1",
        "to_version": "2",
        "who": "ada",
        "why": "fewer false alarms",
    }
    assert event.data.tags["when"].endswith("+00:00")
    assert client.get_model_version(NAME, "2").tags["promotion_run"] == done.run_id


@pytest.mark.parametrize(
    ("model", "version", "why", "error", "message"),
    [
        (NAME, "3", "x", ModelError, "has no version 3; it has 1, 2"),
        (NAME, "1", "x", ModelError, "version 1 is the champion already"),
        ("other", "1", "x", ModelError, f"no such registered model; there are {NAME}"),
        (NAME, "2", " ", SettingsError, "--why is empty"),
    ],
)
def test_what_cannot_be_promoted_is_one_clear_error_and_no_event(
    client: MlflowClient, tmp_path: Path, model: str, version: str, why: str, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        promote_version(model, version, why, settings=Settings(), project=tmp_path)
    assert _events(client) == []
    assert _aliases(client) == {"champion": "1"}


def test_a_move_that_fails_leaves_a_failed_event(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    def refuse(*_: object) -> None:
        raise MlflowException("the store is read-only")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", refuse)
    with pytest.raises(ReConPatchError, match="read-only"):
        promote_version(NAME, "2", "x", settings=Settings(), project=tmp_path)
    (event,) = _events(client)
    assert event.info.status == "FAILED"
    assert _aliases(client) == {"champion": "1"}

"""Make a registered version the champion, and write down who did it, when and why."""

import getpass
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reconpatch.errors import ModelError, SettingsError
from reconpatch.settings import Settings
from tasks.mlflow_store import mlflow_errors, open_client, open_experiment
from tasks.register import CHAMPION

EXPERIMENT = "reconpatch-promotions"
PREVIOUS = "previous"


@dataclass(frozen=True)
class Promotion:
    """A champion's change.

    Attributes:
        model: name of the registered model.
        version: the new champion.
        previous: the version that it replaced; None when it is the first.
        who: account that did it.
        why: the reason it gave.
        run_id: MLflow run in the experiment ``reconpatch-promotions`` that records it.
    """

    model: str
    version: str
    previous: str | None
    who: str
    why: str
    run_id: str


def promote_version(model: str, version: str, why: str, *, settings: Settings, project: Path) -> Promotion:
    """Move the alias ``champion``; the version it leaves gets the alias ``previous``.

    The record is opened before the alias moves and closed after, so that a crash in between leaves a
    record that is not finished, never a move without one.

    Args:
        model: name of the registered model, such as ``reconpatch-demo-brick``.
        version: number of the version.
        why: the reason, for those who ask later.
        settings: section ``register`` says where the registry is.
        project: root of the project.

    Raises:
        SettingsError: no reason is given.
        ModelError: there is no such model or version, or it is the champion already.
        ReConPatchError: MLflow refused the change.
    """
    previous = check_promotion(model, version, why, settings=settings, project=project)
    with mlflow_errors(f"the promotion of {model}, version {version}"):
        experiment = open_experiment(EXPERIMENT, settings, project)
        client = experiment.client
        who = os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
        when = datetime.now(UTC).isoformat(timespec="seconds")
        event = {"model": model, "from_version": previous or "none", "to_version": version, "who": who}
        event |= {"when": when, "why": why.strip()}
        name = f"{model}-{version}-{time.strftime('%Y%m%d-%H%M%S')}"
        run_id: str = client.create_run(experiment.id, run_name=name, tags=event).info.run_id
        try:
            if previous is not None:
                client.set_registered_model_alias(model, PREVIOUS, previous)
            client.set_registered_model_alias(model, CHAMPION, version)
            client.set_model_version_tag(model, version, "promotion_run", run_id)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")
    return Promotion(model, version, previous, who, why.strip(), run_id)


def check_promotion(model: str, version: str, why: str, *, settings: Settings, project: Path) -> str | None:
    """Find out whether a promotion can be tried; changes nothing.

    Returns:
        The version that is champion now, or None.

    Raises:
        SettingsError, ModelError: as `promote_version`.
    """
    if not why.strip():
        raise SettingsError("--why is empty; say why this version becomes champion")
    with mlflow_errors("a look into the registry"):
        client = open_client(settings, project)
        versions = {str(found.version) for found in client.search_model_versions(f"name = '{model}'")}
        known = sorted(found.name for found in client.search_registered_models())
        champion = client.get_registered_model(model).aliases.get(CHAMPION) if versions else None
    if not versions:
        raise ModelError(f"{model}: no such registered model; there are {', '.join(known) or 'none yet'}")
    if version not in versions:
        listed = ", ".join(sorted(versions, key=int))
        raise ModelError(f"{model}: has no version {version}; it has {listed}")
    if champion is not None and str(champion) == version:
        raise ModelError(f"{model}: version {version} is the champion already")
    return None if champion is None else str(champion)

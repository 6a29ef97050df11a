"""Where runs and models are kept: one MLflow store for the flows, the commands and the UI."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from sqlalchemy.exc import DBAPIError

from reconpatch.errors import ReConPatchError
from reconpatch.integrations.mlflow_uri import (
    check_database,
    detector_path,
    inside,
    refuse_links,
    version_location,
)
from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import atomic_folder
from tasks.running.full_disk import told_of_a_full_disk

TRACKING_URI = "MLFLOW_TRACKING_URI"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"  # aliases of a registered model
OUTPUT_DIGEST = "output_digest"  # tag of a version: of the detector and its figures


def tracking_uri(settings: Settings, project: Path) -> str:
    """The store's URI: MLFLOW_TRACKING_URI, else ``register.tracking_uri``, else mlflow.db of the project.

    The last is absolute: MLflow's own default depends on the folder that a process was started in.
    """
    named = os.environ.get(TRACKING_URI) or settings.register_.tracking_uri
    return named or f"sqlite:///{project.resolve() / 'mlflow.db'}"


def open_client(settings: Settings, project: Path) -> MlflowClient:
    """A client bound to the store, for runs and registry alike.

    Raises:
        ModelError: the store is a damaged database.
    """
    uri = tracking_uri(settings, project)
    check_database(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def every_page(search: Callable[..., Any], *asked: Any, **named: Any) -> Iterator[Any]:
    """All that a search of a client finds: MLflow gives a page at a time."""
    token: str | None = None
    while True:
        page = search(*asked, **named, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def mlflow_errors(what: str) -> Iterator[None]:
    """Turn what MLflow raises into an error for people.

    Raises:
        ReConPatchError: MLflow refused ``what``.
        FullDiskError: there is no room for it.
    """
    try:
        with told_of_a_full_disk(f"{what}: MLflow's files"):
            yield
    except MlflowException as error:
        raise ReConPatchError(
            f"MLflow refused {what}: {error.message}; look at {TRACKING_URI} or, without it, at mlflow.db"
        ) from error
    except DBAPIError as error:  # of the database itself, where MLflow lets it through
        raise ReConPatchError(
            f"{what}: MLflow's database cannot be used ({error.orig}); look at {TRACKING_URI} or, without "
            "it, at mlflow.db"
        ) from error


@dataclass(frozen=True)
class Experiment:
    """A client and the experiment it writes to; no MLflow state of the process is read or changed.

    Attributes:
        client: bound to one store.
        id: of the experiment.
    """

    client: MlflowClient
    id: str


def open_experiment(name: str, settings: Settings, project: Path) -> Experiment:
    """Connect, and create the experiment when it is new.

    A local store keeps artifacts in ``mlartifacts/`` of the project; a server decides itself.
    """
    client = open_client(settings, project)
    found = client.get_experiment_by_name(name)
    if found is not None:
        return Experiment(client, found.experiment_id)
    served = tracking_uri(settings, project).startswith(("http://", "https://"))
    folder = project.resolve() / "mlartifacts"
    try:
        location = None if served else (folder / name).as_uri()
        return Experiment(client, client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        again = client.get_experiment_by_name(name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or again is None:
            raise
        return Experiment(client, again.experiment_id)


def fetch_detector(model: str, version: str, target: Path, settings: Settings, project: Path) -> None:
    """Copy a version's detector folder to ``target``, which is complete or absent.

    Raises:
        ReConPatchError: MLflow cannot be asked.
        ModelError: the version holds no detector, or names files outside its own folder.
    """
    what = f"{model}, version {version}"
    uri = tracking_uri(settings, project)
    with mlflow_errors(f"the files of {what}"), tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
        client = open_client(settings, project)
        source = client.get_model_version_download_uri(model, version)
        refuse_links(version_location(client, model, version), what)
        folder = Path(mlflow.artifacts.download_artifacts(source, dst_path=scratch, tracking_uri=uri))
        detector = inside(folder, detector_path(Model.load(str(folder)).flavors, what), what)
        with atomic_folder(target) as temporary:
            shutil.copytree(detector, temporary, dirs_exist_ok=True)

"""Detectors from an MLflow registry: ``models:/reconpatch-demo-brick@champion`` to a local folder."""

import atexit
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from reconpatch.errors import ModelError
from reconpatch.integrations.optional_packages import import_extra

# The name of the detector folder among a registered model's artifacts; the pipeline's packaging gives it.
ARTIFACT = "detector"
_DEFAULT_STORE = "mlflow.db"
_SQLITE = "sqlite:///"
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def download_detector(uri: str, target: Path | None = None) -> Path:
    """Copy a registered detector into a folder.

    Args:
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``models:/m-ID``.
        target: an empty folder; None: a temporary one, removed when the process ends.

    Returns:
        The detector folder.

    Raises:
        ModelError: no registry is named, or it has no such model, version or alias, or the model was
            not registered by this project, or names files outside its own folder.
        ReConPatchError: mlflow is not installed.
    """
    mlflow: Any = import_extra("mlflow", f"loading {uri}")
    require_store(mlflow, uri)
    if target is None:
        target = Path(tempfile.mkdtemp(prefix="reconpatch-"))
        atexit.register(shutil.rmtree, target, ignore_errors=True)
    try:
        info = mlflow.models.get_model_info(uri)
        place = detector_path(info.flavors, uri)
        refuse_links(_location(mlflow.MlflowClient(), uri), uri)
        mlflow.artifacts.download_artifacts(artifact_uri=f"{uri.rstrip('/')}/{place}", dst_path=str(target))
    except (mlflow.MlflowException, OSError) as error:
        raise _cannot_be_had(mlflow, uri, error) from None
    return inside(target, place, uri)


def detector_path(flavors: Mapping[str, Any], what: str) -> str:
    """Where the detector folder lies in a registered model, relative to it.

    Args:
        flavors: of the model, as MLflow keeps them.
        what: names the model in an error.

    Raises:
        ModelError: the model holds no detector, or says that it lies elsewhere.
    """
    try:
        place = flavors["python_function"]["artifacts"][ARTIFACT]["path"]
    except (KeyError, TypeError):
        place = None
    if not isinstance(place, str):
        raise ModelError(f"{what}: holds no detector; it was not registered by reconpatch")
    path = PurePosixPath(place)
    hidden = any(part.startswith(".") for part in path.parts)
    if not path.parts or path.is_absolute() or hidden or not place.isprintable() or set(place) & set("\\%#:"):
        raise _leads_elsewhere(what, place)
    return str(path)


def inside(folder: Path, place: str, what: str) -> Path:
    """The detector's folder below a downloaded version.

    Args:
        folder: where the version's files, or its detector, were copied to.
        place: as `detector_path` gives it.
        what: names the model in an error.

    Raises:
        ModelError: it is not a folder below ``folder``, or holds a link.
    """
    detector = folder / place
    if not detector.resolve().is_relative_to(folder.resolve()):
        raise _leads_elsewhere(what, place)
    if not detector.is_dir():
        raise ModelError(f"{what}: holds no folder {place}; register the detector again")
    if any(path.is_symlink() for path in detector.rglob("*")):
        raise _leads_elsewhere(what, place)
    return detector


def refuse_links(location: str, what: str) -> None:
    """Look through files that MLflow would copy from a folder of this machine: it follows every link.

    Args:
        location: URI of a version's files; of another machine's nothing is looked at.
        what: names the model in an error.

    Raises:
        ModelError: there is a link that leads out of the folder.
    """
    parsed = urlsplit(location)
    if parsed.scheme not in ("", "file"):
        return
    folder = Path(unquote(parsed.path))
    real = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(real):
            raise _leads_elsewhere(what, path.name)


def _location(client: Any, uri: str) -> str:
    """Where the files of a version lie, as the registry says."""
    name = uri.removeprefix("models:/").strip("/")
    if "/" in name or "@" in name:
        version = find_version(client, uri)
        return version_location(client, version.name, str(version.version))
    return str(client.get_logged_model(name).artifact_location)


def version_location(client: Any, name: str, version: str) -> str:
    """Where the files of a registered version lie, as the registry says.

    Args:
        client: an ``MlflowClient``; what it raises is not caught here.
        name: of the model.
        version: its number.
    """
    source = str(client.get_model_version_download_uri(name, version))
    logged = source.removeprefix("models:/")
    return source if logged == source else str(client.get_logged_model(logged).artifact_location)


def _leads_elsewhere(what: str, place: str) -> ModelError:
    return ModelError(
        f"{what}: its files lead to {place!r}, outside the version's own folder; nothing is copied, find out "
        "who registered it"
    )


def registered_version(uri: str) -> str:
    """Which version a URI stands for now, as ``NAME/VERSION`` (``m-ID`` of ``models:/m-ID``).

    Args:
        uri: as for `download_detector`.

    Raises:
        ModelError: no registry is named, it does not answer, or has no such model or alias.
        ReConPatchError: mlflow is not installed.
    """
    mlflow: Any = import_extra("mlflow", f"finding {uri}")
    require_store(mlflow, uri)
    name, _, alias = uri.removeprefix("models:/").rstrip("/").partition("@")
    if not alias:
        return name
    try:
        version = mlflow.MlflowClient().get_model_version_by_alias(name, alias).version
    except (mlflow.MlflowException, OSError) as error:
        raise _cannot_be_had(mlflow, uri, error) from None
    return f"{name}/{version}"


def find_version(client: Any, uri: str) -> Any:
    """The registered version that a URI stands for now.

    Args:
        client: an ``MlflowClient``; what it raises is not caught here.
        uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        ModelError: the URI is none of both.
    """
    name = uri.removeprefix("models:/").strip("/")
    if "@" in name:
        return client.get_model_version_by_alias(*name.rsplit("@", 1))
    if name.count("/") != 1:
        raise ModelError(f"{uri}: name a registered model, as models:/NAME@ALIAS or models:/NAME/VERSION")
    return client.get_model_version(*name.split("/"))


def _cannot_be_had(mlflow: Any, uri: str, error: Exception) -> ModelError:
    reason = " ".join(str(getattr(error, "message", error)).split())
    return ModelError(
        f"{uri}: cannot be had from the registry {mlflow.get_tracking_uri()} ({reason}); `make ui` lists "
        "the models, versions and aliases there; MLFLOW_TRACKING_URI names another registry"
    )


def require_store(mlflow: Any, uri: str) -> None:
    """Refuse to look into a registry that nobody named.

    Raises:
        ModelError: neither MLFLOW_TRACKING_URI nor a mlflow.db in this folder names one, or that database is
            damaged.
    """
    # Left alone MLflow would make an empty database in whatever folder the user stands in.
    named = os.environ.get("MLFLOW_TRACKING_URI") or mlflow.is_tracking_uri_set()
    if not named and not Path(_DEFAULT_STORE).is_file():
        raise ModelError(
            f"{uri}: no registry is named and there is no {_DEFAULT_STORE} in this folder; set "
            "MLFLOW_TRACKING_URI, for example to sqlite:////path/to/the/project/mlflow.db"
        )
    check_database(mlflow.get_tracking_uri())


def check_database(uri: str) -> None:
    """Refuse a store whose SQLite file is damaged, which MLflow would report by a traceback without its name.

    Args:
        uri: of a store; of another kind than ``sqlite:///PATH`` nothing is asked.

    Raises:
        ModelError: the file is no database, or its first pages are damaged.
    """
    path = Path(uri.removeprefix(_SQLITE).partition("?")[0])
    if not uri.startswith(_SQLITE) or not path.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("SELECT name FROM sqlite_master").fetchall()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in _DAMAGED:
            raise ModelError(
                f"{path}: the registry's database is damaged ({error}); stop what uses it, then put back a "
                "copy of the file, or move it away to begin with an empty registry; detectors in folders "
                "work without it"
            ) from None

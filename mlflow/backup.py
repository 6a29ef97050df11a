"""Save what an MLflow server keeps into a folder, and put it back into empty stores.

set -a; . mlflow/server.env; set +a          (or mlflow/team.env)
python mlflow/backup.py save FOLDER
python mlflow/backup.py restore FOLDER

The databases go first: a model that is registered meanwhile leaves files that no row names, never a row
without files. Runs by its path, as everything here: this folder is no package.
"""

import argparse
import configparser
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url

ARTIFACTS = "artifacts"


def databases() -> dict[str, str]:
    """Name -> URI of the store's database and, where the server asks for passwords, of that of the accounts.

    Raises:
        SystemExit: the environment does not name the store.
    """
    found = {"mlflow": named("MLFLOW_BACKEND_STORE_URI")}
    config = os.environ.get("MLFLOW_AUTH_CONFIG_PATH")
    if config:
        parsed = configparser.ConfigParser(interpolation=None)
        if not parsed.read(config):
            sys.exit(f"MLFLOW_AUTH_CONFIG_PATH {config}: cannot be read; run this in the project's root")
        found["accounts"] = parsed["mlflow"]["database_uri"]
    return found


def named(variable: str) -> str:
    """The value of an environment variable that must be there."""
    value = os.environ.get(variable)
    if not value:
        sys.exit(f"{variable}: is not set; first: set -a; . mlflow/server.env; set +a (or mlflow/team.env)")
    return value


def save(folder: Path) -> None:
    """Write databases and artifacts to ``folder``, which is complete or absent."""
    if folder.exists():
        sys.exit(f"{folder}: is there already; name a new folder")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / ARTIFACTS).mkdir(parents=True)
    for name, uri in databases().items():
        dump(uri, partial / f"{name}.dump")
    # The client that servers use themselves: a folder and S3 are read and written alike.
    get_artifact_repository(artifacts_uri()).download_artifacts("", str(partial / ARTIFACTS))
    partial.rename(folder)


def restore(folder: Path) -> None:
    """Put a saved folder into empty databases and an empty artifact store."""
    wanted = databases()
    for name, uri in wanted.items():
        if not (folder / f"{name}.dump").is_file():
            sys.exit(f"{folder}: holds no {name}.dump; it was not saved with this configuration")
        if inspect(create_engine(uri)).get_table_names():
            sys.exit(f"{make_url(uri)!r}: is not empty; restore into a new database")
    for name, uri in wanted.items():
        load(uri, folder / f"{name}.dump")
    get_artifact_repository(artifacts_uri()).log_artifacts(str(folder / ARTIFACTS))


def artifacts_uri() -> str:
    """Where the server keeps artifacts, as a URI."""
    place = named("MLFLOW_ARTIFACTS_DESTINATION")
    return place if urlsplit(place).scheme else Path(place).resolve().as_uri()


def dump(uri: str, target: Path) -> None:
    """Save one database, which may be in use."""
    if uri.startswith("sqlite:"):
        with (
            closing(sqlite3.connect(str(make_url(uri).database))) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
    else:
        run("pg_dump", "--format=custom", f"--file={target}", libpq(uri))


def load(uri: str, source: Path) -> None:
    """Put one database back."""
    if uri.startswith("sqlite:"):
        shutil.copyfile(source, str(make_url(uri).database))
    else:
        run("pg_restore", "--no-owner", "--exit-on-error", f"--dbname={libpq(uri)}", str(source))


def libpq(uri: str) -> str:
    """The URI without SQLAlchemy's name of a driver."""
    return make_url(uri).set(drivername="postgresql").render_as_string(hide_password=False)


def run(*command: str) -> None:
    """A program of PostgreSQL."""
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        sys.exit(f"{command[0]}: is not installed; it comes with Debian's postgresql-client")
    except subprocess.CalledProcessError as error:
        sys.exit(f"{command[0]}: ended with status {error.returncode}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; exit status 1 when something is missing or in the way."""
    parser = argparse.ArgumentParser(prog="python mlflow/backup.py", description="Back MLflow up.")
    parser.add_argument("action", choices=("save", "restore"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    (save if given.action == "save" else restore)(given.folder)


if __name__ == "__main__":
    main()

"""A damaged mlflow.db is named, with what to do; what is no database of ours is not asked."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from reconpatch.errors import ModelError, ReConPatchError
from reconpatch.integrations.mlflow_uri import check_database
from reconpatch.settings import parse_settings
from tasks.registry.champion import find_champion


def make_database(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as database:
        for number in range(200):
            database.execute(f"CREATE TABLE t{number} (a TEXT, b TEXT, c TEXT)")
        database.commit()
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["other", "cut"])
def test_a_damaged_database_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / "mlflow.db"
    whole = make_database(path)
    check_database(f"sqlite:///{path}")
    path.write_bytes(b"this is no database" * 500 if kind == "other" else whole[: len(whole) // 3])
    with pytest.raises(ModelError, match=r"mlflow\.db: .* is damaged .*copy of the file"):
        check_database(f"sqlite:///{path}?timeout=5")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = parse_settings({"pipeline": {"dataset": "toy", "categories": ["nut"]}})
    before = path.read_bytes()
    with pytest.raises(ReConPatchError, match=r"mlflow\.db: the registry's database is damaged"):
        find_champion(settings, tmp_path, "nut")
    assert path.read_bytes() == before


def test_other_stores_and_sound_databases_pass(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    for uri in (
        "http://127.0.0.1:1",
        f"sqlite:///{tmp_path}/none.db",
        f"sqlite:///{tmp_path}/empty.db",
        "sqlite://",
    ):
        check_database(uri)
    assert not (tmp_path / "none.db").exists()


def test_a_database_that_is_locked_passes(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    make_database(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("BEGIN EXCLUSIVE")
        check_database(f"sqlite:///{path}")

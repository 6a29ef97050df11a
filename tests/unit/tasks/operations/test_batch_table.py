"""Parts of a batch: a damaged one is named, and its images have no row, so that they are scored again."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from reconpatch.errors import DataError, SettingsError
from reconpatch.line.monitoring.prediction_log import LoggedPrediction, read_predictions
from tasks.operations import batch_table
from tasks.operations.batch_table import (
    ScoredImage,
    append_part,
    check_owner,
    list_parts,
    log_part,
    read_rows,
    write_table,
)


def scored(name: str, score: float) -> ScoredImage:
    logged = LoggedPrediction(
        datetime(2026, 11, 25, tzinfo=UTC), "nut", "toy/1", name, name, score, None, None, None,
        1.0, 1.0, 1.0, np.zeros(3, np.float16),
    )  # fmt: skip
    return ScoredImage(logged, name, "a" * 64, 10, 20, None)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet"])
def test_a_damaged_part_is_named_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    parts, log = tmp_path / "parts", tmp_path / "log"
    append_part(parts, [scored("a.png", 1.0)])
    torn = append_part(parts, [scored("b.png", 2.0)])
    torn.write_bytes(content)
    (parts / "1 copy.parquet").write_bytes(b"")
    assert read_rows(list_parts(parts), ["path", "score"])["path"].tolist() == ["a.png"]
    assert f"{torn}: is no part of a batch" in caplog.text
    log_part(torn, log)
    assert read_predictions(log, model_version="toy/1").empty
    append_part(parts, [scored("b.png", 3.0)])
    table = write_table(tmp_path, list_parts(parts), {})
    assert table[["path", "score"]].to_numpy().tolist() == [["a.png", 1.0], ["b.png", 3.0]]


def test_a_disk_that_fails_is_no_damaged_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = append_part(tmp_path, [scored("a.png", 1.0)])

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(batch_table.pq, "read_table", fail)
    with pytest.raises(DataError, match=r"000001\.parquet: cannot be read .*Input/output error"):
        read_rows([part], ["path"])


def test_names_in_the_table_for_people_are_no_formulas(tmp_path: Path) -> None:
    append_part(tmp_path / "parts", [scored("=1+1.png", -2.5), scored("cr\rx.png", 1.0)])
    table = write_table(tmp_path, list_parts(tmp_path / "parts"), {"-cmd.png": "@SUM(A1)"})
    assert table["path"].tolist() == ["-cmd.png", "=1+1.png", "cr\rx.png"]
    lines = (tmp_path / "predictions.csv").read_bytes().split(b"\n")
    assert [line[:9] for line in lines[1:4]] == [b"'-cmd.png", b"'=1+1.png", b'"cr\rx.png']
    assert b",'@SUM(A1)," in lines[1]
    assert b",-2.5," in lines[2]


@pytest.mark.parametrize("note", ["", "[]", "{}"])
def test_a_torn_note_of_whose_folder_it_is_says_so(tmp_path: Path, note: str) -> None:
    (tmp_path / "folder.json").write_text(note)
    with pytest.raises(SettingsError, match=r"folder\.json: does not say whose output folder"):
        check_owner(tmp_path, tmp_path / "camera")

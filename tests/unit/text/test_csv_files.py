"""CSV files: no formula for a spreadsheet, no line torn by a name, and the very text for our readers."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reconpatch.text.csv_files import (
    harmless_cell,
    plain_cell,
    read_frame,
    read_records,
    read_rows,
    write_frame,
    write_rows,
)

_FORMULAS = [
    "=1+1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1", "part;=HYPERLINK(0).png",
    "x\t@a", "-2+3", "--1",
]  # fmt: skip
_HARMLESS = ["a.png", "a=b", "x-1.png", "-5", "+2.5e-3", "-inf", "-.5", "", "'quoted'", "train/good/=x.png"]


@pytest.mark.parametrize("text", _FORMULAS)
def test_no_cell_of_a_formula_starts_as_one(text: str) -> None:
    written = harmless_cell(text)
    for part in written.replace("\t", ";").replace("\r", ";").replace("\n", ";").split(";"):
        assert not part or part[0] not in "=+-@\uff1d"
    assert plain_cell(written) == text
    assert plain_cell(harmless_cell(written)) == written


@pytest.mark.parametrize("text", _HARMLESS)
def test_numbers_and_other_text_stay(text: str) -> None:
    assert harmless_cell(text) == text
    assert plain_cell(text) == text


def test_every_text_is_read_back_and_no_two_are_written_alike(tmp_path: Path) -> None:
    texts = ["".join(one) for size in range(5) for one in itertools.product("'=-1;\r\n\",", repeat=size)]
    assert len({harmless_cell(text) for text in texts}) == len(texts)
    rows = [[text, "end"] for text in texts]
    write_rows(tmp_path / "a.csv", rows)
    assert read_rows(tmp_path / "a.csv") == rows


def test_lines_are_those_of_the_csv_module_where_nothing_is_odd(tmp_path: Path) -> None:
    rows = [["path", "score"], ["a, 1.png", 0.1], ['say "x"', -2], ["Zoë\n2", None]]
    write_rows(tmp_path / "a.csv", rows)
    with (tmp_path / "b.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_frame_is_written_as_pandas_writes_it_but_for_odd_names(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "path": ["NA", "=1.png", "cr\rx.png"],
            "score": [0.1, -np.inf, np.nan],
            "verdict": pd.array([True, None, False], dtype="boolean"),
            "when": pd.to_datetime(
                ["2026-01-02 03:04:05.000006", None, "2026-01-02"], utc=True, format="ISO8601"
            ),
        }
    )
    write_frame(tmp_path / "a.csv", table)
    read = read_frame(tmp_path / "a.csv", text=["path"])
    assert read["path"].tolist() == table["path"].tolist()
    assert read["score"].tolist()[:2] == [0.1, -np.inf]
    assert read["score"].isna().tolist() == [False, False, True]
    plain = table.assign(path=["a", "b", "c"])
    write_frame(tmp_path / "plain.csv", plain)
    assert (tmp_path / "plain.csv").read_text() == plain.to_csv(index=False)


def test_carriage_returns_that_earlier_releases_left_bare_belong_to_their_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'path,who\na.png,A\rB\n"b, 1.png","C\r\nD"\n')
    expected = [["path", "who"], ["a.png", "A\rB"], ["b, 1.png", "C\r\nD"]]
    assert read_rows(path) == expected
    write_rows(path, expected)
    assert read_rows(path) == expected
    assert b'a.png,"A\rB"\n' in path.read_bytes()


def test_line_ends_of_every_system_and_an_empty_line_are_read(tmp_path: Path) -> None:
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "a.csv").write_bytes(f"\ufeffpath,group{end}a,1{end}{end}b,2,3{end}c".encode())
        assert read_records(tmp_path / "a.csv") == [
            {"path": "a", "group": "1"},
            {"path": "b", "group": "2", None: "3"},
            {"path": "c", "group": None},
        ]


def test_what_is_no_csv_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('path,group\n"a')
    with pytest.raises(csv.Error):
        read_rows(tmp_path / "a.csv")

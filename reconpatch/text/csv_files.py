"""CSV files that a spreadsheet opens without harm and that our readers read back exactly.

Names come from strangers' files and people's keyboards. Two rules hold for every CSV file that we write:

- A cell that a spreadsheet would take for a formula gets an apostrophe in front, and so does the like of it
  behind a character that parts cells in some country's spreadsheet. Numbers stay as they are. What already
  has apostrophes there gets one more, so that `read_rows` and `plain_cell` restore the very text.
- Lines end with a line feed, and a cell that holds a line feed or a carriage return is quoted.

Why not defusedcsv: it does not mark text that began with an apostrophe, so the text cannot be restored.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd

from reconpatch.storage.atomic_files import atomic_file

# What begins a formula (the full-width forms in East Asian spreadsheets), at the start of a cell or where a
# spreadsheet that parts cells by semicolons or tabs would start another.
_CELL_START = r"(?:^|(?<=[;\t\r\n]))"
_FORMULA = "'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_UNGUARDED = re.compile(f"{_CELL_START}(?={_FORMULA})")
_GUARDED = re.compile(f"{_CELL_START}'(?={_FORMULA})")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|nan)")
_PRIVATE_USE = range(0xE000, 0xF900)


def harmless_cell(text: str) -> str:
    """The text with an apostrophe before what a spreadsheet would run as a formula."""
    return text if _NUMBER.fullmatch(text) else _UNGUARDED.sub("'", text)


def plain_cell(text: str) -> str:
    """The text that `harmless_cell` was given; other text without such an apostrophe stays as it is."""
    return text if _NUMBER.fullmatch(text) else _GUARDED.sub("", text)


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows of cells, atomically.

    Args:
        path: of the file.
        rows: the header first.
    """
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.writelines(map(line_of, rows))


def write_frame(path: Path, table: pd.DataFrame) -> None:
    """Write a table without its index, numbers as pandas writes them, atomically."""
    # pandas, like the csv module, quotes a carriage return only where lines end with one.
    text = table.to_csv(index=False, lineterminator="\r\n")
    write_rows(path, csv.reader(io.StringIO(text, newline="")))


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a file that `write_rows` wrote, or a person; empty lines are left out.

    A file with line feeds may hold carriage returns that no quotes enclose: earlier releases wrote those of a
    cell so. They belong to their cell. In a file without a line feed they end the lines.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
        csv.Error: it is no CSV.
    """
    text = path.read_bytes().decode("utf-8-sig")
    mark = next(chr(code) for code in _PRIVATE_USE if chr(code) not in text)
    if "\n" in text:
        text = re.sub(r"\r(?!\n)", mark, text)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    return [[plain_cell(cell.replace(mark, "\r")) for cell in row] for row in rows if row]


def read_records(path: Path) -> list[dict[Any, Any]]:
    """The rows below the header by its names; errors are those of `read_rows`.

    Returns:
        Text by column; None for a cell that a short row lacks, and under the key None what is too much.
    """
    rows = read_rows(path)
    return [dict(zip_longest(rows[0], row)) for row in rows[1:]]


def read_frame(path: Path, text: Sequence[str]) -> pd.DataFrame:
    """A table that `write_frame` wrote.

    Args:
        path: of the file.
        text: columns that hold text, in which ``NA`` is a name like others.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such table.
        csv.Error: it is no CSV.
    """
    rows = read_rows(path)
    table = pd.read_csv(io.StringIO("".join(map(line_of, rows))))
    places = {name: rows[0].index(name) for name in text}
    # As text: pandas takes NA and the like for a cell without a value.
    return table.assign(**{name: [row[place] for row in rows[1:]] for name, place in places.items()})


def line_of(cells: Sequence[object]) -> str:
    """A row as `write_rows` writes it, with its line end."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\r\n")  # with it a carriage return in a cell is quoted
    writer.writerow([harmless_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return stream.getvalue().removesuffix("\r\n") + "\n"

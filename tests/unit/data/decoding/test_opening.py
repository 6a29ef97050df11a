"""What is read is what was checked, whoever moves files and links meanwhile."""

import os
import threading
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from reconpatch.data.decoding.opening import read_below, read_regular
from reconpatch.errors import DataError

INSIDE, SECRET = b"inside", b"secret"
ROUNDS = 1000


def admit(_: int) -> None:
    """Any size."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file, beside a file that nobody may read."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub/a.png").write_bytes(INSIDE)
    (tmp_path / "secret.png").write_bytes(SECRET)
    return root


def outcomes(place: Path, read: Callable[[], bytes], *makers: Callable[[Path], None]) -> set[bytes | str]:
    """What reading gives while a thread puts one thing after another in a place, both many times."""
    swaps, done = 0, threading.Event()

    def swap() -> None:
        nonlocal swaps
        for make in cycle(makers):
            if done.is_set():
                return
            fresh = place.with_name("fresh")
            make(fresh)
            fresh.replace(place)
            swaps += 1

    makers[0](place)
    thread = threading.Thread(target=swap)
    thread.start()
    seen: set[bytes | str] = set()
    reads = 0
    try:
        while (swaps < ROUNDS and thread.is_alive()) or reads < ROUNDS:
            reads += 1
            try:
                seen.add(read())
            except DataError as error:
                seen.add(str(error).partition(";")[0])
    finally:
        done.set()
        thread.join()
    assert swaps >= ROUNDS
    return seen


def test_a_link_or_fifo_put_in_the_place_of_a_file_is_never_read_nor_waited_for(root: Path) -> None:
    place = root / "a.png"
    seen = outcomes(
        place,
        lambda: read_below(root, place, admit),
        lambda fresh: fresh.write_bytes(INSIDE) and None,
        lambda fresh: fresh.symlink_to(root.parent / "secret.png"),
        lambda fresh: fresh.symlink_to(root / "sub/a.png"),
        os.mkfifo,
    )
    assert seen <= {INSIDE, "does not lie under the allowed root", "is not a plain file"}


def test_a_folder_swapped_for_a_link_leads_nowhere_else(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "a.png").write_bytes(SECRET)
    seen = outcomes(
        root / "folder",
        lambda: read_below(root, root / "folder/a.png", admit),
        lambda fresh: fresh.symlink_to(root / "sub"),
        lambda fresh: fresh.symlink_to(outside),
    )
    assert seen <= {INSIDE, "does not lie under the allowed root"}


def test_a_fifo_in_the_place_of_a_file_is_never_waited_for(root: Path) -> None:
    place = root / "a.png"
    seen = outcomes(
        place,
        lambda: read_regular(place, admit),
        lambda fresh: fresh.write_bytes(INSIDE) and None,
        os.mkfifo,
    )
    assert seen <= {INSIDE, "is not a plain file"}


def test_links_that_stay_inside_and_a_root_that_is_a_link_hold(root: Path, tmp_path: Path) -> None:
    (root / "file.png").symlink_to("sub/a.png")
    (root / "folder").symlink_to(root / "sub")
    (tmp_path / "alias").symlink_to(root)
    for path in (
        root / "file.png",
        root / "folder/a.png",
        tmp_path / "alias/sub/a.png",
        root / "sub/../sub/a.png",
    ):
        for given in (root, tmp_path / "alias"):
            assert read_below(given, path, admit) == INSIDE


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.png", "allowed root"),
        ("../no.png", "allowed root"),
        ("../secret.png/a", "allowed root"),
        ("out.png", "allowed root"),
        ("../pipe", "allowed root"),
        ("/proc/self/fd/0", "allowed root"),
        ("a\0b", "allowed root"),
        ("no.png", "no such file"),
        ("loop.png", "no such file"),
        ("sub", "plain file"),
        ("pipe", "plain file"),
        ("empty.png", "zero bytes"),
        ("a" * 5000, "cannot be read"),
    ],
)
def test_what_is_refused_and_that_nothing_outside_is_told_apart(root: Path, path: str, reason: str) -> None:
    (root / "out.png").symlink_to(root.parent / "secret.png")
    (root / "loop.png").symlink_to("loop.png")
    (root / "empty.png").touch()
    os.mkfifo(root / "pipe")
    os.mkfifo(root.parent / "pipe")
    with pytest.raises(DataError, match=reason):
        read_below(root, root / path, admit)


def test_the_size_is_known_before_a_byte_is_read_and_no_more_is_read(root: Path) -> None:
    path = root / "sub/a.png"

    def grow(size: int) -> None:
        assert size == len(INSIDE)
        with path.open("ab") as file:
            file.write(b" and more")

    assert read_below(root, path, grow) == INSIDE

    def refuse(_: int) -> None:
        raise DataError("too large")

    for read in (lambda: read_below(root, path, refuse), lambda: read_regular(path, refuse)):
        with pytest.raises(DataError, match="too large"):
            read()


def test_no_descriptor_stays_open(root: Path) -> None:
    os.mkfifo(root / "pipe")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("sub/a.png", "sub", "pipe", "../secret.png", "no.png"):
        for read in (lambda path: read_below(root, path, admit), lambda path: read_regular(path, admit)):
            try:
                read(root / path)
            except DataError:
                continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before

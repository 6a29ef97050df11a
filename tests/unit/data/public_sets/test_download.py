"""Downloads against a server that breaks off, changes its file or sends another: whole, or none."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serve
from waiting import wait_for

from reconpatch.data.public_sets.download import download
from reconpatch.errors import DataError

CONTENT = bytes(range(256)) * 12_000  # three chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve(CONTENT) as running:
        yield running


def fetch(server: FileServer, path: Path, **options: object) -> None:
    download(server.url, path, **{"sha256": DIGEST, "pause": 0.001, **options})


def test_a_file_arrives_and_is_not_fetched_twice(server: FileServer, tmp_path: Path) -> None:
    fetch(server, tmp_path / "set.zip", size=len(CONTENT))
    fetch(server, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert server.asked == [None]
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["set.zip"]


def test_a_file_of_another_size_is_fetched_anew(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(CONTENT[:100])
    fetch(server, tmp_path / "set.zip", sha256=None, size=len(CONTENT))
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_broken_connection_is_taken_up_where_it_broke(server: FileServer, tmp_path: Path) -> None:
    server.break_after = [1_500_000, 1_000_000]
    fetch(server, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1500000-", "bytes=2500000-"]


def test_a_later_call_goes_on_where_the_first_gave_up(server: FileServer, tmp_path: Path) -> None:
    server.break_after = [1_000_000] + [0] * 4
    with pytest.raises(DataError, match=r"connection failed.*received 0 bytes.*; 0 MiB .*--archive"):
        fetch(server, tmp_path / "set.zip")
    assert not (tmp_path / "set.zip").exists()
    server.asked.clear()
    fetch(server, tmp_path / "set.zip")
    assert server.asked == ["bytes=1000000-"]
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_killed_download_goes_on(server: FileServer, tmp_path: Path) -> None:
    server.announce = len(CONTENT) + 1  # so that it hangs, waiting for the last byte, until it is killed
    code = f"""
from pathlib import Path
from reconpatch.data.public_sets.download import download
download({server.url!r}, Path({str(tmp_path / "set.zip")!r}), pause=1000.0)
"""
    part = tmp_path / "set.zip.part"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        wait_for("all but a byte", lambda: part.exists() and part.stat().st_size == len(CONTENT))
        process.kill()
    server.announce = None
    fetch(server, tmp_path / "set.zip")
    assert server.asked == [None, f"bytes={len(CONTENT)}-"]
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ['"2"', None])
def test_a_file_that_changed_meanwhile_is_begun_anew(
    server: FileServer, tmp_path: Path, tag: str | None
) -> None:
    server.break_after = [1_000_000] + [0] * 4
    with pytest.raises(DataError):
        fetch(server, tmp_path / "set.zip")
    server.tag, server.content = tag, CONTENT[::-1]
    fetch(server, tmp_path / "set.zip", sha256=hashlib.sha256(CONTENT[::-1]).hexdigest())
    assert (tmp_path / "set.zip").read_bytes() == CONTENT[::-1]


def test_a_server_that_cannot_send_parts_begins_anew(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.break_after = False, [1_000_000]
    fetch(server, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_wrong_hash_or_size_is_refused_and_not_kept(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"has sha256 {DIGEST}, not 00.*--sha256"):
        fetch(server, tmp_path / "set.zip", sha256="0" * 64)
    with pytest.raises(DataError, match="is 3072000 bytes, not 7"):
        fetch(server, tmp_path / "set.zip", size=7)
    assert not list(tmp_path.glob("set.zip*"))
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(DataError, match="has sha256"):
        fetch(server, tmp_path / "set.zip")
    assert not list(tmp_path.glob("set.zip*"))


def test_a_refusal_is_told_at_once_and_passing_trouble_waited_for(server: FileServer, tmp_path: Path) -> None:
    server.status = [404]
    with pytest.raises(DataError, match=r"404 Not Found.*--url"):
        fetch(server, tmp_path / "set.zip")
    server.status = [503, 503]
    fetch(server, tmp_path / "set.zip")
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/a", "set.zip", "http://a:b/", "http://a/\n"]
)
def test_addresses_that_are_none_of_http(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be used \(.*--url"):
        download(url, tmp_path / "a")
    assert not list(tmp_path.glob("a*"))


def test_an_address_where_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"connection failed.*--archive"):
        download("http://127.0.0.1:9/a", tmp_path / "a", pause=0.001)


def test_a_redirect_is_followed_and_leads_to_http_alone(server: FileServer, tmp_path: Path) -> None:
    server.location = [server.url]
    fetch(server, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    server.location = ["file:///etc/passwd", "ftp://127.0.0.1/a"]
    for _ in range(2):
        with pytest.raises(DataError, match="unsupported protocol"):
            fetch(server, tmp_path / "other.zip")
    assert not list(tmp_path.glob("other.zip*"))


def test_the_proxy_of_the_environment_is_asked(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url.partition("/files")[0])
    download("http://elsewhere.invalid/set.zip", tmp_path / "set.zip", sha256=DIGEST)
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    monkeypatch.setenv("http_proxy", "gopher://user:secret@proxy")
    with pytest.raises(DataError, match=r"cannot be used \(") as refused:
        download("http://elsewhere.invalid/other.zip", tmp_path / "other.zip")
    assert "secret" not in str(refused.value)


def test_no_byte_that_arrived_is_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    server.break_after = [1, 2, 3, 4, 5, 6]  # more often than it is tried without a byte
    fetch(server, tmp_path / "set.zip")
    assert server.asked[-1] == "bytes=21-"
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_progress_counts_mebibytes(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []

    def track(items: Iterator[int], _: str, total: int) -> Iterator[int]:
        found = list(items)
        counted.append((len(found), total))
        return iter(found)

    monkeypatch.setattr("reconpatch.data.public_sets.download.track", track)
    server.break_after = [1_500_000]
    with pytest.raises(DataError):
        fetch(server, tmp_path / "set.zip", sha256="0" * 64)
    assert counted == [(1, 1)]  # the rest, once the first MiB lay there


def test_a_disk_that_is_too_small_is_told_before(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(DataError, match="2 MiB are to come and 0 are free"):
        fetch(server, tmp_path / "set.zip")

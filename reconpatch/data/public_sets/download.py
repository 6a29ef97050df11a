"""A file over HTTP that is whole, checked, or absent; a download that broke off goes on where it stopped."""

import http.client
import math
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from reconpatch.errors import DataError
from reconpatch.progress import track
from reconpatch.storage.atomic_files import sha256_file
from reconpatch.storage.file_locks import file_lock

_CHUNK = 1 << 20
_MOST_BYTES = 64 << 30
_TIMEOUT = 30.0  # seconds without a byte
_TRIES = 5  # in a row without a byte
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class _BrokenOffError(Exception):
    """The transfer ended early; what is there is kept and another try may go on."""


def download(
    url: str, path: Path, *, sha256: str | None = None, size: int | None = None, pause: float = 1.0
) -> None:
    """Bring the file at ``url`` to ``path``.

    What arrived so far lies in ``<path>.part``, after a kill too, and is not asked for again where the server
    can send parts and says that the file is still the same.

    Args:
        url: http or https.
        path: complete and checked when this returns; one that is there with hash and size is left alone.
        sha256: hex digest that it must have; None: it is not checked.
        size: bytes that it must have; None: as many as the server announces.
        pause: seconds before the second try, doubled for each further one.

    Raises:
        DataError: the address cannot be used or the server refuses, size or hash are others, the connection
            broke off five times without a byte between, or the file cannot be written.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url}: is no http or https address; give such a one")
    with file_lock(path.with_name(f".{path.name}.lock")):
        if (
            path.is_file()
            and size in (None, path.stat().st_size)
            and (sha256 is None or sha256_file(path) == sha256)
        ):
            return
        part = path.with_name(f"{path.name}.part")
        try:
            _download(url, part, size, pause)
            check_file(part, sha256, size, url)
            part.replace(path)
        except OSError as error:
            raise DataError(
                f"{part}: cannot be written ({error.strerror}); look at space and permissions"
            ) from None
        finally:
            if not part.exists():
                _tag_of(part).unlink(missing_ok=True)


def check_file(path: Path, sha256: str | None, size: int | None, name: str) -> None:
    """Refuse, and remove where it is a ``.part``, a file of another size or hash.

    Raises:
        DataError: it has; the message states both and calls the file ``name``.
    """
    found: int | str = path.stat().st_size
    wanted: int | str | None = size
    if size is None or found == size:
        found, wanted = ("", None) if sha256 is None else (sha256_file(path), sha256)
    if wanted is None or found == wanted:
        return
    if path.suffix == ".part":
        path.unlink()
    what, option = ("size", "--size") if wanted == size else ("sha256", "--sha256")
    raise DataError(
        f"{name}: has {what} {found}, not {wanted}; it is damaged or another file (if it is the one you "
        f"want, state that by {option})"
    )


def _download(url: str, part: Path, size: int | None, pause: float) -> None:
    failures = 0
    while True:
        before = _bytes(part)
        try:
            _go_on(url, part, size)
        except _BrokenOffError as error:
            failures = 1 if _bytes(part) > before else failures + 1
            if failures == _TRIES:
                raise DataError(
                    f"{url}: {error}; {_bytes(part) >> 20} MiB are kept in {part}: try again later, or give "
                    "another address by --url or the file by --archive"
                ) from None
            time.sleep(pause * 2 ** (failures - 1))
        else:
            return


def _go_on(url: str, part: Path, size: int | None) -> None:
    """Append what is missing, or begin anew where the server does not go on."""
    have, tag = _bytes(part), _tag_of(part)
    headers = {"User-Agent": "reconpatch", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag.is_file():
            headers["If-Range"] = tag.read_text(encoding="utf-8")
    try:
        answer = urlopen(Request(url, headers=headers), timeout=_TIMEOUT)  # noqa: S310 (http only)
    except HTTPError as error:
        if error.code == 416 and _total(error.headers.get("Content-Range")) == have:
            return
        if error.code == 416:
            part.unlink(missing_ok=True)
        if error.code == 416 or error.code in _PASSING:
            raise _BrokenOffError(f"the server answers {error.code} {error.reason}") from None
        raise DataError(
            f"{url}: the server answers {error.code} {error.reason}; give another address by --url, or the "
            "file by --archive"
        ) from None
    except (URLError, OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"cannot be reached ({getattr(error, 'reason', error)})") from None
    with answer:
        goes_on = answer.status == 206
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise _BrokenOffError("the server sent another part than was asked for")
        total = _total(answer.headers.get("Content-Range") if goes_on else answer.headers["Content-Length"])
        _check_announced(url, total, size, part, have if goes_on else 0)
        # A weak tag is no promise that the bytes are the same.
        stamp = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if stamp and not stamp.startswith("W/"):
            tag.write_text(stamp, encoding="utf-8")
        elif not goes_on:
            tag.unlink(missing_ok=True)
        _write(answer, part, total, "ab" if goes_on else "wb")


def _write(answer: http.client.HTTPResponse, part: Path, total: int | None, mode: str) -> None:
    missing = None if total is None else total - (_bytes(part) if mode == "ab" else 0)
    with part.open(mode) as stream:
        blocks = None if missing is None else math.ceil(missing / _CHUNK)
        for chunk in track(_chunks(answer), "download, MiB", total=blocks):
            if stream.tell() + len(chunk) > (_MOST_BYTES if total is None else total):
                raise DataError("the server sends more than it announced, or no end; give another address")
            stream.write(chunk)
    if total is not None and _bytes(part) < total:
        raise _BrokenOffError(f"the connection ended after {_bytes(part)} of {total} bytes")


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read(_CHUNK)
        except http.client.IncompleteRead as error:
            yield error.partial
            raise _BrokenOffError("the connection ended early") from None
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOffError(f"the connection broke ({error})") from None
        if not chunk:
            return
        yield chunk


def _check_announced(url: str, total: int | None, size: int | None, part: Path, have: int) -> None:
    if total is None:
        return
    if size is not None and total != size:
        part.unlink(missing_ok=True)
        raise DataError(f"{url}: is {total} bytes, not {size}; give another address, or state --size")
    if total > _MOST_BYTES:
        raise DataError(f"{url}: is {total >> 30} GiB, more than {_MOST_BYTES >> 30}; give another address")
    free = shutil.disk_usage(part.parent).free
    if total - have > free:
        raise DataError(
            f"{part}: {(total - have) >> 20} MiB are to come and {free >> 20} are free; make room or choose "
            "another --cache"
        )


def _total(text: str | None) -> int | None:
    """The bytes of the whole file, from ``Content-Range`` or ``Content-Length``."""
    match = re.fullmatch(r"(?:bytes (?:\d+-\d+|\*)/)?(\d+)", text or "")
    return int(match[1]) if match else None


def _tag_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0

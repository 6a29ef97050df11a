"""Download a file over HTTP: complete and checked, or absent; an interrupted download resumes.

httpx2 does the requests, redirects, proxies and certificates. Why not pooch or torch.hub: they cannot resume.
"""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import httpx2

from reconpatch.errors import DataError
from reconpatch.progress import track
from reconpatch.storage.atomic_files import sha256_file
from reconpatch.storage.file_locks import file_lock

_MOST_BYTES = 64 << 30
_TIMEOUT = 30.0  # seconds without a byte
_TRIES = 5  # in a row without a byte
_PASSING = {408, 416, 425, 429, 500, 502, 503, 504}
# No http(s) URL, of the file or of a redirect or proxy; ImportError: a SOCKS proxy without its package.
_UNUSABLE = (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects, ImportError, ValueError)
_HEADERS = {"User-Agent": "reconpatch", "Accept-Encoding": "identity"}


class _BrokenOffError(Exception):
    """The transfer ended early; the bytes so far are kept and another try may resume."""


def download(
    url: str, path: Path, *, sha256: str | None = None, size: int | None = None, pause: float = 1.0
) -> None:
    """Bring the file at ``url`` to ``path``.

    The bytes so far are kept in ``<path>.part``, after a kill too. They are not requested again if the server
    supports ranges and says that the file has not changed.

    Args:
        url: http or https.
        path: complete and checked when this returns; a file with this hash and size is not downloaded again.
        sha256: expected hex digest; None: not checked.
        size: expected bytes; None: as many as the server announces.
        pause: seconds before the second try, doubled for each further try.

    Raises:
        DataError: the URL cannot be used, the server refuses, size or hash do not match, five tries in a row
            brought no byte, or the file cannot be written.
    """
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
    """Refuse a file of another size or hash; a ``.part`` file is removed.

    Raises:
        DataError: size or hash do not match; the message states both and calls the file ``name``.
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
            _request(url, part, size)
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


def _request(url: str, part: Path, size: int | None) -> None:
    """Request the missing bytes."""
    headers = dict(_HEADERS)
    if have := _bytes(part):
        headers["Range"] = f"bytes={have}-"
        if _tag_of(part).is_file():
            headers["If-Range"] = _tag_of(part).read_text(encoding="utf-8")
    try:
        with httpx2.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as answer:
            _receive(answer, url, part, size)
    except _UNUSABLE as error:
        raise DataError(f"{url}: cannot be used ({error}); give another address by --url") from None
    except httpx2.RequestError as error:
        raise _BrokenOffError(f"the connection failed ({error})") from None


def _receive(answer: httpx2.Response, url: str, part: Path, size: int | None) -> None:
    """Append the answer, or write the file anew if the server sends the whole file."""
    have, tag, status = _bytes(part), _tag_of(part), answer.status_code
    place = answer.headers.get("Content-Range", "")
    if status == 416:
        if _total(place) == have:
            return
        part.unlink(missing_ok=True)
    if status in _PASSING:
        raise _BrokenOffError(f"the server answers {status} {answer.reason_phrase}")
    if not answer.is_success:
        raise DataError(
            f"{url}: the server answers {status} {answer.reason_phrase}; give another address by --url, or "
            "the file by --archive"
        )
    resumes = status == 206
    if resumes and not place.startswith(f"bytes {have}-"):
        part.unlink(missing_ok=True)
        raise _BrokenOffError("the server sent another range than requested")
    have = have if resumes else 0
    total = _total(place if resumes else answer.headers.get("Content-Length"))
    _check_announced(url, total, size, part, have)
    # A weak tag is no promise that the bytes are the same.
    stamp = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if stamp and not stamp.startswith("W/"):
        tag.write_text(stamp, encoding="utf-8")
    elif not resumes:
        tag.unlink(missing_ok=True)
    blocks = None if total is None else (total >> 20) - (have >> 20)
    with part.open("ab" if resumes else "wb") as stream:
        for _ in track(_write(answer, stream, total), "download, MiB", total=blocks):
            pass
    if total is not None and _bytes(part) < total:
        raise _BrokenOffError(f"the connection ended after {_bytes(part)} of {total} bytes")


def _write(answer: httpx2.Response, stream: BinaryIO, total: int | None) -> Iterator[int]:
    """Write each piece as it arrives, so that an error loses none; yields once a MiB."""
    end = stream.tell()
    for piece in answer.iter_raw():
        start, end = end, end + len(piece)
        if end > (_MOST_BYTES if total is None else total):
            raise DataError(
                "the server sends more bytes than it announced, or endlessly; give another address by --url"
            )
        stream.write(piece)
        yield from range(start >> 20, end >> 20)


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

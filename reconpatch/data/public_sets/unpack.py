"""Unpack an archive from a stranger: files and folders inside the target, nothing else, and not endlessly."""

import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from reconpatch.errors import DataError

_CHUNK = 1 << 20
_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {b"\xfd7zXZ\x00": lzma.open, b"\x1f\x8b": gzip.open}
_PADDING = 64 << 20  # the most zeros that are read behind the last file
# What macOS adds to an archive; it is passed over.
_DS_STORE, _APPLE_DOUBLE = ".DS_Store", "._"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Limits:
    """The most that an archive may hold.

    Attributes:
        files: files and folders.
        file_bytes: of one file; larger ones are read as images nowhere.
        bytes: of all files together.
    """

    files: int = 200_000
    file_bytes: int = 1 << 30
    bytes: int = 64 << 30


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    content: IO[bytes] | None  # None: a folder


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> int:
    """Unpack a ``.tar.xz``, ``.tar.gz`` or ``.zip``, whichever its content says it is.

    Files get the usual permissions whatever the archive says.

    Args:
        archive: the file.
        folder: an empty one. What was unpacked before an error was met is left in it.
        limits: default: those of `Limits`.

    Returns:
        Number of files.

    Raises:
        DataError: it is of another kind, damaged or cut short; it holds a link or device, a hidden
            name, a path out of the folder or twice, or more than the limits; or a file cannot be written.
    """
    limits = limits or Limits()
    count = files = total = 0
    try:
        for member in _members(archive):
            count += 1
            total += member.size
            if count > limits.files or member.size > limits.file_bytes or total > limits.bytes:
                raise DataError(f"{member.name}: exceeds what an archive may hold ({_words(limits)})")
            target = folder / _inside(member.name)
            if target.name == _DS_STORE or target.name.startswith(_APPLE_DOUBLE):
                continue
            if member.content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with member.content as source, target.open("xb") as stream:
                _copy(source, stream, member)
            files += 1
    except DataError as error:
        raise DataError(f"{archive}: {error}; nothing of it is used") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{archive}: holds {error.filename} twice; nothing of it is used") from None
    except OSError as error:
        if error.filename is not None or error.errno is not None:
            raise DataError(f"{archive}: cannot be unpacked to {folder} ({error.strerror})") from None
        raise _damaged(archive, error) from None
    except Exception as error:  # a damaged archive can raise nearly anything from within a decoder
        raise _damaged(archive, error) from None
    return files


def _members(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as stream:
        start = stream.read(6)
    if start.startswith(_ZIP):
        yield from _of_zip(archive)
        return
    for magic, decompress in _COMPRESSED.items():
        if start.startswith(magic):
            yield from _of_tar(archive, decompress)
            return
    raise DataError("is neither .tar.xz, .tar.gz nor .zip")


def _of_zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(f"{info.filename}: is a link or a device")
            if info.flag_bits & 1:
                raise DataError(f"{info.filename}: is encrypted")
            # zipfile ends the name at a zero byte; `_inside` refuses it.
            content = None if info.is_dir() else packed.open(info)
            yield _Member(info.orig_filename, info.file_size, content)


def _of_tar(archive: Path, decompress: Callable[[Path], Any]) -> Iterator[_Member]:
    with decompress(archive) as stream:
        with tarfile.open(fileobj=_Sips(stream), mode="r:") as packed:
            for info in packed:
                if info.isdir():
                    yield _Member(info.name, 0, None)
                elif info.isreg() and not info.issparse():
                    yield _Member(info.name, info.size, packed.extractfile(info))
                else:
                    raise DataError(f"{info.name}: is a link, a device or a sparse file")
        # The checksum stands at the end, which tarfile does not read.
        for _ in range(_PADDING >> 20):
            if not stream.read(_CHUNK):
                return
        raise DataError("has no end")


class _Sips(io.RawIOBase):
    """A stream never asked for much at once: the length of a tar's long name is the archive's word."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _CHUNK:
            raise DataError(f"a header claims {size} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True


def _copy(source: IO[bytes], target: Any, member: _Member) -> None:
    left = member.size
    while chunk := source.read(min(_CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise DataError(f"{member.name}: is larger than the archive says")
        target.write(chunk)
    if left:
        raise DataError(f"{member.name}: is cut short")


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    odd = any(ord(letter) < 32 or letter in "\\:" for letter in name)
    if path.is_absolute() or ".." in path.parts or odd:
        raise DataError(f"{name!r}: leads out of the folder or is no plain name")
    *folders, last = path.parts or ("",)
    macos = last == _DS_STORE or last.startswith(_APPLE_DOUBLE)
    if any(part.startswith(".") for part in (*folders, "" if macos else last)):
        raise DataError(
            f"{name!r}: is hidden (.git/config or .dvc/config would be commands of a stranger); "
            "pack the images alone"
        )
    return path


def _words(limits: Limits) -> str:
    return f"{limits.files} entries, {limits.file_bytes >> 20} MiB a file, {limits.bytes >> 30} GiB in all"


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive}: is damaged or cut short ({error}); nothing of it is used: fetch it again")

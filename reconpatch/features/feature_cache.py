"""A folder of feature blocks, shared by any number of readers and writers and safe to delete."""

import contextlib
import hashlib
import os
import struct
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import DataError
from reconpatch.storage.object_store import Store

_MAGIC = b"RCPBLK1\0"
_HEADER = struct.Struct("<8sII32s16x")  # magic, rows, columns, SHA-256 of rows, columns and values
_SLACK = 16  # the folder is listed once for every 1/16 of max_bytes that is written
_ABANDONED_SECONDS = 3600.0


class FeatureCache:
    """Blocks of (P, D) float16 under content-addressed keys.

    A block is complete, under its final name, or absent. A block that does not fit its checksum is
    removed and counts as absent. Reading a block marks it as used.

    Attributes:
        root: the folder; made when the first block is written.
        max_bytes: the blocks used least recently are removed so that the folder stays below it; None: it
            grows without bound. Each further process that writes at the same time may exceed it by 1/16.
        shared: a second place, which other machines read and write too: what the folder lacks comes from
            there, and what is written goes to both. It is not bounded here.
    """

    def __init__(self, root: Path, max_bytes: int | None = None, shared: Store | None = None) -> None:
        self.root = Path(root)
        self.max_bytes = max_bytes
        self.shared = shared
        self._lock = threading.Lock()
        self._room: int | None = None

    def __contains__(self, key: str) -> bool:
        """Whether a block lies under ``key``; its checksum is not looked at."""
        return self._path(key).is_file() or (self.shared is not None and self._shared_key(key) in self.shared)

    def get(self, key: str) -> NDArray[np.float16] | None:
        """Return the (P, D) float16 block under ``key``, read-only; None when absent or damaged."""
        block = self._get_own(key)
        if block is None and self.shared is not None:
            content = self.shared.get(self._shared_key(key))
            block = None if content is None else _decode(content)
            if content is not None and block is not None:
                self._put_own(key, content)
        return block

    def put(self, key: str, array: NDArray[np.float16]) -> None:
        """Store a (P, D) float16 block; of several writers of one key the last one stays.

        Raises:
            DataError: the folder cannot be written.
            ValueError: the array is no (P, D) float16.
        """
        if array.ndim != 2 or array.dtype != np.float16:
            raise ValueError(f"a block must be (P, D) float16, not {array.shape} {array.dtype}")
        content = _encode(array)
        self._put_own(key, content)
        if self.shared is not None:
            self.shared.put(self._shared_key(key), content)

    def unused_since(self, moment: float) -> list[Path]:
        """The files of blocks that were last written or read before ``moment``, in seconds since 1970."""
        return [path for used, _, path in self._list()[0] if used < moment * 1e9]

    def _get_own(self, key: str) -> NDArray[np.float16] | None:
        path = self._path(key)
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DataError(f"{path}: the feature cache cannot be read ({error.strerror})") from None
        block = _decode(content)
        # A folder that may only be read still serves its blocks.
        with contextlib.suppress(OSError):
            if block is None:
                path.unlink()
            else:
                os.utime(path)
        return block

    def _put_own(self, key: str, content: bytes) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{key}.{os.getpid()}.{threading.get_ident()}")
            try:
                # No fsync, unlike in storage.atomic_files: what a power cut damages, the checksum finds.
                temporary.write_bytes(content)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"{self.root}: the feature cache cannot be written ({error.strerror}); "
                "free some space or choose another folder"
            ) from None
        if self.max_bytes is not None:
            self._spend(len(content), self.max_bytes)

    @staticmethod
    def _shared_key(key: str) -> str:
        return f"features/{key[:2]}/{key}"

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / key[2:4] / key

    def _spend(self, size: int, max_bytes: int) -> None:
        with self._lock:
            if self._room is not None:
                self._room -= size
            if self._room is None or self._room < 0:
                self._room = self._evict(max_bytes)

    def _evict(self, max_bytes: int) -> int:
        """Make room if there is little; return how much may be written before the folder is listed again."""
        room = max_bytes // _SLACK
        blocks, total = self._list()
        if total > max_bytes - room:
            for _, size, path in sorted(blocks):
                path.unlink(missing_ok=True)
                total -= size
                if total <= max_bytes - 2 * room:
                    break
        return room

    def _list(self) -> tuple[list[tuple[int, int, Path]], int]:
        """Blocks as (last use, bytes, path), and their bytes; what killed writers left is removed."""
        blocks, total = [], 0
        for path in self.root.glob("*/*/*"):
            try:
                status = path.stat()
            except OSError:  # another writer has removed it, or it is a link to itself
                continue
            if not path.name.startswith("."):
                blocks.append((status.st_mtime_ns, status.st_size, path))
                total += status.st_size
            elif time.time() - status.st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
        return blocks, total


def _encode(array: NDArray[np.float16]) -> bytes:
    values = np.ascontiguousarray(array, dtype="<f2")
    return _HEADER.pack(_MAGIC, *array.shape, _checksum(array.shape, values.data)) + values.tobytes()


def _decode(content: bytes) -> NDArray[np.float16] | None:
    if len(content) < _HEADER.size:
        return None
    magic, rows, columns, checksum = _HEADER.unpack_from(content)
    values = memoryview(content)[_HEADER.size :]
    if magic != _MAGIC or len(values) != 2 * rows * columns or checksum != _checksum((rows, columns), values):
        return None
    return np.frombuffer(values, dtype="<f2").reshape(rows, columns)


def _checksum(shape: tuple[int, ...], values: memoryview) -> bytes:
    digest = hashlib.sha256(struct.pack("<II", *shape))
    digest.update(values)
    return digest.digest()

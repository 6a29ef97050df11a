"""What images and masks looked like when they were last read, so that an unchanged file is not read again.

A file counts as unchanged while its size, times and inode are the same. The memory is void once the code
that reads images differs. Losing it costs time only.
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import PIL

from reconpatch.data import image_statistics, images
from reconpatch.data.decoding import costly_files, image_bytes
from reconpatch.data.decoding.decoding_pool import DecodingStoppedError, shared_pool
from reconpatch.data.images import ImageProbe, MaskProbe
from reconpatch.storage.atomic_files import sha256_file, sha256_json, write_json

# A file that was written this recently may be written again without its time stamps moving on.
_SETTLED_SECONDS = 2.0
_MODULES = (costly_files, image_bytes, image_statistics, images)
_Probe = TypeVar("_Probe", ImageProbe, MaskProbe)


class ProbeCache:
    """Probes of files by path, taken in processes that are ended when a file takes too long.

    A file that was stopped has a ``problem`` as a damaged one has, which is not kept.

    Attributes:
        path: the JSON file that keeps them; None: nothing is kept or looked up.
        seconds: ``data.decode_seconds``.
    """

    def __init__(self, path: Path | None, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self._known: dict[str, Any] = {} if path is None else _read(path)
        self._asked: dict[str, Any] = {}

    def image(self, path: Path) -> ImageProbe:
        """As `probe_image`.

        Raises:
            ReConPatchError: no process can be started.
        """
        return self._look("image", path, ImageProbe, lambda: shared_pool().probe_image(path, self.seconds))

    def images(self, paths: Iterable[Path], threads: int = 2) -> list[ImageProbe]:
        """The same of many, in order, ``threads`` at a time."""
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self.image, paths))

    def mask(self, path: Path, threshold: int) -> MaskProbe:
        """As `probe_mask`; errors as of `image`."""
        return self._look(
            f"mask > {threshold}",
            path,
            MaskProbe,
            lambda: shared_pool().probe_mask(path, threshold, self.seconds),
        )

    def save(self) -> None:
        """Keep what was asked for since this cache was opened, and nothing else."""
        if self.path is not None and self._asked != self._known:
            write_json(self.path, {"code": _code(), "files": self._asked})

    def _look(self, kind: str, path: Path, probe: type[_Probe], read: Callable[[], _Probe]) -> _Probe:
        try:
            return read() if self.path is None else self._look_up(kind, path, probe, read)
        except DecodingStoppedError as error:
            return probe(sha256=_digest(path), problem=str(error))

    def _look_up(self, kind: str, path: Path, probe: type[_Probe], read: Callable[[], _Probe]) -> _Probe:
        name = f"{kind}: {os.path.abspath(path)}"  # noqa: PTH100 (links are not resolved: they may move)
        before = _state(path)
        known = self._known.get(name)
        if known is not None and known[0] == before:
            self._asked[name] = known
            return probe(**known[1])
        found = read()
        if before is not None and max(before[1], before[2]) < (time.time() - _SETTLED_SECONDS) * 1e9:
            self._asked[name] = [before, asdict(found)]
        return found


def _digest(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def _state(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return dict(kept["files"]) if kept["code"] == _code() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@cache
def _code() -> str:
    return sha256_json([PIL.__version__, *(sha256_file(Path(str(module.__file__))) for module in _MODULES)])

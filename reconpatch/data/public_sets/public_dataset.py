"""A public data set, from its address or its archive to a folder of categories."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from reconpatch.data.layouts import category_roots
from reconpatch.data.public_sets.download import check_file, download
from reconpatch.data.public_sets.unpack import unpack
from reconpatch.errors import DataError
from reconpatch.storage.atomic_files import atomic_folder, sha256_json


@dataclass(frozen=True)
class Fetched:
    """The result of `fetch_dataset`.

    Attributes:
        root: folder of the data set.
        categories: in it, sorted.
        files: number of files in the archive.
    """

    root: Path
    categories: tuple[str, ...]
    files: int


def fetch_dataset(
    origin: str | Path, root: Path, *, cache: Path, sha256: str | None = None, size: int | None = None
) -> Fetched:
    """Fetch, check and unpack a data set; ``root`` is complete or absent.

    Args:
        origin: URL of the archive, or the path of a local archive, which is not changed.
        root: folder to make; folders around the categories in the archive are left out.
        cache: folder for the downloaded archive. The archive is removed once it is unpacked, and also if it
            cannot be unpacked and there is no hash to check it by.
        sha256: of the archive, hex; None: not checked.
        size: of the archive in bytes; None: not checked.

    Raises:
        DataError: ``root`` exists, or what `download` and `unpack` refuse, or there is no category in it.
    """
    if root.exists():
        raise DataError(f"{root}: exists already; remove it or choose another folder by --out")
    if isinstance(origin, Path):
        if not origin.is_file():
            raise DataError(f"{origin}: there is no such file; give the archive's path")
        check_file(origin, sha256, size, str(origin))
        return _unpack(origin, root)
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / _cache_name(origin, sha256)
    download(origin, archive, sha256=sha256, size=size)
    try:
        fetched = _unpack(archive, root)
    except DataError:
        if sha256 is None:  # it may be damaged, and every later call would take it for the right one
            archive.unlink()
        raise
    archive.unlink()
    return fetched


def _cache_name(url: str, sha256: str | None) -> str:
    """A name for one archive: by its hash, which mirrors share, else by its URL."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name or "archive"
    return f"{(sha256 or sha256_json(url))[:12]}-{name}"


def _unpack(archive: Path, root: Path) -> Fetched:
    with atomic_folder(root) as temporary, TemporaryDirectory(dir=temporary, prefix=".") as scratch:
        files = unpack(archive, Path(scratch))
        for item in _data_root(Path(scratch), archive).iterdir():
            item.rename(temporary / item.name)
    return Fetched(root, tuple(category_roots(root)), files)


def _data_root(folder: Path, archive: Path) -> Path:
    """The folder that holds the categories, below folders that hold nothing else."""
    while True:
        try:
            category_roots(folder)
        except DataError:
            # What macOS adds to a zip is no folder of the data set.
            inside = [item for item in folder.iterdir() if item.is_dir() and item.name != "__MACOSX"]
            if len(inside) != 1:
                raise DataError(f"{archive}: holds no category of a known layout") from None
            folder = inside[0]
        else:
            return folder

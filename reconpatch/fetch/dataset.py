"""A public data set, from its address or its archive to a folder of categories."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from reconpatch.data.layouts import category_roots
from reconpatch.errors import DataError
from reconpatch.fetch.download import check_file, download
from reconpatch.fetch.unpack import unpack
from reconpatch.files import atomic_folder


@dataclass(frozen=True)
class Fetched:
    """What `fetch_dataset` brought.

    Attributes:
        root: folder of the data set.
        categories: in it, sorted.
        files: that the archive held.
    """

    root: Path
    categories: tuple[str, ...]
    files: int


def fetch_dataset(
    origin: str | Path, root: Path, *, cache: Path, sha256: str | None = None, size: int | None = None
) -> Fetched:
    """Fetch, check and unpack a data set; ``root`` is complete or absent.

    Args:
        origin: address of the archive, or the archive itself, which is left as it is.
        root: folder to make; folders around the categories in the archive are left out.
        cache: where the archive lies while it is downloaded; it goes once it is unpacked.
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
    archive = cache / (PurePosixPath(unquote(urlsplit(origin).path)).name or "archive")
    cache.mkdir(parents=True, exist_ok=True)
    download(origin, archive, sha256=sha256, size=size)
    fetched = _unpack(archive, root)
    archive.unlink()
    return fetched


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

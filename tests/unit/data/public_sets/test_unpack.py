"""Archives from strangers: the sound are unpacked, the hostile are refused and leave nothing outside."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reconpatch.data.public_sets.unpack import Limits, unpack
from reconpatch.errors import DataError

FILES = {"set/bottle/train/good/0.png": b"zero", "set/bottle/train/good/1.png": b"", "set/licence.txt": b"no"}


def member(name: str, content: bytes = b"", **values: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in values.items():
        setattr(info, key, value)
    return info, content


def make_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:]}") as packed:
        for info, content in members:
            packed.addfile(info, io.BytesIO(content))
    return path


def make_zip(path: Path, *members: tuple[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            packed.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def sound(path: Path) -> Path:
    if path.suffix == ".zip":
        return make_zip(path, ("set/", b""), *FILES.items())
    folder = member("./set", type=tarfile.DIRTYPE, mode=0o700)
    return make_tar(path, folder, *(member(name, content, mode=0o4777) for name, content in FILES.items()))


@pytest.mark.parametrize("name", ["a.tar.xz", "a.tar.gz", "a.zip"])
def test_sound_archives_with_usual_permissions(tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    assert unpack(sound(tmp_path / name), target) == 3
    found = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES
    assert all(not stat.S_IMODE(path.stat().st_mode) & 0o7111 for path in found.values())


@pytest.mark.parametrize("name", ["a.tar.xz", "a.tar.gz", "a.zip"])
def test_every_cut_and_flipped_bytes_are_refused_or_harmless(tmp_path: Path, name: str) -> None:
    whole = sound(tmp_path / name).read_bytes()
    for number, cut in enumerate(range(0, len(whole) - 1, 7)):
        (tmp_path / "cut").write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"damaged or cut short|is neither"):
            unpack(tmp_path / "cut", tmp_path / f"cut{number}")
    for number, place in enumerate(range(0, len(whole), 11)):
        (tmp_path / "flip").write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        target = tmp_path / f"flip{number}"
        try:
            unpack(tmp_path / "flip", target)
        except DataError:
            continue
        assert {path.read_bytes() for path in target.rglob("*") if path.is_file()} <= set(FILES.values())


OUTSIDE = ["../out.png", "/abs.png", "a/../../out.png", "a\\..\\b.png", "C:x.png", "a/\n.png"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("pack", ["tar", "zip"])
def test_paths_that_lead_out(tmp_path: Path, name: str, pack: str) -> None:
    archive = (
        make_tar(tmp_path / "a.tar.gz", member(name, b"x"))
        if pack == "tar"
        else make_zip(tmp_path / "a.zip", (name, b"x"))
    )
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="leads out of the folder or is no plain name"):
        unpack(archive, tmp_path / "deep" / "target")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {p for p in before if p.is_file()}


@pytest.mark.parametrize(
    "name", [".git/config", "set/.dvc/config", ".hidden/0.png", "set/..png", ".DS_Store/x"]
)
@pytest.mark.parametrize("pack", ["tar", "zip"])
def test_hidden_names_are_refused(tmp_path: Path, name: str, pack: str) -> None:
    archive = (
        make_tar(tmp_path / "a.tar.gz", member("./0.png", b"x"), member(name, b"x"))
        if pack == "tar"
        else make_zip(tmp_path / "a.zip", ("0.png", b"x"), (name, b"x"))
    )
    with pytest.raises(DataError, match="is hidden"):
        unpack(archive, tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").rglob("*")] == ["0.png"]


def test_what_macos_adds_is_passed_over(tmp_path: Path) -> None:
    added = ["set/.DS_Store", "set/._0.png", "__MACOSX/set/._0.png", "._set"]
    archive = make_zip(tmp_path / "a.zip", ("set/0.png", b"x"), *((name, b"x") for name in added))
    assert unpack(archive, tmp_path / "target") == 1
    assert [path.name for path in (tmp_path / "target").rglob("*.*")] == ["0.png"]


def test_a_zero_byte_in_a_zips_name(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("good_png", b"x"))
    archive.write_bytes(archive.read_bytes().replace(b"good_png", b"good\0png"))
    with pytest.raises(DataError, match="is no plain name"):
        unpack(archive, tmp_path / "target")


KINDS = {
    "symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE,
    "pipe": tarfile.FIFOTYPE, "block device": tarfile.BLKTYPE, "sparse": tarfile.GNUTYPE_SPARSE,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_links_devices_and_sparse_files_in_a_tar(tmp_path: Path, kind: str) -> None:
    odd = member("train/good/0.png", type=KINDS[kind], linkname="/etc/passwd")
    through = member("train/good/0.png/x.png", b"x")
    with pytest.raises(DataError, match="is a link, a device or a sparse file"):
        unpack(make_tar(tmp_path / "a.tar.xz", odd, through), tmp_path / "target")
    assert not list((tmp_path / "target").rglob("*"))


def test_links_in_a_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("0.png", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777)
    with pytest.raises(DataError, match="is a link or a device"):
        unpack(archive, tmp_path / "target")


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "too many": (lambda root: make_zip(root / "a.zip", *((f"{i}.png", b"") for i in range(11))), "exceeds"),
    "too many folders": (
        lambda root: make_tar(root / "a.tar.gz", *(member(f"{i}", type=tarfile.DIRTYPE) for i in range(11))),
        "exceeds",
    ),
    "one too large": (lambda root: make_zip(root / "a.zip", ("0.png", b"\0" * 4001)), "exceeds"),
    "too large in a tar": (
        lambda root: make_tar(root / "a.tar.xz", member("0", b"\0" * 4001)),
        "exceeds",
    ),
    "a bomb": (lambda root: make_zip(root / "a.zip", *((f"{i}", b"\0" * 3000) for i in range(4))), "exceeds"),
    "twice": (lambda root: make_tar(root / "a.tar.gz", member("0", b"a"), member("0", b"b")), "0 twice"),
    "a file as a folder": (
        lambda root: make_tar(root / "a.tar.gz", member("0", b"a"), member("0/1", b"b")),
        "twice",
    ),
    "a name of 2 MiB": (lambda root: make_tar(root / "a.tar.gz", member("a" * (2 << 20), b"a")), "claims"),
    "a name of 300": (
        lambda root: make_zip(root / "a.zip", ("a" * 300, b"a")),
        "unpacked to",
    ),
    "text": (lambda root: Path(root / "a.zip").write_text("text") and root / "a.zip", "is neither"),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hostile_archives_are_refused(tmp_path: Path, what: str) -> None:
    make, words = HOSTILE[what]
    with pytest.raises(DataError, match=words):
        unpack(make(tmp_path), tmp_path / "target", Limits(files=10, file_bytes=4000, bytes=10_000))


def test_a_zip_that_lies_about_a_size_is_no_larger_on_disk(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("0.png", b"\0" * 100_000))
    true, lie = (number.to_bytes(4, "little") for number in (100_000, 10))
    archive.write_bytes(archive.read_bytes().replace(true, lie))
    with pytest.raises(DataError):
        unpack(archive, tmp_path / "target")
    assert sum(path.stat().st_size for path in (tmp_path / "target").rglob("*")) <= 10


def test_behind_the_last_file_of_a_tar_lies_no_endless_padding(tmp_path: Path) -> None:
    import gzip

    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as stream:
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w") as packed:
            info, content = member("0.png", b"x")
            packed.addfile(info, io.BytesIO(content))
        stream.write(inner.getvalue())
        for _ in range(66):
            stream.write(bytes(1 << 20))
    with pytest.raises(DataError, match="has no end"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "target")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("0.png", b"x"))
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        unpack(archive, tmp_path / "target")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        target = tmp_path / "file"
        target.touch()
    else:
        target = tmp_path / "closed"
        target.mkdir(mode=0o500)
    with pytest.raises(DataError):
        unpack(sound(tmp_path / "a.zip"), target / "below")

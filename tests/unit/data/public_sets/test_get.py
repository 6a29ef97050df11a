"""`reconpatch data get`: from a server or an archive to a folder of categories, with its licence shown."""

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from file_server import serve
from PIL import Image

from reconpatch import cli
from reconpatch.data.public_sets.catalogue import PUBLIC_SETS
from reconpatch.data.public_sets.public_dataset import fetch_dataset
from reconpatch.errors import DataError


def image(kind: str = "png") -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def btad() -> bytes:
    """As the real archive: the categories lie in a folder of it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for category, kind in (("01", "bmp"), ("02", "png")):
            packed.writestr(f"BTech_Dataset_transformed/{category}/train/ok/0000.{kind}", image(kind))
            packed.writestr(f"BTech_Dataset_transformed/{category}/test/ko/0000.{kind}", image(kind))
            packed.writestr(f"BTech_Dataset_transformed/{category}/ground_truth/ko/0000.png", image())
        packed.writestr("__MACOSX/BTech_Dataset_transformed/._01", b"")
    return stream.getvalue()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["reconpatch", "data", "get", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return left.value.code, out + err

    return run


def test_from_a_server_with_its_hash(run, btad: bytes, tmp_path: Path) -> None:
    with serve(btad) as server:
        status, text = run("btad", "--url", server.url)
        assert status == 1
        assert f"not {PUBLIC_SETS['btad'].sha256}" in text
        assert not (tmp_path / "data").exists()
        server.break_after = [len(btad) // 2]
        status, text = run("btad", "--url", server.url, "--sha256", hashlib.sha256(btad).hexdigest())
    assert status == 0
    assert "CC BY-NC-SA 4.0" in text
    assert "categories 01, 02" in text
    assert sorted(path.name for path in (tmp_path / "data" / "btad").iterdir()) == ["01", "02"]
    assert not [path for path in (tmp_path / ".cache/downloads").iterdir() if not path.name.startswith(".")]
    assert run("btad", "--url", server.url)[0] == 1  # it is there already


def test_a_damaged_archive_without_a_hash_blocks_no_later_fetch(btad: bytes, tmp_path: Path) -> None:
    with serve(btad[:-30]) as server:
        with pytest.raises(DataError, match="is damaged or cut short"):
            fetch_dataset(server.url, tmp_path / "set", cache=tmp_path / "cache")
        server.content = btad
        found = fetch_dataset(server.url, tmp_path / "set", cache=tmp_path / "cache")
    assert found.categories == ("01", "02")


def test_two_addresses_of_one_name_are_two_archives(
    btad: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with serve(b"another data set") as first, serve(btad) as second:
        with monkeypatch.context() as patched:
            patched.setattr("reconpatch.data.public_sets.public_dataset.unpack", killed)
            with pytest.raises(KeyboardInterrupt):
                fetch_dataset(first.url, tmp_path / "set", cache=tmp_path / "cache")
        found = fetch_dataset(second.url, tmp_path / "set", cache=tmp_path / "cache")
    assert found.categories == ("01", "02")


def test_from_an_archive_that_stays(run, tmp_path: Path) -> None:
    archive = tmp_path / "bottle.tar.xz"
    with tarfile.open(archive, "w:xz") as packed:
        for name in ("bottle/train/good/000.png", "bottle/test/good/000.png", "license.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(image())
            packed.addfile(info, io.BytesIO(image()))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    status, text = run("mvtec", "--archive", archive, "--out", "mv")
    assert (status, digest in text) == (1, True)
    status, text = run("mvtec", "--archive", archive, "--out", "mv", "--sha256", digest.upper())
    assert (status, "categories bottle" in text) == (0, True)
    assert (tmp_path / "mv/bottle/train/good/000.png").read_bytes() == image()
    assert archive.exists()
    status, text = run("mvtec", "--archive", archive, "--out", "other", "--size", 5, "--sha256", digest)
    assert (status, "size" in text) == (1, True)


def test_what_holds_no_category_leaves_no_folder(run, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("notes/readme.txt", "no image")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    status, text = run("mvtec", "--archive", archive, "--sha256", digest)
    assert (status, "holds no category" in text) == (1, True)
    assert not list((tmp_path / "data").iterdir())


def test_wrong_usage(run) -> None:
    assert run("imagenet")[0] == 2
    assert run("mvtec", "--url", "http://a", "--archive", "b")[0] == 2


def test_the_known_sources_state_a_hash_and_a_licence() -> None:
    for source in PUBLIC_SETS.values():
        assert len(bytes.fromhex(source.sha256)) == 32
        assert source.url.startswith("https://")
        assert source.licence
    assert json.dumps(sorted(PUBLIC_SETS)) == '["btad", "mvtec"]'

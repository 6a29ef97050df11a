"""The command line in this process, a small category and a detector fitted on it."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from reconpatch import cli
from tests.command_line import SET


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["reconpatch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return SimpleNamespace(status=left.value.code, out=out, err=err)

    return run


@pytest.fixture(scope="session")
def category(tmp_path_factory):
    """A category whose own name looks like markup."""
    root = tmp_path_factory.mktemp("plant") / "line [b] [old]"
    rng = np.random.default_rng(0)
    for where, count in (("train/good", 8), ("test/good", 2), ("test/hole", 2)):
        (root / where).mkdir(parents=True)
        for i in range(count):
            picture = rng.normal(128, 12, (64, 64, 3))
            mask = np.zeros((64, 64), np.uint8)
            if where == "test/hole":
                # Elsewhere in each image: two defects with one and the same mask are a finding.
                picture[20 + i : 40 + i, 20:40], mask[20 + i : 40 + i, 20:40] = [250, 20, 20], 255
                (root / "ground_truth/hole").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / f"ground_truth/hole/{i}_mask.png")
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / where / f"{i}.png")
    return root


@pytest.fixture
def spoiled(category, tmp_path):
    """A copy to do harm to."""
    return shutil.copytree(category, tmp_path / "spoiled")


@pytest.fixture(scope="session")
def model(category, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "fitted"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["reconpatch", "fit", str(category), "--out", str(folder), *SET])
        with pytest.raises(SystemExit, match="0"):
            cli.main()
    return folder

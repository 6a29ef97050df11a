"""data/demo.dvc in git is the version of the set that `reconpatch data demo` builds."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reconpatch.data.demo import make_demo

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_demo_set_is_the_one_whose_version_is_in_git(tmp_path: Path) -> None:
    make_demo(tmp_path / "data" / "demo")
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    for command in (("init", "-q", "--no-scm"), ("add", "-q", "data/demo")):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    built, stated = (
        yaml.safe_load((root / "data" / "demo.dvc").read_text())["outs"][0] for root in (tmp_path, ROOT)
    )
    assert built["md5"] == stated["md5"]

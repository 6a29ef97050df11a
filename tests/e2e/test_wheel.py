"""The built wheel alone runs the README's five lines.

`make test` lends the new environment this one's packages and hides the four tools; `make soak` installs the
wheel and everything it depends on into an empty environment (several GB, minutes).
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SOAK = os.environ.get("RECONPATCH_SOAK") == "1"
TOOLS = ("prefect", "mlflow", "dvc", "great_expectations")

_HIDE = f"""
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TOOLS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Hide())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("reconpatch", "tasks", "flows", "mlflow", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    limits = ["--constraint", str(ROOT / "constraints.txt")] if SOAK else ["--no-deps"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *limits, str(wheel)], check=True)
    if not SOAK:
        site = next((folder / "lib").glob("python*/site-packages"))
        (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\nimport hide_tools\n")
        (site / "hide_tools.py").write_text(_HIDE)
    return python


def test_only_the_library_is_in_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"reconpatch"}
    assert "reconpatch/py.typed" in names


def test_the_four_tools_are_not_there(python, tmp_path):
    code = "import importlib.util as u, sys\n" + "\n".join(
        f"try:\n    assert u.find_spec({tool!r}) is None\nexcept ModuleNotFoundError: pass" for tool in TOOLS
    )
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path)


@pytest.mark.slow
def test_the_five_lines_of_the_readme(python, tmp_path):
    rng = np.random.default_rng(0)
    for name in [f"data/mvtec/bottle/train/good/{i}.png" for i in range(8)] + ["a.png", "b.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.normal(128, 20, (64, 64, 3)).clip(0, 255).astype(np.uint8)).save(tmp_path / name)
    block = re.search(
        r"```python\n(from reconpatch import ReConPatch.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    lines = block.group(1)
    code = f"{lines}\nimport reconpatch\nprint(reconpatch.__file__)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *predictions, location = done.stdout.splitlines()
    assert str(Path(python).parents[1]) in location
    assert [line.split()[0] for line in predictions] == ["a.png", "b.png"]
    assert all(float(line.split()[1]) > 0 and line.endswith("(224, 224)") for line in predictions)
    assert (tmp_path / "models/bottle/config.json").is_file()

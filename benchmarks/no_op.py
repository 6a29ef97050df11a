"""How long `dvc repro` and the training flow take when there is nothing to do.

    python -m benchmarks.no_op [--images 5000]

A copy of this project gets a category of that many nominal images (224 px crops of a photograph, all
different), one `dvc repro` does the work, and then both entrances are timed on it, in turn.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
import yaml
from PIL import Image

from benchmarks.anomalib.machine import describe

ROOT = Path(__file__).resolve().parents[1]
_COPIED = (
    "reconpatch",
    "tasks",
    "flows",
    "mlflow",
    "dvc.yaml",
    ".dvcignore",
    "constraints.txt",
    "pyproject.toml",
)
_SIDE = 224


def make_project(root: Path, images: int) -> None:
    """A project with one category of ``images`` nominal images, under git and DVC."""
    for name in _COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    folder = root / "data" / "many" / "brick" / "train" / "good"
    folder.mkdir(parents=True)
    photograph = skimage.data.brick()
    random = np.random.default_rng(0)
    for number in range(images):
        top, left = random.integers(0, np.subtract(photograph.shape, _SIDE) + 1)
        crop = photograph[top : top + _SIDE, left : left + _SIDE].astype(int) + random.integers(
            -3, 4, (_SIDE, _SIDE)
        )
        Image.fromarray(crop.clip(0, 255).astype(np.uint8)).save(folder / f"{number:05}.png")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["pipeline"] |= {"dataset": "many", "root": "data/many", "categories": ["brick"]}
    params["coreset"]["max_bank"] = 2000
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    for command in (["init", "-q"], ["add", "-q", "data/many"]):
        run(root, "-m", "dvc", *command)


def run(root: Path, *arguments: str) -> float:
    """Seconds of one Python command in the project."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "PREFECT_HOME": str(root / ".prefect"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
    }
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=root, env=environment, check=True, stdout=sys.stderr)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    entrances = {"dvc repro": ("-m", "dvc", "repro"), "python -m flows.train": ("-m", "flows.train")}
    with tempfile.TemporaryDirectory(prefix="no-op-") as folder:
        root = Path(folder)
        make_project(root, arguments.images)
        first = run(root, *entrances["dvc repro"])
        run(root, *entrances["python -m flows.train"])  # registers
        seconds: dict[str, list[float]] = {name: [] for name in entrances}
        for _ in range(arguments.rounds):
            for name, command in entrances.items():
                seconds[name].append(run(root, *command))
    print(f"{describe()['cpu']}; {arguments.images} images; the work itself took {first:.0f} s\n")
    print("| nothing to do | median s | all |")
    print("|---|---|---|")
    for name, values in seconds.items():
        print(
            f"| {name} | {statistics.median(values):.1f} | {', '.join(f'{value:.1f}' for value in values)} |"
        )


if __name__ == "__main__":
    main()

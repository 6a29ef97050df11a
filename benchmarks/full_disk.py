"""A retrain whose disk becomes full at one step after the other, and what it ends in with room again.

python benchmarks/full_disk.py PROJECT        # as root, who may mount

PROJECT (a copy with a small data set in its params.yaml, an mlflow.db, and no outputs) is copied onto a file
system in memory. As soon as a step's outputs are there, all room is taken; the retrain ends as it can. Then
the room is given back and it runs again, until the next step. In the end outputs and versions are compared
with those of a copy that had room all the time. PREFECT_API_URL names a server whose files lie elsewhere.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient

STEPS = {
    "the start": "params.yaml",
    "validate": "outputs/**/validate/record.json",
    "features": "outputs/**/features/record.json",
    "coreset": "outputs/**/coreset/record.json",
    "evaluate": "outputs/**/evaluate/record.json",
    "a part of the registration": "mlartifacts/**/evaluation/metrics.json",
    "the model's files": "mlartifacts/*/models/*/artifacts/MLmodel",
    "a part of the commit": "dvc.lock",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    project = parser.parse_args().project
    with tempfile.TemporaryDirectory() as scratch:
        calm, small = Path(scratch) / "calm", Path(scratch) / "small"
        copy(project, calm)
        status, told = retrain(calm)
        if status:
            sys.exit(f"the undisturbed retrain failed:\n{told}")
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", small], check=True)
        try:
            copy(project, small)
            for step, pattern in STEPS.items():
                status, told = retrain(small, pattern)
                print(f"full after {step}: status {status}, half written {half_written(small)}, "
                      f"{len(versions(small))} versions\n    {told}", flush=True)  # fmt: skip
            status, told = retrain(small)
            print(f"with room: status {status}; {told}")
            same = outputs(small) == outputs(calm), versions(small) == versions(calm)
            print(f"outputs equal {same[0]}, versions equal {same[1]}: {versions(small)}")
            dvc = [sys.executable, "-m", "dvc", "status", "--json"]
            done = subprocess.run(dvc, cwd=small, check=False, capture_output=True, text=True)
            print(f"not as DVC has recorded it: {list(json.loads(done.stdout))}")
        finally:
            subprocess.run(["umount", "-l", small], check=True)


def copy(project: Path, root: Path) -> None:
    root.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{project}/.", root], check=True)


def retrain(root: Path, full_after: str | None = None) -> tuple[int, str]:
    """Status and how it was told; the disk is full once a file is there."""
    hidden = ("MLFLOW_TRACKING_URI", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "DVC_NO_ANALYTICS": "1"}
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.retrain"], cwd=root, env=environment, stdout=printed, stderr=printed
        )
        balloon = root / "balloon"
        while process.poll() is None:
            if full_after and not balloon.exists() and any(root.glob(full_after)):
                fill(balloon)
            time.sleep(0.02)
        balloon.unlink(missing_ok=True)
        printed.seek(0)
        told = printed.read().decode().strip()
    return process.returncode, told[told.rfind("retrain failed:") :][:500] if process.returncode else ""


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        size = 1 << 20
        while size >= 1:
            try:
                stream.write(bytes(size))
            except OSError:
                size //= 16


def half_written(root: Path) -> Sequence[str]:
    """Folders that a stage left beside its own, and outputs without a record."""
    found = [path for path in root.glob("outputs/**/.*.*/") if path.is_dir()]
    timed = root.glob("outputs/**/timings.json")
    found += [path.parent for path in timed if not path.with_name("record.json").exists()]
    return [path.relative_to(root).as_posix() for path in found]


def versions(root: Path) -> list[tuple[str, str]]:
    uri = f"sqlite:///{root / 'mlflow.db'}"
    found = MlflowClient(uri, uri).search_model_versions()
    return sorted((str(one.version), one.tags["output_digest"]) for one in found)


def outputs(root: Path) -> dict[str, bytes]:
    """Every output byte that must not differ from run to run, by path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.glob("outputs/**/*")
        if path.is_file()
        and path.name != "timings.json"
        and path.suffix != ".lock"
        and "+data_docs/" not in path.as_posix()
    }


if __name__ == "__main__":
    main()

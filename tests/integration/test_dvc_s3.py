"""Images in a remote on S3: pushed from one project, pulled into another that has its .dvc file alone."""

import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

_KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def dvc(project: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project,
        env={**os.environ, **_KEYS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_images_go_to_a_bucket_and_come_back(dvc_s3: str, tmp_path: Path) -> None:
    bucket = urllib.request.Request(f"{dvc_s3}/images", method="PUT")  # noqa: S310
    with urllib.request.urlopen(bucket) as answer:  # noqa: S310
        assert answer.status == 200
    line, other = tmp_path / "line", tmp_path / "other"
    (line / "data/mvtec/nut").mkdir(parents=True)
    for number in range(3):
        (line / f"data/mvtec/nut/{number}.png").write_bytes(bytes([number]) * 1000)
    for project in (line, other):
        project.mkdir(exist_ok=True)
        subprocess.run(["git", "init", "-q"], cwd=project, check=True)
        dvc(project, "init", "-q")
        dvc(project, "remote", "add", "-q", "-d", "store", "s3://images/line3")
        dvc(project, "remote", "modify", "-q", "store", "endpointurl", dvc_s3)
    dvc(line, "add", "-q", "data/mvtec")
    dvc(line, "push", "-q")
    (other / "data").mkdir()
    shutil.copy(line / "data/mvtec.dvc", other / "data")
    dvc(other, "pull", "-q")
    assert {path.name: path.read_bytes() for path in (other / "data/mvtec/nut").iterdir()} == {
        f"{number}.png": bytes([number]) * 1000 for number in range(3)
    }

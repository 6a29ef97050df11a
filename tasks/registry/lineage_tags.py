"""What a model came from: code, data, parameters, packages and machine, as MLflow tags."""

import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from threadpoolctl import threadpool_info

from reconpatch.device import choose_device
from reconpatch.integrations.mlflow_reproduction import UNKNOWN
from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import sha256_file, sha256_json

LOCK_FILE = "constraints.txt"
# Dirty means that these differ from HEAD; data, dvc.lock and figures move with every run.
_CODE = ("reconpatch", "tasks", "flows", "mlflow", "pyproject.toml", "dvc.yaml", "params.yaml", LOCK_FILE)


def lineage(settings: Settings, project: Path) -> dict[str, str]:
    """Tags that are the same for every detector of a run; what cannot be found out is ``unknown``."""
    lock = project / LOCK_FILE
    record = data_record(project / settings.pipeline.root, project)
    return {
        "git_commit": _git(project, "rev-parse", "HEAD") or UNKNOWN,
        "git_dirty": _dirty(project),
        "dvc_data_hash": data_hash(project / settings.pipeline.root, project),
        "dvc_record": UNKNOWN if record is None else record.relative_to(project).as_posix(),
        "params_hash": sha256_json(settings.model_dump(mode="json", by_alias=True)),
        "lock_file_hash": sha256_file(lock) if lock.is_file() else UNKNOWN,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "blas": _blas(),
        "threads": str(settings.threads or "all"),
        "device": str(choose_device(settings.device)),
    }


def data_hash(root: Path, project: Path) -> str:
    """The hash that the nearest .dvc file at or above ``root`` records; ``unknown`` without one."""
    record = data_record(root, project)
    if record is None:
        return UNKNOWN
    outputs: list[dict[str, Any]] = yaml.safe_load(record.read_text(encoding="utf-8")).get("outs", [])
    return str(outputs[0].get("md5", UNKNOWN)) if outputs else UNKNOWN


def data_record(root: Path, project: Path) -> Path | None:
    """The nearest .dvc file at or above ``root``, inside the project."""
    for folder in (root, *root.parents):
        if folder == project or not folder.is_relative_to(project):
            return None
        record = folder.with_name(f"{folder.name}.dvc")
        if record.is_file():
            return record
    return None


def _dirty(project: Path) -> str:
    status = _git(project, "status", "--porcelain", "--", *_CODE)
    return UNKNOWN if status is None else str(bool(status)).lower()


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def _blas() -> str:
    found = [item for item in threadpool_info() if item["user_api"] == "blas"]
    names = {
        f"{item['internal_api']} {item['version']} {item.get('architecture', '')}".strip() for item in found
    }
    return ", ".join(sorted(names)) or UNKNOWN

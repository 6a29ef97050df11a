"""Locks of a project, by what they guard."""

from pathlib import Path

import pytest

from flows.support import project_locks


def test_a_lock_keeps_others_of_its_project_out_and_no_other_lock(tmp_path: Path) -> None:
    with project_locks.hold(project_locks.DVC, tmp_path / "a"):
        with pytest.raises(TimeoutError, match=r"a/\.cache/dvc\.lock"):
            project_locks.hold(project_locks.DVC, tmp_path / "a", wait=False).__enter__()
        with project_locks.hold(project_locks.DVC, tmp_path / "b", wait=False):
            pass
        with project_locks.hold(project_locks.category("demo", "brick"), tmp_path / "a", wait=False):
            pass


def test_a_gpu_is_that_of_a_machine_whatever_its_name_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-1/7/0")
    with project_locks.hold(project_locks.gpu(None), tmp_path):
        (lock,) = (tmp_path / ".cache").iterdir()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        with project_locks.hold(project_locks.gpu(None), tmp_path, wait=False):
            pass
    assert lock.name.endswith("-MIG-GPU-1%2F7%2F0-0.lock")

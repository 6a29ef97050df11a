"""A full disk is told in the same words whoever met it; what else goes wrong is left as it is."""

import errno

import pytest
from mlflow.exceptions import MlflowException
from safetensors import SafetensorError

from reconpatch.errors import ReConPatchError
from tasks.registry.mlflow_store import mlflow_errors
from tasks.running.full_disk import FullDiskError, told_of_a_full_disk

MET = [
    OSError(errno.ENOSPC, "No space left on device", "bank"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
    MlflowException("(sqlite3.OperationalError) database or disk is full"),
    ReConPatchError("dvc commit failed: ERROR: unexpected error - [Errno 28] No space left on device"),
]


@pytest.mark.parametrize("error", MET, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("around", [told_of_a_full_disk, mlflow_errors])
def test_a_full_disk_names_what_had_no_room_and_what_to_do(around, error: Exception) -> None:
    with (
        pytest.raises(FullDiskError, match=r"the bank.* cannot be written \(.*\); free some space"),
        around("the bank"),
    ):
        raise error


def test_one_that_was_met_on_the_way_is_found() -> None:
    broken = RuntimeError("the pool is broken")
    broken.__cause__ = MET[0]
    with pytest.raises(FullDiskError), told_of_a_full_disk("the table"):
        raise broken


def test_it_is_told_once() -> None:
    with (
        pytest.raises(FullDiskError, match=r"^inner cannot be written"),
        mlflow_errors("outer"),
        told_of_a_full_disk("inner"),
    ):
        raise MET[0]


@pytest.mark.parametrize("error", [ValueError("full of errors"), OSError(errno.ESTALE, "stale")])
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, mlflow_errors("a look"), told_of_a_full_disk("the bank"):
        raise error
    assert caught.value is error

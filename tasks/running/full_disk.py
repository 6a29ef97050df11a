"""A full disk, told as such whoever met it: a stage, MLflow, its database, DVC or git."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from reconpatch.errors import DataError

# Neither a full disk nor a quota is helped by trying again.
_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# safetensors has no number but in words, and databases and other programs have only words.
_WORDS = (
    *(f"(os error {number})" for number in _NUMBERS),
    "No space left on device",
    "Disk quota exceeded",
    "database or disk is full",
)


class FullDiskError(DataError):
    """There is no room for something; trying again does not help before there is some."""


@contextmanager
def told_of_a_full_disk(what: str) -> Iterator[None]:
    """Around what writes: say what had no room, and what to do.

    Raises:
        FullDiskError: ``what`` could not be written for lack of room.
    """
    try:
        yield
    except FullDiskError:
        raise
    except Exception as error:
        if _is_full(error):
            raise FullDiskError(
                f"{what} cannot be written ({error}); free some space and run it again, "
                "what was there before is still there"
            ) from error
        raise


def _is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that there is no room left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NUMBERS:
            return True
        if any(words in str(error) for words in _WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False

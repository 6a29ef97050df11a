"""The errors that the library raises on purpose.

Each message names the file or the parameter, what is wrong with it, and what to do.
"""

from reconpatch.text.redaction import redact


class ReConPatchError(Exception):
    """Base of every error that a user can cause and mend; its text shows no password."""

    def __str__(self) -> str:
        return redact(super().__str__())


class SettingsError(ReConPatchError):
    """A parameter is unknown, of the wrong type or out of range."""


class DataError(ReConPatchError):
    """An image, a mask or a data set cannot be used as it is."""


class ModelError(ReConPatchError):
    """A fitted detector, a backbone or its weights cannot be used as they are."""

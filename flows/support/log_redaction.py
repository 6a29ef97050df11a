"""No password in what a flow tells: its log on every way, and the message of its state."""

from types import ModuleType, TracebackType

import prefect._internal.states
import prefect.states

from reconpatch.text.redaction import redact, redact_process


def apply() -> None:
    """Redact the process's log, and the messages of failed and crashed runs."""
    redact_process()
    # Prefect makes the message of the exception before any hook of ours is asked.
    for module in (prefect.states, prefect._internal.states):
        _redact_messages(module)


def _redact_messages(module: ModuleType) -> None:
    tell = module.format_exception
    if getattr(tell, "redacts", False):
        return

    def redacted(exc: BaseException, tb: TracebackType | None = None) -> str:
        return redact(tell(exc, tb))

    redacted.redacts = True  # type: ignore[attr-defined]
    module.format_exception = redacted  # type: ignore[attr-defined]

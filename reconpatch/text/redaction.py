"""Secrets in URLs and headers, kept out of messages, logs, tracebacks and answers."""

import logging
import re
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

# Of a URL: user and password as a URL should have them, else a password with blanks, quotes, line ends or
# slashes, which a database driver takes as they are. A port is not a password.
_PORT = r"\d{1,5}(?:[/?#\s,;:.)\]\"'<>\\]|$)"
_USER_INFO = re.compile(rf"://(?:[^\s/?#\"]*|[^\s/?#@:\"\[]*:(?!\s|{_PORT})(?:(?!://)[^@]){{0,256}})@")
# Of a query, or of a database's `password=...`: the value ends where the next begins.
_NAMED = re.compile(
    r"(?<![a-z0-9])((?:[a-z0-9]+[_.-])*(?:password|passwd|pwd|passphrase|secret|token|signature|sig|credentials?"
    r"|api[_-]?key|access[_-]?key(?:[_-]?id)?|awsaccesskeyid|secret[_-]?access[_-]?key)=)"
    r"(?:'[^'\n]*'(?![^\s&#,;:)\]}])|\"[^\"\n]*\"(?![^\s&#,;:)\]}])|(?:[^&#\s\"']|[\"'](?![\s,;:)\]}&#]|$))+)",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(authorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer)\s+)[^\s\"']+", re.IGNORECASE)
# A sound host and port alone: what an odd URL has there may be a part of its password.
_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^/?#]*@)?((?:[\w.-]+|\[[0-9a-f:.]+\])(?::\d+)?)(?=[/?#]|$)", re.IGNORECASE
)


def redact(text: str) -> str:
    """A text in which ``***`` stands for every user, password, token and signature.

    Args:
        text: any, such as an error's message; ``postgresql://ada:secret@host/db`` in it becomes
            ``postgresql://***@host/db``, ``?sig=abc`` becomes ``?sig=***``.
    """
    if "://" in text:
        text = _USER_INFO.sub("://***@", text)
    if "=" in text:
        text = _NAMED.sub(r"\1***", text)
    return _HEADER.sub(r"\1***", text)


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL: what may be told of one whose path is a secret.

    Args:
        url: such as ``https://hooks.example/T0/SECRET``; ``no URL`` stands for what is none.
    """
    found = _ORIGIN.match(url)
    return "no URL" if found is None else "".join(found.groups())


def redact_process() -> None:
    """Redact what this process logs, whichever logger or handler, and the tracebacks that end it or a thread.

    A record is redacted as it is made: its arguments, its message, and its traceback with the causes.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def redacted(*given: Any, **named: Any) -> logging.LogRecord:
        record = make(*given, **named)
        _redact_record(record)
        return record

    redacted.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacted)
    show, show_in_thread = sys.excepthook, threading.excepthook

    def at_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not _print_redacted(kind, error, trace):
            show(kind, error, trace)

    def in_a_thread(given: threading.ExceptHookArgs) -> None:
        if not _print_redacted(given.exc_type, given.exc_value, given.exc_traceback):
            show_in_thread(given)

    sys.excepthook, threading.excepthook = at_the_end, in_a_thread


def _redact_record(record: logging.LogRecord) -> None:
    if isinstance(record.args, tuple):
        record.args = tuple(redact(item) if isinstance(item, str) else item for item in record.args)
    try:
        message = record.getMessage()
    except Exception:  # the handler says that the arguments do not fit
        return
    if (told := redact(message)) != message:
        record.msg, record.args = told, ()
    if record.exc_info and record.exc_info[0] is not None:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if (told := redact(text)) != text:
            record.exc_info, record.exc_text = None, told


def _print_redacted(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> bool:
    """Print a traceback that holds a secret without it; False where it holds none."""
    text = "".join(traceback.format_exception(kind, error, trace))
    told = redact(text)
    if told == text:
        return False
    sys.stderr.write(told)
    return True

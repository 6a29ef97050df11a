"""Secrets in URLs, kept out of messages, logs and answers."""

import re

# A database driver takes a slash in a password as it is, where only a port tells it from a path.
_USER_INFO = re.compile(r"://(?:[^\s/?#\"]*|[^\s/?#@:\"]*:(?!\d{1,5}/)[^\s@\"]*)@")
# A sound host and port alone: what an odd URL has there may be a part of its password.
_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^/?#]*@)?((?:[\w.-]+|\[[0-9a-f:.]+\])(?::\d+)?)(?=[/?#]|$)", re.IGNORECASE
)


def without_user_info(text: str) -> str:
    """A text in which ``***`` stands for the user and password of every URL.

    Args:
        text: any, such as an error's message; ``postgresql://ada:secret@host/db`` in it becomes
            ``postgresql://***@host/db``.
    """
    return _USER_INFO.sub("://***@", text)


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL: what may be told of one whose path is a secret.

    Args:
        url: such as ``https://hooks.example/T0/SECRET``; ``no URL`` stands for what is none.
    """
    found = _ORIGIN.match(url)
    return "no URL" if found is None else "".join(found.groups())

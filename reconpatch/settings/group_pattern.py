"""The pattern that finds an image's group in its path; no pattern and no path can keep it busy.

A pattern may come with a stranger's model folder, and Python's `re` cannot be interrupted: it backtracks for
years with the interpreter's lock held. `regex` reads the same patterns, lets go of the lock and gives up in
time; a check of the pattern's shape would refuse sound patterns and still miss slow ones.
"""

import functools
import math
import re

import regex

from reconpatch.errors import SettingsError

SECONDS = 1.0  # of the process's computing time; a sound pattern needs microseconds
_LONGEST = 1000
# `regex` writes a{1000} out a thousand times: this much is 30 MB, and ten times as much 300 MB.
_MOST_COPIES = 100_000
_COUNT = re.compile(r"\{(\d+)")
_VERBOSE = re.compile(r"\(\?[a-zA-Z]*x")


@functools.lru_cache(maxsize=64)
def compile_group_pattern(pattern: str) -> regex.Pattern[str]:
    """Compile a pattern of Python's `re` with exactly one capture.

    Raises:
        ValueError: it is not a regular expression with one capture, or it is too large.
    """
    if len(pattern) > _LONGEST:
        raise ValueError(f"has {len(pattern)} characters; write a pattern of at most {_LONGEST}")
    try:
        known = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression ({error})") from None
    if known.groups != 1:
        raise ValueError(
            f"{pattern!r} has {known.groups} captures; put one (...) around what names the group"
        )
    if _VERBOSE.search(pattern):  # blanks would hide a count from the next check
        raise ValueError(f"{pattern!r} uses the flag x; write the pattern without it")
    if math.prod(max(1, int(count)) for count in _COUNT.findall(pattern)) > _MOST_COPIES:
        raise ValueError(
            f"{pattern!r} repeats too often; the product of its {{counts}} may be {_MOST_COPIES}"
        )
    try:
        return regex.compile(pattern, cache_pattern=False)
    except (regex.error, RecursionError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression ({error})") from None


def search_group(pattern: str, path: str) -> str | None:
    """What the pattern captures in a path; None where it does not match or captures nothing.

    Raises:
        SettingsError: the pattern cannot be used, or the search takes more than a second of computing.
    """
    try:
        match = compile_group_pattern(pattern).search(path, timeout=SECONDS, concurrent=True)
    except ValueError as error:
        raise SettingsError(f"data.group_pattern: {error}") from None
    except TimeoutError:
        raise SettingsError(
            f"data.group_pattern: {pattern!r} takes more than {SECONDS:g} s on {path[:200]!r}; "
            "write it without repeats inside repeats"
        ) from None
    return (match[1] or None) if match else None

"""Text in Markdown: what strangers' names and people's words hold of markup is shown, not obeyed."""

import re

# Beside Markdown's own marks: HTML and its entities, and what viewers turn into links by themselves.
_MARKS = re.compile(r"[\\`*_|<>\[~&#@]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def plain_markdown(text: str) -> str:
    """Markdown that shows a text as it is, in one line, in the cell of a table too."""
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))

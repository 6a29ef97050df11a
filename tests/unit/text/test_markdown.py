"""Names in Markdown are shown as they are."""

import re

import mistune
import pytest

from reconpatch.text.markdown import plain_markdown

_NAMES = [
    "<img src=x onerror=alert(1)>.png", "a|b.png", "[x](javascript:alert(1)).png", "![x](http://evil/y.png)",
    "__init__*.png", "`rm`", "~~no~~", "&lt;b&gt;", "# title", "> quote", "www.evil.com/x.png",
    "https://evil.com", "ann@evil.com", "back\\slash\\|", "<!-- hidden",
]  # fmt: skip


@pytest.mark.parametrize("name", _NAMES)
def test_a_name_is_text_alone(name: str) -> None:
    table = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "url"])
    page = str(table(f"| file | why |\n|---|---|\n| {plain_markdown(name)} | end |"))
    cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    shown = [re.sub("&(lt|gt|amp|quot);", lambda mark: _ENTITIES[mark[1]], cell) for cell in cells]
    assert shown == [name, "end"]
    assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td)>)", page)
    alone = str(table(plain_markdown(name)))
    assert not re.search(r"<(?!/?p>)", alone)


def test_lines_become_one() -> None:
    assert plain_markdown("a\nb\r\n  c\t") == "a b c"


_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}

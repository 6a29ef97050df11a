import re
from html.parser import HTMLParser

from reconpatch.evaluation.evaluate import evaluate
from reconpatch.evaluation.report.html_report import draw_pictures, render_report


class Checker(HTMLParser):
    """Collects what the page would load, and checks that tags are closed."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "data", "action")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def rendered(evaluation, lineage):
    page = render_report(evaluation, draw_pictures(evaluation), lineage)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return page, checker


def test_the_page_is_self_contained_and_complete(detector, manifest, settings):
    found = evaluate(detector, manifest, settings)
    page, checker = rendered(found, {"backbone": "some_net", "data": "abc123"})
    assert len(checker.loads) == 3
    assert all(source.startswith("data:image/png;base64,") for source in checker.loads)
    assert not re.search(r"https?://|<script|@import|url\(", page)
    text = " ".join(checker.text)
    for expected in ("some_net", "abc123", "dent", "stain", f"{found.metrics['image_auroc']:.4f}"):
        assert expected in text


def test_figures_in_words_for_a_set_without_defects(detector, manifest, settings):
    kept = manifest[manifest["label"] == 0].reset_index(drop=True)
    kept.attrs = manifest.attrs
    _, checker = rendered(evaluate(detector, kept, settings), {})
    text = " ".join(checker.text)
    assert "synthetic" in text
    assert "no defective" in text


def test_names_cannot_break_the_page(detector, manifest, settings):
    wild = manifest.assign(
        category="<b>&", defect_type=manifest["defect_type"].replace("dent", '<img src=x onerror="y">')
    )
    wild.attrs = manifest.attrs
    page, checker = rendered(evaluate(detector, wild, settings), {"<i>": "</table>"})
    assert "<img src=x" not in page
    assert len(checker.loads) == 3

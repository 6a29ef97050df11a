"""The page as a person uses it: in a real browser, on a server that asks for a key."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from browser import browser
from finished_runs import fit_detector, write_images
from PIL import Image
from served import serving

from reconpatch.data.reviews import read_reviews

KEY = "line-3-secret-key"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A category, with a spoiled image and a broken one beside it."""
    root = write_images(tmp_path_factory.mktemp("line") / "nut")
    pixels = np.random.default_rng(5).integers(90, 140, (64, 64, 3)).astype(np.uint8)
    pixels[20:40, 20:40] = [250, 20, 20]
    Image.fromarray(pixels).save(root.parent / "hole.png")
    (root.parent / "broken.png").write_bytes(b"no image")
    return root


@pytest.mark.slow
@pytest.mark.server
def test_a_person_inspects_and_judges(images: Path, tmp_path: Path, chromium: str) -> None:
    good = sorted((images / "test" / "good").iterdir())
    hole, root = images.parent / "hole.png", images.parent
    fit_detector(images, root / "models" / "nut")
    secret = {"RECONPATCH_API_KEY": KEY}
    reviews = tmp_path / "reviews.jsonl"
    with (
        serving(root, "models/nut", "--reviews", str(reviews), environment=secret) as server,
        browser(chromium, tmp_path / "profile") as tab,
    ):
        origin = f"http://127.0.0.1:{server.port}"
        tab.open(f"{origin}/", 1366, 820)
        tab.wait("document.querySelector('#ask').open")
        tab.type("#key", KEY)
        tab.press("Enter")
        tab.wait("document.querySelector('#category').value === 'nut'")

        tab.drop(hole)
        tab.wait("document.querySelector('#band').textContent === 'REJECT'")
        tab.wait("document.querySelector('#map').naturalWidth === 64")
        left = "parseFloat(document.querySelector('#needle').style.left)"
        reject = "parseFloat(document.querySelector('#tick-reject').style.left)"
        assert tab.run(left) > tab.run(reject)
        # The map lies on the image and nowhere else.
        box = "(() => {{ const b = document.querySelector('{}').getBoundingClientRect();"
        box += " return [b.x, b.y, b.width, b.height].map(Math.round).join() }})()"
        assert tab.run(box.format("#map")) == tab.run(box.format("#picture"))

        tab.pick("#files", *good)
        tab.wait("document.querySelectorAll('#recent button').length === 3")
        tab.wait(f"document.querySelector('#name').textContent === '{good[-1].name}'")
        scale = tab.run("document.querySelector('#scale').innerText")
        tab.run("document.activeElement.blur()")
        for _ in range(2):
            tab.press("ArrowRight")
        tab.wait("document.querySelector('#name').textContent === 'hole.png'")
        for _ in range(20):  # faster than a picture is decoded
            tab.press("ArrowLeft")
            tab.press("ArrowRight")
        tab.wait("document.querySelector('#name').textContent === 'hole.png'")
        assert scale == tab.run("document.querySelector('#scale').innerText")

        opacity = "document.querySelector('#map').style.opacity"
        assert tab.run(opacity) == "0.65"
        tab.press("h")
        assert tab.run(opacity) == "0"
        tab.press("h")
        tab.run("document.querySelector('#opacity').focus()")
        tab.press("ArrowRight")
        assert tab.run(opacity) == "0.66"
        tab.run("document.activeElement.blur()")

        tab.press("b")
        tab.wait("document.querySelector('#message').className === 'error'")
        assert not reviews.exists()
        tab.type("#who", "Ann")
        tab.press("Tab")
        tab.run("document.activeElement.blur()")
        tab.press("b")
        tab.wait("document.querySelector('#bad').getAttribute('aria-pressed') === 'true'")
        tab.press("ArrowLeft")
        tab.wait(f"document.querySelector('#name').textContent === '{good[0].name}'")
        tab.run("document.querySelector('#good').click()")
        tab.wait("document.querySelector('#good').getAttribute('aria-pressed') === 'true'")
        table = read_reviews(reviews).set_index("image_sha256")
        assert table["who"].tolist() == ["Ann", "Ann"]
        assert table["verdict"].to_dict() == {
            hashlib.sha256(hole.read_bytes()).hexdigest(): "bad",
            hashlib.sha256(good[0].read_bytes()).hexdigest(): "good",
        }
        assert table["model_version"].str.startswith("sha256:").all()

        tab.drop(root / "broken.png")
        tab.wait("document.querySelector('#message').textContent.includes('broken.png: holds no image')")

        for width, height in ((1366, 820), (768, 1024)):
            tab.resize(width, height)
            assert tab.run("document.documentElement.scrollWidth <= window.innerWidth")
            buttons = "[...document.querySelectorAll('header button, #review button')]"
            assert tab.run(f"{buttons}.every((button) => button.offsetHeight >= 44)")
            assert tab.screenshot(tmp_path / f"{width}.png").stat().st_size > 10_000
        assert [url for url in tab.urls() if not url.startswith((f"{origin}/", f"blob:{origin}/"))] == []
        assert tab.failures() == []

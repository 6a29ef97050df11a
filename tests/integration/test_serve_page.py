"""The page as a person uses it: in a real browser, on a server that asks for a key."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from finished_runs import fit_detector, write_images
from PIL import Image
from playwright.sync_api import Page, expect
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
def test_a_person_inspects_and_judges(
    images: Path, tmp_path: Path, page: Page, page_faults: list[str]
) -> None:
    good = sorted((images / "test" / "good").iterdir())
    hole, root = images.parent / "hole.png", images.parent
    fit_detector(images, root / "models" / "nut")
    secret = {"RECONPATCH_API_KEY": KEY}
    reviews = tmp_path / "reviews.jsonl"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    name, message = page.locator("#name"), page.locator("#message")
    with serving(root, "models/nut", "--reviews", str(reviews), environment=secret) as server:
        origin = f"http://127.0.0.1:{server.port}"
        page.set_viewport_size({"width": 1366, "height": 820})
        page.goto(f"{origin}/")
        expect(page.locator("#ask")).to_be_visible()
        page.fill("#key", KEY)
        page.press("#key", "Enter")
        expect(page.locator("#category")).to_have_value("nut")

        page.locator("#viewer").drop({"files": hole})
        expect(page.locator("#band")).to_have_text("REJECT")
        expect(page.locator("#map")).to_have_js_property("naturalWidth", 64)
        assert _left(page, "#needle") > _left(page, "#tick-reject")
        # The map lies on the image and nowhere else.
        box, picture = (page.locator(one).bounding_box() for one in ("#map", "#picture"))
        assert box == pytest.approx(picture, abs=0.5)

        page.set_input_files("#files", good)
        expect(page.locator("#recent button")).to_have_count(3)
        expect(name).to_have_text(good[-1].name)
        scale = page.inner_text("#scale")
        _blur(page)
        for _ in range(2):
            page.keyboard.press("ArrowRight")
        expect(name).to_have_text("hole.png")
        for _ in range(20):  # faster than a picture is decoded
            page.keyboard.press("ArrowLeft")
            page.keyboard.press("ArrowRight")
        expect(name).to_have_text("hole.png")
        assert scale == page.inner_text("#scale")

        heat_map = page.locator("#map")
        expect(heat_map).to_have_css("opacity", "0.65")
        page.keyboard.press("h")
        expect(heat_map).to_have_css("opacity", "0")
        page.keyboard.press("h")
        expect(heat_map).to_have_css("opacity", "0.65")
        page.locator("#opacity").press("ArrowRight")
        expect(heat_map).to_have_css("opacity", "0.66")
        _blur(page)

        page.keyboard.press("b")
        expect(message).to_have_class("error")
        assert not reviews.exists()
        page.fill("#who", "Ann")
        page.press("#who", "Tab")
        _blur(page)
        page.keyboard.press("b")
        expect(page.locator("#bad")).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("ArrowLeft")
        expect(name).to_have_text(good[0].name)
        page.click("#good")
        expect(page.locator("#good")).to_have_attribute("aria-pressed", "true")
        table = read_reviews(reviews).set_index("image_sha256")
        assert table["who"].tolist() == ["Ann", "Ann"]
        assert table["verdict"].to_dict() == {
            hashlib.sha256(hole.read_bytes()).hexdigest(): "bad",
            hashlib.sha256(good[0].read_bytes()).hexdigest(): "good",
        }
        assert table["model_version"].str.startswith("sha256:").all()

        page.locator("#viewer").drop({"files": root / "broken.png"})
        expect(message).to_contain_text("broken.png: holds no image")

        for width, height in ((1366, 820), (768, 1024)):
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            for button in page.locator("header button, #review button").all():
                assert button.evaluate("button => button.offsetHeight") >= 44
            assert len(page.screenshot()) > 10_000
    assert [url for url in asked if not url.startswith((f"{origin}/", f"blob:{origin}/"))] == []
    assert page_faults == []


def _left(page: Page, selector: str) -> float:
    """Where the page puts an element, in percent of what holds it."""
    return page.locator(selector).evaluate("one => parseFloat(one.style.left)")


def _blur(page: Page) -> None:
    """Take the keyboard's focus from every field."""
    page.evaluate("document.activeElement.blur()")

"""What a server answers, in this process."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from tiny_server import form, png

from reconpatch.data.reviews import read_reviews
from reconpatch.evaluation.evaluation_result import ColourScale
from reconpatch.evaluation.report.heatmaps import colour_layer
from reconpatch.line.server.server_options import ServerLimits

PREDICT = "/api/categories/nut/predict"


def test_answers_are_those_of_the_detector_in_the_order_of_the_images(connect, loaded, tmp_path):
    images = [png(20), png(21, spoiled=True), png(22, side=90)]
    answers = connect().post(PREDICT, files=form(*images)).json()["results"]
    for number, image in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(image)
    expected = loaded.predict(sorted(tmp_path.glob("?.png")))
    assert [one["score"] for one in answers] == [one.score for one in expected]
    assert [one["band"] for one in answers] == [one.band for one in expected]
    assert answers[1]["is_anomalous"] is True
    assert [one["name"] for one in answers] == ["0.png", "1.png", "2.png"]
    assert [one["sha256"] for one in answers] == [hashlib.sha256(image).hexdigest() for image in images]


def test_a_map_as_values_and_as_colours(connect, loaded):
    client = connect()
    (answer,) = client.post(PREDICT, files=form(png(20))).json()["results"]
    values = np.load(io.BytesIO(client.get(answer["map_npy"]).content), allow_pickle=False)
    image = np.asarray(Image.open(io.BytesIO(png(20))))
    expected = loaded.predict(image)[0].anomaly_map
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, rtol=1e-3)
    colours = np.asarray(Image.open(io.BytesIO(client.get(answer["map_png"]).content)))
    assert colours.shape == (64, 64, 4)
    (nut,) = client.get("/api/categories").json()["categories"]
    scale = ColourScale(nut["scale_low"], nut["scale_high"])
    rgb, opacity = colour_layer(values, scale)
    np.testing.assert_allclose(colours[..., :3], rgb, atol=0.51)
    np.testing.assert_allclose(colours[..., 3], 255 * opacity, atol=0.51)
    assert opacity.min() < opacity.max()
    picture = Image.open(io.BytesIO(client.get(answer["picture"]).content))
    assert (picture.format, picture.size) == ("JPEG", (64, 64))


def test_the_newest_images_come_first_and_older_ones_make_room(connect):
    client = connect(recent=2)
    ids = [client.post(PREDICT, files=form(png(seed))).json()["results"][0]["id"] for seed in range(3)]
    assert [one["id"] for one in client.get("/api/images").json()["results"]] == ids[:0:-1]
    assert client.get("/api/images?category=other").json()["results"] == []
    assert client.get(f"/api/images/{ids[2]}").json()["id"] == ids[2]
    for gone in (f"/api/images/{ids[0]}", f"/api/images/{ids[0]}/map.png"):
        assert client.get(gone).status_code == 404


def test_a_verdict_lands_in_the_review_table(connect, tmp_path):
    client = connect()
    (answer,) = client.post(PREDICT, files=form(png(1))).json()["results"]
    said = client.post(f"/api/images/{answer['id']}/review", json={"verdict": "bad", "who": " Ann "})
    assert said.json()["review"] == "bad"
    assert client.get(f"/api/images/{answer['id']}").json()["review"] == "bad"
    table = read_reviews(tmp_path / "reviews.jsonl")
    row = table.iloc[0]
    assert (row["image_sha256"], row["verdict"], row["who"]) == (answer["sha256"], "bad", "Ann")
    assert row["model_version"] == answer["model_version"]
    for wrong in (
        {"verdict": "fine", "who": "Ann"}, {"verdict": "bad", "who": " "}, {"verdict": "bad"},
        {"verdict": "bad", "who": "A\rB"},
    ):  # fmt: skip
        assert client.post(f"/api/images/{answer['id']}/review", json=wrong).status_code == 422
    assert client.post("/api/images/none/review", json={"verdict": "bad", "who": "A"}).status_code == 404
    assert len(read_reviews(tmp_path / "reviews.jsonl")) == 1


def test_a_review_table_that_cannot_be_written_is_said(connect, tmp_path):
    (tmp_path / "table").mkdir()
    client = connect(reviews=tmp_path / "table")
    (answer,) = client.post(PREDICT, files=form(png(1))).json()["results"]
    said = client.post(f"/api/images/{answer['id']}/review", json={"verdict": "bad", "who": "A"})
    assert said.status_code == 507
    assert client.get(f"/api/images/{answer['id']}").json()["review"] is None


def test_paths_are_read_under_the_allowed_root_alone(connect, tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub/a.png").write_bytes(png(3))
    (tmp_path / "secret.png").write_bytes(png(4))
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    client = connect(allowed_root=root)
    by_path = "/api/categories/nut/predict-paths"
    inside = client.post(by_path, json={"paths": ["sub/a.png", str(root / "sub/a.png")]})
    assert [one["name"] for one in inside.json()["results"]] == ["sub/a.png", str(root / "sub/a.png")]
    for path in (
        "../secret.png",
        "link.png",
        str(tmp_path / "secret.png"),
        "/etc/passwd",
        "sub",
        "no.png",
        "a" * 5000,
    ):
        refused = client.post(by_path, json={"paths": [path]})
        assert refused.status_code == 400, path
    assert connect().post(by_path, json={"paths": ["sub/a.png"]}).status_code == 400


def test_files_named_by_path_count_together_and_are_let_go(connect, tmp_path):
    image = png(3)
    (tmp_path / "a.png").write_bytes(image)
    limits = ServerLimits(request_bytes=3 * len(image) + 1, total_bytes=4 * len(image))
    client = connect(allowed_root=tmp_path, limits=limits)
    by_path = "/api/categories/nut/predict-paths"
    for count, status in ((3, 200), (4, 413), (64, 413), (3, 200)):
        answer = client.post(by_path, json={"paths": ["a.png"] * count})
        assert answer.status_code == status
        assert status == 200 or "MiB together" in answer.json()["detail"]


def test_what_does_not_fit_beside_other_requests_comes_again(connect, tmp_path):
    (tmp_path / "a.png").write_bytes(png(3))
    limits = ServerLimits(request_bytes=1 << 20, total_bytes=1 << 20)
    client = connect(allowed_root=tmp_path, limits=limits)

    def ask():
        sent = client.post(PREDICT, files=form(png()))
        named = client.post("/api/categories/nut/predict-paths", json={"paths": ["a.png"]})
        return sent, named

    with client.app.state.reconpatch.bytes.share() as others:
        others.take((1 << 20) - 1000)
        for answer in ask():
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.get("/health").status_code == 200
    assert [answer.status_code for answer in ask()] == [200, 200]


@pytest.mark.parametrize(
    ("limits", "images", "status"),
    [
        (ServerLimits(image_pixels=4095), [png()], 413),
        (ServerLimits(images=2), [png(), png(), png()], 400),
        (ServerLimits(request_bytes=2000), [png()], 413),
        (ServerLimits(waiting=0), [png()], 503),
        (ServerLimits(), [png()[:500]], 400),
        (ServerLimits(), [png(), b"no image"], 400),
        (ServerLimits(), [], 415),
    ],
)
def test_what_goes_beyond_a_limit_is_refused_and_leaves_nothing(connect, limits, images, status):
    client = connect(limits=limits)
    assert client.post(PREDICT, files=form(*images)).status_code == status
    assert client.post("/api/categories/other/predict", files=form(png())).status_code >= 400


def test_categories_say_which_detector_serves_and_on_which_colours(connect, loaded):
    told = connect().get("/api/categories").json()
    calibration = loaded.calibration
    (nut,) = told["categories"]
    assert nut["name"] == "nut"
    assert nut["threshold"] == calibration.threshold.value
    assert nut["scale_low"] < nut["pixel_threshold"] < nut["scale_high"]
    assert told["colours"][0] != told["colours"][-1]


def test_probes_metrics_and_the_description_of_the_api(connect):
    client = connect()
    client.post(PREDICT, files=form(png()))
    client.get("/no/such/page")
    assert client.get("/health").json()["status"] == client.get("/ready").json()["status"] == "ok"
    text = client.get("/metrics").text
    assert 'reconpatch_requests_total{method="POST",route="/api/categories/{category}/predict"' in text
    assert 'route="other",status="404"' in text
    assert 'reconpatch_model_info{category="nut"' in text
    assert "/api/categories/{category}/predict" in client.get("/openapi.json").json()["paths"]
    docs = client.get("/docs").text
    assert "//cdn" not in docs
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_the_page_asks_for_nothing_from_elsewhere(connect):
    client = connect()
    page = client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("page.js", "page.css", "icon.svg"):
        assert f"/static/{name}" in page.text
        content = client.get(f"/static/{name}").text
        assert "http" not in content.replace("http://www.w3.org/2000/svg", "")


def test_a_key_is_asked_for(connect):
    key = "k" * 16
    client = connect(api_key=key)
    for path in ("/api/categories", "/api/images", "/metrics"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"X-API-Key": "wrong"}).status_code == 401
        assert client.get(path, headers={"X-API-Key": key}).status_code == 200
        assert client.get(path, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert client.post(PREDICT, files=form(png())).status_code == 401
    for path in ("/", "/static/page.js", "/health", "/ready", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200


def test_without_a_key_only_localhost_is_answered(connect):
    client = connect()
    assert client.get("/api/categories", headers={"Host": "evil.example"}).status_code == 400
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000"):
        assert client.get("/api/categories", headers={"Host": host}).status_code == 200

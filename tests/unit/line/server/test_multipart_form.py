"""The images of a form are read without the disk."""

import tempfile
from collections.abc import Callable
from typing import NoReturn

import pytest
from starlette.testclient import TestClient
from tiny_server import form, png

from reconpatch.line.server.server_options import ServerLimits

PREDICT = "/api/categories/nut/predict"


def test_large_images_are_scored_though_the_disk_is_full(
    connect: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    client = connect()
    # Bytes after the end of a PNG are no part of the image.
    large = png(1) + bytes(3 << 20)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    answer = client.post(PREDICT, files=form(large, large))
    assert answer.status_code == 200
    assert len(answer.json()["results"]) == 2


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"no form", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 400),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n",
            400,
        ),
        ("application/json", b"{}", 415),
    ],
)
def test_what_is_no_form_of_images_is_refused(
    connect: Callable[..., TestClient], content_type: str, body: bytes, status: int
) -> None:
    answer = connect().post(PREDICT, content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize(("field", "images"), [("pictures", 1), ("images", 3)])
def test_other_fields_and_too_many_are_refused(
    connect: Callable[..., TestClient], field: str, images: int
) -> None:
    files = [(field, part) for _, part in form(*[png()] * images)]
    assert connect(limits=ServerLimits(images=2)).post(PREDICT, files=files).status_code == 400

"""Requests from other sites' pages, made-up methods, and bodies that no JSON can hold or that are large."""

import json
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient
from tiny_server import form, png

Connect = Callable[..., TestClient]
PREDICT = "/api/categories/nut/predict"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_another_sites_page_may_send_nothing(connect: Connect, headers: dict[str, str]) -> None:
    client = connect()
    refused = client.post(PREDICT, files=form(png()), headers=headers)
    assert refused.status_code == 403
    assert "another site" in refused.json()["detail"]
    assert client.get("/api/images").json()["results"] == []
    assert client.get("/api/categories", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://127.0.0.1:8000", "Host": "127.0.0.1:8000"},
        {"Origin": "http://[::1]:8000", "Host": "[::1]:8000"},
    ],
)
def test_the_servers_own_page_and_scripts_may(connect: Connect, headers: dict[str, str]) -> None:
    assert connect().post(PREDICT, files=form(png()), headers=headers).status_code == 200


def test_with_a_key_the_key_decides(connect: Connect) -> None:
    headers = {"Origin": "https://line.example", "X-API-Key": "k" * 16}
    assert connect(api_key="k" * 16).post(PREDICT, files=form(png()), headers=headers).status_code == 200


@pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
def test_a_key_that_is_no_ascii_is_a_wrong_key(connect: Connect, header: str) -> None:
    headers = {header.encode(): b"bearer \xff\xb2"}
    assert connect(api_key="k" * 16).get("/api/categories", headers=headers).status_code == 401


def test_a_length_that_is_a_digit_elsewhere_is_refused(connect: Connect) -> None:
    refused = connect().request("POST", PREDICT, headers={b"Content-Length": b"\xb2"})
    assert refused.status_code == 400
    assert "content-length" in refused.json()["detail"]


def test_methods_that_senders_make_up_are_counted_as_one(connect: Connect) -> None:
    client = connect()
    for number in range(3):
        client.request(f"MADEUP{number}", "/health")
    text = client.get("/metrics").text
    assert "MADEUP" not in text
    assert 'method="other",route="/health",status="405"} 3.0' in text


@pytest.mark.parametrize(
    "body",
    [
        rb'{"verdict": "bad", "who": "\ud800"}',
        b'{"verdict": NaN, "who": "Ann"}',
        rb'{"verdict": "bad", "who": "Ann", "\ud800": 1}',
        b"\xff",
    ],
)
def test_a_verdict_that_no_json_can_hold_is_refused_and_not_repeated(connect: Connect, body: bytes) -> None:
    client = connect()
    (answer,) = client.post(PREDICT, files=form(png())).json()["results"]
    url = f"/api/images/{answer['id']}/review"
    refused = client.post(url, content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code in (400, 422)
    assert refused.json()["detail"]


def test_what_does_not_fit_is_said_with_its_place_and_not_repeated(connect: Connect) -> None:
    refused = connect().post("/api/images/none/review", json={"verdict": "SECRET", "who": "Ann"})
    (problem,) = refused.json()["detail"]
    assert problem["loc"] == ["body", "verdict"]
    assert "'good' or 'bad'" in problem["msg"]
    assert "SECRET" not in refused.text


def _many_fields(count: int) -> bytes:
    return json.dumps({f"field{number}": number for number in range(count)}).encode()


@pytest.mark.parametrize("url", ["/api/categories/nut/predict-paths", "/api/images/none/review"])
@pytest.mark.parametrize("announced", [True, False])
def test_json_of_more_than_64_kib_is_not_read(connect: Connect, url: str, announced: bool) -> None:
    body = b'{"paths": [' + b"1," * (32 << 10) + b"1]}"
    headers = {"Content-Type": "application/json"}
    refused = connect().post(url, content=body if announced else iter([body]), headers=headers)
    assert refused.status_code == 413
    assert "64 KiB" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("url", "body", "problems"),
    [
        ("/api/categories/nut/predict-paths", b'{"paths": [' + b"1," * (31 << 10) + b"1]}", 1),
        ("/api/categories/nut/predict-paths", b'{"paths": [' + b'"",' * (20 << 10) + b'""]}', 1),
        ("/api/categories/nut/predict-paths", _many_fields(2000), 1),
        ("/api/images/none/review", _many_fields(2000), 1),
        ("/api/images/none/review", _many_fields(20), 20),
    ],
)
def test_of_many_problems_the_first_are_said(connect: Connect, url: str, body: bytes, problems: int) -> None:
    assert len(body) <= 64 << 10
    refused = connect().post(url, content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422
    assert len(refused.json()["detail"]) == problems

"""Images that do not come to an end hold up neither the others nor the server, and nobody overlooks them."""

import asyncio
import threading

import pytest
from tiny_server import form, png

from reconpatch.data.decoding import decoding_pool
from reconpatch.line.server.image_decoder import ImageDecoder, Upload
from reconpatch.line.server.prediction_queue import OverloadedError
from reconpatch.line.server.server_options import ServerLimits, ServerOptions
from tests.hostile_images import ascii_ppm, scans_jpeg

PREDICT = "/api/categories/nut/predict"
PATIENCE = 300


def test_one_that_takes_too_long_is_refused_and_others_are_answered(connect, monkeypatch):
    monkeypatch.setattr(decoding_pool, "BUSY_FACTOR", 10_000)  # the machine may be busy
    client = connect(limits=ServerLimits(decode_seconds=0.5, seconds=PATIENCE))
    slow = ascii_ppm(side=1_500)
    said = []
    senders = [
        threading.Thread(target=lambda: said.append(client.post(PREDICT, files=form(slow)))) for _ in range(2)
    ]
    for sender in senders:
        sender.start()
    assert client.post(PREDICT, files=form(png())).status_code == 200
    for sender in senders:
        sender.join(PATIENCE)
    assert [answer.status_code for answer in said] == [400, 400]
    assert "0.png: took longer than 0.5 s to decode" in said[0].json()["detail"]
    assert client.post(PREDICT, files=form(png())).status_code == 200
    assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_a_known_trick_is_refused_with_its_name(connect):
    answer = connect().post(PREDICT, files=form(scans_jpeg(200, side=64)))
    assert answer.status_code == 400
    assert "0.png: is a JPEG of more than 100 scans" in answer.json()["detail"]


def test_probes_fail_while_a_process_is_overdue(connect, monkeypatch):
    client = connect()
    with monkeypatch.context() as patched:
        patched.setattr(decoding_pool.DecodingPool, "is_overdue", True)
        for probe in ("/health", "/ready"):
            answer = client.get(probe)
            assert (answer.status_code, answer.json()["reason"]) == (503, "decoding an image hangs")
    assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_what_is_being_decoded_at_the_end_is_to_come_again():
    async def ended() -> None:
        decoder = ImageDecoder(ServerOptions())
        started = asyncio.create_task(_decode(decoder))
        while not decoder._processes._busy:
            await asyncio.sleep(0.01)
        decoder.close()
        with pytest.raises(OverloadedError):
            await started
        with pytest.raises(OverloadedError):
            await _decode(decoder)

    asyncio.run(ended())


async def _decode(decoder: ImageDecoder) -> None:
    async with decoder.decode(Upload("a.ppm", ascii_ppm(side=2_000))):
        pass

"""Uploads that mean harm, against a real server: each refused with 4xx, memory flat, the process alive.

`make test` sends some of each kind, `make soak` all 200.
"""

import gzip
import io
import json
import os
import pickle
import random
import select
import signal
import socket
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from finished_runs import fit_detector, write_images
from PIL import Image
from served import ServedProcess, multipart, serving
from waiting import PATIENCE, wait_for

SOAK = os.environ.get("RECONPATCH_SOAK") == "1"
COUNT = 200 if SOAK else 44
END = 600  # seconds: without an answer until then the server hangs
STREAM_BYTES = (1 << 30) if SOAK else (200 << 20)
PREDICT = "/api/categories/nut/predict"
BY_PATH = "/api/categories/nut/predict-paths"
Attack = Callable[[ServedProcess, random.Random], int]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    root = tmp_path_factory.mktemp("hostile")
    fit_detector(write_images(root / "images"), root / "nut")
    allowed = root / "allowed"
    allowed.mkdir()
    (root / "secret.png").write_bytes(_picture())
    (allowed / "link.png").symlink_to(root / "secret.png")
    (allowed / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(allowed / "pipe.png")
    (allowed / "zero.png").symlink_to("/dev/zero")
    limits = ("--max-mib", "16", "--max-images", "8", "--timeout", "4")
    with serving(root, "nut", "--allow-root", str(allowed), *limits) as served:
        yield served


def _picture(kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(90, 140, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def _upload(server: ServedProcess, data: bytes, name: str = "a.png") -> int:
    body, headers = multipart({name: data})
    return server.ask("POST", PREDICT, body, headers)[0]


def _truncated(server: ServedProcess, draw: random.Random) -> int:
    data = _picture(draw.choice(["PNG", "JPEG", "TIFF", "BMP"]))
    return _upload(server, data[: draw.randrange(len(data) - 16)])


def _flipped(server: ServedProcess, draw: random.Random) -> int:
    data = bytearray(_picture())
    data[draw.randrange(16, len(data) - 16)] ^= 1 << draw.randrange(8)
    return _upload(server, bytes(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb(server: ServedProcess, draw: random.Random) -> int:
    side = draw.choice([8_000, 20_000, 60_000, 2**31 - 1])
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, draw.choice([0, 2]), 0, 0, 0))
    rows = _chunk(b"IDAT", zlib.compress(bytes(8_000_000)))
    return _upload(server, b"\x89PNG\r\n\x1a\n" + header + rows + _chunk(b"IEND", b""))


def _wrong_type(server: ServedProcess, draw: random.Random) -> int:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(5_000_000))
    animation = io.BytesIO()
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    frames[0].save(animation, "GIF", save_all=True, append_images=frames[1:])
    contents = [
        b"",
        b"\x00" * 100_000,
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<?php system('id'); ?>",
        b"%PDF-1.7 nothing",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        archive.getvalue(),
        gzip.compress(bytes(5_000_000)),
        animation.getvalue(),
        b"\x7fELF" + bytes(500),
    ]
    return _upload(server, draw.choice(contents))


def _pickled(server: ServedProcess, draw: random.Random) -> int:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch pwned",)

    data = pickle.dumps(Harm(), protocol=draw.randrange(2, 6))
    if draw.random() < 0.5:
        stream = io.BytesIO()
        np.save(stream, np.array([Harm()], dtype=object), allow_pickle=True)
        data = stream.getvalue()
    return _upload(server, data, draw.choice(["a.pkl", "a.png", "a.npy"]))


def _path_trick(server: ServedProcess, draw: random.Random) -> int:
    tricks = [
        "../secret.png", "link.png", "passwd", "/etc/passwd", "pipe.png", "zero.png", ".", "", "a\0b",
        "..", "x/../../secret.png", "%2e%2e/secret.png", "~/x", "\\\\host\\x", "a" * 5000, "file:///etc/passwd",
        "/proc/self/environ", "/dev/stdin", "./" * 2000 + "../secret.png", "\u202egnp.a",
    ]  # fmt: skip
    if draw.random() < 0.25:
        category = draw.choice(["..%2f..%2fetc", "%00", "nut%2f..%2fnut", "a" * 3000])
        body, headers = multipart({"a.png": _picture()})
        return server.ask("POST", f"/api/categories/{category}/predict", body, headers)[0]
    body = json.dumps({"paths": [draw.choice(tricks)]}).encode()
    return server.ask("POST", BY_PATH, body, {"Content-Type": "application/json"})[0]


def _malformed(server: ServedProcess, draw: random.Random) -> int:
    good, headers = multipart({"../../x\r\ny.png": _picture()})
    several, _ = multipart({f"{number}.png": _picture() for number in range(9)})
    other, _ = multipart({"a.png": _picture()}, field="other")
    json_headers = {"Content-Type": "application/json"}
    body, sent, path = draw.choice(
        [
            (_picture(), {"Content-Type": "image/png"}, PREDICT),
            (b"{}", json_headers, PREDICT),
            (good, {"Content-Type": "multipart/form-data"}, PREDICT),
            (good, {"Content-Type": "multipart/form-data; boundary=elsewhere"}, PREDICT),
            (good[: len(good) // 2], headers, PREDICT),
            (several, headers, PREDICT),
            (other, headers, PREDICT),
            (b"", headers, PREDICT),
            (b'{"paths": []}', json_headers, BY_PATH),
            (b'{"paths": ' + b"[" * 100_000, json_headers, BY_PATH),
            (b'{"paths": ["a"], "root": "/"}', json_headers, BY_PATH),
            (b'{"paths": "a.png"}', json_headers, BY_PATH),
            (b"\xff\xfe", json_headers, BY_PATH),
        ]
    )
    return server.ask("POST", path, body, sent)[0]


def _stream(server: ServedProcess, draw: random.Random) -> int:
    """Bytes without end, announced or not; the sender heeds the answer, or goes on regardless."""
    announced, heeds = draw.random() < 0.5, draw.random() < 0.7
    length = f"Content-Length: {STREAM_BYTES}" if announced else "Transfer-Encoding: chunked"
    _, headers = multipart({})
    edge = headers["Content-Type"].partition("boundary=")[2]
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {headers['Content-Type']}\r\n"
    head += f"{length}\r\n\r\n"
    start = f'--{edge}\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'.encode()
    piece = bytes(1 << 20)

    def framed(data: bytes) -> bytes:
        return data if announced else b"%x\r\n%b\r\n" % (len(data), data)

    with socket.create_connection(("127.0.0.1", server.port), timeout=END) as connection:
        try:
            connection.sendall(head.encode() + framed(start))
            for _ in range(STREAM_BYTES // len(piece)):
                if heeds and select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(framed(piece))
        except OSError:
            pass
        return int(connection.recv(4096).split()[1])


def _slow(server: ServedProcess, draw: random.Random) -> int:
    """A body that never ends: the answer comes within the time limit."""
    body, headers = multipart({"a.png": _picture()})
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {headers['Content-Type']}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=END) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        connection.sendall(body[: draw.randrange(len(body) - 1)])
        return int(connection.recv(4096).split()[1])


def _slow_head(server: ServedProcess, draw: random.Random) -> int:
    """A head that never ends, on a new connection or behind a request that was answered; a byte at a time."""
    used = draw.random() < 0.5
    with socket.create_connection(("127.0.0.1", server.port), timeout=END) as connection:
        if used:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(4096)
            assert b" 200 " in answer
        connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nX-A: ".encode())
        started = time.monotonic()
        while not select.select([connection], [], [], 0.5)[0]:
            assert time.monotonic() - started < END
            connection.sendall(b"a")
        return int(connection.recv(4096).split()[1])


def _silent(server: ServedProcess, _: random.Random) -> int:
    """A connection on which nothing comes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=END) as connection:
        return int(connection.recv(4096).split()[1])


KINDS: dict[str, tuple[Attack, float]] = {
    "truncated": (_truncated, 8),
    "flipped": (_flipped, 4),
    "bomb": (_bomb, 5),
    "wrong type": (_wrong_type, 5),
    "pickled": (_pickled, 4),
    "path trick": (_path_trick, 8),
    "malformed": (_malformed, 7),
    "stream": (_stream, 2),
    "slow": (_slow, 1),
    "slow head": (_slow_head, 1),
    "silent": (_silent, 0.5),
}


@pytest.mark.slow
@pytest.mark.server
def test_hostile_uploads_are_refused_and_the_server_goes_on(server: ServedProcess) -> None:
    draw = random.Random(0)  # noqa: S311
    share = COUNT / sum(weight for _, weight in KINDS.values())
    sent = 0
    # What the libraries load when first used is no leak.
    for attack, _ in KINDS.values():
        attack(server, random.Random(1))  # noqa: S311
    status, _ = server.predict("nut", _picture())
    assert status == 200
    before, started = server.memory, time.monotonic()
    for kind, (attack, weight) in KINDS.items():
        for _ in range(max(1, round(weight * share))):
            status = attack(server, draw)
            assert 400 <= status < 500, kind
            sent += 1
    grown = (server.memory - before) >> 20
    assert server.process.poll() is None
    status, answer = server.predict("nut", _picture())
    assert status == 200, server.log.read_text()
    assert np.isfinite(answer["results"][0]["score"])
    assert grown < 64, f"{grown} MiB more after {sent} hostile uploads"
    assert not list(Path(server.log.parent).rglob("pwned"))
    assert "Traceback" not in server.log.read_text()
    print(f"{sent} hostile uploads in {time.monotonic() - started:.1f} s, {grown:+d} MiB")


@pytest.mark.slow
@pytest.mark.server
def test_the_end_does_not_wait_for_an_image_that_is_being_decoded(tmp_path: Path) -> None:
    fit_detector(write_images(tmp_path / "images"), tmp_path / "nut")
    with serving(tmp_path, "nut", "--timeout", "600") as server:
        assert server.predict("nut", _picture())[0] == 200
        (decoder,) = _children(server)
        os.kill(decoder, signal.SIGSTOP)  # a decoder that does not come to an end
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(server.predict, "nut", _picture())
            wait_for("the image is on its way", lambda: _connections(server) > 0)
            assert server.ask("GET", "/health")[0] == 200
            server.process.terminate()
            server.process.wait(PATIENCE)
            assert sent.exception() is not None or sent.result()[0] == 503
        assert "Traceback" not in server.log.read_text()
    wait_for("the decoder ends", lambda: not Path(f"/proc/{decoder}").exists())


def _children(server: ServedProcess) -> list[int]:
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _connections(server: ServedProcess) -> int:
    """Connections to the server that are open."""
    port = f":{server.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)

"""Attacks on a server's memory, time, connections and files, each on a fresh server that this starts.

    python benchmarks/server_attacks.py [ATTACK ...]

The server listens on loopback and has a tiny detector, fitted here. Every attack is bounded and says what was
answered, the server's peak memory, and the longest time that /health needed meanwhile. The attacks: `json`
(8 MiB of {"paths": [1, 1, ...]}), `paths` (700 bytes that name a file of 63 MB 64 times), `uploads` (40 that
stay open), `unread` (200 clients without the key that read no answer), `race` (a link to an image outside the
allowed root comes and goes) and `fifo` (a FIFO does).
"""

import argparse
import http.client
import io
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from reconpatch import ReConPatch

KEY = "0123456789abcdef"
HEADERS = {"X-API-Key": KEY, "Content-Type": "application/json"}
BY_PATH = "/api/categories/nut/predict-paths"
REQUEST_SECONDS = 20
UNREAD_SECONDS = 60  # how long the clients that do not read are watched
RACE_SECONDS, RACE_REQUESTS, FIFO_REQUESTS, CLIENTS = 60, 20_000, 2000, 4
TINY = {
    "features.image_size": 64,
    "modulation.enabled": False,
    "coreset.ratio": 0.1,
    "calibrate.holdout": 0.4,
    "threads": 1,
    "device": "cpu",
}


class Server:
    """A server that runs.

    Attributes:
        process: of the server.
        port: on loopback.
        root: the folder that images may be named in.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, root: Path) -> None:
        self.process, self.port, self.root = process, port, root

    def ask(self, method: str, path: str, body: bytes | None = None, limit: float = 300) -> int:
        """The status of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=limit)
        try:
            connection.request(method, path, body, HEADERS)
            return connection.getresponse().status
        finally:
            connection.close()

    def peak(self) -> int:
        """Largest resident memory until now, in MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) >> 10

    def sockets(self) -> int:
        """Open connections, and the one that it listens on."""
        count = 0
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                count += str(link.readlink()).startswith("socket:")
        return count


@contextmanager
def serving(scratch: Path) -> Iterator[Server]:
    """A server over the detector in a folder, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from reconpatch.cli import main; main()", "serve", "nut"]
    options = ["--port", str(port), "--threads", "1", "--device", "cpu", "--timeout", str(REQUEST_SECONDS)]
    process = subprocess.Popen(
        [*command, *options, "--allow-root", "root"],
        cwd=scratch, env={**os.environ, "RECONPATCH_API_KEY": KEY},
    )  # fmt: skip
    server = Server(process, port, scratch / "root")
    try:
        while process.poll() is None:
            try:
                server.ask("GET", "/ready")
                break
            except OSError:
                time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait()


@contextmanager
def health_watched(server: Server) -> Iterator[list[float]]:
    """How many seconds each look at /health took while the block lasts."""
    took: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            start = time.monotonic()
            with suppress(OSError):  # cut off after a wait, which counts too
                server.ask("GET", "/health")
            took.append(time.monotonic() - start)
            done.wait(0.05)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield took
    finally:
        done.set()
        thread.join()


def json_body(server: Server) -> str:
    body = b'{"paths":[' + b"1," * ((8 << 20) // 2) + b"1]}"
    try:
        return f"status {server.ask('POST', BY_PATH, body)}"
    except OSError as error:
        return f"no answer ({error})"


def paths(server: Server) -> str:
    with (server.root / "large.png").open("wb") as file:
        file.truncate(63_000_000)
    body = json.dumps({"paths": ["large.png"] * 64}).encode()
    return f"{len(body)} bytes, status {server.ask('POST', BY_PATH, body)}"


def uploads(server: Server) -> str:
    head = (
        f"POST /api/categories/nut/predict HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    start = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
    piece = bytes(1 << 20)
    answers: Counter[str] = Counter()

    def send(_: int) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            try:
                client.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(start), start))
                for _ in range(63):
                    if select.select([client], [], [], 0)[0]:  # refused
                        break
                    client.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
                answers[client.recv(12).decode()[-3:] or "closed"] += 1
            except OSError as error:
                answers[type(error).__name__] += 1

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(send, range(40)))
    return f"answers {dict(answers)}"


def unread(server: Server) -> str:
    request = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    before = server.sockets()
    with ExitStack() as open_ones:
        for _ in range(200):
            client = open_ones.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(request * 8)
        held = {}
        for seconds in (1, UNREAD_SECONDS):
            time.sleep(seconds)
            held[f"after {seconds} s"] = max(0, server.sockets() - before)
    return f"connections held: {held}"


def race(server: Server) -> str:
    outside = server.root.parent / "outside.png"
    outside.write_bytes(picture(0))
    return swapped(server, RACE_REQUESTS, lambda place: place.symlink_to(outside))


def fifo(server: Server) -> str:
    return swapped(server, FIFO_REQUESTS, os.mkfifo)


def swapped(server: Server, requests: int, make: Callable[[Path], None]) -> str:
    """What is answered while something takes the place of a file that is no image, and goes again."""
    place, done = server.root / "swapped.png", threading.Event()
    place.write_bytes(b"no image")
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        fresh = server.root / "fresh"
        while not done.is_set():
            make(fresh)
            fresh.replace(place)
            fresh.write_bytes(b"no image")
            fresh.replace(place)
            swaps += 1
            time.sleep(0.0005)

    answers: Counter[int] = Counter()
    end = time.monotonic() + RACE_SECONDS

    def client(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        body = json.dumps({"paths": ["swapped.png"]})
        for _ in range(requests // CLIENTS):
            if time.monotonic() > end:
                return
            connection.request("POST", BY_PATH, body, HEADERS)
            answer = connection.getresponse()
            answer.read()
            answers[answer.status] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(client, range(CLIENTS)))
    finally:
        done.set()
        thread.join()
    return f"statuses {dict(answers)} (200: an image outside was read), {swaps} swaps"


def picture(seed: int) -> bytes:
    """A small image of noise as PNG."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(90, 140, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


ATTACKS = {
    "json": json_body,
    "paths": paths,
    "uploads": uploads,
    "unread": unread,
    "race": race,
    "fifo": fifo,
}


def main() -> None:
    """Print a line an attack."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"of {', '.join(ATTACKS)}; default: all")
    chosen = parser.parse_args().attacks or list(ATTACKS)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "root").mkdir()
        (scratch / "images").mkdir()
        for seed in range(10):
            (scratch / f"images/{seed}.png").write_bytes(picture(seed))
        ReConPatch(params=TINY).fit(sorted((scratch / "images").iterdir())).save(scratch / "nut")
        for name in chosen:
            with serving(scratch) as server:
                idle, started = server.peak(), time.monotonic()
                with health_watched(server) as took:
                    said = ATTACKS[name](server)
                    seconds = time.monotonic() - started
                print(
                    f"{name}: {said}; {seconds:.1f} s, peak {server.peak()} MiB (idle {idle}), "
                    f"slowest /health {max(took):.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()

"""What hostile images cost a server: seconds to the answer, to /health meanwhile, from SIGTERM to the end.

PYTHONPATH=. python benchmarks/hostile_images.py [--cap SECONDS]

Each is sent twice at the same time to a server of its own; then once more, and the server is ended meanwhile.
"""

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from reconpatch import ReConPatch
from tests.hostile_images import HOSTILE


def ask(port: int, method: str, path: str, cap: float, image: bytes = b"") -> str:
    """The status of the answer, or why there is none."""
    head = b'--e\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
    body = head + image + b"\r\n--e--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=e"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=cap)
    try:
        connection.request(method, path, body if image else None, headers if image else {})
        return str(connection.getresponse().status)
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


def measure(name: str, model: Path, cap: float) -> str:
    """A row of the table."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from reconpatch.cli import main; main()", "serve", f"nut={model}"]
    server = subprocess.Popen([*command, "--port", str(port), "--timeout", str(cap)])
    while ask(port, "GET", "/ready", cap) != "200":
        time.sleep(0.1)
    image, said, health = HOSTILE[name](), [], [0.0]

    def send() -> None:
        said.append(ask(port, "POST", "/api/categories/nut/predict", cap, image))

    senders = [threading.Thread(target=send) for _ in range(2)]
    start = time.perf_counter()
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        asked = time.perf_counter()
        ask(port, "GET", "/health", cap)
        health.append(time.perf_counter() - asked)
        time.sleep(0.05)
    answered = time.perf_counter() - start
    last = threading.Thread(target=send)
    last.start()
    time.sleep(1.0)
    start = time.perf_counter()
    os.kill(server.pid, signal.SIGTERM)
    try:
        server.wait(cap)
        ended = f"{time.perf_counter() - start:.1f}"
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
        ended = f"> {cap:.0f}"
    last.join()
    size = f"{len(image) / 1e6:.1f} MB"
    return f"| {name} | {size} | {answered:.1f} ({', '.join(said[:2])}) | {max(health):.1f} | {ended} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cap", type=float, default=150.0, help="most seconds waited for anything")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = [Path(folder) / f"{number}.png" for number in range(10)]
        for path in images:
            noise = np.random.default_rng(int(path.stem)).integers(90, 140, (64, 64), dtype=np.uint8)
            Image.fromarray(noise).save(path)
        fitted = ReConPatch(params={"features.image_size": 64, "modulation.enabled": False, "device": "cpu"})
        fitted.fit(images).save(Path(folder) / "model")
        print("| image | size | s to the answer of two | slowest /health, s | s from SIGTERM to the end |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for name in HOSTILE:
            print(measure(name, Path(folder) / "model", given.cap), flush=True)


if __name__ == "__main__":
    main()

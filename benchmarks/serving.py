"""Load on a running server: clients that each send one image after another, over connections that stay open.

    reconpatch serve nut=MODEL --threads 2 &
    python benchmarks/serving.py --category nut IMAGE|DIR ... [--swap MODEL OTHER]

With --swap the folder OTHER takes MODEL's place when half of the requests are answered. Every answer must be
200 and give each image one score a model version.
"""

import argparse
import http.client
import itertools
import json
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from reconpatch.data.file_listing import expand_images

_EDGE = "edge-4711"


def form(path: Path) -> bytes:
    """The body of a form with one image."""
    head = f'--{_EDGE}\r\nContent-Disposition: form-data; name="images"; filename="{path.name}"\r\n\r\n'
    return head.encode() + path.read_bytes() + f"\r\n--{_EDGE}--\r\n".encode()


class Load:
    """What the clients share."""

    def __init__(self, address: str, category: str, images: Sequence[Path], count: int) -> None:
        self._address, self._path = address, f"/api/categories/{category}/predict"
        self._images, self._count = images, count
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.answers: list[tuple[int, Path, dict[str, Any], float]] = []

    def client(self) -> None:
        """Send until all are sent."""
        connection = http.client.HTTPConnection(self._address, timeout=120)
        headers = {"Content-Type": f"multipart/form-data; boundary={_EDGE}"}
        while (number := next(self._numbers)) < self._count:
            path = self._images[number % len(self._images)]
            body = form(path)
            start = time.perf_counter()
            connection.request("POST", self._path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            took = time.perf_counter() - start
            result = json.loads(content)["results"][0] if answer.status == 200 else {}
            with self._lock:
                self.answers.append((answer.status, path, result, took))


def swap(load: Load, count: int, model: Path, other: Path) -> None:
    """Put one folder in the place of the other, half way."""
    while len(load.answers) < count // 2:
        time.sleep(0.05)
    model.rename(model.with_name(f"{model.name}.before"))
    other.rename(model)


def main() -> None:
    """Print one line of figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--address", default="127.0.0.1:8000")
    parser.add_argument("--category", required=True)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--swap", nargs=2, type=Path, metavar=("MODEL", "OTHER"))
    given = parser.parse_args()
    load = Load(given.address, given.category, expand_images(given.images), given.requests)
    with ThreadPoolExecutor(given.clients + 1) as pool:
        started = time.perf_counter()
        running = [pool.submit(load.client) for _ in range(given.clients)]
        if given.swap is not None:
            running.append(pool.submit(swap, load, given.requests, *given.swap))
        for one in running:
            one.result()
        seconds = time.perf_counter() - started
    scores: dict[tuple[Path, str], set[float]] = defaultdict(set)
    for _, path, result, _ in load.answers:
        scores[path, result.get("model_version", "")].add(result.get("score", 0.0))
    times = sorted(1000 * took for *_, took in load.answers)
    print(
        f"{len(times)} requests, {given.clients} clients: statuses "
        f"{dict(Counter(status for status, *_ in load.answers))}, {len(times) / seconds:.1f} images/s, "
        f"p50 {statistics.median(times):.0f} ms, p95 {times[int(0.95 * len(times))]:.0f} ms, "
        f"largest {times[-1]:.0f} ms; versions "
        f"{dict(Counter(result.get('model_version') for _, _, result, _ in load.answers))}; images of more "
        f"than one score a version: {sum(len(found) > 1 for found in scores.values())}"
    )


if __name__ == "__main__":
    main()

"""A server in a process of its own, as `reconpatch serve` starts it."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waiting import PATIENCE, wait_for


@dataclass(frozen=True)
class ServedProcess:
    """A server that answers on loopback.

    Attributes:
        process: running.
        port: its port.
        log: where it writes.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send one request; returns its status and the JSON of the answer, or its bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if "json" in (answer.getheader("content-type") or ""):
            return answer.status, json.loads(content)
        return answer.status, content

    def predict(self, category: str, *images: bytes) -> tuple[int, Any]:
        """Send images as a form."""
        body, headers = multipart({f"{number}.png": image for number, image in enumerate(images)})
        return self.ask("POST", f"/api/categories/{category}/predict", body, headers)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def multipart(files: Mapping[str, bytes], field: str = "images") -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form of files by name."""
    edge = "edge-4711"
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        f"Content-Type: image/png\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files.items()
    ]
    body = b"".join(parts) + f"--{edge}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={edge}"}


@contextmanager
def serving(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[ServedProcess]:
    """Start `reconpatch serve` in ``folder``, wait until it is ready, and end it with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / f"serve-{port}.log"
    command = [sys.executable, "-c", "from reconpatch.cli import main; main()", "serve", *arguments]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--threads", "1", "--device", "cpu"],
            cwd=folder, env={**os.environ, **(environment or {})}, stdout=stream, stderr=stream,
        )  # fmt: skip
    served = ServedProcess(process, port, log)
    try:
        _await_ready(served)
        yield served
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_ready(served: ServedProcess) -> None:
    def ready() -> bool:
        assert served.process.poll() is None, served.log.read_text()
        try:
            return served.ask("GET", "/ready")[0] == 200
        except OSError:
            return False

    wait_for("the server", ready)

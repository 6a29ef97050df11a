"""The process that decodes for another one: `decoding_pool` sends it jobs over a socket, one by one.

It imports little, so that it starts quickly, and it does not outlive the process that started it.
"""

import json
import os
import resource
import select
import signal
import socket
import struct
import time
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.decoding.image_bytes import image_size
from reconpatch.data.images import decode_image, probe_image, probe_mask
from reconpatch.errors import DataError

Payload = bytes | memoryview
_SIZES = struct.Struct(">IQ")  # of a message's two parts


def send_message(channel: socket.socket, head: dict[str, Any], payload: Payload = b"") -> None:
    """Send a JSON object and bytes.

    Raises:
        OSError: the other end is gone, or does not read within the channel's time.
    """
    text = json.dumps(head).encode()
    channel.sendall(_SIZES.pack(len(text), len(payload)) + text)
    channel.sendall(payload)


def receive_message(
    channel: socket.socket, until: float | None = None
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """What `send_message` sent: the object, and the bytes as (N,) uint8.

    Args:
        channel: to read from.
        until: on the monotonic clock, when it must have come; None: waits.

    Raises:
        TimeoutError: it has not come in time.
        EOFError: the other end is gone.
        OSError: likewise.
    """
    sizes = _receive(channel, _SIZES.size, until).tobytes()
    text, length = _SIZES.unpack(sizes)
    head: dict[str, Any] = json.loads(_receive(channel, text, until).tobytes())
    return head, _receive(channel, length, until)


def _receive(channel: socket.socket, length: int, until: float | None) -> NDArray[np.uint8]:
    data = np.empty(length, dtype=np.uint8)
    view = data.data
    while len(view):
        channel.settimeout(None if until is None else max(1e-3, until - time.monotonic()))
        count = channel.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return data


def main(descriptor: int) -> None:
    """Answer jobs until the other end is gone.

    Args:
        descriptor: of the socket that jobs come from. Standard input is a pipe into which nobody writes and
            whose other end the parent alone holds.
    """
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # where memory is short, this process ends before the one that needs its answers
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    Image.init()
    channel = socket.socket(fileno=descriptor)
    with suppress(EOFError, OSError):
        send_message(channel, {})  # ready
        while True:
            job, data = receive_message(channel)
            if job["what"] == "image":
                import_module("scipy.fft")  # its half second is not the image's
            # Counts the processor's time of this process, and ends it from within any library.
            signal.setitimer(signal.ITIMER_PROF, job["seconds"])
            head, payload = _answer(job, data)
            signal.setitimer(signal.ITIMER_PROF, 0)
            send_message(channel, head, payload)


def _die_with_parent() -> None:
    """Let the kernel end this process when the parent is gone, whatever library it is in at that time."""
    try:
        import fcntl
    except ImportError:  # without it the process ends when it asks for its next job
        return
    for number in (signal.SIGPROF, signal.SIGIO):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGPROF, signal.SIGIO))
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:  # it was gone before
        raise SystemExit


def _answer(job: dict[str, Any], data: NDArray[np.uint8]) -> tuple[dict[str, Any], Payload]:
    what = job["what"]
    if what == "image":
        return {"probe": asdict(probe_image(Path(job["path"])))}, b""
    if what == "mask":
        return {"probe": asdict(probe_mask(Path(job["path"]), job["threshold"]))}, b""
    try:
        if what == "size":
            return {"size": image_size(data.tobytes())}, b""
        pixels = decode_image(data.tobytes(), job["name"])
    except DataError as error:
        return {"refused": str(error)}, b""
    return {"shape": pixels.shape}, pixels.reshape(-1).data

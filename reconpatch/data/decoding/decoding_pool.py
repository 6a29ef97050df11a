"""Images of strangers, decoded in processes of their own, which end when one takes too long.

A decoder cannot be stopped from within: what a file costs is known only once it has cost it, and a library
written in C listens to nobody meanwhile. So a process does it, which the kernel ends once it has computed for
as long as it may, and which is replaced for the next image. What a process holds of its parent is one end of
a socket and of a pipe. This is no jail against code that a decoder could be made to run.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.decoding.decoding_process import Payload, receive_message, send_message
from reconpatch.data.images import ImageProbe, MaskProbe
from reconpatch.errors import DataError, ReConPatchError

# By the clock on the wall an image may take so many times the seconds that it may compute: other processes
# keep the processor from it, and slow disks.
BUSY_FACTOR = 10
_START_SECONDS = 300.0
_GONE_SECONDS = 5.0  # from the end of the time that an image has to the end of the process
# Isolated: nothing is imported from the folder it runs in, and nothing is written where its code lies. Its
# paths are the parent's, as they are now.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from reconpatch.data.decoding.decoding_process import main; main(int(sys.argv[1]))"
)
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR")  # no key, no password
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_CLOSED = "was not decoded: decoding has ended"


class DecodingStoppedError(DataError):
    """An image was not decoded to its end; another try, or more time, may give another answer."""


class DecodingPool:
    """Decodes for any thread that asks, each in a process of its own; processes start when first needed."""

    def __init__(self, processes: int) -> None:
        """Make an idle one.

        Args:
            processes: most images that are decoded at the same time; who asks for more waits for its turn.
        """
        self._most = processes
        self._begin()
        _POOLS.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._lasting: list[_Process] = []  # ended, but not gone
        self._closed = False

    def size(self, data: bytes, seconds: float) -> tuple[int, int]:
        """As `image_size`, in a process.

        Args:
            data: an encoded image.
            seconds: that it may compute; by the clock `BUSY_FACTOR` times as many.

        Raises:
            DataError: with the reason alone: it is no image.
            DecodingStoppedError: likewise: it took too long, or the process ended over it.
            ReConPatchError: no process can be started.
        """
        head, _ = self._ask({"what": "size"}, seconds, data)
        return head["size"][0], head["size"][1]

    def image(self, data: bytes, name: str, seconds: float) -> NDArray[np.uint8]:
        """As `decode_image`, in a process: (H, W, 3) uint8 RGB; arguments and errors as of `size`."""
        try:
            head, pixels = self._ask({"what": "pixels", "name": name}, seconds, data)
        except DecodingStoppedError as error:
            raise DecodingStoppedError(f"{name}: {error}") from None
        return pixels.reshape(head["shape"])

    def probe_image(self, path: Path, seconds: float) -> ImageProbe:
        """As `probe_image` of `images`, in a process.

        Raises:
            DecodingStoppedError: with the reason alone: it took too long, or the process ended over it.
            ReConPatchError: no process can be started.
        """
        head, _ = self._ask({"what": "image", "path": os.path.abspath(path)}, seconds)  # noqa: PTH100 (links)
        return ImageProbe(**head["probe"])

    def probe_mask(self, path: Path, threshold: int, seconds: float) -> MaskProbe:
        """As `probe_mask` of `images`, in a process; errors as of `probe_image`."""
        job = {"what": "mask", "path": os.path.abspath(path), "threshold": threshold}  # noqa: PTH100 (links)
        head, _ = self._ask(job, seconds)
        return MaskProbe(**head["probe"])

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def is_overdue(self) -> bool:
        """Whether a process is there, some seconds after its image's time was over."""
        now = time.monotonic()
        with self._changed:
            self._lasting = [process for process in self._lasting if process.is_running]
            return bool(self._lasting) or any(now > each.until + _GONE_SECONDS for each in self._busy)

    def close(self) -> None:
        """End the processes, whatever they are at, without waiting for one; who waits gets an error."""
        with self._changed:
            self._closed = True
            for process in self._busy:
                process.kill()
            for process in self._idle:
                process.end()
            self._idle.clear()
            self._changed.notify_all()

    def forget(self) -> None:
        """Leave the processes to the parent, whose they are, and begin anew; for a child after a fork."""
        for process in (*self._idle, *self._busy, *self._lasting):
            process.forget()
        self._begin()

    def _ask(
        self, job: dict[str, Any], seconds: float, data: Payload = b""
    ) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        try:
            head, payload = self._ask_once(job, seconds, data)
        except _EndedError:
            # Once more: who is short of memory ends processes that did nothing wrong.
            try:
                head, payload = self._ask_once(job, seconds, data)
            except _EndedError as error:
                raise DecodingStoppedError(
                    f"ended the process that decoded it, twice ({error}); save it again as PNG or JPEG"
                ) from None
        if "refused" in head:
            raise DataError(head["refused"])
        return head, payload

    def _ask_once(
        self, job: dict[str, Any], seconds: float, data: Payload
    ) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        process = self._take(BUSY_FACTOR * seconds)
        try:
            return process.ask(job | {"seconds": seconds}, data)
        except TimeoutError:
            process.end()
            raise DecodingStoppedError(_too_long(BUSY_FACTOR * seconds)) from None
        except (EOFError, OSError):
            process.end()
            if self._closed:
                raise DecodingStoppedError(_CLOSED) from None
            if process.status == -signal.SIGPROF:
                raise DecodingStoppedError(_too_long(seconds)) from None
            raise _EndedError(_ending(process.status)) from None
        except BaseException:  # its answer, which nobody waits for any longer, is not the next image's
            process.end()
            raise
        finally:
            self._give_back(process)

    def _take(self, seconds: float) -> "_Process":
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._busy) < self._most)
            if self._closed:
                raise DecodingStoppedError(_CLOSED)
            while self._idle and not self._idle[-1].is_running:
                self._idle.pop()
            process = self._idle.pop() if self._idle else _Process()
            process.until = time.monotonic() + seconds + (0.0 if process.is_ready else _START_SECONDS)
            self._busy.add(process)
        try:
            process.wait_until_ready(seconds)
        except BaseException:
            process.end()
            self._give_back(process)
            if self._closed:
                raise DecodingStoppedError(_CLOSED) from None
            raise
        return process

    def _give_back(self, process: "_Process") -> None:
        with self._changed:
            self._busy.discard(process)
            if process.is_ended:
                self._lasting += [process] if process.is_running else []
            elif self._closed:
                process.end()
            else:
                self._idle.append(process)
            self._changed.notify()


class _EndedError(Exception):
    """The process ended by itself; the text says how."""


class _Process:
    """One process that decodes.

    Attributes:
        until: on the monotonic clock, when the present image's time is over.
        is_ready: whether it has started.
        is_ended: whether it takes no more jobs.
    """

    def __init__(self) -> None:
        """Start it.

        Raises:
            ReConPatchError: the machine has no room for it.
        """
        self.until = 0.0
        self.is_ready = self.is_ended = False
        self._channel, its_end = socket.socketpair()
        try:
            with its_end:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-B", "-c", _PROGRAM, str(its_end.fileno()), *sys.path],
                    stdin=subprocess.PIPE,  # by its end it knows of ours
                    stdout=subprocess.DEVNULL,
                    pass_fds=[its_end.fileno()],
                    env={name: os.environ[name] for name in _KEPT if name in os.environ} | _ONE_THREAD,
                    start_new_session=True,  # Ctrl-C is ours alone
                )
        except OSError as error:
            self._channel.close()
            raise ReConPatchError(
                f"no process can be started to decode images in: {error.strerror}"
            ) from None

    def wait_until_ready(self, seconds: float) -> None:
        """Wait for its start, and give the image ``seconds`` from then on.

        Raises:
            ReConPatchError: it does not start.
        """
        if self.is_ready:
            return
        try:
            receive_message(self._channel, self.until)
        except (OSError, EOFError):
            self.end()  # so that its status is known
            raise ReConPatchError(
                f"the process that decodes images did not start ({_ending(self.status)}); "
                "what it wrote to standard error says why"
            ) from None
        self.is_ready = True
        self.until = time.monotonic() + seconds

    def ask(self, job: dict[str, Any], data: Payload) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """Its answer.

        Raises:
            TimeoutError: there is none in time.
            EOFError: it has ended.
            OSError: likewise.
        """
        self._channel.settimeout(max(1e-3, self.until - time.monotonic()))
        send_message(self._channel, job, data)
        return receive_message(self._channel, self.until)

    @property
    def is_running(self) -> bool:
        """Whether there is such a process."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """As `subprocess.Popen.returncode`."""
        return self._process.returncode

    def kill(self) -> None:
        """Tell the kernel to end it."""
        self._process.kill()

    def end(self) -> None:
        """Kill it and wait a little until it is gone."""
        self.is_ended = True
        self.kill()
        # What does not go is in the kernel's hands, such as with a disk that does not answer.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GONE_SECONDS)
        self._channel.close()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def forget(self) -> None:
        """Let go of what a fork has copied: the process goes on for the one that started it."""
        self._process.returncode = 0  # it is no child of this process, which must not wait for it
        self._channel.close()
        if self._process.stdin is not None:
            self._process.stdin.close()


_POOLS: "weakref.WeakSet[DecodingPool]" = weakref.WeakSet()


@cache
def shared_pool() -> DecodingPool:
    """The pool of everything but servers: a process a core, at least two."""
    return DecodingPool(max(2, os.cpu_count() or 1))


def _leave_to_parent() -> None:
    for pool in _POOLS:
        pool.forget()


def _close() -> None:
    for pool in _POOLS:
        pool.close()


os.register_at_fork(after_in_child=_leave_to_parent)
atexit.register(_close)


def _too_long(seconds: float) -> str:
    return f"took longer than {seconds:g} s to decode; save it again as a plain PNG or JPEG"


def _ending(status: int | None) -> str:
    if status is None:
        return "it does not end"
    if status >= 0:
        return f"exit status {status}"
    return f"signal {signal.Signals(-status).name}"

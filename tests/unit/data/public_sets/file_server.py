"""A file server on loopback that can be told to misbehave."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """One file, served as the attributes say; tests change them.

    Attributes:
        content: the file.
        ranges: whether it can send parts.
        tag: the ETag; None: none is sent.
        break_after: bytes of an answer after which the connection breaks, one entry an answer; then none.
        status: sent instead of the file, one entry an answer.
        location: redirected to instead of sending the file, one entry an answer.
        announce: Content-Length, where it is to be a lie.
        asked: the Range header of each request.
        url: of the file.
    """

    content: bytes
    ranges: bool = True
    tag: str | None = '"1"'
    break_after: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    location: list[str] = field(default_factory=list)
    announce: int | None = None
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(content: bytes) -> Iterator[FileServer]:
    state = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers["Range"])
            if state.status:
                self.send_error(state.status.pop(0))
                return
            if state.location:
                self.send_response(302)
                self.send_header("Location", state.location.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start, same = 0, self.headers["If-Range"] in (None, state.tag)
            if state.ranges and self.headers["Range"] and same:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(state.content) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                whole = len(state.content)
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            if state.tag:
                self.send_header("ETag", state.tag)
            self.send_header("Content-Length", str(state.announce or len(body)))
            self.end_headers()
            self.wfile.write(body[: state.break_after.pop(0)] if state.break_after else body)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that was killed is what a test wants."""

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/files/set%20one.zip?share=1"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""A registry that accepts connections and never answers."""

import os
import threading
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient
from tiny_server import form, png
from waiting import PATIENCE

from reconpatch.line.server import served_category
from reconpatch.line.server.model_source import ModelSource
from reconpatch.line.server.server_options import ServerLimits

# Of asyncio's own executor, which all that is asked in threads shares.
_SHARED_THREADS = min(32, (os.cpu_count() or 1) + 4)


class _Registry:
    """Answers until it hangs."""

    def __init__(self) -> None:
        self.hangs = False
        self.asked = threading.Semaphore(0)
        self.released = threading.Event()

    def version(self, _: ModelSource) -> str:
        """The same one always."""
        if self.hangs:
            self.asked.release()
            self.released.wait()
        return "1"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Registry]:
    """What all sources of the test ask."""
    registry = _Registry()
    monkeypatch.setattr(ModelSource, "version", lambda source: registry.version(source))
    yield registry
    registry.released.set()


def test_it_takes_no_thread_from_the_requests_and_the_server_still_ends(
    registry: _Registry, connect: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_category, "_SILENCE_SECONDS", 0.0)
    others = [f"nut{number}" for number in range(_SHARED_THREADS)]
    client = connect(*others, follow_seconds=0.01, limits=ServerLimits(seconds=PATIENCE))
    try:
        (answer,) = client.post("/api/categories/nut/predict", files=form(png())).json()["results"]
        registry.hangs = True
        for _ in range(_SHARED_THREADS):
            assert registry.asked.acquire(timeout=PATIENCE)
        assert client.get(answer["map_png"]).status_code == 200
        said = client.post(f"/api/images/{answer['id']}/review", json={"verdict": "bad", "who": "Ann"})
        assert said.status_code == 200
        told = client.get("/api/categories").json()["categories"]
        silent = [one for one in told if "has not said" in (one["problem"] or "")]
        assert len(silent) >= _SHARED_THREADS
    except BaseException:
        registry.released.set()
        raise
    client.__exit__(None, None, None)
    assert not registry.released.is_set()

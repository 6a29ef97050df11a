"""A server in this process over one tiny detector."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tiny_server import TINY, png

from reconpatch import ReConPatch
from reconpatch.line.server.app import create_app
from reconpatch.line.server.model_source import ModelSource
from reconpatch.line.server.server_options import ServerOptions
from reconpatch.line.server.server_state import ServerState


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted detector on disk."""
    root = tmp_path_factory.mktemp("served")
    (root / "images").mkdir()
    for seed in range(10):
        (root / "images" / f"{seed}.png").write_bytes(png(seed))
    ReConPatch(params=TINY).fit(sorted((root / "images").iterdir())).save(root / "nut")
    return root / "nut"


@pytest.fixture(scope="session")
def loaded(detector_folder: Path) -> ReConPatch:
    """The same, network and all; loading it for every test would take most of their time."""
    detector = ReConPatch.load(detector_folder, threads=1, device="cpu")
    assert detector.extractor.dim
    return detector


@pytest.fixture
def connect(
    detector_folder: Path, loaded: ReConPatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., TestClient]]:
    """Starts servers with the options given, of one category or several; each ends with the test."""
    clients = []
    source = ModelSource("nut", str(detector_folder))
    monkeypatch.setattr(ModelSource, "load", lambda *_, **__: (loaded, source.version()))

    def start(*more: str, **options: object) -> TestClient:
        sources = [source, *(ModelSource(name, source.source) for name in more)]
        chosen = ServerOptions(**{"reviews": tmp_path / "reviews.jsonl", "threads": 1, **options})  # type: ignore[arg-type]
        state = ServerState(sources, chosen)
        app = create_app(state)
        app.state.reconpatch = state
        client = TestClient(app, base_url="http://localhost")
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)

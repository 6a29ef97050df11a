"""What every test can ask for."""

import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from reconpatch.integrations.telemetry import switch_off

switch_off()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, those with servers before all: the end is left with short ones."""
    rank: Counter[Path] = Counter()
    for item in items:
        if item.get_closest_marker("slow"):
            rank[item.path] += 1 if item.get_closest_marker("server") is None else len(items)
    items.sort(key=lambda item: -rank[item.path])


def missing(what: str) -> None:
    """Fail under CI=true, skip (and be counted) elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and CI must not skip it")
    pytest.skip(what)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than ``tmp_path``."""
    memory = Path("/dev/shm")  # noqa: S108
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        missing("there is no second file system at /dev/shm")
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder that holds mvtec/bottle and magnetic_tile/magnetic_tile."""
    root = Path(os.environ.get("RECONPATCH_TEST_DATA", ""))
    if not os.environ.get("RECONPATCH_TEST_DATA") or not (root / "mvtec" / "bottle").is_dir():
        missing("RECONPATCH_TEST_DATA does not name the folder of real images")
    return root


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        missing("there is no Chromium")
    return str(found)


@pytest.fixture(scope="session")
def dvc_s3() -> Iterator[str]:
    """Address of an S3 server on loopback, where DVC can speak to one."""
    absent = [name for name in ("moto.server", "dvc_s3") if _absent(name)]
    if absent:
        missing(f"{' and '.join(absent)} cannot be imported")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def _absent(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
        return True


@pytest.fixture(scope="session")
def postgresql() -> Path:
    """Folder of the server's programs, where Debian's package puts them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        missing("there is no PostgreSQL (Debian's package postgresql)")
    return found[-1].parent


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making one takes seconds, so tests copy this one."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    uri = f"sqlite:///{path}"
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments()
    return path

"""A Prefect server for the session, and a small project of its own for every test that needs one."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from processes import free_port, running
from waiting import PATIENCE, wait_for

from flows.support import environment
from reconpatch.settings import load_settings
from tasks.running.run_stage import run_stage
from tasks.running.stage_folders import jobs_of
from tasks.running.stage_table import STAGES

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

environment.apply()
ROOT = Path(__file__).resolve().parents[2]
SIDE = 72
# What the pipeline's records and dvc.yaml refer to; tests edit these copies.
_SOURCES = ("reconpatch", "tasks", "flows", "mlflow")
_FILES = ("dvc.yaml", ".dvcignore", "constraints.txt", "pyproject.toml")


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The one Prefect server of the session; gives what its database is at the start, to copy.

    A server that starts with a copy is spared the migrations, which take seconds.
    """
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=int(PATIENCE)):
        address = str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value())
        at_start = tmp_path_factory.mktemp("prefect-database") / "prefect.db"
        with (
            closing(sqlite3.connect(address.removeprefix("sqlite+aiosqlite:///"))) as database,
            closing(sqlite3.connect(at_start)) as copy,
        ):
            database.backup(copy)
        yield at_start


@pytest.fixture
def whole_server(prefect_server: Path, tmp_path: Path) -> Iterator[str]:
    """`prefect server start`: the server that a flow starts for itself has no scheduler."""
    (tmp_path / "prefect").mkdir()
    shutil.copy(prefect_server, tmp_path / "prefect")
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    home = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
    with running(tmp_path / "prefect-server.log", *command, env=home):
        wait_for("the Prefect server", lambda: _is_healthy(url))
        yield url


def _is_healthy(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/health", timeout=60).status_code == 200)
    except httpx.TransportError:
        return False


@pytest.fixture
def page(chromium: str) -> Iterator["Page"]:
    """A tab of a headless browser, whose waits end only where something hangs."""
    from playwright.sync_api import expect, sync_playwright

    limit = PATIENCE * 1000
    expect.set_options(timeout=limit)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, timeout=limit)
        tab = browser.new_page()
        tab.set_default_timeout(limit)
        yield tab
        browser.close()


@pytest.fixture
def page_faults(page: "Page") -> list[str]:
    """Exceptions of the page's scripts and contents that the browser refused; an error status is neither."""
    found: list[str] = []

    def note(message: "ConsoleMessage") -> None:
        # What a script writes to the console has arguments, what the browser itself says has none.
        said_by_browser = message.type == "error" and not message.args
        if said_by_browser and not message.text.startswith("Failed to load resource"):
            found.append(message.text)

    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", note)
    return found


@dataclass(frozen=True)
class Project:
    """A project folder with sources, parameters and images, under DVC and git.

    Attributes:
        root: its root.
    """

    root: Path

    def dvc(self, *arguments: str) -> str:
        """Run dvc as a person would and return what it printed."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.root,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def copy(self, root: Path) -> "Project":
        """Another project with the same files."""
        shutil.copytree(self.root, root, symlinks=True)
        return Project(root)

    def outputs(self) -> dict[str, bytes]:
        """Every output byte that must not differ from run to run, by path."""
        folder = self.root / "outputs"
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and path.name != "timings.json"
            and not path.name.endswith(".lock")
            and "+data_docs/" not in path.as_posix()
        }

    def set(self, name: str, value: object) -> None:
        """Change one parameter of params.yaml."""
        section, _, key = name.partition(".")
        values = yaml.safe_load((self.root / "params.yaml").read_text())
        values[section][key] = value
        (self.root / "params.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy of the sources for all projects, which may be edited under a running session."""
    copy = tmp_path_factory.mktemp("sources")
    for source in _SOURCES:
        shutil.copytree(ROOT / source, copy / source, ignore=shutil.ignore_patterns("__pycache__"))
    for file in _FILES:
        shutil.copy(ROOT / file, copy / file)
    return copy


class _Templates:
    """Projects that are made once in a session; what tests get are copies.

    Starting DVC takes seconds, and so do the stages.
    """

    def __init__(self, sources: Path, folder: Path) -> None:
        self._sources, self._folder = sources, folder
        self._made: dict[tuple[str, ...], Project] = {}

    def fresh(self, *categories: str) -> Project:
        """A project of these categories in which nothing has run."""
        if categories not in self._made:
            self._made[categories] = self._build(self._folder / "-".join(categories), categories)
        return self._made[categories]

    def trained(self, *categories: str) -> Project:
        """The same, in which every stage has run and nothing is recorded or registered."""
        key = ("trained", *categories)
        if key not in self._made:
            project = self.fresh(*categories).copy(self._folder / "-".join(key))
            settings = load_settings(project.root / "params.yaml")
            for stage in STAGES:
                for job in jobs_of(stage, settings, project.root, project.root / "outputs"):
                    run_stage(stage, job)
            self._made[key] = project
        return self._made[key]

    def _build(self, root: Path, categories: tuple[str, ...]) -> Project:
        shutil.copytree(self._sources, root)
        for category in categories:
            _write_category(root / "data" / "tiny" / category, defects=category == "dents")
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["features"]["image_size"] = 64
        params["modulation"] |= {"dim": 16, "projection_dim": 8, "steps": 20, "batch_size": 64}
        params["coreset"]["ratio"] = 0.1
        params["evaluate"]["pictures"] = 2
        params["pipeline"] |= {"dataset": "tiny", "root": "data/tiny", "categories": list(categories)}
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        project = Project(root)
        project.dvc("init", "-q")
        project.dvc("add", "-q", "data/tiny")
        return project


@pytest.fixture(scope="session")
def templates(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> _Templates:
    """The session's projects to copy."""
    return _Templates(sources, tmp_path_factory.mktemp("templates"))


@pytest.fixture
def make_project(
    request: pytest.FixtureRequest, templates: _Templates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Project]:
    """Make projects with the categories that a test names; equal names give equal images.

    The session's server runs before the first flow does, which would start one of its own.
    """
    request.getfixturevalue("prefect_server")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def make(
        name: str = "project", *, dents: bool = True, plain: bool = True, trained: bool = False
    ) -> Project:
        categories = [name for name, wanted in (("dents", dents), ("plain", plain)) if wanted]
        template = templates.trained(*categories) if trained else templates.fresh(*categories)
        return template.copy(tmp_path / name)

    return make


def _write_category(root: Path, *, defects: bool) -> None:
    """Twelve nominal training images and four for testing; if wanted, four dented ones with masks."""
    random = np.random.default_rng(list(root.name.encode()))
    for split, count in (("train", 12), ("test", 4)):
        for number in range(count):
            _write(root / split / "good" / f"{number:03}.png", _texture(random))
    for number in range(4 if defects else 0):
        image, mask = _texture(random), np.zeros((SIDE, SIDE), np.uint8)
        top, left = random.integers(8, SIDE - 28, 2)
        mask[top : top + 20, left : left + 20] = 255
        image[mask > 0] = 255 - image[mask > 0] // 2
        _write(root / "test" / "dent" / f"{number:03}.png", image)
        _write(root / "ground_truth" / "dent" / f"{number:03}_mask.png", mask)


def _texture(random: np.random.Generator) -> np.ndarray:
    ramp = np.linspace(40, 120, SIDE)[None, :, None] + np.zeros((SIDE, SIDE, 3))
    return (ramp + random.normal(0, 8, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)

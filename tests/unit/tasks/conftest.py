"""A toy project: two stages that copy text, so that the machinery is seen without the library."""

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconpatch.settings import parse_settings
from tasks.running import content_hashes, source_code
from tasks.running.stage_folders import Job
from tasks.running.stage_table import Stage


@dataclass
class Toy:
    """The toy project.

    Attributes:
        root: the project's root.
        job: the one job.
        ran: names of the stage bodies that ran, in order.
    """

    root: Path
    job: Job
    ran: list[str] = field(default_factory=list)

    def job_with(self, **modulation: object) -> Job:
        settings = parse_settings({"pipeline": _PIPELINE, "modulation": modulation})
        return Job(settings, "brick", "net", self.root, self.root / "outputs")


_PIPELINE = {"dataset": "toy", "root": "data/toy", "categories": ["brick"], "backbones": ["net"]}
_STAGES = {
    "first": Stage("first", ("seed",), (), ("text", "folder"), data=True, per_backbone=False),
    "second": Stage("second", ("modulation",), ("first/text",), ("text",)),
}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "code.py").write_text("one")
    (tmp_path / "data" / "toy" / "brick").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "brick" / "image").write_text("pixels")
    settings = parse_settings({"pipeline": _PIPELINE})
    made = Toy(tmp_path, Job(settings, "brick", "net", tmp_path, tmp_path / "outputs"))

    def first(job: Job, folder: Path) -> dict[str, float]:
        made.ran.append("first")
        (folder / "folder").mkdir()
        (folder / "folder" / "name").write_text(job.category)
        (folder / "text").write_text((job.images / "image").read_text().lower())
        return {}

    def second(job: Job, folder: Path) -> dict[str, float]:
        made.ran.append("second")
        alpha = job.settings.modulation.alpha
        (folder / "text").write_text((job.folder("first") / "text").read_text() + str(alpha))
        return {"seconds_per_image": 0.5}

    for name, body in (("first", first), ("second", second)):
        module = types.ModuleType(f"tasks.stages.{name}")
        module.run = body
        monkeypatch.setitem(sys.modules, f"tasks.stages.{name}", module)
    for module_name in (
        "tasks.running.stage_table",
        "tasks.running.run_stage",
        "tasks.running.stage_folders",
        "tasks.running.source_code",
        "tasks.running.dvc_commit",
    ):
        monkeypatch.setattr(f"{module_name}.STAGES", _STAGES)
    monkeypatch.setattr("tasks.running.source_code.VARIANTS", {})
    for module_name in ("tasks.running.source_code", "tasks.running.stage_record"):
        monkeypatch.setattr(f"{module_name}.stage_code", lambda *_: ("lib",))
    yield made
    source_code.note_code.cache_clear()
    content_hashes.hasher_of.cache_clear()

"""What a stage is run for, and where its files lie."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconpatch.errors import SettingsError
from reconpatch.settings import Settings, load_settings
from reconpatch.settings.pipeline_sections import ALL
from reconpatch.storage.atomic_files import sha256_json
from reconpatch.storage.object_store import Store
from tasks.running.stage_table import STAGES

PROJECT = Path(__file__).resolve().parents[2]
PARAMS = "params.yaml"
RECORDED = "outputs"


@dataclass(frozen=True)
class Job:
    """One category or all of them, and one backbone where the stage has any.

    Attributes:
        settings: all parameters, as params.yaml states them.
        category: folder of the category under ``pipeline.root``; ``all`` where the stage unifies them.
        backbone: timm model name; None for stages that run once a category.
        project: root of the project; relative paths in the parameters start here.
        outputs: folder that holds the stages' outputs.
    """

    settings: Settings
    category: str
    backbone: str | None
    project: Path
    outputs: Path

    def folder(self, stage: str) -> Path:
        """The stage's output folder."""
        base = self.outputs / self.settings.pipeline.dataset / self.category
        if STAGES[stage].unifies:
            # Beside the data set's folder, which DVC takes as its input. No data set's name holds a plus.
            base = base.parent.with_name(f"{self.settings.pipeline.dataset}+{stage}")
            return base / self._named_backbone(stage)
        if STAGES[stage].fuses:
            # Beside the category's folder, which DVC takes as its input. No category's name holds a plus.
            return base.with_name(f"{self.category}+{stage}")
        if not STAGES[stage].per_backbone:
            return base / stage
        return base / self._named_backbone(stage) / stage

    def _named_backbone(self, stage: str) -> str:
        if self.backbone is None:
            raise SettingsError(f"stage {stage} of {self.category}: needs a backbone; give --backbone")
        return self.backbone

    @property
    def is_unified(self) -> bool:
        """Whether it is for all categories at once; no category bears that name then."""
        return self.category == ALL and bool(self.settings.pipeline.unify)

    @property
    def by_category(self) -> tuple["Job", ...]:
        """Itself; of a unified one the same for each category."""
        if not self.is_unified:
            return (self,)
        return tuple(replace(self, category=name) for name in self.settings.pipeline.categories)

    @property
    def images(self) -> Path:
        """The category's folder of images; of a unified job the folder of all categories."""
        root = self.project / self.settings.pipeline.root
        return root if self.is_unified else root / self.category

    @property
    def data_docs(self) -> Path:
        """The Data Docs of the category's last checks: no stage's output."""
        # Beside the category's folder, for the reason given above.
        return self.outputs / self.settings.pipeline.dataset / f"{self.category}+data_docs"

    @property
    def cache(self) -> Path:
        """The feature cache."""
        return self.project / self.settings.pipeline.cache

    @property
    def shared(self) -> Store | None:
        """What all machines reach beside their own folders."""
        url = self.settings.pipeline.shared
        return None if url is None else Store(url)

    @property
    def detector_settings(self) -> Settings:
        """The parameters with this job's backbone in place of ``features.backbone``."""
        if self.backbone is None:
            return self.settings
        features = self.settings.features.model_copy(update={"backbone": self.backbone})
        return self.settings.model_copy(update={"features": features})

    @property
    def members(self) -> tuple["Job", ...]:
        """The same for each backbone that is fused."""
        return tuple(replace(self, backbone=backbone) for backbone in self.settings.pipeline.backbones)

    def upstream(self, stage: str) -> tuple["Job", ...]:
        """The jobs of an earlier stage that a stage of this job may read: one, or several (see `Stage`)."""
        if self.backbone is None and STAGES[stage].per_backbone:
            return self.members
        return self.by_category

    def __str__(self) -> str:
        return self.category if self.backbone is None else f"{self.category}, {self.backbone}"


def outputs_folder(settings: Settings, project: Path) -> Path:
    """``outputs/`` for the parameters of params.yaml, ``runs/<digest>/`` for any others.

    Only the former is known to DVC: overrides must never pass for what params.yaml says.
    """
    params = project / PARAMS
    if params.is_file() and load_settings(params) == settings:
        return project / RECORDED
    return runs_folder(settings.model_dump(mode="json", by_alias=True), project)


def runs_folder(values: Any, project: Path) -> Path:
    """The folder of a run that is not params.yaml's, by the JSON value that tells it from others."""
    return project / "runs" / sha256_json(values)[:12]


def is_recorded(outputs: Path, project: Path) -> bool:
    """Whether these outputs are those of params.yaml, which dvc.lock and the registry's aliases are for."""
    return outputs == project / RECORDED


def probe_cache(settings: Settings, category: str, project: Path) -> Path:
    """Where it is kept what a category's files looked like when they were last read."""
    return project / ".cache" / "probes" / f"{settings.pipeline.dataset}-{category}.json"


def jobs_of(
    stage: str, settings: Settings, project: Path, outputs: Path, categories: Sequence[str] | None = None
) -> Iterator[Job]:
    """Every job of a stage: one a category, times one a backbone; none where nothing is to be fused.

    Of a stage that unifies the categories one a backbone of ``pipeline.unify``, and none for some of them.

    ``outputs`` is that of `outputs_folder`, asked once a run: params.yaml may be edited meanwhile.
    ``categories`` are some of the parameters' own; None: all of them.
    """
    if STAGES[stage].unifies:
        for backbone in settings.pipeline.unify if categories is None else ():
            yield Job(settings, ALL, backbone, project, outputs)
        return
    if STAGES[stage].fuses and not settings.pipeline.fuse:
        return
    backbones = settings.pipeline.backbones if STAGES[stage].per_backbone else (None,)
    for category in settings.pipeline.categories if categories is None else categories:
        for one in backbones:
            yield Job(settings, category, one, project, outputs)

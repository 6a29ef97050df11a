"""Sections that the stages and flows read."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from reconpatch.settings.section import Section

_CATEGORY_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
# What the model of all categories is called, as if it were a category's.
ALL = "all"


def _check_category(name: str) -> str:
    if not re.fullmatch(_CATEGORY_NAME, name):
        raise ValueError(
            f"{name!r} cannot name folders, stages and models: rename the category's folder, with letters "
            "(a-z, A-Z), digits, dot, dash and underscore, a letter or digit first"
        )
    return name


Category = Annotated[str, AfterValidator(_check_category)]


class ValidateSettings(Section):
    """What the data checks demand of a category."""

    min_train_images: int = Field(10, ge=1)
    same_size: bool = Field(True, description="whether all images of a category should have one size")
    same_mode: bool = Field(True, description="whether they should have one mode and bit depth")
    near_duplicate_bits: int = Field(
        12,
        ge=0,
        le=64,
        description="hashes of near copies differ in so many of 256 bits or fewer",
    )
    outlier_z: float = Field(
        8.0, gt=0, description="brightness and sharpness this many robust deviations off are reported"
    )


class HousekeepingSettings(Section):
    """What `flows.housekeeping` throws away; whatever this says, what a champion ever needed stays."""

    keep_versions: int = Field(5, ge=1, description="so many newest versions of each model stay")
    version_days: float = Field(90.0, ge=0, description="and those that are younger")
    runs_days: float = Field(30.0, ge=0, description="folders under runs/ that were untouched for so long go")
    cache_days: float = Field(90.0, ge=0, description="features and chunks that were not used for so long go")
    log_days: float = Field(
        365.0, ge=0, description="days of the prediction log and pictures of drift alarms that are older go"
    )


class IngestSettings(Section):
    """Where new nominal images come from and go to."""

    inbox: Path = Field(Path("inbox"), description="new images, a subfolder a category")
    quarantine: Path = Field(Path("quarantine"), description="what may not join, and why")
    reviews: Path = Field(Path("reviews.jsonl"), description="verdicts of people on images")
    keep_inbox: bool = Field(False, description="copy and leave the inbox as it is, such as a camera share")
    settle_seconds: float = Field(
        10.0, ge=0, description="a younger file may still be being written and waits for the next ingest"
    )
    suspicious: Literal["review", "reject"] = Field(
        "review", description="the champion's band from which on an image is put aside"
    )
    most_false_rejects: float = Field(
        0.1,
        gt=0,
        le=1,
        description="a limit of the champion that a larger share of good images exceeds puts nothing aside",
    )
    git_commit: bool = Field(True, description="commit the .dvc file, and it alone, to git")


class RegisterSettings(Section):
    """Where finished evaluations are logged, and which of them becomes the candidate."""

    tracking_uri: str | None = Field(
        None, description="MLflow; MLFLOW_TRACKING_URI goes before it; None: mlflow.db under the project"
    )
    experiment: str = Field("reconpatch", min_length=1)
    candidate_metric: Literal["image_auroc", "pixel_auroc", "aupro", "image_f1_max"] = Field(
        "image_auroc", description="of several backbones, the best by this becomes `challenger`"
    )


class RetrainSettings(Section):
    """How new nominal images become a candidate."""

    mode: Literal["full", "update"] = Field(
        "full", description="full: every stage again; update: the champion learns the new images alone"
    )
    update_mode: Literal["frozen", "fine-tune"] = Field(
        "frozen", description="of an update: frozen keeps f, fine-tune trains it a little further"
    )
    when_busy: Literal["wait", "skip"] = Field(
        "wait", description="what a retrain does while another one of the same category runs"
    )
    webhook: str | None = Field(
        None,
        pattern=r"^https?://",
        description="URL that is told how a retrain ended; RECONPATCH_WEBHOOK goes before it; None: nobody",
    )


class MonitorSettings(Section):
    """When new images count as drifted, and what happens then."""

    log: Path | None = Field(
        Path("predictions"),
        description="prediction log of `serve --log` and `predict --log`; None: no checks",
    )
    rate: float = Field(0.05, gt=0, lt=1, description="false alarms a week, in the long run, of a category")
    new_images: int = Field(
        25, ge=5, description="a check waits for so many groups of images since the one before"
    )
    window: int = Field(500, ge=25, description="most images that are compared, the latest ones")
    on_alarm: Literal["tell", "retrain"] = Field(
        "tell", description="retrain: an alarm also starts a retrain, which learns what arrived since"
    )

    @model_validator(mode="after")
    def _check(self) -> "MonitorSettings":
        if self.window < self.new_images:
            raise ValueError(f"window ({self.window}) must be at least new_images ({self.new_images})")
        return self


class PipelineSettings(Section):
    """What the flows and dvc.yaml run; of it the library alone reads ``cache_max_gib``."""

    dataset: str = Field("demo", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="name of the data set")
    root: Path = Path("data/demo")
    categories: tuple[Category, ...] = ("brick", "grass", "gravel")
    backbones: tuple[str, ...] = ("tf_efficientnet_lite0",)
    fuse: tuple[Literal["modified_z"], ...] = Field(
        (), max_length=1, description="how the backbones' detectors are fused to one more; empty: not at all"
    )
    unify: tuple[str, ...] = Field(
        (), description="backbones that get one model for all categories too; empty: none (section unified)"
    )
    concurrency: int = Field(2, ge=1, description="stages that run at the same time")
    runner: Literal["threads", "dask", "ray"] = Field("threads", description="what runs the stages")
    cluster: str | None = Field(
        None,
        description="address of a Dask scheduler or Ray head; RECONPATCH_CLUSTER goes before it; "
        "None: a cluster of `concurrency` processes on this machine, for as long as a flow runs",
    )
    parts: int = Field(1, ge=1, description="parts that features and coreset of one category are spread over")
    shared: str | None = Field(
        None,
        description="fsspec URL that all machines reach, such as s3://bucket/line; None: they share "
        "the project's folder itself",
    )
    cache: Path = Field(Path(".cache/features"), description="the feature cache; safe to delete")
    cache_max_gib: float | None = Field(
        20.0, gt=0, description="features used least recently go when the cache is full; None: no bound"
    )
    commit: bool = Field(True, description="record finished stages with dvc commit")
    git_commit: bool = Field(
        False, description="then commit dvc.lock and the metrics to git; for scheduled flows"
    )

    @field_validator("unify", mode="before")
    @classmethod
    def _no_switch(cls, value: object) -> object:
        if isinstance(value, bool):  # a stage of DVC's stands for every item of a list, or for none
            raise ValueError("is a list: name backbones, such as [tf_efficientnet_lite0], or none with []")
        return value

    @model_validator(mode="after")
    def _check(self) -> "PipelineSettings":
        if self.git_commit and not self.commit:
            raise ValueError("git_commit needs commit: without it there is no new dvc.lock to commit to git")
        if self.fuse and len(set(self.backbones)) < 2:
            raise ValueError(f"fuse needs at least two backbones, not {', '.join(self.backbones) or 'none'}")
        if unknown := [name for name in self.unify if name not in self.backbones]:
            raise ValueError(f"unify names {unknown[0]}, which is not among backbones; add it there")
        if self.unify and len(set(self.categories)) < 2:
            raise ValueError("unify needs at least two categories; set it to []")
        if self.unify and ALL in self.categories:
            raise ValueError(f"unify: its model is called {ALL!r}, as a category is; rename the category")
        return self

    @property
    def cache_max_bytes(self) -> int | None:
        """``cache_max_gib`` in bytes."""
        return None if self.cache_max_gib is None else int(self.cache_max_gib * 2**30)

"""Sections that the stages and flows read; a description here is shown everywhere."""

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

    min_train_images: int = Field(
        10,
        ge=1,
        description="minimum number of nominal training images; a category with fewer fails the check",
    )
    same_size: bool = Field(True, description="report images of another size than most of the category")
    same_mode: bool = Field(
        True, description="report images of another mode or bit depth than most of the category"
    )
    near_duplicate_bits: int = Field(
        12, ge=0, le=64, description="maximum Hamming distance (of 256 bits) between near duplicates"
    )
    outlier_z: float = Field(
        8.0,
        gt=0,
        description="report images whose brightness or sharpness is more than this many robust "
        "standard deviations from the rest",
    )


class HousekeepingSettings(Section):
    """What `python -m flows.housekeeping --no-dry-run` deletes; nothing that a champion needs."""

    keep_versions: int = Field(5, ge=1, description="number of newest versions of each model that stay")
    version_days: float = Field(
        90.0,
        ge=0,
        description="versions younger than this stay too, as do those pinned (tag `pinned`), with an "
        "alias, or once champion",
    )
    runs_days: float = Field(
        30.0, ge=0, description="delete folders under runs/ that were untouched for this many days"
    )
    cache_days: float = Field(
        90.0,
        ge=0,
        description="delete features unused for this many days, unless a kept version knows their image",
    )
    log_days: float = Field(
        365.0,
        ge=0,
        description="delete days of the prediction log and drift plots older than this; days that a "
        "kept version's drift check compares stay",
    )


class IngestSettings(Section):
    """Where new nominal images come from and go to."""

    inbox: Path = Field(Path("inbox"), description="folder of new nominal images, one subfolder per category")
    quarantine: Path = Field(
        Path("quarantine"), description="folder of images that may not join, with the reason"
    )
    reviews: Path = Field(
        Path("reviews.jsonl"), description="table of reviews (verdicts of people on images)"
    )
    keep_inbox: bool = Field(
        False, description="copy the images and leave the inbox unchanged, such as a camera share"
    )
    settle_seconds: float = Field(
        10.0,
        ge=0,
        description="a file younger than this may still be being written; it waits for the next ingest",
    )
    suspicious: Literal["review", "reject"] = Field(
        "review", description="the champion's band from which an image is put aside"
    )
    most_false_rejects: float = Field(
        0.1,
        gt=0,
        le=1,
        description="maximum share of good images above a limit for the limit to be used; 1: always used",
    )
    git_commit: bool = Field(True, description="commit the .dvc file, and only that file, to git")


class RegisterSettings(Section):
    """Where finished evaluations are logged, and which of them becomes the candidate."""

    tracking_uri: str | None = Field(
        None,
        description="MLflow server; MLFLOW_TRACKING_URI, the place for passwords, overrides it; null: "
        "the project's mlflow.db",
    )
    experiment: str = Field("reconpatch", min_length=1, description="MLflow experiment")
    candidate_metric: Literal["image_auroc", "pixel_auroc", "aupro", "image_f1_max"] = Field(
        "image_auroc", description="with several backbones, the best one by this metric becomes `challenger`"
    )


class RetrainSettings(Section):
    """How new nominal images become a candidate."""

    mode: Literal["full", "update"] = Field(
        "full", description="full: run every stage again; update: the champion learns only the new images"
    )
    update_mode: Literal["frozen", "fine-tune"] = Field(
        "frozen", description="frozen: an update keeps f; fine-tune: it trains f a little further"
    )
    when_busy: Literal["wait", "skip"] = Field(
        "wait", description="what to do while another retrain of the same category runs"
    )
    webhook: str | None = Field(
        None,
        pattern=r"^https?://",
        description="URL that receives the outcome of a retrain as JSON; RECONPATCH_WEBHOOK, the "
        "place for a secret URL, overrides it; null: none",
    )


class MonitorSettings(Section):
    """When new images count as drifted, and what happens then."""

    log: Path | None = Field(
        Path("predictions"),
        description="prediction log written by `serve --log` and `predict --log`; null: no drift checks",
    )
    rate: float = Field(
        0.05, gt=0, lt=1, description="long-run rate of false drift alarms per category and week"
    )
    new_images: int = Field(
        25, ge=5, description="number of new groups of images before the next drift check"
    )
    window: int = Field(500, ge=25, description="maximum number of images compared, the latest ones")
    on_alarm: Literal["tell", "retrain"] = Field(
        "tell",
        description="tell: report the alarm; retrain: also start a retrain, which learns what arrived since",
    )

    @model_validator(mode="after")
    def _check(self) -> "MonitorSettings":
        if self.window < self.new_images:
            raise ValueError(f"window ({self.window}) must be at least new_images ({self.new_images})")
        return self


class PipelineSettings(Section):
    """What the flows and dvc.yaml run; the only field the library reads is ``cache_max_gib``."""

    dataset: str = Field("demo", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="name of the data set")
    root: Path = Field(Path("data/demo"), description="folder of the categories")
    categories: tuple[Category, ...] = Field(
        ("brick", "grass", "gravel"), description="categories to run, each a subfolder of root"
    )
    backbones: tuple[str, ...] = Field(
        ("tf_efficientnet_lite0",), description="timm models to run, one detector each"
    )
    fuse: tuple[Literal["modified_z"], ...] = Field(
        (),
        max_length=1,
        description="how the backbones' detectors are fused into one more (stage `ensemble`); []: no fusion",
    )
    unify: tuple[str, ...] = Field(
        (), description="backbones that also get one model for all categories (stage `unified`); []: none"
    )
    concurrency: int = Field(2, ge=1, description="number of stages that run at the same time")
    runner: Literal["threads", "dask", "ray"] = Field("threads", description="what runs the stages")
    cluster: str | None = Field(
        None,
        description="address of a Dask scheduler or Ray head; RECONPATCH_CLUSTER overrides it; null: "
        "`concurrency` processes on this machine",
    )
    parts: int = Field(
        1, ge=1, description="number of tasks that features and coreset of one category are spread over"
    )
    shared: str | None = Field(
        None,
        description="fsspec URL that all machines reach, such as s3://bucket/line; null: they share "
        "the project folder",
    )
    cache: Path = Field(Path(".cache/features"), description="folder of the feature cache; safe to delete")
    cache_max_gib: float | None = Field(
        20.0,
        gt=0,
        description="size limit of the feature cache; the least recently used features are deleted; "
        "null: no limit",
    )
    commit: bool = Field(True, description="record finished stages with `dvc commit`")
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

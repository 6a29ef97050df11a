"""Sections that the library reads, one a room."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from reconpatch.data.layouts.layout_registry import AUTO, LAYOUT_HELP, LAYOUT_NAMES
from reconpatch.settings.group_pattern import compile_group_pattern
from reconpatch.settings.section import Section

Share = Annotated[float, Field(gt=0, lt=1)]
if TYPE_CHECKING:
    LayoutName = str
else:
    LayoutName = Literal[(AUTO, *LAYOUT_NAMES)]


class DataSettings(Section):
    """How a folder of images is read."""

    layout: LayoutName = Field(AUTO, description=f"folder layout: auto (recognise it), {LAYOUT_HELP}")
    mask_threshold: int = Field(127, ge=0, le=254, description="a mask pixel above this (0-255) is defective")
    group_pattern: str | None = Field(
        None, description="regex with one capture on the relative path; images that share it are one group"
    )
    decode_seconds: float = Field(
        20.0,
        gt=0,
        description="processor seconds that one image of strangers may take to decode; then it is refused",
    )

    @field_validator("group_pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compile_group_pattern(pattern)
        return pattern


class FeatureSettings(Section):
    """Patch features of a frozen ImageNet CNN (paper, section 3.1)."""

    backbone: str = Field("tf_efficientnet_lite0", description="any timm model name")
    weights: Path | None = Field(
        None, description="local .safetensors or state dict; None: package, then hub"
    )
    levels: tuple[int, ...] = Field((2, 3), min_length=1, description="timm feature levels (2 = stride 8)")
    patch_size: int = Field(3, ge=1, description="side s of the neighbourhood that is averaged")
    aggregation: Literal["average_pool", "adaptive"] = "average_pool"
    image_size: int = Field(224, ge=32, description="side of the square that an image becomes, in pixels")
    resize: int | None = Field(
        None, ge=32, description="side resized to before the centre crop to image_size; None: no crop"
    )
    tile: int | None = Field(
        None, ge=32, description="side of the tiles that the network sees of it; None: all of it at once"
    )
    tile_overlap: int = Field(64, ge=0, description="pixels that neighbouring tiles share at least")
    batch_size: int = Field(16, ge=1, description="squares of the network's input side computed at once")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the network's arithmetic; bfloat16 only gains on hardware that has it"
    )

    @model_validator(mode="after")
    def _check(self) -> "FeatureSettings":
        if self.resize is not None and self.resize < self.image_size:
            raise ValueError(f"resize ({self.resize}) must be at least image_size ({self.image_size})")
        if self.patch_size % 2 == 0:
            raise ValueError(f"patch_size must be odd, not {self.patch_size}")
        if self.tile is not None and self.tile > self.image_size:
            raise ValueError(f"tile ({self.tile}) must be at most image_size ({self.image_size})")
        if self.tile is not None and 2 * self.tile_overlap > self.tile:
            raise ValueError(f"tile_overlap ({self.tile_overlap}) must be at most half of tile ({self.tile})")
        return self

    @property
    def network_side(self) -> int:
        """Side of the square that the network sees."""
        return self.tile or self.image_size

    @property
    def images_at_once(self) -> int:
        """Images a batch: as many as ``batch_size`` squares of the network's side hold pixels, at least 1."""
        return max(1, self.batch_size * self.network_side**2 // self.image_size**2)


class ModulationSettings(Section):
    """The contrastively trained linear modulation f (paper, sections 3.2 and 3.3)."""

    enabled: bool = Field(True, description="False: plain PatchCore")
    dim: int = Field(512, ge=1, description="width of f's output")
    projection_dim: int = Field(128, ge=1, description="width of g's output, the space of the loss")
    init: Literal["isometry", "random"] = "isometry"
    whitening: float = Field(
        0.0,
        ge=0,
        le=1,
        description="of an isometry: how far it first evens out the variances of the features; 0: not at all",
    )
    neighbours: int = Field(5, ge=2, description="k of the contextual similarity")
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the PAIRWISE similarity (eq. 6)")
    margin: float = Field(1.0, gt=0)
    sigma: float | None = Field(
        None, gt=0, description="width of the pairwise similarity; None: batch median"
    )
    ema: float = Field(0.999, ge=0, lt=1, description="gamma of the teacher")
    batch_size: int = Field(512, ge=2, description="patches a step")
    steps: int | None = Field(1000, ge=0, description="steps in all; None: by epochs")
    epochs: int | None = Field(None, ge=1, description="passes over all patches, when steps is None")
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "ModulationSettings":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs, and set the other to null")
        return self


class CoresetSettings(Section):
    """Greedy k-center selection of the memory bank."""

    ratio: float = Field(0.01, gt=0, le=1, description="share of the nominal patches that is kept")
    max_bank: int | None = Field(None, ge=1, description="most vectors kept, whatever the ratio")
    memory_budget_mib: int | None = Field(
        None, ge=16, description="beyond it selection is merge-reduce; None: 2 GiB, more for a large bank"
    )


class ScoringSettings(Section):
    """From distances to scores and anomaly maps (paper, eqs. 9 and 10)."""

    reweighting: Literal["none", "image", "patch"] = "none"
    neighbours: int = Field(9, ge=2, description="b of eq. 10")
    blur_sigma: float = Field(
        4.0, ge=0, description="Gaussian on the map, in pixels at 224 px, scaled with it"
    )


class CalibrateSettings(Section):
    """Nominal-only statistics and thresholds, by whole groups."""

    calibration: Literal["holdout", "crossfit"] = Field(
        "holdout", description="holdout: exact; crossfit: every image fits the detector, approximate"
    )
    holdout: float = Field(
        0.15, ge=0, le=0.5, description="share of nominal images held out, whole groups; 0: none"
    )
    folds: int = Field(5, ge=2, description="crossfit: parts that are scored by fits on the other parts")
    false_reject_rate: float | None = Field(
        None, gt=0, lt=1, description="None: the larger of 1 % and 1/(n+1), n the number of groups"
    )
    review_rate: float | None = Field(
        None, gt=0, lt=1, description="rejected or to be reviewed; None: the larger of 5 % and 2/(n+1)"
    )
    suspicious_z: float | None = Field(
        4.0,
        gt=0,
        description="nominal images this many robust deviations off the others are reported; None: no",
    )

    @model_validator(mode="after")
    def _check(self) -> "CalibrateSettings":
        if None not in (self.review_rate, self.false_reject_rate) and (
            self.review_rate < self.false_reject_rate  # type: ignore[operator]
        ):
            raise ValueError(
                f"review_rate ({self.review_rate}) must be at least false_reject_rate "
                f"({self.false_reject_rate}): what is rejected is reviewed too"
            )
        return self


class EvaluateSettings(Section):
    """Metrics and pictures of a labelled test set."""

    aupro_limit: Share = Field(0.3, description="false-positive rate up to which AUPRO integrates")
    pictures: int = Field(12, ge=0, description="test images shown as heat maps")
    choose_share: float = Field(
        0.0, ge=0, le=0.5, description="share of the test groups that choose thresholds and are not evaluated"
    )
    miss_cost: float = Field(10.0, gt=0, description="cost of a defect that is accepted")
    false_reject_cost: float = Field(1.0, gt=0, description="cost of a good part that is rejected")


class UnifiedSettings(Section):
    """One model for all categories: f is trained on every category at once."""

    bank: Literal["per_category", "shared"] = Field(
        "per_category", description="per_category: one bank each; shared: one bank for all categories"
    )
    validation: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="share of the fit's images, whole groups, to watch the loss on",
    )
    patience: int = Field(10, ge=1, description="records without a better validation loss before f stops")

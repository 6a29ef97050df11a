"""Sections that the library reads, one for each of its packages; a description here is shown everywhere."""

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
    mask_threshold: int = Field(
        127, ge=0, le=254, description="mask pixels above this value (0 to 255) are defective"
    )
    group_pattern: str | None = Field(
        None,
        description="regular expression with one capture, applied to the relative path; images with "
        "the same capture are one group",
    )
    decode_seconds: float = Field(
        20.0,
        gt=0,
        description="processor seconds allowed to decode one image before it is refused; 89 "
        "megapixels take 5",
    )

    @field_validator("group_pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compile_group_pattern(pattern)
        return pattern


class FeatureSettings(Section):
    """Patch features of a frozen ImageNet CNN (paper, section 3.1)."""

    backbone: str = Field(
        "tf_efficientnet_lite0", description="any timm model; the pipeline runs pipeline.backbones instead"
    )
    weights: Path | None = Field(
        None, description="local .safetensors file or state dict; null: an installed package, then timm's hub"
    )
    levels: tuple[int, ...] = Field(
        (2, 3), min_length=1, description="timm feature levels (2 = stride 8, 3 = stride 16)"
    )
    patch_size: int = Field(3, ge=1, description="side of the neighbourhood that is averaged; odd")
    aggregation: Literal["average_pool", "adaptive"] = Field(
        "average_pool", description="how a neighbourhood becomes one patch feature"
    )
    image_size: int = Field(
        224, ge=32, description="side of the square that an image is resized to, in pixels"
    )
    resize: int | None = Field(
        None, ge=32, description="side to resize to before the centre crop to image_size; null: no crop"
    )
    tile: int | None = Field(
        None,
        ge=32,
        description="side of the overlapping tiles that the network sees one by one; null: the whole "
        "square at once",
    )
    tile_overlap: int = Field(
        64, ge=0, description="minimum overlap of neighbouring tiles in pixels, at most half a tile"
    )
    batch_size: int = Field(
        16, ge=1, description="images (or tiles, where tile is set) that the network computes at once"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="arithmetic of the network; bfloat16 is faster only on hardware that supports it",
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

    enabled: bool = Field(True, description="train the modulation f; false: plain PatchCore")
    dim: int = Field(512, ge=1, description="output dimension of f")
    projection_dim: int = Field(128, ge=1, description="output dimension of g, the space of the loss")
    init: Literal["isometry", "random"] = Field("isometry", description="initial weights of f")
    whitening: float = Field(
        0.0,
        ge=0,
        le=1,
        description="with isometry: how far the variances of the features are evened out first; 0: "
        "not at all",
    )
    neighbours: int = Field(5, ge=2, description="k of the contextual similarity")
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the pairwise similarity (eq. 6)")
    margin: float = Field(1.0, gt=0, description="margin of the contrastive loss")
    sigma: float | None = Field(
        None, gt=0, description="width of the pairwise similarity; null: the median of the batch"
    )
    ema: float = Field(0.999, ge=0, lt=1, description="decay gamma of the teacher's moving average")
    batch_size: int = Field(512, ge=2, description="patches per step")
    steps: int | None = Field(1000, ge=0, description="number of training steps; null: use epochs")
    epochs: int | None = Field(None, ge=1, description="passes over all patches; only with steps: null")
    learning_rate: float = Field(1e-3, gt=0, description="learning rate of the optimiser")
    weight_decay: float = Field(1e-2, ge=0, description="weight decay of the optimiser")

    @model_validator(mode="after")
    def _check(self) -> "ModulationSettings":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs, and set the other to null")
        return self


class CoresetSettings(Section):
    """Greedy k-center selection of the memory bank."""

    ratio: float = Field(0.01, gt=0, le=1, description="share of the nominal patches kept in the memory bank")
    max_bank: int | None = Field(
        None,
        ge=1,
        description="maximum number of vectors in the memory bank, whatever the ratio; null: no maximum",
    )
    memory_budget_mib: int | None = Field(
        None,
        ge=16,
        description="memory limit above which the selection is done by merge-reduce; null: 2 GiB, "
        "more for a large bank",
    )


class ScoringSettings(Section):
    """From distances to scores and anomaly maps (paper, eqs. 9 and 10)."""

    reweighting: Literal["none", "image", "patch"] = Field(
        "none", description="re-weighting (eq. 10): none, of the image score, or of every patch score"
    )
    neighbours: int = Field(9, ge=2, description="b of eq. 10")
    blur_sigma: float = Field(
        4.0, ge=0, description="Gaussian blur of the anomaly map, in pixels at 224 px; scales with image_size"
    )


class CalibrateSettings(Section):
    """Nominal-only statistics and thresholds, by whole groups."""

    calibration: Literal["holdout", "crossfit"] = Field(
        "holdout",
        description="holdout: exact, on held-out images; crossfit: approximate, but every image fits "
        "the detector",
    )
    holdout: float = Field(
        0.15, ge=0, le=0.5, description="share of the nominal images held out, in whole groups; 0: none"
    )
    folds: int = Field(
        5, ge=2, description="crossfit: number of parts, each scored by a detector fitted on the other parts"
    )
    false_reject_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of nominal images rejected; null: the larger of 1 % and 1/(n+1), n the "
        "number of groups",
    )
    review_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of nominal images rejected or sent to review; null: the larger of 5 % and 2/(n+1)",
    )
    suspicious_z: float | None = Field(
        4.0,
        gt=0,
        description="report nominal images whose score is more than this many robust standard "
        "deviations above the median; null: no report",
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
    pictures: int = Field(12, ge=0, description="number of test images shown as heat maps")
    choose_share: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of the test groups used to choose thresholds by their labels; these groups "
        "are not evaluated",
    )
    miss_cost: float = Field(
        10.0, gt=0, description="cost of an accepted defect, for the cost-optimal threshold"
    )
    false_reject_cost: float = Field(
        1.0, gt=0, description="cost of a rejected good part, for the cost-optimal threshold"
    )


class UnifiedSettings(Section):
    """One model for all categories: f is trained on every category at once."""

    bank: Literal["per_category", "shared"] = Field(
        "per_category",
        description="per_category: one memory bank per category; shared: one bank for all categories",
    )
    validation: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="share of the training images, in whole groups, on which f's loss is watched; 0: none",
    )
    patience: int = Field(
        10,
        ge=1,
        description="records without a better validation loss before training stops; a record is 100 "
        "steps, or one epoch",
    )

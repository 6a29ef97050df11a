"""Every parameter, typed, frozen and parsed once from params.yaml.

A section belongs to one room of the library or one stage of the pipeline. Unknown keys are errors
that suggest the right one. The defaults here are the ones that params.yaml states.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from reconpatch.errors import SettingsError

Share = Annotated[float, Field(gt=0, lt=1)]
_CATEGORY_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def _check_category(name: str) -> str:
    if not re.fullmatch(_CATEGORY_NAME, name):
        raise ValueError(
            f"{name!r} cannot name folders, stages and models: rename the category's folder, with letters "
            "(a-z, A-Z), digits, dot, dash and underscore, a letter or digit first"
        )
    return name


Category = Annotated[str, AfterValidator(_check_category)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(_Section):
    """How a folder of images is read."""

    layout: Literal["auto", "mvtec", "btad", "folder"] = "auto"
    mask_threshold: int = Field(127, ge=0, le=254, description="a mask pixel above this (0-255) is defective")
    group_pattern: str | None = Field(
        None, description="regex with one capture on the relative path; images that share it are one group"
    )


class ValidateSettings(_Section):
    """What the data checks demand of a category."""

    min_train_images: int = Field(10, ge=1)


class FeatureSettings(_Section):
    """Patch features of a frozen ImageNet CNN (paper, section 3.1)."""

    backbone: str = Field("tf_efficientnet_lite0", description="any timm model name")
    weights: Path | None = Field(
        None, description="local .safetensors or state dict; None: package, then hub"
    )
    levels: tuple[int, ...] = Field((2, 3), min_length=1, description="timm feature levels (2 = stride 8)")
    patch_size: int = Field(3, ge=1, description="side s of the neighbourhood that is averaged")
    aggregation: Literal["average_pool", "adaptive"] = "average_pool"
    image_size: int = Field(224, ge=32, description="side of the square network input, in pixels")
    resize: int | None = Field(
        None, ge=32, description="side resized to before the centre crop to image_size; None: no crop"
    )
    batch_size: int = Field(16, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "FeatureSettings":
        if self.resize is not None and self.resize < self.image_size:
            raise ValueError(f"resize ({self.resize}) must be at least image_size ({self.image_size})")
        if self.patch_size % 2 == 0:
            raise ValueError(f"patch_size must be odd, not {self.patch_size}")
        return self


class ModulationSettings(_Section):
    """The contrastively trained linear modulation f (paper, sections 3.2 and 3.3)."""

    enabled: bool = Field(True, description="False: plain PatchCore")
    dim: int = Field(512, ge=1, description="width of f's output")
    projection_dim: int = Field(128, ge=1, description="width of g's output, the space of the loss")
    init: Literal["isometry", "random"] = "isometry"
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


class CoresetSettings(_Section):
    """Greedy k-center selection of the memory bank."""

    ratio: float = Field(0.01, gt=0, le=1, description="share of the nominal patches that is kept")
    max_bank: int | None = Field(None, ge=1, description="most vectors kept, whatever the ratio")
    memory_budget_mib: int | None = Field(
        None, ge=16, description="beyond it selection is merge-reduce; None: 2 GiB, more for a large bank"
    )


class ScoringSettings(_Section):
    """From distances to scores and anomaly maps (paper, eqs. 9 and 10)."""

    reweighting: Literal["none", "image", "patch"] = "none"
    neighbours: int = Field(9, ge=2, description="b of eq. 10")
    blur_sigma: float = Field(
        4.0, ge=0, description="Gaussian on the map, in pixels at 224 px, scaled with it"
    )


class CalibrateSettings(_Section):
    """Nominal-only statistics and threshold from held-out groups."""

    holdout: float = Field(
        0.15, ge=0, le=0.5, description="share of nominal images held out, whole groups; 0: none"
    )
    false_reject_rate: float | None = Field(
        None, gt=0, lt=1, description="None: the larger of 1 % and 1/(n+1)"
    )


class EvaluateSettings(_Section):
    """Metrics and pictures of a labelled test set."""

    aupro_limit: Share = Field(0.3, description="false-positive rate up to which AUPRO integrates")
    pictures: int = Field(12, ge=0, description="test images shown as heat maps")


class RegisterSettings(_Section):
    """Where finished evaluations are logged, and which of them becomes the candidate."""

    tracking_uri: str | None = Field(
        None, description="MLflow; MLFLOW_TRACKING_URI goes before it; None: mlflow.db under the project"
    )
    experiment: str = Field("reconpatch", min_length=1)
    candidate_metric: Literal["image_auroc", "pixel_auroc", "aupro", "image_f1_max"] = Field(
        "image_auroc", description="of several backbones, the best by this becomes `challenger`"
    )


class PipelineSettings(_Section):
    """What the flows and dvc.yaml run; of it the library alone reads ``cache_max_gib``."""

    dataset: str = Field("demo", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="name of the data set")
    root: Path = Path("data/demo")
    categories: tuple[Category, ...] = ("brick", "grass", "gravel")
    backbones: tuple[str, ...] = ("tf_efficientnet_lite0",)
    concurrency: int = Field(2, ge=1, description="stages that run at the same time")
    cache: Path = Field(Path(".cache/features"), description="the feature cache; safe to delete")
    cache_max_gib: float | None = Field(
        20.0, gt=0, description="features used least recently go when the cache is full; None: no bound"
    )
    commit: bool = Field(True, description="record finished stages with dvc commit")
    git_commit: bool = Field(
        False, description="then commit dvc.lock and the metrics to git; for scheduled flows"
    )

    @model_validator(mode="after")
    def _check(self) -> "PipelineSettings":
        if self.git_commit and not self.commit:
            raise ValueError("git_commit needs commit: without it there is no new dvc.lock to commit to git")
        return self

    @property
    def cache_max_bytes(self) -> int | None:
        """``cache_max_gib`` in bytes."""
        return None if self.cache_max_gib is None else int(self.cache_max_gib * 2**30)


class Settings(_Section):
    """All parameters of the library and the pipeline."""

    seed: int = Field(0, ge=0, lt=2**31)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int = Field(0, ge=0, description="CPU threads of one fit; 0: every core")
    data: DataSettings = DataSettings()
    validate_: ValidateSettings = Field(ValidateSettings(), alias="validate")
    features: FeatureSettings = FeatureSettings()
    modulation: ModulationSettings = ModulationSettings()
    coreset: CoresetSettings = CoresetSettings()
    scoring: ScoringSettings = ScoringSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    register_: RegisterSettings = Field(RegisterSettings(), alias="register")
    pipeline: PipelineSettings = PipelineSettings()


def parse_settings(values: Mapping[str, Any], *, source: str = "settings") -> Settings:
    """Parse nested mappings into frozen settings.

    Args:
        values: sections and keys as in params.yaml.
        source: the file's name, for messages.

    Raises:
        SettingsError: with every wrong key or value at once, a suggestion for each unknown key.
    """
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        problems = [_explain(dict(item)) for item in error.errors()]
        raise SettingsError(f"{source}: " + "; ".join(problems)) from None


def load_settings(
    path: Path | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    base: Settings | None = None,
) -> Settings:
    """Read a params file (None: ``base`` or the defaults) and apply overrides.

    Args:
        path: a params file.
        overrides: ``section.key=value`` texts, or values by full parameter name.
        base: what to start from when there is no params file.

    Raises:
        SettingsError: the file is missing or no YAML mapping, or a key or value is wrong.
    """
    values: dict[str, Any] = base.model_dump(mode="json", by_alias=True) if base is not None else {}
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise SettingsError(
                f"{path}: cannot be read ({error.strerror}); give an existing params file"
            ) from None
        except yaml.YAMLError as error:
            raise SettingsError(f"{path}: is not valid YAML: {error}") from None
        if not isinstance(values, dict):
            raise SettingsError(
                f"{path}: must hold sections such as `features:`, not {type(values).__name__}"
            )
    named = overrides.items() if isinstance(overrides, Mapping) else map(_parse_override, overrides)
    for name, value in named:
        _set(values, name, value)
    return parse_settings(values, source=str(path) if path else "settings")


def _parse_override(override: str) -> tuple[str, Any]:
    name, separator, text = override.partition("=")
    if not separator or not name.strip():
        raise SettingsError(f"--set {override}: must read section.key=value")
    try:
        return name.strip(), yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"--set {override}: the value is not valid YAML") from None


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise SettingsError(f"{name}: `{section}` is a value, not a section")
    place[key] = value


def _explain(item: dict[str, Any]) -> str:
    location = [str(part) for part in item["loc"]]
    name = ".".join(location)
    if item["type"] != "extra_forbidden":
        return f"{name}: {item['msg'].removeprefix('Value error, ')}"
    known = all_parameters()
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    near = near or [full for full in known if full.split(".")[-1] == location[-1]][:1]
    return f"unknown parameter `{name}`" + (f"; did you mean `{near[0]}`?" if near else "")


def all_parameters() -> list[str]:
    """Every parameter's full name, such as ``features.backbone``, and every section's."""
    names: list[str] = []
    for name, field in Settings.model_fields.items():
        public = field.alias or name
        names.append(public)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += [f"{public}.{key}" for key in field.annotation.model_fields]
    return names

"""The table of stages: what each one reads, runs and writes; `dvc_file` makes dvc.yaml from it."""

from dataclasses import dataclass, replace

_MANIFEST = "validate/manifest.parquet"
_INDEX = "features/index.json"
_REPORT = "validate/report.json"
NOMINAL_CHECK = "nominal_check.csv"
HISTORY = "history.csv"  # losses of f's training
CATEGORIES = "categories"  # of a unified model's evaluation: a folder a category


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: of the stage, its task in Prefect and its stage in dvc.yaml.
        params: parameters it depends on, by full name or by section, as in params.yaml.
        upstream: outputs of other stages that it reads, as ``stage/output``.
        outputs: files and folders that it writes into its own folder.
        data: whether it reads the category's images.
        per_backbone: whether it runs for each backbone, or once for a category.
        fuses: whether it reads its upstream of every backbone, and runs only where ``pipeline.fuse`` asks.
        unifies: whether it reads its upstream of every category, and runs once for all of them, with each
            backbone that ``pipeline.unify`` names.
        variant: the file that takes the stage's place, of a variant.
    """

    name: str
    params: tuple[str, ...]
    upstream: tuple[str, ...]
    outputs: tuple[str, ...]
    data: bool = False
    per_backbone: bool = True
    fuses: bool = False
    unifies: bool = False
    variant: str | None = None

    @property
    def body(self) -> str:
        """Its file in tasks/stages/."""
        return self.variant or self.name

    @property
    def evaluates_itself(self) -> bool:
        """Whether it ends with a detector in ``model/`` and its figures in ``evaluation/``."""
        return self.fuses or self.unifies


_TABLE = (
    Stage(
        "validate",
        params=("data", "validate"),
        upstream=(),
        outputs=("manifest.parquet", "report.json"),
        data=True,
        per_backbone=False,
    ),
    Stage(
        "features",
        params=("device", "threads", "data.mask_threshold", "features"),
        upstream=(_MANIFEST,),
        outputs=("index.json",),
        data=True,
    ),
    Stage(
        "train",
        params=(
            "seed", "device", "threads", "features", "modulation", "calibrate.calibration",
            "calibrate.holdout",
        ),
        upstream=(_MANIFEST, _INDEX),
        outputs=("split.json", "head", HISTORY),
    ),
    Stage(
        "coreset",
        params=("seed", "device", "threads", "features", "coreset"),
        upstream=(_MANIFEST, _INDEX, "train/split.json", "train/head"),
        outputs=("bank.safetensors",),
    ),
    Stage(
        "calibrate",
        params=(
            "seed", "device", "threads", "data", "features", "modulation", "coreset", "scoring", "calibrate",
        ),
        upstream=(_MANIFEST, _INDEX, "train/split.json", "train/head", "coreset/bank.safetensors"),
        outputs=("model", NOMINAL_CHECK),
    ),
    Stage(
        "evaluate",
        params=("seed", "device", "threads", "data", "calibrate.holdout", "evaluate"),
        upstream=(_MANIFEST, "calibrate/model"),
        outputs=("metrics.json", "scores.csv", "pixel_histograms.safetensors", "report.html", "plots"),
        data=True,
    ),
    Stage(
        "ensemble",
        params=(
            "seed", "device", "threads", "data", "features", "calibrate", "evaluate", "pipeline.fuse",
            "pipeline.backbones",
        ),
        upstream=(_MANIFEST, _INDEX, "calibrate/model"),
        outputs=(
            "model", "evaluation/metrics.json", "evaluation/scores.csv",
            "evaluation/pixel_histograms.safetensors", "evaluation/report.html", "evaluation/plots",
        ),
        data=True,
        per_backbone=False,
        fuses=True,
    ),
    Stage(
        "unified",
        params=(
            "seed", "device", "threads", "data", "features", "modulation", "coreset", "scoring", "calibrate",
            "unified", "evaluate", "pipeline.categories",
        ),
        upstream=(_MANIFEST, _REPORT, _INDEX),
        outputs=(
            "model", "data", "evaluation/metrics.json", "evaluation/scores.csv",
            "evaluation/pixel_histograms.safetensors", "evaluation/report.html", f"evaluation/{HISTORY}",
            "evaluation/plots", f"evaluation/{CATEGORIES}",
        ),
        data=True,
        unifies=True,
    ),
)  # fmt: skip

# The stages that end with a detector and its figures.
EVALUATIONS = ("evaluate", "ensemble", "unified")

STAGES: dict[str, Stage] = {stage.name: stage for stage in _TABLE}

# Bodies that take a stage's place where the outputs are none of DVC's: same folder, other inputs. The
# champion that an update starts from is no input: it names the folder of outputs (`tasks.stages.update`).
VARIANTS: dict[str, Stage] = {
    "update": replace(
        STAGES["calibrate"],
        params=("seed", "device", "threads", "data", "retrain.update_mode"),
        upstream=(_MANIFEST,),
        outputs=("model",),
        data=True,
        variant="update",
    ),
}  # fmt: skip


def stage_or_variant(name: str) -> Stage:
    """The stage, or what takes a stage's place, of this name."""
    return VARIANTS.get(name) or STAGES[name]

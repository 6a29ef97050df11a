"""One model for all categories, beside PatchCore and each category's own ReConPatch, and held out.

    OMP_NUM_THREADS=1 python -m benchmarks.unified --work DIR [--set section.key=value ...] CATEGORY ...

All detectors read the same cached patch features and hold out the same nominal groups. "Unified, f held out"
is the f of a model fitted on the OTHER categories (`--folds`: the categories dealt out in turn), with a bank
of the category's own nominal images. Every result is a file under DIR and is not computed again.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reconpatch.data.manifest import build_manifest
from reconpatch.detector import ReConPatch
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.fitted_detector import FittedDetector
from reconpatch.settings import Settings, load_settings
from reconpatch.storage.atomic_files import sha256_json, write_json
from reconpatch.unified.unified_detector import Unified, fit_unified
from reconpatch.unified.unified_evaluation import evaluate_category

METRICS = ("image_auroc", "pixel_auroc", "aupro")
# What a threshold promises, and what it does on the test images.
VERDICTS = ("false_reject_rate", "detection_rate")
PATCHCORE, OWN, SHARED, SEPARATE, HELD_OUT, POOLED = (
    "PatchCore",
    "ReConPatch of the category",
    "unified, shared bank",
    "unified, bank a category",
    "unified, f held out",
    "unified, shared bank, pooled threshold",
)


class Bench:
    """The detectors of one setting, each made when first needed."""

    def __init__(self, categories: Mapping[str, Path], settings: Settings, work: Path, folds: int) -> None:
        self.categories, self.settings, self.folds = categories, settings, folds
        self.cache = FeatureCache(work / "cache")
        self.folder = work / sha256_json([settings.model_dump(mode="json"), sorted(categories)])[:12]

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """What is computed under this name, or was."""
        file = self.folder / f"{name.replace(' ', '-')}.json"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(file, compute())
            print(file.name, flush=True)
        return json.loads(file.read_text())

    def single(self, **changes: Any) -> ReConPatch:
        """An unfitted detector of this setting with a few changes."""
        params = {key.replace("__", "."): value for key, value in changes.items()}
        return ReConPatch(settings=self.settings, params=params, cache=self.cache)

    def figures(self, detector: FittedDetector, name: str, category: str | None = None) -> dict[str, Any]:
        """Metrics on a category's test images; of a unified model as of the category named, or of none."""
        table = build_manifest(self.categories[name], self.settings.data)
        if isinstance(detector, Unified):
            found = evaluate_category(detector, category, table, self.settings)
        else:
            found = evaluate(detector, table, self.settings)
        rejected = found.table["is_anomalous"].astype(bool)
        defective = found.table["label"] == 1
        return {
            **{metric: found.metrics[metric] for metric in METRICS},
            "false_reject_rate": float(rejected[~defective].mean()),
            "detection_rate": float(rejected[defective].mean()),
            "promised": detector.calibration.threshold.false_reject_rate if detector.calibration else None,
        }

    def of_one(self, variant: str, name: str) -> dict[str, Any]:
        """PatchCore's or ReConPatch's own detector of a category."""
        detector = self.single(modulation__enabled=variant != PATCHCORE).fit(self.categories[name])
        return self.figures(detector, name)

    def of_all(self, bank: str) -> dict[str, Any]:
        """A unified model on every category, and the losses of its training."""
        started = time.process_time()
        model = fit_unified(self.categories, self.single(unified__bank=bank))
        found: dict[str, Any] = {"fit_cpu_seconds": time.process_time() - started}
        found["history"] = [asdict(record) for record in model.history]
        found["categories"] = {name: self.figures(model, name, name) for name in self.categories}
        if bank == "shared":
            found["pooled"] = {name: self.figures(model, name) for name in self.categories}
        return found

    def held_out(self, fold: int) -> dict[str, Any]:
        """The categories of a fold, by an f that was trained on the others."""
        names = list(self.categories)
        away = names[fold :: self.folds]
        rest = {name: self.categories[name] for name in names if name not in away}
        model = fit_unified(rest, self.single())
        found: dict[str, Any] = {"trained_on": list(rest)}
        found["history"] = [asdict(record) for record in model.history]
        found["categories"] = {
            name: self.figures(model.fit_category(self.categories[name]), name) for name in away
        }
        return found


def measure(bench: Bench) -> tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Figures by variant and category, and the history of every f that was trained on several."""
    rows: dict[str, dict[str, Any]] = {}
    for variant in (PATCHCORE, OWN):
        rows[variant] = {
            name: bench.once(f"{variant} {name}", lambda v=variant, n=name: bench.of_one(v, n))
            for name in bench.categories
        }
    histories = {}
    for variant, bank in ((SHARED, "shared"), (SEPARATE, "per_category")):
        found = bench.once(variant, lambda b=bank: bench.of_all(b))
        rows[variant] = found["categories"]
        histories["all categories"] = found["history"]
        if bank == "shared":
            rows[POOLED] = found["pooled"]
    rows[HELD_OUT] = {}
    for fold in range(bench.folds):
        found = bench.once(f"{HELD_OUT} {fold}", lambda f=fold: bench.held_out(f))
        rows[HELD_OUT] |= found["categories"]
        histories[" + ".join(found["trained_on"])] = found["history"]
    return rows, histories


def report(rows: Mapping[str, Mapping[str, Any]], histories: Mapping[str, Sequence[Any]]) -> None:
    names = list(next(iter(rows.values())))
    for name in names:
        print(f"\n{name}\n")
        print("| detector | image AUROC | pixel AUROC | AUPRO | promised | good rejected | defects found |")
        print("|---|---|---|---|---|---|---|")
        for variant, found in rows.items():
            one = found[name]
            figures = [f"{100 * one[metric]:.2f}" for metric in METRICS]
            if variant == POOLED:  # the same scores, judged otherwise
                figures = ["as above"] * 3
            verdicts = [f"{100 * one[key]:.1f} %" for key in ("promised", *VERDICTS)]
            print(f"| {variant} | {' | '.join(figures + verdicts)} |")
    print("\nmean over the categories\n\n| detector | image AUROC | pixel AUROC | AUPRO |\n|---|---|---|---|")
    for variant, found in rows.items():
        if variant != POOLED:
            means = (sum(found[name][metric] for name in names) / len(names) for metric in METRICS)
            print(f"| {variant} | {' | '.join(f'{100 * mean:.2f}' for mean in means)} |")
    for trained_on, history in histories.items():
        print(f"\nf trained on {trained_on}\n\n| step | training loss | validation loss | ratio |")
        print("|---|---|---|---|")
        for record in history:
            print(
                f"| {record['step']} | {record['train_loss']:.4f} | {record['validation_loss']:.4f} "
                f"| {record['ratio']:.4f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("categories", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    given = parser.parse_args()
    base = load_settings(None, {"threads": 1, "evaluate.pictures": 0})
    settings = load_settings(None, given.overrides, base=base)
    categories = {path.resolve().name: path for path in given.categories}
    report(*measure(Bench(categories, settings, given.work, given.folds)))


if __name__ == "__main__":
    main()

"""A preset over a whole data set, with the paper's figures beside ours."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reconpatch.data.layouts import find_categories, region_file
from reconpatch.data.manifest import build_manifest, manifest_digest
from reconpatch.ensemble import fit_folder
from reconpatch.errors import SettingsError
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.settings import Settings, paper_figures
from reconpatch.storage.atomic_files import sha256_file, sha256_json, write_json

METRICS = ("image_auroc", "pixel_auroc", "aupro")
MEAN = "mean"


@dataclass(frozen=True)
class Row:
    """One category's figures, or their mean.

    Attributes:
        category: its name, or ``mean``.
        ours: image AUROC, pixel AUROC and AUPRO in [0, 1]; None where not available.
        paper: the paper's image and pixel AUROC in [0, 1]; None where it gives none.
    """

    category: str
    ours: tuple[float | None, ...]
    paper: tuple[float | None, float | None]


def reproduce(
    root: Path,
    settings: Settings,
    out: Path,
    *,
    preset: str,
    categories: Sequence[str] | None = None,
    cache: FeatureCache | Path | None = None,
    report: Callable[[Row], None] = lambda _: None,
) -> list[Row]:
    """Fit and evaluate every category of a data set; what an earlier call finished is not done again.

    Args:
        root: folder of the categories.
        settings: the preset's parameters, with overrides.
        out: a folder of metrics for each category; other parameters, images or weights get another one.
        preset: name of the preset, for the paper's figures.
        categories: some of the data set's; None takes all.
        cache: the feature cache or its folder.
        report: told of each row as soon as it is known.

    Returns:
        A row a category and their mean.

    Raises:
        SettingsError: a category is unknown.
        DataError: ``root`` holds no category, or an image cannot be read.
    """
    found = find_categories(root)
    unknown = sorted(set(categories or ()) - set(found))
    if unknown:
        raise SettingsError(f"categories: {root} has no {unknown[0]}; it has {', '.join(found)}")
    paper = paper_figures(preset)
    rows = []
    for category in categories or found:
        metrics = _measure(root / category, settings, out / preset, cache)
        ours = tuple(metrics.get(name) for name in METRICS)
        row = Row(category, ours, tuple(_share(paper.get(kind, {}).get(category)) for kind in _KINDS))  # type: ignore[arg-type]
        report(row)
        rows.append(row)
    means = tuple(_mean([row.ours[i] for row in rows]) for i in range(len(METRICS)))
    complete = set(found) == set(categories or found)
    published = paper.get(MEAN, (None, None)) if complete else (None, None)
    rows.append(Row(MEAN, means, (_share(published[0]), _share(published[1]))))
    report(rows[-1])
    return rows


_KINDS = ("image", "pixel")


def _measure(
    images: Path, settings: Settings, out: Path, cache: FeatureCache | Path | None
) -> dict[str, float | None]:
    manifest = build_manifest(images, settings.data, cache=out / f".{images.name}.probes.json")
    file = out / _inputs_digest(images, manifest, settings)[:12] / images.name / "metrics.json"
    if not file.is_file():
        detector = fit_folder(images, settings, cache)
        evaluation = evaluate(detector, manifest, settings)
        write_json(file, evaluation.to_dict())
    values: dict[str, float | None] = json.loads(file.read_text(encoding="utf-8"))
    return values


def _inputs_digest(images: Path, manifest: pd.DataFrame, settings: Settings) -> str:
    """Of what a user may change: parameters, images, what counts of them, a file of weights."""
    files = (region_file(images), settings.features.weights)
    contents = [sha256_file(file) if file is not None and file.is_file() else None for file in files]
    parameters = settings.model_dump(mode="json", by_alias=True)
    return sha256_json([parameters, manifest_digest(manifest), contents])


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

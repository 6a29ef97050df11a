"""How good a detector's parameters are, judged on nominal images alone.

Held-out groups are scored as they are and with seeded synthetic defects. No labelled test image takes part.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from reconpatch.coreset.bank_selection import fit_bank
from reconpatch.data.images import read_image
from reconpatch.data.manifest import image_paths
from reconpatch.data.nominal_split import split_nominal
from reconpatch.data.training_images import training_images, training_rows
from reconpatch.device import choose_device, limit_threads
from reconpatch.errors import DataError
from reconpatch.evaluation.defect_placement import KINDS, add_defect
from reconpatch.evaluation.metrics.image_metrics import d_prime, image_auroc
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures, extract_features
from reconpatch.model.feature_scorer import FeatureScorer
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.preprocess import prepare_mask
from reconpatch.model.region import Region, read_region
from reconpatch.progress import track
from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import atomic_folder
from reconpatch.training.fit_modulation import fit_modulation

OBJECTIVES = ("synthetic_image_auroc", "synthetic_pixel_auroc", "synthetic_d_prime")
REPORTED = "test_image_auroc"


@dataclass(frozen=True)
class Bench:
    """Features that every candidate is fitted and judged on.

    Attributes:
        fit: of the nominal images that a detector is fitted on.
        held: of the held-out ones, n images.
        defective: of the same with one synthetic defect of each kind, m images.
        masks: (m, S, S) bool, where the synthetic defects are.
        test: of the test images, to report how well the judgement ranks; None where nobody asked.
        labels: 0 or 1 of each test image.
    """

    fit: PatchFeatures
    held: PatchFeatures
    defective: PatchFeatures
    masks: NDArray[np.bool_]
    test: PatchFeatures | None
    labels: tuple[int, ...]


def prepare_bench(
    table: pd.DataFrame, settings: Settings, folder: Path, cache: FeatureCache, *, with_test: bool = False
) -> Bench:
    """Hold groups out as a fit does, paint the synthetic defects, and extract all features.

    Args:
        table: a category's manifest.
        settings: whose ``features``, ``calibrate.holdout`` and ``seed`` all candidates share.
        folder: for the images with synthetic defects; what is in it is replaced.
        cache: the feature cache.
        with_test: whether the test images are read too.

    Raises:
        DataError: no group is held out, or an image cannot be read.
    """
    limit_threads(settings.threads)
    train = training_rows(table)
    paths = image_paths(train)
    split = split_nominal(paths, train["group"].tolist(), train["sha256"].tolist(), settings)
    if not len(split.holdout):
        raise DataError(
            f"{table.attrs['root']}: no nominal image is held out to judge parameters on; set "
            "calibrate.holdout above 0 with calibrate.calibration holdout, and give at least two groups"
        )
    extractor = PatchExtractor(settings.features, choose_device(settings.device))
    training = training_images(table, settings.data)
    region = None
    if training.region is not None:
        region = read_region(training.region, training.paths, settings, extractor.grid)

    def features(images: Iterable[Path]) -> PatchFeatures:
        return extract_features(images, extractor, cache, region=region)

    held = [paths[i] for i in split.holdout]
    masks = _paint(held, folder, settings, region)
    test = table[table["split"] == "test"]
    return Bench(
        fit=features(paths[i] for i in split.fit),
        held=features(held),
        defective=features(sorted(folder.glob("*.png"))),
        masks=masks,
        test=features(image_paths(test)) if with_test else None,
        labels=tuple(test["label"]) if with_test else (),
    )


def judge(bench: Bench, settings: Settings) -> dict[str, float]:
    """Fit a candidate and judge it.

    Args:
        bench: of `prepare_bench`.
        settings: the candidate's, with the bench's own ``features``.

    Returns:
        `OBJECTIVES`, the AUROCs in [0, 1]; where the bench holds test images, test_image_auroc too, which
        nothing may be chosen by.
    """
    modulation = fit_modulation(bench.fit, settings).modulation
    bank = fit_bank(bench.fit, modulation, settings)
    size = settings.features.image_size
    pixels = PixelMetrics()
    nominal = _scores(
        bench.held, modulation, bank, settings, pixels, np.zeros((len(bench.held), size, size), bool)
    )
    defective = _scores(bench.defective, modulation, bank, settings, pixels, bench.masks)
    labels = np.repeat([0, 1], [len(nominal), len(defective)])
    scores = np.concatenate([nominal, defective])
    found = {
        "synthetic_image_auroc": image_auroc(labels, scores),
        "synthetic_pixel_auroc": pixels.compute(settings.evaluate.aupro_limit).pixel_auroc,
        "synthetic_d_prime": d_prime(labels, scores),
    }
    if bench.test is not None:
        tested = _scores(bench.test, modulation, bank, settings)
        found[REPORTED] = image_auroc(np.array(bench.labels), tested)
    return found


def _scores(
    features: PatchFeatures,
    modulation: AnyModulation,
    bank: MemoryBank,
    settings: Settings,
    pixels: PixelMetrics | None = None,
    masks: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    scores = []
    region = features.region
    scorer = FeatureScorer(modulation, bank, settings, features.grid, region)
    for number, batch in enumerate(scorer.score_blocks(features.blocks())):
        scores.append(float(batch.scores[0]))
        if pixels is not None and masks is not None:
            pixels.update(masks[number], batch.maps[0], None if region is None else region.pixels)
    return np.array(scores)


def _paint(
    paths: Sequence[Path], folder: Path, settings: Settings, region: Region | None
) -> NDArray[np.bool_]:
    """One image of each kind for each path, in the order of their names; returns the prepared masks.

    A defect that lies outside the region of interest is none, and left out.
    """
    masks = []
    with atomic_folder(folder) as temporary:
        for number, path in enumerate(track(paths, "synthetic defects")):
            image = read_image(path)
            for kind in sorted(KINDS):
                defect = add_defect(image, kind, settings.seed + number)
                mask = prepare_mask(defect.mask, settings.features)
                mask = mask if region is None else mask & region.pixels
                if mask.any():
                    Image.fromarray(defect.image).save(temporary / f"{number:05}-{kind}.png")
                    masks.append(mask)
    if not masks:
        raise DataError("no synthetic defect lies in the region of interest; enlarge roi.png or remove it")
    return np.stack(masks)

"""An exported detector on disk: the graph, what it needs to be used, and the proof that it is equal.

model.onnx, or model.xml and model.bin
detector.json    how an image is prepared, thresholds, where the detector came from
parity.json      the proof
runner.py        scores images with model.onnx; needs onnxruntime, numpy and Pillow alone
"""

import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.demo import PHOTOGRAPHS, photograph
from reconpatch.data.images import read_image
from reconpatch.device import limit_threads
from reconpatch.errors import ModelError
from reconpatch.fitted_detector import FittedDetector
from reconpatch.line.export.formats.format_registry import find_format
from reconpatch.line.export.parity import Parity, compare
from reconpatch.model.preprocess import prepare_image
from reconpatch.storage.atomic_files import atomic_folder, write_json
from reconpatch.storage.detector_settings import model_settings

DETECTOR, PARITY = "detector.json", "parity.json"
# Of the threshold: what float arithmetic in another order may change a score by.
TOLERANCE = 1e-3
_VIEW = 160


def export_detector(
    detector: FittedDetector,
    form: str,
    out: Path,
    images: Sequence[Path] = (),
    *,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Export a detector and prove on images that what was written says the same.

    Args:
        detector: calibrated, on the CPU.
        form: name of a format in `format_registry`, such as ``onnx``.
        out: folder to write; it is complete and proven, or absent.
        images: to compare on, best good and bad ones of the category; none: views of the photographs that
            scikit-image ships, which are real but of other things.
        tolerance: share of the threshold by which a score may differ; of an ensemble's, counted from where
            its members' distances are 0.

    Raises:
        ModelError: the detector is not calibrated, ``out`` is something else, or the proof fails.
        DataError: an image cannot be read.
        SettingsError: there is no such format.
        ReConPatchError: the extra ``export`` is not installed.
    """
    known = find_format(form)
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / PARITY).is_file())):
        raise ModelError(f"{out}: exists and is no exported detector; choose another name")
    features = detector.settings.features
    detector.demand_calibration()
    prepared = [(str(path), prepare_image(read_image(path), features)) for path in images]
    threads = limit_threads(detector.settings.threads)
    with atomic_folder(out) as folder:
        known.write(detector.module(), features.image_size, folder)
        run = known.open(folder, threads)
        absolute = tolerance * _distance_at_threshold(detector)
        parity = compare(detector, run, prepared or _photographs(detector), tolerance=absolute)
        if not parity.proven:
            raise ModelError(_refusal(form, parity))
        proof = {**parity.to_dict(), "format": form, "threads": threads, "own_images": bool(prepared)}
        write_json(folder / PARITY, proof)
        write_json(folder / DETECTOR, _description(detector, absolute))
        if known.runner is not None:
            shutil.copy(str(files("reconpatch.line.export") / known.runner), folder / known.runner)
    return parity


def _distance_at_threshold(detector: FittedDetector) -> float:
    """The threshold in units of the score, counted from where all distances are 0.

    An ensemble's score counts from its members' medians, but arithmetic is wrong by a share of distances.
    """
    value = abs(detector.demand_calibration().threshold.value)
    if len(detector.member_parts) > 1:
        medians = [one.calibration.scores for one in detector.member_parts if one.calibration is not None]
        value += sum(one.median / one.scale for one in medians) / len(medians)
    return value


def _description(detector: FittedDetector, tolerance: float) -> dict[str, Any]:
    calibration, features = detector.demand_calibration(), detector.settings.features
    return {
        "image_size": features.image_size,
        "resize": features.resize or features.image_size,
        "threshold": calibration.threshold.value,
        "review": calibration.review.value,
        "tolerance": tolerance,
        "training_set_sha256": detector.training_set.sha256,
        "settings": model_settings(detector.settings),
    }


def _photographs(detector: FittedDetector) -> list[tuple[str, NDArray[np.uint8]]]:
    """Two dozen views of the embedded photographs, prepared."""
    views = []
    for name in PHOTOGRAPHS:
        picture = np.repeat(photograph(name)[:, :, None], 3, axis=2)
        for top in range(0, picture.shape[0] - _VIEW, _VIEW):
            for left in range(0, picture.shape[1] - _VIEW, _VIEW):
                view = np.ascontiguousarray(picture[top : top + _VIEW, left : left + _VIEW])
                views.append((f"{name} {top},{left}", prepare_image(view, detector.settings.features)))
    return views


def _refusal(form: str, parity: Parity) -> str:
    flips = [f"{one.image} ({one.score:g}, {one.exported_score:g})" for one in parity.flips_outside[:3]]
    return (
        f"the {form} graph does not say what the detector says: scores differ by up to "
        f"{parity.score_difference:.3g} ({parity.tolerance:.3g} may), on {len(parity.beyond)} of "
        f"{parity.images + parity.blends} images by more; {len(parity.flips_outside)} verdicts differ "
        f"{', '.join(flips)}; nothing was written"
    )

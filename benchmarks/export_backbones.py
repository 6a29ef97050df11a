"""Whether detectors of other networks say the same as graphs: ONNX and OpenVINO, and an ensemble of two.

    OMP_NUM_THREADS=1 python benchmarks/export_backbones.py IMAGES [--side 96] [--names ...]

Weights are random, so scores mean nothing; that they agree is what is shown.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from reconpatch import ReConPatch
from reconpatch.data.file_listing import expand_images
from reconpatch.ensemble import fuse_members
from reconpatch.errors import ReConPatchError
from reconpatch.fitted_detector import FittedDetector
from reconpatch.line.export.exported_folder import export_detector

# The paper's, then other families.
NAMES = (
    "wide_resnet50_2", "wide_resnet101_2", "resnext101_32x8d", "densenet201", "tf_efficientnet_lite1",
    "convnext_atto", "mobilenetv3_small_050", "regnety_002",
)  # fmt: skip


def fit(name: str, folder: Path, images: Sequence[Path], side: int) -> FittedDetector:
    """A detector of this network with seeded random weights."""
    torch.manual_seed(0)
    weights = folder / f"{name}.safetensors"
    save_file(timm.create_model(name).state_dict(), weights)
    params = {
        "features.backbone": name,
        "features.weights": str(weights),
        "features.image_size": side,
        "modulation.steps": 2,
        "modulation.batch_size": 64,
        "coreset.max_bank": 300,
        "coreset.ratio": 0.1,
        "calibrate.holdout": 0.5,
        "device": "cpu",
        "threads": 1,
    }
    return ReConPatch(params=params, cache=folder / "cache").fit(images)


def row(name: str, detector: FittedDetector, form: str, folder: Path, images: Sequence[Path]) -> str:
    """One line of the table."""
    start = time.monotonic()
    try:
        parity = export_detector(detector, form, folder / f"{name}-{form}", images)  # type: ignore[arg-type]
    except ReConPatchError as error:
        return f"| {name} | {form} | refused: {error} | | |"
    share = parity.score_difference / parity.tolerance
    flips = f"{len(parity.flips_outside)} / {len(parity.flips_inside)}"
    return (
        f"| {name} | {form} | {parity.images} + {parity.blends} | {share:.3f} | {flips} | "
        f"{time.monotonic() - start:.0f} |"
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--names", nargs="+", default=NAMES)
    given = parser.parse_args()
    images = expand_images([given.images])[:12]
    print(
        "| network | format | images + blends | difference, of the tolerance | flips outside / inside | s |"
    )
    print("|---|---|---|---|---|---|")
    fitted: list[FittedDetector] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in given.names:
            detector = fit(name, folder, images[:8], given.side)
            shown = [(name, detector)]
            fitted.append(detector)
            if len(fitted) == 2:
                holdouts = [member.held_out_features(images[:8]) for member in fitted]
                shown.append((" + ".join(given.names[:2]), fuse_members(fitted, holdouts)))
            for title, one in shown:
                for form in ("onnx", "openvino"):
                    print(row(title, one, form, folder, images), flush=True)


if __name__ == "__main__":
    main()

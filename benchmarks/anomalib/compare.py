"""Side by side with anomalib's PatchCore: coreset, fit, predict, AUROC.

    python -m benchmarks.anomalib.compare --other-python VENV/bin/python --data mvtec/bottle --out result.json

README.md beside this file says how to make the other environment. The sides run in turn, each in a process
of its own, on the same images with the same weights, levels, image size, ratio and threads.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.anomalib import prepare
from benchmarks.anomalib.machine import describe, run
from benchmarks.anomalib.table import render
from reconpatch.data.manifest import build_manifest, image_paths
from reconpatch.evaluation.ground_truth import ground_truth
from reconpatch.evaluation.metrics.image_metrics import image_auroc, pixel_auroc
from reconpatch.settings import Settings, load_settings
from reconpatch.storage.atomic_files import write_json

HERE = Path(__file__).parent
PATCHCORE = {
    "modulation.enabled": False,
    "calibrate.holdout": 0,
    # As anomalib does: the weight of PatchCore's paper, from 9 neighbours, on the image score.
    "scoring.reweighting": "image",
    "scoring.neighbours": 9,
    "device": "cpu",
}
# f as it starts: it keeps all distances, so the width is 512 and the problem is no easier than the features'.
ISOMETRY = {"modulation.steps": 0, "modulation.dim": 512, "device": "cpu"}
SAME_FEATURES = 1e-3


class Sides:
    """How to call either side."""

    def __init__(self, other_python: Path, threads: int, scratch: Path) -> None:
        self.other_python = other_python
        self.threads = threads
        self.scratch = scratch

    def ours(self, command: str, *options: object) -> dict[str, Any]:
        """One command of `ours`, with its result."""
        return self._run([sys.executable, str(HERE / "ours.py")], command, options)

    def theirs(self, command: str, *options: object) -> dict[str, Any]:
        """One command of `theirs`, with its result."""
        return self._run([str(self.other_python), str(HERE / "theirs.py")], command, options)

    def _run(self, program: list[str], command: str, options: tuple[object, ...]) -> dict[str, Any]:
        arguments = [*program, command, "--threads", str(self.threads), *map(str, options)]
        return run(arguments, self.threads, f"{Path(program[1]).stem} {command}")

    def our_fit(self, category: Path, out: Path, ratio: float) -> dict[str, Any]:
        """A whole `reconpatch fit`."""
        values = PATCHCORE | {"coreset.ratio": ratio, "threads": self.threads}
        options = [part for key, value in values.items() for part in ("--set", f"{key}={json.dumps(value)}")]
        command = [
            str(Path(sys.executable).with_name("reconpatch")),
            "fit",
            str(category),
            "--out",
            str(out),
            *options,
        ]
        return run(command, self.threads, "ours fit")


def in_turn(
    repeats: int, ours: Callable[[int], dict[str, Any]], theirs: Callable[[int], dict[str, Any]], whole: int
) -> dict[str, list[dict[str, Any]]]:
    """Ours, theirs, ours, theirs and so on; theirs stops after ``whole`` runs."""
    results: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for number in range(repeats):
        results["ours"].append(ours(number))
        if number < whole:
            results["theirs"].append(theirs(number))
    return results


def compare_features(sides: Sides, category: Path, settings: Settings, weights: Path) -> float:
    """Largest relative difference of both sides' features of one prepared image.

    Raises:
        ValueError: they differ by more than rounding.
    """
    batch, ours = prepare.example(category, settings)
    np.save(sides.scratch / "image.npy", batch)
    output = sides.scratch / "features-theirs.npy"
    sides.theirs("features", "--weights", weights, "--input", sides.scratch / "image.npy", "--output", output)
    difference = prepare.largest_difference(ours, np.load(output))
    if difference > SAME_FEATURES:
        raise ValueError(f"features differ by {difference:.1e} of the largest one: not the same network")
    return difference


def compare_coreset(
    sides: Sides, features: Path, ratio: float, steps: int, repeats: int, whole: int
) -> dict[str, Any]:
    """Both selections of one share of the vectors; ``steps``: how much of theirs is run, 0: all."""
    outputs = {side: sides.scratch / f"coreset-{side}.npy" for side in ("ours", "theirs")}
    common = ("--input", features, "--ratio", ratio)
    result: dict[str, Any] = in_turn(
        repeats,
        lambda _: sides.ours("coreset", *common, "--output", outputs["ours"]),
        lambda _: sides.theirs("coreset", *common, "--steps", steps, "--output", outputs["theirs"]),
        whole,
    )
    rows = np.load(features)
    result |= {"ratio": ratio, "shape": list(rows.shape)}
    complete = outputs if not steps else {"ours": outputs["ours"]}
    result["radius"] = {side: prepare.covering_radius(rows, np.load(path)) for side, path in complete.items()}
    return result


def loading(arguments: argparse.Namespace) -> tuple[object, ...]:
    """How anomalib loads images; ours has one way."""
    return "--batch-size", arguments.batch_size, "--workers", arguments.workers


def compare_fit(
    sides: Sides, category: Path, weights: Path, arguments: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Both fits, process and all; and where the fitted models lie."""
    models = {"ours": sides.scratch / "model"}

    def theirs(number: int) -> dict[str, Any]:
        output = sides.scratch / f"fit-{number}"
        options = ("--ratio", arguments.ratio, "--weights", weights, *loading(arguments))
        found = sides.theirs("fit", "--data", category, "--output", output, *options)
        models["theirs"] = Path(found["checkpoint"])
        return found

    result: dict[str, Any] = in_turn(
        arguments.repeats,
        lambda _: sides.our_fit(category, models["ours"], arguments.ratio),
        theirs,
        arguments.whole,
    )
    return result | {"images": len(list((category / "train" / "good").iterdir()))}, models


def compare_predict(
    sides: Sides, category: Path, models: dict[str, Path], weights: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Images a second of both, and how well both tell good from bad."""
    table = build_manifest(category, load_settings().data)
    table = table[table["split"] == "test"]
    listed = sides.scratch / "paths.txt"
    listed.write_text("\n".join(str(path.resolve()) for path in image_paths(table)), encoding="utf-8")
    outputs = {side: sides.scratch / f"predict-{side}.npz" for side in ("ours", "theirs")}
    result: dict[str, Any] = in_turn(
        arguments.repeats,
        lambda _: sides.ours(
            "predict", "--paths", listed, "--model", models["ours"], "--output", outputs["ours"]
        ),
        lambda _: sides.theirs(
            "predict",
            *("--paths", listed, "--model", models["theirs"], "--output", outputs["theirs"]),
            *("--weights", weights, *loading(arguments)),
        ),
        arguments.repeats,
    )
    settings = load_settings(None, PATCHCORE)
    viewed = SimpleNamespace(settings=settings, region=None)
    masks = [ground_truth(row, category, settings, viewed) for row in table.itertuples()]
    result["auroc"] = {}
    for side, path in outputs.items():
        with np.load(path) as found:
            result["auroc"][side] = {
                "image": image_auroc(table["label"].to_numpy(), found["scores"]),
                "pixel": pixel_auroc(np.stack(masks), found["maps"]),
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--other-python", type=Path, required=True, help="Python that anomalib is in")
    parser.add_argument("--data", type=Path, required=True, help="a category in the layout of MVTec AD")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; the table goes to stdout")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ratio", type=float, default=0.01)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--whole", type=int, default=1, help="runs of their whole coreset and fit")
    parser.add_argument("--steps", type=int, default=150, help="steps of their loop run at --large-ratio")
    parser.add_argument("--large-ratio", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=8, help="anomalib's, of images")
    parser.add_argument("--workers", type=int, default=2, help="anomalib's loading processes")
    parser.add_argument("--features", type=Path, help="npy of what the coresets are taken of; made if absent")
    parser.add_argument(
        "--coreset-levels", type=int, nargs="+", default=[2, 3], help="levels of these features"
    )
    parser.add_argument("--only-coreset", action="store_true")
    parser.add_argument("--images", type=int, help="training images, for a try")
    arguments = parser.parse_args()
    category = arguments.data.resolve()
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as folder:
        scratch = Path(folder)
        if arguments.images:
            category = prepare.copy_part(category, arguments.images, scratch / category.name)
        spaces = ISOMETRY | {"threads": arguments.threads, "features.levels": arguments.coreset_levels}
        settings = load_settings(None, {"device": "cpu", "threads": arguments.threads})
        sides = Sides(arguments.other_python, arguments.threads, scratch)
        weights = scratch / "weights.safetensors"
        features: Path = arguments.features or scratch / "features.npy"
        result: dict[str, Any] = {"machine": describe(), "threads": arguments.threads}
        prepare.export_weights(settings, weights)
        result["feature_difference"] = compare_features(sides, category, settings, weights)
        if not arguments.only_coreset:
            result["fit"], models = compare_fit(sides, category, weights, arguments)
            write_json(arguments.out, result)
            result["predict"] = compare_predict(sides, category, models, weights, arguments)
            write_json(arguments.out, result)
        if not features.exists():
            prepare.write_features(category, load_settings(None, spaces), scratch / "cache", features)
        large = compare_coreset(
            sides, features, arguments.large_ratio, arguments.steps, arguments.repeats, arguments.repeats
        )
        result["coreset"] = [large]
        write_json(arguments.out, result)
        small = compare_coreset(sides, features, arguments.ratio, 0, arguments.repeats, arguments.whole)
        result["coreset"] = [small, large]
        write_json(arguments.out, result)
    print(render(result))


if __name__ == "__main__":
    main()

"""What memory format and precision of the network cost and change, on real images.

    python -m benchmarks.inference MODEL CATEGORY [--images 200]

Each variant scores the same test images with the same fitted detector. Rounds of all variants take turns;
seconds are medians over the rounds, of the network alone. Differences are those of image scores, from
images to score, against float32 with channels last (what ships).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.timing import in_turn
from reconpatch.data.images import read_image
from reconpatch.data.manifest import build_manifest, image_paths
from reconpatch.detector import ReConPatch
from reconpatch.device import limit_threads
from reconpatch.evaluation.speed import describe_hardware
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.preprocess import prepare_image

_CPU = torch.device("cpu")


def variants(detector: ReConPatch) -> dict[str, PatchExtractor]:
    """The extractors by name; the first one is what ships."""
    settings = detector.settings.features
    plain = PatchExtractor(settings, _CPU)
    plain.backbone.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    # The layout of the input decides that of every layer; images come with the channels last.
    plain.backbone.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    rounded = settings.model_copy(update={"precision": "bfloat16"})
    return {
        "float32, channels last": PatchExtractor(settings, _CPU),
        "float32, channels first": plain,
        "bfloat16, channels last": PatchExtractor(rounded, _CPU),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("category", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    detector = ReConPatch.load(arguments.model, device="cpu", threads=arguments.threads)
    table = build_manifest(arguments.category, detector.settings.data)
    paths = image_paths(table[table["split"] == "test"])
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(arguments.images, len(paths)), dtype=int)]
    batch = np.stack([prepare_image(read_image(path), detector.settings.features) for path in chosen])
    limit_threads(arguments.threads)
    extractors = variants(detector)
    scorer = detector.scorer()
    scores = {name: scorer.score(extractor(batch)).scores for name, extractor in extractors.items()}
    few = batch[:16]
    seconds = in_turn(
        {name: lambda extractor=extractor: extractor(few) for name, extractor in extractors.items()},
        arguments.rounds,
    )
    print(f"{describe_hardware(_CPU)}, {arguments.threads} threads, {len(batch)} images\n")
    print("| network | ms an image | of the first | largest relative score difference | rank correlation |")
    print("|---|---|---|---|---|")
    first = next(iter(extractors))
    for name in extractors:
        difference = (np.abs(scores[name] - scores[first]) / scores[first]).max()
        correlation = spearmanr(scores[name], scores[first]).statistic
        milliseconds, ratio = 1e3 * seconds[name] / len(few), seconds[name] / seconds[first]
        print(f"| {name} | {milliseconds:.1f} | {ratio:.2f} | {difference:.1e} | {correlation:.6f} |")


if __name__ == "__main__":
    main()

"""Which modulation is worth its default: PatchCore and variants of f on the very same features.

    python -m benchmarks.study_modulation --work DIR [--real NAME=FOLDER ...] [--synthetic NAME=FOLDER ...]
        [--variants NAME ...] [--seeds 0 1 2] [--images 120] [--set features.levels=[1,2,3] ...]
        [--against NAME ...]

A real task scores a category's labelled test images. A synthetic one uses nominal training images alone:
some groups are held out, and each of their images is scored as it is and with one defect of each synthetic
kind; so a default may be chosen on a category whose test labels stay unseen. Every result is one line of
DIR/results.jsonl, and what stands there is not computed again. ``--against`` prints the paired differences
to those variants as well, of what both were measured on.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from benchmarks.study_tasks import PIXEL_STRIDE, Task, load_task
from benchmarks.study_variants import BASE, REWEIGHTED, VARIANTS, other_training
from reconpatch.coreset.k_center import coreset_size, k_center_greedy
from reconpatch.evaluation.metrics.image_metrics import aupro, image_auroc, pixel_auroc
from reconpatch.model.anomaly_map import anomaly_maps
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation, Identity, Modulation
from reconpatch.model.patch_scores import PatchScores
from reconpatch.settings import ModulationSettings, ScoringSettings, load_settings
from reconpatch.training.training_loop import train_modulation

METRICS = ["image_auroc", "pixel_auroc", "aupro"]
# Seconds are those of one process on a shared machine.
Result = dict[str, float]


def measure(task: Task, changes: dict[str, Any], seed: int) -> Iterator[tuple[str, Result]]:
    """Train, fill a 1 % bank and score the images: (end of the variant's name, metrics)."""
    rows = task.train.reshape(-1, task.train.shape[-1])
    spread = np.ones(rows.shape[1], np.float32)
    if changes.get("standardise"):
        spread = rows.astype(np.float32).std(axis=0) + 1e-6
        rows = rows.astype(np.float32) / spread
    started = time.process_time()
    modulation = _fit(rows, changes, seed, task.train.shape[1])
    trained = time.process_time() - started

    def modulated(block: np.ndarray) -> np.ndarray:
        return modulation.transform(block)

    vectors = modulated(rows)
    space = _selection_space(changes.get("select"), rows, vectors, seed)
    bank = MemoryBank(vectors[k_center_greedy(space, coreset_size(len(space), 0.01), seed=seed)])
    test = [modulated(block / spread)[None] for block in task.test]
    scorings = {"": ("none", ScoringSettings().neighbours)} | (REWEIGHTED if "reweighted" in changes else {})
    for ending, (mode, b) in scorings.items():
        scoring = ScoringSettings(reweighting=mode, neighbours=b)
        yield ending, {**_figures(task, bank, test, scoring), "training_seconds": trained}


def _fit(rows: np.ndarray, changes: dict[str, Any], seed: int, patches: int) -> AnyModulation:
    if not changes.get("f", True):
        return Identity(rows.shape[1])
    if "principal" in changes:
        return _principal_directions(rows, changes["principal"])
    values = {key: value for key, value in changes.items() if key in ModulationSettings.model_fields}
    settings = ModulationSettings(**{**BASE, **values})
    with other_training(changes, rows, patches):
        return _narrowed(train_modulation(rows, settings, seed=seed).modulation)


def _selection_space(select: str | None, rows: np.ndarray, vectors: np.ndarray, seed: int) -> np.ndarray:
    """Where the distances of the greedy coreset are: after f, before it, or projected as PatchCore does."""
    if select is None:
        return vectors
    if select == "features":
        return rows.astype(np.float32)
    projection = np.random.default_rng(seed).standard_normal((vectors.shape[1], 64), np.float32)
    return vectors @ (projection / 8)


def _figures(task: Task, bank: MemoryBank, test: list[np.ndarray], scoring: ScoringSettings) -> Result:
    scores = PatchScores(bank, scoring)
    scored = [scores(torch.from_numpy(vectors)) for vectors in test]
    patches, images = (torch.cat(parts).numpy() for parts in zip(*scored, strict=True))
    side = round(patches.shape[1] ** 0.5)
    size = task.masks.shape[1] * PIXEL_STRIDE
    strided = anomaly_maps(patches.reshape(-1, side, side), size, scoring.blur_sigma)
    strided = strided[:, ::PIXEL_STRIDE, ::PIXEL_STRIDE]
    return {
        "image_auroc": image_auroc(task.labels, images),
        "pixel_auroc": pixel_auroc(task.masks, strided),
        "aupro": aupro(task.masks, strided),
    }


def _principal_directions(rows: np.ndarray, dim: int) -> Modulation:
    """The other way to make f narrower than its input: keep where nominal patches vary most."""
    centred = rows.astype(np.float32) - rows.mean(0, dtype=np.float64).astype(np.float32)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    weight = torch.from_numpy(np.ascontiguousarray(vectors[:, ::-1][:, :dim].T))
    return Modulation(weight, torch.zeros(rows.shape[1]), torch.ones(()))


def _narrowed(modulation: Modulation) -> Modulation:
    """The same distances out of a width of at most D: with W = QR, |W x| = |R x|; saves study time only."""
    weight = modulation.weight.detach()
    if modulation.dim <= modulation.dim_in:
        return modulation
    return Modulation(torch.linalg.qr(weight.double()).R.float(), modulation.mean, modulation.scale)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--real", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--synthetic", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--images", type=int, default=120, help="most nominal images to train on")
    parser.add_argument("--against", nargs="*", default=[], choices=list(VARIANTS))
    parser.add_argument("--set", action="append", default=[], metavar="features.KEY=VALUE")
    given = parser.parse_args()
    if missing := set(given.against) - set(given.variants):
        parser.error(f"--against {', '.join(missing)}: name it among --variants too")
    given.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    features = load_settings(None, given.set).features
    what = f"levels {'+'.join(map(str, features.levels))}, s {features.patch_size}, {features.image_size} px"
    log = given.work / "results.jsonl"
    done = {(row["task"], row["features"], row["asked"], row["seed"]) for row in _rows(log)}
    for seed in given.seeds:
        for kind in ("real", "synthetic"):
            for name, _, folder in (entry.partition("=") for entry in getattr(given, kind)):
                task = load_task(kind, name, Path(folder), given.images, features, given.work)
                for variant in given.variants:
                    place = {"task": f"{name}-{kind}-{given.images}", "features": what, "seed": seed}
                    if (place["task"], what, variant, seed) in done:
                        continue
                    results = list(measure(task, VARIANTS[variant], seed))
                    lines = [
                        place | {"asked": variant, "variant": variant + end} | one for end, one in results
                    ]
                    with log.open("a") as stream:
                        stream.writelines(json.dumps(line) + "\n" for line in lines)
                    print(
                        place,
                        variant,
                        [f"{100 * results[0][1][metric]:.2f}" for metric in METRICS],
                        flush=True,
                    )
    print(table(log))
    for reference in given.against:
        print(differences(log, reference, given.variants, what))


def _rows(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def table(log: Path) -> str:
    """Means over seeds in points, a column a task; then the mean of the tasks and of their spreads."""
    results = pd.DataFrame(_rows(log))
    results[METRICS] *= 100
    rows = ["features", "variant"]
    grouped = results.groupby([*rows, "task"], sort=False)[METRICS]
    mean, spread = grouped.mean(), grouped.std()
    cells = mean.map("{:.2f}".format).agg(" / ".join, axis=1).unstack("task")
    over = mean.groupby(rows, sort=False).mean().map("{:.2f}".format).agg(" / ".join, axis=1)
    spreads = spread.groupby(rows, sort=False).mean().map("{:.2f}".format).agg(" / ".join, axis=1)
    seeds = results.groupby(rows, sort=False)["seed"].nunique()
    return cells.assign(mean=over, spread=spreads, seeds=seeds).reset_index().to_csv(sep="|", index=False)


def differences(log: Path, reference: str, variants: list[str], features: str) -> str:
    """Mean differences to the reference in points, a column a task, of the seeds that every task has.

    The last column is that of the tasks' mean, with its 95 % interval by Student's t over the seeds.
    """
    results = pd.DataFrame(_rows(log))
    results = results[results["features"] == features]
    results[METRICS] *= 100
    values = results.set_index(["variant", "seed", "task"])[METRICS]
    lines = [f"minus {reference}|{'|'.join(results['task'].unique())}|mean|seeds"]
    for variant in (name for name in variants if name != reference):
        paired = (values.loc[variant] - values.loc[reference]).unstack("task").dropna()
        mean = paired.T.groupby(level=0, sort=False).mean().T
        half = stats.t.ppf(0.975, len(mean) - 1) * mean.sem()
        tasks = [
            " / ".join(f"{paired[metric, task].mean():+.2f}" for metric in METRICS)
            for task in results["task"].unique()
        ]
        over = " / ".join(f"{mean[metric].mean():+.2f} ± {half[metric]:.2f}" for metric in METRICS)
        lines.append("|".join([variant, *tasks, over, str(len(mean))]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()

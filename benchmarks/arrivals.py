"""What ingest does to the promises of later calibrations: rounds of arrivals, simulated on scores.

    OMP_NUM_THREADS=1 python benchmarks/arrivals.py [--first 1000] [--arrivals 1000] [--rounds 5]
        [--lines 200] [--windows 20] [--rule lot] [--share 0.15] [--seed 0]

Every image of a line is good, its own group, and has one score, drawn from one law, for the detector of every
round; nothing drifts. In each round the images at hand are split and the held-out ones calibrate; ingest then
judges the arrivals by that calibration, and what it lets in is there in the next round. All decisions are
those of the library: `split_nominal`, `calibrate_scores`, `draw_lot`, `find_refusals`, `find_drift`.

`--rule lot` is what ingest does; `--rule filtered` is what it did before: every arrival that scores above the
review limit waits, and those that calibrate are drawn from all that joined. What waits is not judged. The
false-reject rate is that of the law at the threshold, a mean over the lines. A window is of 300 images of the
same law, looked at once at the level of 5 %, against what calibrates the last round.
"""

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import gamma

from reconpatch.calibration.calibration import Calibration, calibrate_scores
from reconpatch.data.batch_folders import target_in_batch
from reconpatch.data.images import ImageProbe
from reconpatch.data.manifest import COLUMNS
from reconpatch.data.nominal_split import split_nominal
from reconpatch.data.reviews import COLUMNS as REVIEWS
from reconpatch.line.inbox.arrivals import SUSPICIOUS, Arrival, Refusal, draw_lot, find_refusals
from reconpatch.line.monitoring.drift import find_drift
from reconpatch.settings import Settings, load_settings

LAW = gamma(20)
WINDOW, LEVEL, EMBEDDING = 300, 0.05, 8
NO_REVIEWS = pd.DataFrame(columns=list(REVIEWS)).astype(REVIEWS)
NOTHING_KNOWN = pd.DataFrame(columns=COLUMNS)


def main() -> None:
    """Print a table of rounds."""
    given = arguments()
    rates = np.empty((given.lines, given.rounds))
    counts, waiting = np.empty_like(rates, int), np.zeros_like(rates, int)
    alarms = []
    for line in range(given.lines):
        random = np.random.default_rng([given.seed, line])
        settings = load_settings(None, {"calibrate.holdout": given.share, "seed": line})
        for place, (held, calibration, waits) in enumerate(rounds(given, settings, random)):
            rates[line, place] = LAW.sf(calibration.threshold.value)
            counts[line, place], waiting[line, place] = len(held), waits
        alarms += [alarm(held, calibration, random) for _ in range(given.windows)]
    promise = calibration.threshold.false_reject_rate
    print(f"rule {given.rule}: {given.first} images, {given.arrivals} arrivals a round, {given.lines} lines")
    print("| round | calibrate | rejected (standard error) | wait |")
    print("|---|---|---|---|")
    for place in range(given.rounds):
        rejected, error = rates[:, place].mean(), rates[:, place].std(ddof=1) / np.sqrt(given.lines)
        print(
            f"| {place} | {counts[:, place].mean():.0f} | {100 * rejected:.2f} % ({100 * error:.2f}) "
            f"| {waiting[:, place].mean():.0f} |"
        )
    print(f"promised in the last round: {100 * promise:.2f} %")
    if alarms:
        print(f"alarms in windows without drift: {100 * np.mean(alarms):.1f} % of {len(alarms)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=1000, help="images that are there from the start")
    parser.add_argument("--arrivals", type=int, default=1000, help="that come before each further round")
    parser.add_argument("--rounds", type=int, default=5, help="calibrations, the first included")
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--windows", type=int, default=20, help="of each line, after its last round")
    parser.add_argument("--rule", choices=("lot", "filtered"), default="lot")
    parser.add_argument("--share", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def rounds(
    given: argparse.Namespace, settings: Settings, random: np.random.Generator
) -> Iterator[tuple[NDArray[np.float64], Calibration, int]]:
    """Of each round the scores that calibrate, what they say, and how many arrivals wait before the next."""
    scores = LAW.rvs(given.first, random_state=random)
    names = [f"first/{number}.png" for number in range(given.first)]
    for number in range(given.rounds):
        digests = [hashlib.sha256(f"{value!r}".encode()).hexdigest() for value in scores.tolist()]
        places = names if given.rule == "lot" else [f"{place}.png" for place in range(len(names))]
        held = scores[split_nominal(places, names, digests, settings).holdout]
        calibration = calibrate_scores(held, held, held)
        more = LAW.rvs(given.arrivals, random_state=random)
        batch = f"train/good/arrivals-{number:012x}"
        joined = let_in(more, calibration, given)
        yield held, calibration, given.arrivals - len(joined)
        scores = np.concatenate([scores, more[list(joined)]])
        names += [f"{batch}/{target}" for target in joined.values()]


def let_in(
    scores: NDArray[np.float64], calibration: Calibration, given: argparse.Namespace
) -> dict[int, str]:
    """Where the arrivals that join lie in their batch, by their places among all."""
    arrivals = [arrival(value) for value in scores.tolist()]
    found = {
        str(item.probe.sha256): Refusal(SUSPICIOUS, "")
        for item, value in zip(arrivals, scores, strict=True)
        if value > calibration.review.value
    }
    lot = draw_lot(arrivals, NOTHING_KNOWN, given.share if given.rule == "lot" else 0.0)
    refusals = find_refusals(arrivals, NOTHING_KNOWN, frozenset(), NO_REVIEWS, found, 0, lot)
    return {
        place: target_in_batch(item.name, one)
        for place, (item, refusal, one) in enumerate(zip(arrivals, refusals, lot, strict=True))
        if refusal is None
    }


def arrival(score: float) -> Arrival:
    digest = hashlib.sha256(f"{score!r}".encode()).hexdigest()
    return Arrival(Path(digest), f"{digest}.png", "", ImageProbe(sha256=digest))


def alarm(held: NDArray[np.float64], calibration: Calibration, random: np.random.Generator) -> bool:
    """Whether a check finds drift in a window of the same law."""
    reference, window = (
        seen(values, calibration, random) for values in (held, LAW.rvs(WINDOW, random_state=random))
    )
    seed = int(random.integers(1 << 30))
    return find_drift(reference, window, level=LEVEL, seed=seed).alarm


def seen(values: NDArray[np.float64], calibration: Calibration, random: np.random.Generator) -> pd.DataFrame:
    """What a log holds of images: their scores, and looks and embeddings that know nothing of these."""
    looks = random.normal(size=(3, len(values)))
    return pd.DataFrame(
        {
            "group": [f"{number}" for number in range(len(values))],
            "score": values,
            "is_anomalous": values > calibration.threshold.value,
            **dict(zip(("brightness", "contrast", "sharpness"), looks, strict=True)),
            "embedding": list(random.normal(size=(len(values), EMBEDDING))),
        }
    )


if __name__ == "__main__":
    main()

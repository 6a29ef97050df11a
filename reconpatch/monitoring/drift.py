"""Drift by permutation: would the newest images stand out if they came from where the held-out ones did?

A group is one observation. The labels "held out" and "new" are dealt anew many times; the smallest p-value
of all statistics is compared with the smallest one of every deal (Westfall and Young), which accounts for
how many statistics there are and for their dependence. How many checks there are is accounted for by their
number (Bonferroni). No distribution is assumed.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reconpatch.errors import DataError

_BATCH = 2_000  # deals at a time; bounds the memory
_FEWEST = 5  # groups on either side


@dataclass(frozen=True)
class Drift:
    """What one check found.

    Attributes:
        p_value: of all statistics together.
        level: an alarm is a p-value not above it.
        shifts: for each statistic its p-value alone; says what has moved, decides nothing.
        reference: held-out groups.
        window: new groups.
    """

    p_value: float
    level: float
    shifts: dict[str, float]
    reference: int
    window: int

    @property
    def alarm(self) -> bool:
        """Whether the new images stand out."""
        return self.p_value <= self.level


def find_drift(
    reference: pd.DataFrame, window: pd.DataFrame, *, rate: float, checks: int, seed: int
) -> Drift:
    """Compare new images with held-out nominal ones, both scored by the detector that ships.

    Every numeric column is compared by the mean of its ranks and by its share of the largest tenth; columns
    ``embedding_<i>`` are one together, compared by the distance of the means.

    Args:
        reference: an image a row; column ``group`` and numeric ones.
        window: the same columns.
        rate: largest probability of a false alarm in all checks together, in (0, 1).
        checks: how many checks there are in the time that ``rate`` is about.
        seed: of the deals.

    Raises:
        DataError: a side has fewer than five groups, or the columns differ.
    """
    if list(reference.columns) != list(window.columns):
        raise DataError("drift: reference and window have other columns; score both with one version")
    before, after = (table.groupby("group").mean(numeric_only=True) for table in (reference, window))
    if min(len(before), len(after)) < _FEWEST:
        raise DataError(f"drift: {len(before)} held-out and {len(after)} new groups; each needs {_FEWEST}")
    level = rate / checks
    columns = _columns(pd.concat([before, after], ignore_index=True))
    values = np.concatenate(list(columns.values()), axis=1)
    widths = [block.shape[1] for block in columns.values()]
    # A p-value as small as the level needs many deals; a first look spares them where nothing stands out.
    first = _p_values(values, widths, len(before), 999, seed)
    if first[0] > max(level, 0.02):
        overall, single = first
    else:
        overall, single = _p_values(values, widths, len(before), int(np.ceil(10 / level)), seed + 1)
    shifts = dict(zip(columns, (float(p) for p in single), strict=True))
    return Drift(float(overall), level, shifts, len(before), len(after))


def _columns(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """(N, width) standardised columns of each statistic."""
    embedding = [name for name in table.columns if name.startswith("embedding_")]
    found: dict[str, np.ndarray] = {}
    for name in (name for name in table.columns if name not in embedding):
        ranks = table[name].rank()
        found[name] = ranks.to_numpy()[:, None]
        found[f"{name} (largest tenth)"] = (ranks > 0.9 * len(table)).to_numpy(float)[:, None]
    if embedding:
        found["embedding"] = table[embedding].to_numpy(float)
    return {name: _standardised(block) for name, block in found.items()}


def _standardised(block: np.ndarray) -> np.ndarray:
    spread = block.std(axis=0)
    scaled: np.ndarray = (block - block.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return scaled


def _p_values(
    values: np.ndarray, widths: list[int], before: int, deals: int, seed: int
) -> tuple[float, np.ndarray]:
    """P-value of all statistics together, and of each alone; the true deal is one of the deals."""
    random, total = np.random.default_rng(seed), len(values)
    observed = _distances((np.arange(total) >= before)[None, :].astype(float), values, widths)
    drawn = [observed]
    for start in range(0, deals, _BATCH):
        order = random.random((min(_BATCH, deals - start), total)).argsort(axis=1)
        drawn.append(_distances((order >= before).astype(float), values, widths))
    distances = np.concatenate(drawn).round(10)  # equal deals are equal, whatever the order of the sums
    ordered = np.sort(distances, axis=0)
    above = np.stack(
        [len(distances) - np.searchsorted(ordered[:, i], distances[:, i]) for i in range(len(widths))], axis=1
    )
    smallest = above.min(axis=1)
    overall = float((smallest <= smallest[0]).mean())
    return overall, above[0] / len(distances)


def _distances(chosen: np.ndarray, values: np.ndarray, widths: list[int]) -> np.ndarray:
    """(deals, statistics) distance of the chosen rows' mean from that of all."""
    means = chosen @ values / chosen.sum(axis=1, keepdims=True)
    starts = np.cumsum([0, *widths[:-1]])
    distances: np.ndarray = np.sqrt(np.add.reduceat(means**2, starts, axis=1))
    return distances

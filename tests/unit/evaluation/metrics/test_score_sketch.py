import numpy as np
import pytest

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics import score_sketch
from reconpatch.evaluation.metrics.score_sketch import ScoreSketch

N = 30_000


def scores_named(name: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    drawn = rng.gamma(2.0, 1.0, N)
    return {
        "smooth": drawn,
        "ascending": np.sort(drawn),
        "descending": -np.sort(drawn),
        "all equal": np.full(N, 0.7),
        "heavy ties": np.round(drawn),
        "half zero": np.where(drawn < 1.7, 0.0, drawn),
        "negative": drawn - 100.0,
        "tiny range": 1000 + drawn * 1e-3,
        "huge outliers": np.where(rng.random(N) < 1e-3, drawn * 1e30, drawn),
        "both signs of zero": np.where(rng.random(N) < 0.5, -0.0, 0.0),
        "subnormal": drawn * 1e-42,
        "wide first, then crowded": np.concatenate(
            [np.linspace(-1e6, 1e6, 3000), 1 + drawn[: N - 3000] * 1e-5]
        ),
    }[name].astype(np.float32)


NAMES = [
    "smooth", "ascending", "descending", "all equal", "heavy ties", "half zero", "negative", "tiny range",
    "huge outliers", "both signs of zero", "subnormal", "wide first, then crowded",
]  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    """Constants so small that 30,000 values pass several stages of reduction."""
    monkeypatch.setattr(score_sketch, "CHUNK", 2048)
    monkeypatch.setattr(score_sketch, "POINTS", 512)
    monkeypatch.setattr(score_sketch, "CELL_MASS", 1 / 256)


def shares(values: np.ndarray, masses: np.ndarray, at: np.ndarray, side: str) -> np.ndarray:
    cumulated = np.concatenate([[0.0], np.cumsum(masses)])
    return cumulated[np.searchsorted(values, at, side=side)] / cumulated[-1]


def largest_rank_error(built: ScoreSketch, values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    exact_values, exact_masses = values[order], weights[order]
    found_values, found_masses = built.points()
    return max(
        float(
            np.abs(
                shares(found_values, found_masses, exact_values, side)
                - shares(exact_values, exact_masses, exact_values, side)
            ).max()
        )
        for side in ("left", "right")
    )


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", NAMES)
def test_rank_error_stays_within_what_is_stated(name):
    values = scores_named(name)
    built = ScoreSketch()
    for part in np.array_split(values, 37):
        built.add(part)
    assert built.rank_error > 0
    assert largest_rank_error(built, values, np.ones(N)) <= built.rank_error


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", NAMES)
def test_rank_error_with_unequal_weights(name):
    values = scores_named(name)
    weights = 1.0 / np.random.default_rng(5).integers(1, 400, N)
    built = ScoreSketch()
    for part, mass in zip(np.array_split(values, 37), np.array_split(weights, 37), strict=True):
        built.add(part, mass)
    assert built.total == pytest.approx(weights.sum())
    assert largest_rank_error(built, values, weights) <= built.rank_error


@pytest.mark.usefixtures("small")
def test_memory_stays_bounded():
    built = ScoreSketch()
    for part in np.array_split(np.tile(scores_named("smooth"), 10), 80):
        built.add(part)
    held = sum(values.size for level in built._levels for values, _ in level)
    assert held <= len(built._levels) * (score_sketch.CHUNK + score_sketch.POINTS)
    assert len(built._levels) <= 5


def test_small_sets_are_exact():
    values = np.array([2.0, -1.0, 2.0, 0.5], np.float32)
    built = ScoreSketch()
    built.add(values[:2], 1.0)
    built.add(values[2:], np.array([0.25, 3.0]))
    found, masses = built.points()
    assert found.tolist() == [-1.0, 0.5, 2.0]
    assert masses.tolist() == [1.0, 3.0, 1.25]
    assert built.rank_error == 0


def test_added_values_are_copied():
    values = np.array([1.0, 2.0], np.float32)
    built = ScoreSketch()
    built.add(values)
    values[:] = 9
    assert built.points()[0].tolist() == [1.0, 2.0]


@pytest.mark.usefixtures("small")
def test_same_input_same_points():
    def build():
        built = ScoreSketch()
        built.add(scores_named("smooth"))
        return built.points()

    first, second = build(), build()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_scores_are_refused(bad):
    with pytest.raises(DataError, match="finite"):
        ScoreSketch().add(np.array([1.0, bad]))


def test_minus_zero_is_zero_in_a_reduced_sketch(monkeypatch):
    monkeypatch.setattr(score_sketch, "CHUNK", 1000)
    one = ScoreSketch()
    for _ in range(3):
        one.add(np.repeat(np.float32([-0.0, 0.0, 1.0]), 300))
    values, masses = one.points()
    assert one.rank_error > 0
    assert values.tolist() == [0, 1]
    assert masses == pytest.approx([1800, 900], rel=1e-4)

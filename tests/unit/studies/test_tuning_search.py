"""The search: resumable, blind to the test labels, starting from the parameters given."""

import optuna
import pytest

from reconpatch.errors import ModelError
from reconpatch.settings import load_settings
from studies.tuning_search import search, suggest

SETTINGS = load_settings(None, {"modulation.alpha": 0.25})


def closeness(settings):
    """Best at alpha 0.8; the other figure is best elsewhere and must not matter."""
    alpha = settings.modulation.alpha
    return {"wanted": -abs(alpha - 0.8), "test_image_auroc": -alpha}


def run(tmp_path, trials, measure=closeness, **keywords):
    return search(
        measure,
        SETTINGS,
        objective="wanted",
        trials=trials,
        storage=tmp_path / "s" / "study.db",
        name="one",
        **keywords,
    )


def test_it_starts_from_what_is_given_and_finds_better(tmp_path):
    found = run(tmp_path, 8)
    first = found.iloc[0]
    own = SETTINGS.modulation
    assert (first["alpha"], first["neighbours"], first["learning_rate"]) == (
        0.25,
        own.neighbours,
        own.learning_rate,
    )
    assert first["sigma"] is None or first["sigma"] != first["sigma"]
    best = found.loc[found["wanted"].idxmax()]
    assert abs(best["alpha"] - 0.8) < 0.2
    assert set(found.columns) >= {
        "number",
        "neighbours",
        "margin",
        "alpha",
        "sigma",
        "learning_rate",
        "wanted",
    }


def test_a_killed_search_goes_on_and_tries_the_open_trial_again(tmp_path):
    asked = []

    def killed(settings):
        asked.append(settings.modulation)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return closeness(settings)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 6, killed)
    reported = []
    found = run(tmp_path, 6, lambda settings: (asked.append(settings.modulation), closeness(settings))[1],
                report=lambda number, *_: reported.append(number))  # fmt: skip
    assert len(found) == 6
    assert len(asked) == 4 + 3, "the three complete trials are not computed again"
    assert asked[4] == asked[3]
    assert reported == found["number"].tolist()
    assert len(run(tmp_path, 6, lambda _: pytest.fail("all is done"))) == 6


def test_a_failing_candidate_ends_the_search_and_what_is_done_stays(tmp_path):
    def broken(_):
        raise ModelError("no weights")

    with pytest.raises(ModelError, match="no weights"):
        run(tmp_path, 2, broken)
    assert len(run(tmp_path, 2)) == 2


def test_every_suggestion_is_valid_and_sigma_may_be_the_median():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    sigmas = []
    for _ in range(40):
        changes = suggest(study.ask())
        sigmas.append(load_settings(None, changes).modulation.sigma)
    assert None in sigmas
    assert all(sigma is None or 0.02 <= sigma <= 4 for sigma in sigmas)

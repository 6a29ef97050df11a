"""Search for the modulation's parameters with Optuna, resumable, by what nominal images say."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reconpatch.errors import ReConPatchError
from reconpatch.settings import Settings, load_settings

if TYPE_CHECKING:
    import optuna

_MEDIAN, _FIXED, _SIGMA_KIND = "batch median", "fixed", "sigma"
NUMBER, STATE = "number", "state"
TUNED = ("neighbours", "margin", "alpha", "sigma", "learning_rate")


def suggest(trial: "optuna.trial.BaseTrial") -> dict[str, Any]:
    """Ask a trial for k, m, alpha, sigma and the learning rate, as values by full parameter name."""
    chosen: dict[str, Any] = {
        "modulation.neighbours": trial.suggest_int("neighbours", 3, 15),
        "modulation.margin": trial.suggest_float("margin", 0.5, 2.0),
        "modulation.alpha": trial.suggest_float("alpha", 0.0, 1.0),
        "modulation.learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "modulation.sigma": None,
    }
    # Embeddings lie on the unit sphere: squared distances are between 0 and 4.
    if trial.suggest_categorical(_SIGMA_KIND, [_MEDIAN, _FIXED]) == _FIXED:
        chosen["modulation.sigma"] = trial.suggest_float("sigma_value", 0.02, 4.0, log=True)
    return chosen


def search(
    measure: Callable[[Settings], Mapping[str, float]],
    settings: Settings,
    *,
    objective: str,
    trials: int,
    storage: Path,
    name: str,
    report: Callable[[int, Settings, Mapping[str, float]], None] = lambda *_: None,
) -> pd.DataFrame:
    """Run trials until so many are complete; those of an earlier call count.

    The first trial is that of the parameters given. A trial that a killed call left open is ended as failed
    and its parameters are tried again.

    Args:
        measure: fits and measures a candidate; its figures by name.
        settings: what the candidates differ from.
        objective: name of the figure that is maximised; the sampler sees no other.
        trials: complete ones wanted.
        storage: SQLite file of the study.
        name: of the study within it; other images or code must have another one.
        report: told of each complete trial, those of earlier calls too.

    Returns:
        A row a complete trial: number, the parameters `TUNED`, every figure.

    Raises:
        ReConPatchError: Optuna is not installed, or a candidate failed.
    """
    study = _open(storage, name, settings.seed)
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "RUNNING":
            study.tell(trial.number, state=_failed())
            study.enqueue_trial(trial.params)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(_as_trial(settings))
    for done in _complete(study):
        report(done.number, _candidate(settings, done.user_attrs["changes"]), done.user_attrs["figures"])
    while len(_complete(study)) < trials:
        asked = study.ask()
        changes = suggest(asked)
        candidate = _candidate(settings, changes)
        try:
            figures = dict(measure(candidate))
        except ReConPatchError:
            study.tell(asked, state=_failed())
            raise
        asked.set_user_attr("changes", changes)
        asked.set_user_attr("figures", figures)
        study.tell(asked, figures[objective])
        report(asked.number, candidate, figures)
    return pd.DataFrame([_row(trial, settings) for trial in _complete(study)])


def _open(storage: Path, name: str, seed: int) -> "optuna.Study":
    try:
        import optuna
    except ImportError:
        raise ReConPatchError('tuning needs Optuna; install it with pip install "reconpatch[tune]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{storage}", study_name=name, direction="maximize", load_if_exists=True
    )
    # Not the same numbers again when a study goes on.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    return study


def _complete(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL


def _candidate(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    return load_settings(None, changes, base=settings)


def _as_trial(settings: Settings) -> dict[str, Any]:
    own = settings.modulation
    values = {name: getattr(own, name) for name in TUNED if name != "sigma"}
    if own.sigma is None:
        return values | {_SIGMA_KIND: _MEDIAN}
    return values | {_SIGMA_KIND: _FIXED, "sigma_value": own.sigma}


def _row(trial: "optuna.trial.FrozenTrial", settings: Settings) -> dict[str, Any]:
    own = _candidate(settings, trial.user_attrs["changes"]).modulation
    return {
        NUMBER: trial.number,
        **{name: getattr(own, name) for name in TUNED},
        **trial.user_attrs["figures"],
    }

"""Tuning of k, m, alpha, sigma and the learning rate by nominal images alone: every trial an MLflow run.

python -m tasks.operations.tune --category NAME [--trials 20] [--objective NAME] [--rank]
                     [--params FILE] [--preset NAME] [--set section.key=value ...]

The objective is measured on held-out nominal groups with seeded synthetic defects (`studies`). With
--rank the test images are scored too, to report how well the objective ranks the trials; nothing is chosen by
them. It works in runs/<digest>/tuning; complete trials of an earlier call count.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from reconpatch.data.manifest import build_manifest, manifest_digest
from reconpatch.errors import SettingsError
from reconpatch.evaluation.report.figure_style import png_bytes
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.settings import Settings, load_settings
from reconpatch.storage.atomic_files import atomic_file, sha256_json, write_json
from reconpatch.storage.file_locks import file_lock
from reconpatch.text.csv_files import write_frame
from studies.nominal_objective import OBJECTIVES, Bench, judge, prepare_bench
from studies.ranking import Ranking, rank, ranking_figure
from studies.tuning_search import TUNED, search
from tasks.operations.study_runs import log_once, study_code, study_folder, study_run
from tasks.registry.lineage_tags import lineage
from tasks.registry.mlflow_store import mlflow_errors, open_experiment
from tasks.running.stage_folders import PARAMS, PROJECT, probe_cache
from tasks.running.typer_commands import Overrides, Params, Preset, run_command, show_progress

EXPERIMENT = "reconpatch-tuning"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Attributes:
        folder: trials.csv, best.json; with a ranking ranking.json and ranking.png.
        trials: a row a complete trial.
        best: the trial of the largest objective.
        patchcore: PatchCore's figures on the same images.
        ranking: how each nominal-only figure ranks the trials; None where nobody asked.
        run_id: the MLflow run that holds the trials' runs together.
    """

    folder: Path
    trials: pd.DataFrame
    best: pd.Series
    patchcore: dict[str, float]
    ranking: dict[str, Ranking] | None
    run_id: str


def run_tuning(
    settings: Settings,
    category: str,
    *,
    trials: int = 20,
    objective: str = OBJECTIVES[0],
    ranked: bool = False,
    project: Path = PROJECT,
) -> Tuning:
    """Search until so many trials are complete, and log them.

    Args:
        settings: where the search starts.
        category: folder of the category under ``pipeline.root``.
        trials: complete ones wanted, those of earlier calls included.
        objective: one of `OBJECTIVES`.
        ranked: whether the test images are scored too, for the report.
        project: root of the project.

    Raises:
        SettingsError: ``modulation.enabled`` is false.
        ReConPatchError: a trial failed, or MLflow refused.
    """
    if not settings.modulation.enabled:
        raise SettingsError(
            "modulation.enabled: is false, and f's parameters are what is tuned; set it to true"
        )
    folder = study_folder("tuning", settings, project) / f"{category}-{objective}"
    table = build_manifest(
        project / settings.pipeline.root / category,
        settings.data,
        cache=probe_cache(settings, category, project),
    )
    code = study_code(project)
    key = sha256_json({"manifest": manifest_digest(table), "code": code, "ranked": ranked})[:12]
    tags = lineage(settings, project) | {
        "dataset": settings.pipeline.dataset, "category": category, "objective": objective, "kind": "tuning",
    }  # fmt: skip
    with mlflow_errors("a tuning"), file_lock(folder / ".lock"):
        experiment = open_experiment(EXPERIMENT, settings, project)
        identity = f"{folder.parent.parent.name}-{category}-{objective}-{key}"
        with study_run(experiment, f"{category}-{key}", identity, tags) as parent:

            def report(name: str, candidate: Settings, figures: Mapping[str, float]) -> None:
                log_once(
                    experiment, parent, name, {"trial": name},
                    tags=tags | {"trial": name}, settings=candidate, metrics=figures,
                )  # fmt: skip
                _LOG.info("%s, %s: %s", category, name, ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))

            cache = FeatureCache(project / settings.pipeline.cache, settings.pipeline.cache_max_bytes)
            bench = prepare_bench(table, settings, folder / "synthetic", cache, with_test=ranked)
            patchcore = _patchcore(bench, settings, folder / f"patchcore-{key}.json")
            report("PatchCore", _without_f(settings), patchcore)
            found = search(
                lambda candidate: judge(bench, candidate), settings,
                objective=objective, trials=trials, storage=folder / "study.db", name=key,
                report=lambda number, candidate, figures: report(f"trial {number}", candidate, figures),
            )  # fmt: skip
            tuning = _write(folder, found, objective, patchcore, ranked, category, parent)
            experiment.client.log_artifacts(parent, str(folder / "results"), "results")
    return tuning


def _without_f(settings: Settings) -> Settings:
    return load_settings(None, {"modulation.enabled": False}, base=settings)


def _patchcore(bench: Bench, settings: Settings, file: Path) -> dict[str, float]:
    if not file.is_file():
        write_json(file, judge(bench, _without_f(settings)))
    found: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _write(
    folder: Path,
    trials: pd.DataFrame,
    objective: str,
    patchcore: dict[str, float],
    ranked: bool,
    category: str,
    parent: str,
) -> Tuning:
    target = folder / "results"
    best = trials.iloc[int(np.nanargmax(trials[objective].to_numpy(float)))]
    write_frame(target / "trials.csv", trials)
    parameters = {name: None if pd.isna(best[name]) else float(best[name]) for name in TUNED}
    write_json(target / "best.json", {"objective": objective, "value": float(best[objective]), **parameters})
    ranking = rank(trials) if ranked else None
    if ranking is not None:
        write_json(target / "ranking.json", {name: asdict(one) for name, one in ranking.items()})
        title = f"{category}: do nominal images alone rank {len(trials)} trials?"
        with atomic_file(target / "ranking.png") as temporary:
            temporary.write_bytes(png_bytes(ranking_figure(trials, patchcore, ranking, title)))
    return Tuning(target, trials, best, patchcore, ranking, parent)


def _in_words(figures: Mapping[str, float] | pd.Series) -> str:
    return ", ".join(
        f"{name} {'automatic' if pd.isna(value) else f'{value:.4g}'}" for name, value in figures.items()
    )


def main(
    category: Annotated[str, typer.Option(help="folder of the category under pipeline.root")],
    trials: Annotated[int, typer.Option(help="complete trials wanted, those of earlier calls included")] = 20,
    objective: Annotated[str, typer.Option(help=f"what is maximised: {', '.join(OBJECTIVES)}")] = OBJECTIVES[
        0
    ],
    ranked: Annotated[
        bool, typer.Option("--rank", help="score the test images too, for the report alone")
    ] = False,
    params: Params = None,
    preset: Preset = None,
    overrides: Overrides = None,
) -> None:
    """Tune f's parameters by nominal images alone.

    Exit status: 0 done, 1 a trial failed, 2 wrong usage.
    """
    if objective not in OBJECTIVES:
        raise typer.BadParameter(f"{objective}: is none of {', '.join(OBJECTIVES)}", param_hint="--objective")
    show_progress()
    settings = load_settings(params or PROJECT / PARAMS, overrides or (), preset=preset)
    found = run_tuning(settings, category, trials=trials, objective=objective, ranked=ranked)
    print(found.trials.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    print(f"PatchCore: {_in_words(found.patchcore)}")
    number = int(found.best["number"])
    print(f"best by {objective}: trial {number}: {_in_words(found.best.drop('number'))}")
    for name, one in (found.ranking or {}).items():
        rho = "not defined" if one.rho is None else f"{one.rho:+.2f} (p {one.p:.2f})"
        print(f"{name}: Spearman with the test image AUROC {rho}, regret {one.regret:.4f}")
    print(f"results: {found.folder}")


if __name__ == "__main__":
    run_command(main, "tune")

"""Ablations in the shape of the paper's tables 1 to 4: every cell an MLflow run, table and plot as artifacts.

python -m tasks.operations.ablate [--params FILE] [--preset NAME] [--set section.key=value ...]
                       [--study NAME ...] [--category NAME ...] [--seed N ...]

It works in runs/<digest>/ablation. A cell that an earlier call finished, of equal parameters, images and
code, is not computed again.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from reconpatch.data.manifest import build_manifest, manifest_digest
from reconpatch.device import choose_device
from reconpatch.errors import ReConPatchError, SettingsError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.settings import Settings, load_settings
from reconpatch.storage.atomic_files import sha256_json, write_json
from reconpatch.storage.file_locks import file_lock
from studies.ablation_cell import METRICS, cell_settings, measure_cell
from studies.ablation_grid import STUDIES, Cell, ablation_cells
from studies.ablation_tables import markdown, write_tables
from tasks.operations.study_runs import detector_parameters, log_once, study_code, study_folder, study_run
from tasks.registry.lineage_tags import lineage
from tasks.registry.mlflow_store import Experiment, mlflow_errors, open_experiment
from tasks.running.stage_folders import PARAMS, PROJECT, probe_cache
from tasks.running.typer_commands import (
    Categories,
    Overrides,
    Params,
    Preset,
    run_command,
    show_progress,
)

EXPERIMENT = "reconpatch-ablation"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ablation:
    """The tables of an ablation and where they lie.

    Attributes:
        folder: tables, plots and the cells.
        tables: text tables by (study, category).
        run_id: the MLflow run that holds the cells' runs together.
        computed: how many cells this call has computed.
    """

    folder: Path
    tables: dict[tuple[str, str], pd.DataFrame]
    run_id: str
    computed: int


@dataclass
class _Work:
    """What the cells of one call share."""

    settings: Settings
    project: Path
    folder: Path
    experiment: Experiment
    parent: str
    code: dict[str, str]
    computed: int = 0

    @property
    def cache(self) -> FeatureCache:
        pipeline = self.settings.pipeline
        return FeatureCache(self.project / pipeline.cache, pipeline.cache_max_bytes)


def run_ablation(
    settings: Settings,
    *,
    studies: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    project: Path = PROJECT,
) -> Ablation:
    """Measure every cell that is not measured yet, then write and log tables and plots.

    A cell that fails stops none of the others.

    Args:
        settings: what the cells differ from; the network is ``features.backbone``.
        studies: names of `STUDIES`; None takes all.
        categories: of ``pipeline.categories``; None takes all of them.
        seeds: None takes the parameters' own.
        project: root of the project.

    Raises:
        SettingsError: a study or category is unknown; nothing was computed.
        ReConPatchError: cells failed (after the tables of all others were written), or MLflow refused.
    """
    cells = ablation_cells(studies)
    chosen = list(categories or settings.pipeline.categories)
    if unknown := sorted(set(chosen) - set(settings.pipeline.categories)):
        raise SettingsError(f"{unknown[0]}: is not among pipeline.categories; add it there")
    folder = study_folder("ablation", settings, project)
    code = study_code(project)
    tags = lineage(settings, project) | {"dataset": settings.pipeline.dataset, "kind": "ablation"}
    name = f"{settings.pipeline.dataset}-{folder.parent.name}"
    with mlflow_errors("an ablation"), file_lock(folder / ".lock"):
        experiment = open_experiment(EXPERIMENT, settings, project)
        with study_run(experiment, name, folder.parent.name, tags) as parent:
            work = _Work(settings, project, folder, experiment, parent, code)
            failures: list[str] = []
            rows = list(_measured(work, cells, chosen, list(seeds or [settings.seed]), tags, failures))
            tables = write_tables(pd.DataFrame(rows), cells, folder / "tables") if rows else {}
            experiment.client.log_artifacts(parent, str(folder / "tables"), "tables")
            if failures:
                raise ReConPatchError("cells failed:\n" + "\n".join(failures))
    return Ablation(folder, tables, parent, work.computed)


def _measured(
    work: _Work,
    cells: Sequence[Cell],
    categories: Sequence[str],
    seeds: Sequence[int],
    tags: dict[str, str],
    failures: list[str],
) -> Iterator[dict[str, Any]]:
    for category in categories:
        images = work.project / work.settings.pipeline.root / category
        probes = probe_cache(work.settings, category, work.project)
        table = build_manifest(images, work.settings.data, cache=probes)
        for seed in seeds:
            for cell in cells:
                what: dict[str, str | int] = {
                    "study": cell.study, "setting": cell.setting, "method": cell.method,
                    "category": category, "seed": seed,
                }  # fmt: skip
                try:
                    metrics = _measure(work, cell, table, category, seed)
                except ReConPatchError as error:
                    failures.append(f"{', '.join(map(str, what.values()))}: {error}")
                    continue
                own = cell_settings(cell, work.settings, seed)
                log_once(
                    work.experiment, work.parent, " / ".join(map(str, what.values())), what,
                    tags=tags | {key: str(value) for key, value in what.items()},
                    settings=own, metrics=metrics,
                )  # fmt: skip
                yield what | {name: metrics.get(name) for name in METRICS}


def _measure(work: _Work, cell: Cell, table: pd.DataFrame, category: str, seed: int) -> dict[str, Any]:
    own = cell_settings(cell, work.settings, seed)
    # The same detector may stand in several tables, and is measured once.
    key = sha256_json(
        {
            "parameters": detector_parameters(own),
            "augmented": cell.augmented,
            "manifest": manifest_digest(table),
            "device": str(choose_device(own.device)),
            "code": work.code,
        }
    )
    file = work.folder / "cells" / f"{key[:16]}.json"
    if not file.is_file():
        copies = work.folder / "augmented" / f"{category}-{manifest_digest(table)[:8]}-{seed}"
        metrics = measure_cell(cell, table, own, copies, work.cache)
        write_json(file, {"key": key, "cell": _names(cell), "category": category, "metrics": metrics})
        work.computed += 1
        _LOG.info("%s, %s, seed %d, %s: %s", category, cell.study, seed, cell.setting, _figures(metrics))
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["metrics"]
    return found


def _names(cell: Cell) -> dict[str, Any]:
    return asdict(replace(cell, changes=dict(cell.changes)))


def _figures(metrics: dict[str, Any]) -> str:
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in METRICS if metrics.get(name) is not None)


def main(
    params: Params = None,
    preset: Preset = None,
    overrides: Overrides = None,
    studies: Annotated[
        list[str] | None,
        typer.Option("--study", help=f"repeatable; default: all of {', '.join(STUDIES)}"),
    ] = None,
    categories: Categories = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="repeatable; default: the parameters' own")
    ] = None,
) -> None:
    """Run the ablations of the paper's tables 1 to 4.

    Exit status: 0 done, 1 a cell failed, 2 wrong usage.
    """
    show_progress()
    settings = load_settings(params or PROJECT / PARAMS, overrides or (), preset=preset)
    found = run_ablation(settings, studies=studies, categories=categories, seeds=seeds)
    for (study, category), table in found.tables.items():
        print(f"\n{study}, {category}\n\n{markdown(table)}")
    print(f"{found.computed} cells computed; tables and plots: {found.folder / 'tables'}")


if __name__ == "__main__":
    run_command(main, "ablate")

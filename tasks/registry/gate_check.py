"""Judge a registered version against the champion, and against the best champion before it.

Figures come from what each version's run keeps. Where two versions were evaluated on different test images,
the one evaluated on the older set is scored again on the newer. docs/adr/0008-gate-statistics.md says why the
champion alone is not enough.
"""

import csv
import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from reconpatch.data.manifest import read_manifest
from reconpatch.errors import DataError, ReConPatchError
from reconpatch.evaluation.comparison import Comparison, compare_auroc, compare_pixels
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.evaluation.evaluation_result import PIXELS, SCORES
from reconpatch.evaluation.evaluation_set import evaluation_set_digest
from reconpatch.evaluation.metrics.pixel_histograms import PixelHistograms
from reconpatch.evaluation.unlabelled import heldout_rows
from reconpatch.fitted_detector import FittedDetector
from reconpatch.loading import load
from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import sha256_file
from reconpatch.text.csv_files import read_frame
from tasks.registry.finished_evaluation import METRICS, images_of
from tasks.registry.former_champions import FormerChampions, is_stricter
from tasks.registry.gate_policy import Policy
from tasks.registry.gate_rules import Evidence, GateReport, apply_rules
from tasks.registry.mlflow_store import fetch_detector, tracking_uri

_TIMED, _ROUNDS = 6, 5  # images, and how often the two detectors take turns on them
_MOST_ROUNDS = 40  # where the candidate looks too slow: on 6 images a few seconds more

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Evaluated:
    """A version with what its run keeps; files in a scratch folder."""

    version: ModelVersion
    folder: Path
    manifest: pd.DataFrame
    scores: pd.DataFrame
    pixels: PixelHistograms | None

    @property
    def test_set(self) -> str:
        return evaluation_set_digest(self.manifest, self.scores["path"])


def run_gate(
    client: MlflowClient,
    name: str,
    version: str,
    champion: str | None,
    policy: Policy,
    settings: Settings,
    project: Path,
    former: Sequence[str] = (),
) -> GateReport:
    """Put a version through the gate.

    Args:
        client: of the registry.
        name: registered model.
        version: the candidate.
        champion: version that it is compared with; None: there is none.
        policy: the gate's.
        settings: where images lie, and the evaluation's parameters.
        project: root of the project.
        former: the versions that were champion and may be compared with (`reference_champions`).

    Raises:
        MlflowException: the registry cannot be used.
        ReConPatchError: what the version's run should keep is not there.
    """
    with tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
        candidate = _fetch(client, name, version, Path(scratch) / "candidate", settings, project)
        category = candidate.version.tags["category"]
        rules = policy.rules(category)
        held: dict[str, Any] = {"champion": champion}
        test_set = candidate.test_set
        if champion is not None:
            try:
                other = _fetch(client, name, champion, Path(scratch) / "champion", settings, project)
                images = images_of(candidate.version.tags["kind"], settings, category)
                pair = _Pair(candidate, other, project / images)
                test_set = pair.test_set
                if rules.latency_ratio is not None:
                    held |= pair.time(rules.latency_ratio)
                held["comparisons"] = pair.compare(other, rules.not_worse, settings)
                others = [number for number in former if number not in (version, champion)]
                past = FormerChampions(client, name, other.version, others)
                fetch = partial(_fetch, client, name, settings=settings, project=project)
                held["best_former"] = pair.against(past, fetch, held["comparisons"], settings)
            except ReConPatchError as error:
                held["not_compared"] = f"not comparable with version {champion}: {error}"
        evidence = Evidence(**_own(candidate), **held)
        best = {metric: str(champion) for metric in evidence.comparisons or {}}
        best |= {metric: number for metric, (number, _) in evidence.best_former.items()}
        return GateReport(apply_rules(rules, evidence), champion, test_set, policy.digest, best)


def _fetch(
    client: MlflowClient, name: str, version: str, folder: Path, settings: Settings, project: Path
) -> _Evaluated:
    found = client.get_model_version(name, version)
    folder.mkdir()
    store = tracking_uri(settings, project)
    try:
        for kept in ("evaluation", "data"):
            mlflow.artifacts.download_artifacts(
                run_id=found.run_id, artifact_path=kept, dst_path=str(folder), tracking_uri=store
            )
        manifest = read_manifest(folder / "data" / "manifest.parquet")
        scores = read_frame(folder / "evaluation" / SCORES, text=["path", "group"])
    except (MlflowException, OSError, ValueError, csv.Error) as error:
        raise DataError(f"{name}, version {version}: its run keeps no evaluation ({error})") from None
    fetch_detector(name, version, folder / "model", settings, project)
    pixels = folder / "evaluation" / PIXELS
    held = PixelHistograms.load(pixels) if pixels.is_file() else None
    return _Evaluated(found, folder, manifest, scores, held)


def _own(candidate: _Evaluated) -> dict[str, Any]:
    values = json.loads((candidate.folder / "evaluation" / METRICS).read_text(encoding="utf-8"))
    report = candidate.folder / "data" / "report.json"
    checks = json.loads(report.read_text(encoding="utf-8")).get("success") if report.is_file() else None
    return {
        "metrics": {key: value for key, value in values.items() if value is None or _is_number(value)},
        "not_available": values.get("not_available", {}),
        "model_bytes": sum(one.stat().st_size for one in (candidate.folder / "model").rglob("*")),
        "data_checks": checks,
        "lineage": candidate.version.tags,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class _Pair:
    """Candidate and champion on one test set: the newer version's."""

    def __init__(self, candidate: _Evaluated, champion: _Evaluated, root: Path) -> None:
        self._both = (candidate, champion)
        self._root = root
        newer = max(self._both, key=lambda one: int(one.version.version))
        self._manifest = newer.manifest
        self._paths = newer.scores["path"].tolist()
        self._has_defects = bool(newer.scores["label"].any())
        self._candidate: tuple[pd.DataFrame, PixelHistograms | None] | None = None
        self.test_set = newer.test_set

    def _on_newer(self, one: _Evaluated, settings: Settings) -> tuple[pd.DataFrame, PixelHistograms | None]:
        if one.test_set == self.test_set:
            rows = pd.Index(one.scores["path"]).get_indexer(self._paths)
            pixels = None if one.pixels is None else one.pixels.take(rows)
            return one.scores.iloc[rows].reset_index(drop=True), pixels
        self._check_images(self._paths)
        _LOG.info("gate: version %s is scored again on %d images", one.version.version, len(self._paths))
        table = self._manifest[self._manifest["path"].isin(self._paths)].copy()
        table.attrs["root"] = str(self._root)
        whole = settings.model_copy(
            update={"evaluate": settings.evaluate.model_copy(update={"choose_share": 0.0, "pictures": 0})}
        )
        again = evaluate(load(one.folder / "model", threads=settings.threads), table, whole)
        rows = pd.Index(again.table["path"]).get_indexer(self._paths)
        pixels = None if again.pixels is None else again.pixels.take(rows)
        return again.table.iloc[rows].reset_index(drop=True), pixels

    def against(
        self,
        past: FormerChampions,
        fetch: Callable[[str, Path], _Evaluated],
        champion: Mapping[str, Comparison],
        settings: Settings,
    ) -> dict[str, tuple[str, Comparison]]:
        """The best former champion of each metric with its comparison, where it is better than the champion.

        Args:
            past: the former champions.
            fetch: gets a version into a folder.
            champion: metric -> comparison with the champion.
            settings: the evaluation's.
        """
        strictest: dict[str, tuple[str, Comparison]] = {}
        for metric, known in champion.items():
            for number in past.best(metric, self.test_set):
                with tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
                    try:
                        margins = {metric: known.margin}
                        other = fetch(number, Path(scratch) / "former")
                        compared = self.compare(other, margins, settings)[metric]
                    except ReConPatchError as error:
                        compared = Comparison.cannot(str(error), known.margin)
                if is_stricter(compared, strictest[metric][1] if metric in strictest else known):
                    strictest[metric] = number, compared
        return strictest

    def compare(
        self, other: _Evaluated, margins: Mapping[Any, float], settings: Settings
    ) -> dict[str, Comparison]:
        """The candidate against another version, every metric that the policy names, on the same images."""
        if not self._has_defects:
            raise DataError("the test images show no defect")
        if self._candidate is None:
            self._candidate = self._on_newer(self._both[0], settings)
        (new, new_pixels), (old, old_pixels) = self._candidate, self._on_newer(other, settings)
        labels, groups = new["label"].to_numpy(int), new["group"].to_numpy(str)
        found = {}
        for metric, margin in margins.items():
            _LOG.info("gate: %s of both versions is compared on %d images", metric, len(new))
            try:
                if metric == "image_auroc":
                    first, second = (one["score"].to_numpy(float) for one in (new, old))
                    found[metric] = compare_auroc(
                        labels, first, second, groups, margin=margin, seed=settings.seed
                    )
                elif new_pixels is None or old_pixels is None:
                    raise DataError("a version without pixel histograms; register it again")
                else:
                    found[metric] = compare_pixels(
                        labels,
                        new_pixels,
                        old_pixels,
                        groups,
                        metric,
                        limit=settings.evaluate.aupro_limit,
                        margin=margin,
                        seed=settings.seed,
                    )
            except DataError as error:
                found[metric] = Comparison.cannot(str(error), margin)
        return found

    def time(self, ratio: float) -> dict[str, Any]:
        """Median seconds an image of both, taking turns in this process, so that they share its hardships."""
        try:
            _LOG.info("gate: seconds an image of both versions are measured")
            detectors = [load(one.folder / "model") for one in self._both]
            timed = self._timed(detectors)
            self._check_images(timed)
            spent = _take_turns(detectors, [self._root / path for path in timed], ratio)
        except ReConPatchError as error:
            return {"not_measured": str(error)}
        return {"seconds": spent}

    def _timed(self, detectors: Sequence[FittedDetector]) -> list[str]:
        """Test images; without any, nominal images that the fit of one of the two held out."""
        held = (heldout_rows(one, self._manifest)["path"].tolist() for one in detectors)
        paths = self._paths or next(filter(None, held), [])
        if not paths:
            raise DataError("there is neither a test image nor a held-out nominal one to measure it on")
        return paths[:_TIMED]

    def _check_images(self, paths: Sequence[str]) -> None:
        rows = self._manifest[self._manifest["path"].isin(paths)]
        for path, digest in zip(rows["path"], rows["sha256"], strict=True):
            file = self._root / path
            if not file.is_file():
                raise DataError(f"{file}: is not there; get the images with `dvc checkout`")
            if sha256_file(file) != digest:
                raise DataError(f"{file}: is another image than that of the evaluation; `dvc checkout` it")


def _take_turns(
    detectors: Sequence[FittedDetector], images: Sequence[Path], ratio: float
) -> tuple[float, float]:
    """Seconds an image of the candidate and of the champion, each image's fastest turn counted.

    What else the machine does only ever adds to a turn. So turns are added while the candidate looks slower
    than ``ratio`` allows: on a busy machine a few turns refuse candidates that are as fast as the champion.
    """
    spent = np.full((len(detectors), len(images), _MOST_ROUNDS), np.inf)
    for turn in range(-1, _MOST_ROUNDS):  # the first warms caches up
        for column, image in enumerate(images):
            for row, detector in enumerate(detectors):
                start = time.perf_counter()
                detector.predict(image)
                if turn >= 0:
                    spent[row, column, turn] = time.perf_counter() - start
        if turn + 1 >= _ROUNDS:
            own, champion = np.median(spent.min(axis=2), axis=1)
            if own <= ratio * champion:
                break
    return float(own), float(champion)

"""What may be thrown away by the policy in params.yaml, and throwing it away.

Never: a version that has an alias, was champion, or carries the tag ``pinned``, its run, the features of
the images that it knows, and its latest predictions, which a check for drift would compare; the images
themselves, outputs/, the checks for drift so far, and whatever the log of champions says.
"""

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from reconpatch.device import choose_device
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.integrations.mlflow_lineage import PROMOTIONS
from reconpatch.line.monitoring.prediction_log import old_days
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.settings import Settings
from reconpatch.settings.pipeline_sections import ALL
from reconpatch.storage.detector_config import read_config
from reconpatch.storage.detector_folder import member_folders, read_training_set
from reconpatch.storage.detector_settings import read_settings
from tasks.operations.drift_monitor import FOLDER as DRIFT
from tasks.registry.champion_change import hold_model
from tasks.registry.finished_evaluation import registered_name
from tasks.registry.mlflow_store import every_page, fetch_detector, mlflow_errors, open_client

PINNED = "pinned"
_DAY = 24 * 3600.0
_PAGE = 1000


@dataclass(frozen=True)
class Removal:
    """Something that nobody needs.

    Attributes:
        kind: ``version``, ``run``, ``features``, ``chunks``, ``predictions`` or ``alarms``.
        what: its name; of features, chunks and files of alarms how many.
        why: by which rule.
        bytes: what it occupies on this machine; 0 where another one keeps it.
        paths: files and folders to remove, of what lies here.
    """

    kind: str
    what: str
    why: str
    bytes: int
    paths: tuple[Path, ...] = ()


def find_removals(settings: Settings, project: Path, now: float | None = None) -> list[Removal]:
    """What the policy would throw away; changes nothing.

    Raises:
        ReConPatchError: MLflow cannot be asked: nothing can then be said about anything.
    """
    now = time.time() if now is None else now
    with mlflow_errors("a look for old versions"):
        client = open_client(settings, project)
        versions = _versions(client, settings)
        kept = [one for one in versions if _is_protected(client, one)]
        old = list(_old_versions(versions, kept, settings, now))
    return [
        *(Removal("version", f"{one.name}/{one.version}", _why_version(settings), 0) for one in old),
        *_old_runs(settings, project, now),
        *_old_features(settings, project, kept, now),
        *_old_chunks(settings, project, now),
        *_old_predictions(settings, project, kept, now),
        *_old_alarms(settings, project, now),
    ]


def remove(settings: Settings, project: Path, now: float | None = None) -> list[Removal]:
    """Throw away what `find_removals` finds at this moment.

    A version's MLflow run and model are marked as deleted; `mlflow gc` frees their bytes.
    """
    found = [
        one
        for one in find_removals(settings, project, now)
        if one.kind != "version" or _remove_version(one.what, settings, project)
    ]
    for removal in found:
        for path in removal.paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return found


def _versions(client: MlflowClient, settings: Settings) -> list[ModelVersion]:
    """All of this data set, those of categories too that the parameters no longer name."""
    # The names of another data set may begin the same (demo, demo-line2), and _ stands for any character.
    asked = f"name LIKE '{registered_name(settings.pipeline.dataset, '')}%'"
    found = every_page(client.search_model_versions, asked, max_results=_PAGE)
    return [one for one in found if _is_own(one, settings)]


def _is_own(version: ModelVersion, settings: Settings) -> bool:
    """Whether it is of this data set; without a tag that says so, by the model of a known category."""
    dataset, categories = settings.pipeline.dataset, (*settings.pipeline.categories, ALL)
    if "dataset" in version.tags:
        return bool(version.tags["dataset"] == dataset)
    return version.name in {registered_name(dataset, category) for category in categories}


def _is_protected(client: MlflowClient, version: ModelVersion) -> bool:
    number = str(version.version)
    aliases = client.get_registered_model(version.name).aliases
    pinned = version.tags.get(PINNED, "false").lower() != "false"
    return pinned or number in map(str, aliases.values()) or number in _former(client, version.name)


def _former(client: MlflowClient, model: str) -> set[str]:
    """Versions that an event of the log of champions names, whatever became of it."""
    experiment = client.get_experiment_by_name(PROMOTIONS)
    if experiment is None:
        return set()
    events = client.search_runs([experiment.experiment_id], f"tags.model = '{model}'", max_results=50000)
    return {one.data.tags.get(side, "none") for one in events for side in ("from_version", "to_version")}


def _old_versions(
    versions: Sequence[ModelVersion], kept: Sequence[ModelVersion], settings: Settings, now: float
) -> Iterator[ModelVersion]:
    policy = settings.housekeeping
    protected = {(one.name, one.version) for one in kept}
    for name in dict.fromkeys(one.name for one in versions):
        own = sorted((one for one in versions if one.name == name), key=lambda one: -int(one.version))
        for one in own[policy.keep_versions :]:
            age = now - one.creation_timestamp / 1000
            if (one.name, one.version) not in protected and age > policy.version_days * _DAY:
                yield one


def _why_version(settings: Settings) -> str:
    policy = settings.housekeeping
    return (
        f"older than {policy.version_days:g} days, not of the {policy.keep_versions} newest, never champion"
    )


def _remove_version(name: str, settings: Settings, project: Path) -> bool:
    """Remove ``model/number``, unless it has become somebody's since the look."""
    model, _, number = name.rpartition("/")
    with hold_model(model, settings, project) as registry:
        version = registry.client.get_model_version(model, number)
        if _is_protected(registry.client, version):
            return False
        registry.client.delete_model_version(model, number)
        if version.model_id:
            registry.client.delete_logged_model(version.model_id)
        if version.run_id:
            registry.client.delete_run(version.run_id)
    return True


def _old_runs(settings: Settings, project: Path, now: float) -> Iterator[Removal]:
    days = settings.housekeeping.runs_days
    for folder in sorted((project / "runs").glob("*/")):
        files = [path for path in folder.rglob("*") if path.is_file()]
        newest = max((path.stat().st_mtime for path in [folder, *files]), default=0.0)
        if now - newest > days * _DAY:
            size = sum(path.stat().st_size for path in files)
            yield Removal("run", f"runs/{folder.name}", f"untouched for {days:g} days", size, (folder,))


def _old_features(
    settings: Settings, project: Path, kept: Sequence[ModelVersion], now: float
) -> Iterator[Removal]:
    days = settings.housekeeping.cache_days
    cache = FeatureCache(project / settings.pipeline.cache)
    old = {path.name: path for path in cache.unused_since(now - days * _DAY)}
    if old:
        for version in kept:
            for entry in _blocks(version, settings, project, cache):
                old.pop(entry, None)
    if old:
        size = sum(path.stat().st_size for path in old.values())
        why = f"not read for {days:g} days, and of no image that a kept version knows"
        yield Removal("features", f"{len(old)} blocks", why, size, tuple(old.values()))


def _blocks(version: ModelVersion, settings: Settings, project: Path, cache: FeatureCache) -> Iterator[str]:
    """Names in the cache of the features of the images that a version knows."""
    with tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
        folder = Path(scratch) / "detector"
        fetch_detector(version.name, str(version.version), folder, settings, project)
        for member in member_folders(folder):
            known, features = read_training_set(member), read_settings(member, read_config(member)).features
            extractor = PatchExtractor(features, choose_device(settings.device))
            yield from PatchFeatures(
                paths=(),
                image_digests=(*known.fit, *known.holdout),
                grid=extractor.grid,
                dim=extractor.dim,
                extractor_digest=extractor.digest,
                platform=extractor.platform,
                cache=cache,
                make_extractor=lambda: extractor,  # noqa: B023 (called by nobody)
            ).entries


def _old_chunks(settings: Settings, project: Path, now: float) -> Iterator[Removal]:
    days = settings.housekeeping.cache_days
    files = (project / ".cache" / "chunks").glob("*")
    yield from _old_files("chunks", "chunks", files, days, now)


def _old_predictions(
    settings: Settings, project: Path, kept: Sequence[ModelVersion], now: float
) -> Iterator[Removal]:
    """Days of the log, but for those that hold what a check for drift of a kept version would compare."""
    log, days = settings.monitor.log, settings.housekeeping.log_days
    if log is None:
        return
    before = datetime.fromtimestamp(now - days * _DAY, UTC).date()
    versions = {f"{one.name}/{one.version}" for one in kept}
    for day in old_days(project / log, before, versions=versions, most=settings.monitor.window):
        size = sum(path.stat().st_size for path in day.iterdir())
        what = day.relative_to((project / log).parent).as_posix()
        yield Removal("predictions", what, f"older than {days:g} days", size, (day,))


def _old_alarms(settings: Settings, project: Path, now: float) -> Iterator[Removal]:
    days = settings.housekeeping.log_days
    files = (project / DRIFT / settings.pipeline.dataset).glob("*/alarm-*")
    yield from _old_files("alarms", "files", files, days, now)


def _old_files(kind: str, of: str, paths: Iterable[Path], days: float, now: float) -> Iterator[Removal]:
    """All that are older, as one removal."""
    old = tuple(path for path in sorted(paths) if path.is_file() and now - path.stat().st_mtime > days * _DAY)
    if old:
        size = sum(path.stat().st_size for path in old)
        yield Removal(kind, f"{len(old)} {of}", f"older than {days:g} days", size, old)

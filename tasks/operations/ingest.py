"""Take new nominal images from the inbox of a category: check them, join them, version them.

No stage: it changes the data set itself. What was begun is finished first, so it may be killed at any time.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from reconpatch.data.batch_folders import name_in_inbox
from reconpatch.data.file_listing import links_to_nothing, list_files
from reconpatch.data.layouts import train_folder
from reconpatch.data.manifest import build_manifest
from reconpatch.data.nominal_split import lot_share
from reconpatch.data.reviews import Review, are_written, read_reviews, reviews_of
from reconpatch.errors import DataError
from reconpatch.line.inbox.arrivals import (
    FLAGGED,
    Arrival,
    Refusal,
    draw_lot,
    find_refusals,
    flag_arrivals,
    read_inbox,
)
from reconpatch.line.inbox.join_plan import JoinPlan, make_plan
from reconpatch.line.inbox.joining import carry_out, check_writable
from reconpatch.line.inbox.quarantine import HEATMAPS, quarantine_name
from reconpatch.settings import Settings
from reconpatch.storage.file_locks import file_lock
from tasks.operations.arrival_scores import NO_CHAMPION, Scorer, score_by_champion
from tasks.operations.quarantine_release import forget_accepted, released_images
from tasks.registry.lineage_tags import data_hash, data_record
from tasks.running.dvc_commit import run_dvc
from tasks.running.git_commit import commit_files
from tasks.running.stage_folders import probe_cache

_AHEAD = 60.0  # seconds that clocks differ anyway

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ingested:
    """What one batch came to.

    Attributes:
        dataset: name of the data set.
        category: that the images are for.
        batch: name of the batch.
        count: images that joined.
        quarantined: images put aside.
        reasons: the same by reason.
        left: images that are still in the inbox, such as one that is being written (`left_in_inbox`).
        flagged: images that joined although the champion found them suspicious: a person should look at them.
        data_hash: of the data set as it is now, as DVC records it.
        commit: git commit of the .dvc file; None when there was nothing to commit.
    """

    dataset: str
    category: str
    batch: str
    count: int
    quarantined: int
    reasons: dict[str, int]
    left: int
    data_hash: str
    commit: str | None
    flagged: int = 0

    def __str__(self) -> str:
        listed = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        aside = f"{self.quarantined} put aside" + (f" ({listed})" if listed else "")
        joined = f"{self.count} joined" + (
            f" ({self.flagged} of them to be looked at)" if self.flagged else ""
        )
        return f"{self.category}: {joined}, {aside}, {self.left} left in the inbox"


@dataclass(frozen=True)
class Places:
    """The folders of one category's ingest."""

    root: Path
    inbox: Path
    quarantine: Path
    plan: Path
    heatmaps: Path

    @classmethod
    def of(cls, settings: Settings, category: str, project: Path) -> "Places":
        """Below the project, wherever the parameters do not lead out of it."""
        quarantine = project / settings.ingest.quarantine / settings.pipeline.dataset / category
        return cls(
            project / settings.pipeline.root / category,
            project / settings.ingest.inbox / category,
            quarantine,
            quarantine / ".plan.json",
            quarantine / HEATMAPS,
        )


def ingest(
    settings: Settings,
    category: str,
    project: Path,
    *,
    announce: Callable[[Ingested], None] = lambda _: None,
    scorer: Scorer | None = None,
) -> list[Ingested]:
    """Bring the inbox of a category to its end: every image joined or put aside, the data set versioned.

    Args:
        settings: all parameters.
        category: its name.
        project: root of the project.
        announce: told of each finished batch, once or (after a kill in the wrong moment) twice.
        scorer: asks the champion; by default the registry's.

    Returns:
        The batches that were finished: that of a killed ingest, then the new one; none for an empty inbox.

    Raises:
        DataError: the category or the inbox cannot be used or written, or DVC does not know the data set.
        ReConPatchError: the registry, dvc or git refuse.
    """
    places = Places.of(settings, category, project)
    if data_record(places.root, project) is None:
        raise DataError(f"{places.root}: no .dvc file records it; run `dvc add` on the data set first")
    done = []
    with file_lock(places.quarantine / ".lock"):  # one ingest of a category at a time
        forget_accepted(places.quarantine, read_reviews(project / settings.ingest.reviews))
        for plan in (JoinPlan.read(places.plan), None):
            if plan is not None:  # of a killed ingest
                check_writable(plan, places.root, settings.data)
            plan = plan or _plan(settings, category, project, places, scorer or score_by_champion)
            if plan is not None:
                done.append(_finish(plan, settings, category, project, places))
                announce(done[-1])
                places.plan.unlink()
    return done


def left_in_inbox(settings: Settings, category: str, project: Path) -> int:
    """How many images wait in a category's inbox; 0 in one that is not emptied (``ingest.keep_inbox``)."""
    inbox = Places.of(settings, category, project).inbox
    if settings.ingest.keep_inbox or not inbox.is_dir():
        return 0
    return sum(entry.is_image for entry in list_files(inbox)[0])


def _plan(
    settings: Settings, category: str, project: Path, places: Places, scorer: Scorer
) -> JoinPlan | None:
    reviews = read_reviews(project / settings.ingest.reviews)
    released = list(released_images(places.quarantine, reviews, settings.data.decode_seconds))
    new = read_inbox(places.inbox, places.root, settings.data) if places.inbox.is_dir() else []
    arrivals = [*released, *(item for item in new if _is_settled(item.file, settings.ingest.settle_seconds))]
    if not arrivals and reviews.empty:
        return None
    known = build_manifest(places.root, settings.data, cache=probe_cache(settings, category, project))
    if settings.ingest.keep_inbox:
        new = [item for item in arrivals[len(released) :] if _is_new(item, known, places.quarantine)]
        arrivals = [*released, *new]
    # Before any score is looked at.
    lot = draw_lot(arrivals, known, lot_share(settings))
    files = [item.file for item in arrivals if item.probe.problem is None]
    scores = scorer(settings, category, project, files, places.heatmaps) if arrivals else NO_CHAMPION
    refusals = find_refusals(
        arrivals,
        known,
        scores.held_out,
        reviews,
        scores.waiting,
        settings.validate_.near_duplicate_bits,
        lot,
    )
    flags = flag_arrivals(arrivals, refusals, reviews, scores.suspicions)
    shown = _with_heatmaps([*arrivals, *arrivals], [*refusals, *flags], scores.heatmaps, places.heatmaps)
    train = train_folder(places.root, settings.data.layout)
    plan = make_plan(
        arrivals, shown[: len(arrivals)], train, scores.champion, lot=lot, flags=shown[len(arrivals) :]
    )
    plan = replace(plan, reviews=_new_reviews(plan, known, reviews, places.root))
    if not plan.moves and plan.reviews is None:
        return None
    _check_links(places.root, project)
    check_writable(plan, places.root, settings.data)
    plan.write(places.plan)
    return plan


def _check_links(root: Path, project: Path) -> None:
    record = data_record(root, project)
    broken = [] if record is None else links_to_nothing(record.with_suffix(""))
    if broken:
        raise DataError(
            f"{broken[0]}: is a link to nothing, and dvc records no data set with it, so nothing joined; "
            f"remove the link{f' ({len(broken)} of the kind are there)' if len(broken) > 1 else ''}"
        )


def _is_settled(file: Path, seconds: float) -> bool:
    """Whether a file was last written so long ago.

    A copy that keeps times, such as from a camera, brings the time of another machine's clock. Where that is
    ahead, when the file came here is told by its inode, whose time no copy sets.
    """
    stat, now = file.stat(), time.time()
    written = stat.st_mtime if stat.st_mtime <= now else stat.st_ctime
    if written > now + _AHEAD:
        _LOG.warning(
            "%s: is left in the inbox until %s, when it was written by the clock of the machine it lies on; "
            "set that clock, or this machine's, and write the file again",
            file,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(written)),
        )
    return written <= now - seconds


def _with_heatmaps(
    arrivals: Sequence[Arrival],
    refusals: Sequence[Refusal | None],
    heatmaps: Mapping[str, str],
    folder: Path,
) -> list[Refusal | None]:
    """Each refusal with its image's heat map; those of the images that join are removed."""
    shown: list[Refusal | None] = []
    for arrival, refusal in zip(arrivals, refusals, strict=True):
        picture = heatmaps.get(arrival.probe.sha256 or "")
        shown.append(refusal if refusal is None else replace(refusal, heatmap=picture))
    needed = {refusal.heatmap for refusal in shown if refusal is not None}
    for picture in heatmaps.values():
        if picture not in needed:
            (folder / picture).unlink(missing_ok=True)
    return shown


def _new_reviews(
    plan: JoinPlan, known: pd.DataFrame, reviews: pd.DataFrame, root: Path
) -> dict[str, Review] | None:
    """The reviews of the category's images and of those that join; None where they are written down so.

    What an earlier release wrote otherwise is written anew.
    """
    hashed = known.dropna(subset="sha256")
    images = [(str(path), str(digest)) for path, digest in zip(hashed["path"], hashed["sha256"], strict=True)]
    images += [(f"{plan.folder}/{move.target}", move.sha256) for move in plan.joining]
    found = reviews_of(images, reviews)
    return None if are_written(root, found) else found


def _is_new(arrival: Arrival, known: pd.DataFrame, quarantine: Path) -> bool:
    """Whether an image of an inbox that is not emptied was not taken before."""
    same = known.loc[known["sha256"] == arrival.probe.sha256, "path"]
    joined = any(name_in_inbox(path) == arrival.name for path in same)
    return not joined and not (quarantine / quarantine_name(arrival)).exists()


def _finish(plan: JoinPlan, settings: Settings, category: str, project: Path, places: Places) -> Ingested:
    carry_out(plan, places.root, places.quarantine, settings.data, keep=settings.ingest.keep_inbox)
    record, folder = data_record(places.root, project), places.root / plan.folder
    commit, joined = None, [move for move in plan.joining if (folder / move.target).is_file()]
    if (joined or plan.reviews is not None) and record is not None:
        run_dvc(project, "add", str(record.with_suffix("").relative_to(project)))
        if settings.ingest.git_commit:
            what = f"{len(joined)} new images" if joined else "reviews of images"
            message = f"{settings.pipeline.dataset}: {what} of {category}"
            commit = commit_files([str(record.relative_to(project))], message, project)
    kept = Counter(
        str(move.record["reason"])
        for move in plan.moves
        if move.record is not None and (places.quarantine / move.target).is_file()
    )
    flagged = kept.pop(FLAGGED, 0)
    return Ingested(
        settings.pipeline.dataset,
        category,
        plan.batch,
        len(joined),
        kept.total(),
        dict(sorted(kept.items())),
        left_in_inbox(settings, category, project),
        data_hash(places.root, project),
        commit,
        flagged,
    )

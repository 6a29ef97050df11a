"""Take new nominal images from the inbox of a category: check them, join them, version them.

No stage: it changes the data set itself. What was begun is finished first, so it may be killed at any time.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from reconpatch.calibration.calibration import Calibration
from reconpatch.calibration.threshold import Threshold, groups_needed
from reconpatch.data.batch_folders import name_in_inbox
from reconpatch.data.file_listing import links_to_nothing, list_files
from reconpatch.data.layouts import train_folder
from reconpatch.data.manifest import build_manifest
from reconpatch.data.nominal_split import lot_share
from reconpatch.data.probe_cache import ProbeCache
from reconpatch.data.reviews import read_reviews
from reconpatch.data.verdicts import Verdict, are_written, verdicts_on
from reconpatch.errors import DataError
from reconpatch.line.inbox.arrivals import (
    FLAGGED,
    REJECTED,
    SUSPICIOUS,
    Arrival,
    Refusal,
    draw_lot,
    flag_arrivals,
    judge_arrivals,
    read_inbox,
)
from reconpatch.line.inbox.joining import (
    HEATMAPS,
    Plan,
    carry_out,
    check_writable,
    forget_record,
    make_plan,
    quarantine_name,
    read_record,
)
from reconpatch.settings import IngestSettings, Settings
from reconpatch.storage.atomic_files import file_lock, sha256_file
from tasks.registry.lineage_tags import data_hash, data_record
from tasks.running.dvc_commit import run_dvc
from tasks.running.git_commit import commit_files
from tasks.running.stage_folders import probe_cache

_AHEAD = 60.0  # seconds that clocks differ anyway

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """What the champion says of arrivals.

    Attributes:
        judge: its name; None when there is no champion.
        held_out: content hashes that it was calibrated with.
        suspicions: by content hash, why an image is suspicious.
        heatmaps: by content hash, the file of every image's heat map.
        puts_aside: content hashes of the suspicious that wait for a person unless they are of the calibration
            lot; the others join, and a person is asked to look at them. None: all of them wait.
    """

    judge: str | None
    held_out: frozenset[str]
    suspicions: dict[str, Refusal]
    heatmaps: dict[str, str] = field(default_factory=dict)
    puts_aside: frozenset[str] | None = None

    @property
    def waiting(self) -> dict[str, Refusal]:
        """The suspicions that keep an image outside the calibration lot waiting."""
        if self.puts_aside is None:
            return self.suspicions
        return {digest: found for digest, found in self.suspicions.items() if digest in self.puts_aside}


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


_NOBODY = Judged(None, frozenset(), {})
Scorer = Callable[[Settings, str, Path, list[Path], Path], Judged]


def ingest(
    settings: Settings,
    category: str,
    project: Path,
    *,
    announce: Callable[[Ingested], None] = lambda _: None,
    judge: Scorer | None = None,
) -> list[Ingested]:
    """Bring the inbox of a category to its end: every image joined or put aside, the data set versioned.

    Args:
        settings: all parameters.
        category: its name.
        project: root of the project.
        announce: told of each finished batch, once or (after a kill in the wrong moment) twice.
        judge: asks the champion; by default the registry's.

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
        _forget_accepted(places.quarantine, read_reviews(project / settings.ingest.reviews))
        for plan in (Plan.read(places.plan), None):
            if plan is not None:  # of a killed ingest
                check_writable(plan, places.root, settings.data)
            plan = plan or _plan(settings, category, project, places, judge or ask_champion)
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


def ask_champion(
    settings: Settings, category: str, project: Path, images: list[Path], folder: Path
) -> Judged:
    """Score images with the champion, each with a heat map in ``folder``: any of them may be put aside."""
    from reconpatch.evaluation.report.heatmaps import write_heatmap
    from reconpatch.loading import load
    from tasks.registry.champion import champion_folder, find_champion

    champion = find_champion(settings, project, category)
    if champion is None:
        _LOG.warning("%s: no champion yet, so nobody looked for defects among the arrivals", category)
        return Judged(None, frozenset(), {})
    name = f"{champion.model}/{champion.version}"
    with champion_folder(champion, settings, project) as model:
        detector = load(model, device=settings.device, threads=settings.threads)
        suspicions: dict[str, Refusal] = {}
        heatmaps: dict[str, str] = {}
        puts_aside: set[str] = set()
        calibration = detector.calibration
        limit = aside = None
        if calibration is not None:
            limit = calibration.review if settings.ingest.suspicious == "review" else calibration.threshold
            aside = limit_to_wait(calibration, settings.ingest)
        for prediction in detector.stream(images) if images else ():
            digest = sha256_file(Path(str(prediction.path)))
            if digest not in heatmaps:
                heatmaps[digest] = write_heatmap(folder, prediction, detector).name
            if limit is not None and prediction.score > limit.value:
                detail = (
                    f"score {prediction.score:.4g} above the nominal limit {limit.value:.4g} of "
                    f"{name} (ingest.suspicious: {settings.ingest.suspicious})"
                )
                suspicions[digest] = Refusal(SUSPICIOUS, detail)
            if aside is not None and prediction.score > aside.value:
                puts_aside.add(digest)
        if limit is not None and aside != limit and suspicions:
            _LOG.warning("%s: %s", category, _too_coarse(name, limit, aside, settings.ingest))
        held_out = frozenset(detector.training_set.holdout)
        return Judged(name, held_out, suspicions, heatmaps, frozenset(puts_aside))


def limit_to_wait(calibration: Calibration, ingest: IngestSettings) -> Threshold | None:
    """The score above which an arrival waits for a person; None: no score is reason enough.

    That of ``ingest.suspicious`` where at most ``ingest.most_false_rejects`` of the good images exceed it, or
    else the threshold, if that holds for it.
    """
    limits = [calibration.review, calibration.threshold][ingest.suspicious == "reject" :]
    return next((one for one in limits if one.false_reject_rate <= ingest.most_false_rejects), None)


def _too_coarse(name: str, limit: Threshold, aside: Threshold | None, ingest: IngestSettings) -> str:
    """Why fewer arrivals wait than ``ingest.suspicious`` says."""
    # The limit for review is that of twice the smallest rate which the groups can promise.
    rate = ingest.most_false_rejects / (1 if ingest.suspicious == "reject" else 2)
    wait = "no arrival waits for its score" if aside is None else "only arrivals above its threshold wait"
    return (
        f"{name} is calibrated on {limit.n} groups, and {100 * limit.false_reject_rate:.2g} % of good images "
        f"exceed its limit (ingest.suspicious: {ingest.suspicious}), more than ingest.most_false_rejects: "
        f"{wait}, and the others above the limit join. Look at them with `reconpatch data quarantine`; "
        f"{groups_needed(rate)} groups would do, so give more good images or raise calibrate.holdout"
    )


def _plan(settings: Settings, category: str, project: Path, places: Places, judge: Scorer) -> Plan | None:
    verdicts = read_reviews(project / settings.ingest.reviews)
    released = list(_released(places.quarantine, verdicts, settings.data.decode_seconds))
    new = read_inbox(places.inbox, places.root, settings.data) if places.inbox.is_dir() else []
    arrivals = [*released, *(item for item in new if _is_settled(item.file, settings.ingest.settle_seconds))]
    if not arrivals and verdicts.empty:
        return None
    known = build_manifest(places.root, settings.data, cache=probe_cache(settings, category, project))
    if settings.ingest.keep_inbox:
        new = [item for item in arrivals[len(released) :] if _is_new(item, known, places.quarantine)]
        arrivals = [*released, *new]
    # Before any score is looked at.
    lot = draw_lot(arrivals, known, lot_share(settings))
    files = [item.file for item in arrivals if item.probe.problem is None]
    judged = judge(settings, category, project, files, places.heatmaps) if arrivals else _NOBODY
    refusals = judge_arrivals(
        arrivals,
        known,
        judged.held_out,
        verdicts,
        judged.waiting,
        settings.validate_.near_duplicate_bits,
        lot,
    )
    flags = flag_arrivals(arrivals, refusals, verdicts, judged.suspicions)
    shown = _with_heatmaps([*arrivals, *arrivals], [*refusals, *flags], judged.heatmaps, places.heatmaps)
    train = train_folder(places.root, settings.data.layout)
    plan = make_plan(
        arrivals, shown[: len(arrivals)], train, judged.judge, lot=lot, flags=shown[len(arrivals) :]
    )
    plan = replace(plan, verdicts=_new_verdicts(plan, known, verdicts, places.root))
    if not plan.moves and plan.verdicts is None:
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


def _new_verdicts(
    plan: Plan, known: pd.DataFrame, reviews: pd.DataFrame, root: Path
) -> tuple[Verdict, ...] | None:
    """What people said of the category's images and of those that join; None where it is written down so.

    What an earlier release wrote otherwise is written anew.
    """
    images = [(str(row.path), str(row.sha256)) for row in known.itertuples() if not pd.isna(row.sha256)]
    images += [(f"{plan.folder}/{move.target}", move.sha256) for move in plan.joining]
    said = tuple(verdicts_on(images, reviews))
    return None if are_written(root, said) else said


def _released(quarantine: Path, verdicts: pd.DataFrame, seconds: float) -> Iterator[Arrival]:
    """Images that the champion or a person refused, and that a person has judged good since."""
    probes = ProbeCache(None, seconds)
    for record, kept in _judged_good(quarantine, verdicts, (SUSPICIOUS, REJECTED)):
        file = record.with_suffix("")
        if file.is_file():
            yield Arrival(file, kept["name"], kept["group"], probes.image(file), kept["reason"])


def _forget_accepted(quarantine: Path, verdicts: pd.DataFrame) -> None:
    """Remove what is kept of images that joined and that a person has found good since."""
    for record, _ in _judged_good(quarantine, verdicts, (FLAGGED,)):
        record.with_suffix("").unlink(missing_ok=True)
        forget_record(record, quarantine)


def _judged_good(
    quarantine: Path, verdicts: pd.DataFrame, reasons: Sequence[str]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Records of the quarantine for one of these reasons, of images that a person has judged good since."""
    good = set(verdicts.loc[verdicts["verdict"] == "good", "image_sha256"])
    for record in sorted(quarantine.glob("*.json")):
        kept = read_record(record)
        if kept is not None and kept["reason"] in reasons and kept["sha256"] in good:
            yield record, kept


def _is_new(arrival: Arrival, known: pd.DataFrame, quarantine: Path) -> bool:
    """Whether an image of an inbox that is not emptied was not taken before."""
    same = known.loc[known["sha256"] == arrival.probe.sha256, "path"]
    joined = any(name_in_inbox(path) == arrival.name for path in same)
    return not joined and not (quarantine / quarantine_name(arrival)).exists()


def _finish(plan: Plan, settings: Settings, category: str, project: Path, places: Places) -> Ingested:
    carry_out(plan, places.root, places.quarantine, settings.data, keep=settings.ingest.keep_inbox)
    record, folder = data_record(places.root, project), places.root / plan.folder
    commit, joined = None, [move for move in plan.joining if (folder / move.target).is_file()]
    if (joined or plan.verdicts is not None) and record is not None:
        run_dvc(project, "add", str(record.with_suffix("").relative_to(project)))
        if settings.ingest.git_commit:
            what = f"{len(joined)} new images" if joined else "verdicts on images"
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

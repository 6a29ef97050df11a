"""Move judged arrivals into the data set and the quarantine, so that none is lost or counted twice.

What shall happen is written down first (the plan); every step can be done again. A process that is killed
leaves a plan that the next one finishes before it looks at the inbox.
"""

import errno
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from reconpatch.data.batch_folders import BATCH, target_in_batch
from reconpatch.data.groups import GROUPS_FILE, assign_groups
from reconpatch.data.layouts import scan_category
from reconpatch.data.verdicts import Verdict, write_verdicts
from reconpatch.errors import DataError
from reconpatch.line.inbox.arrivals import Arrival, Refusal, patterned_group
from reconpatch.settings import DataSettings
from reconpatch.storage.atomic_files import atomic_file, sha256_file, sha256_json, write_json
from reconpatch.text.csv_files import read_rows, write_rows

_LOG = logging.getLogger(__name__)
HEATMAPS = "heatmaps"  # below a quarantine
_RECORD = ("sha256", "name", "group", "reason", "detail")
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Move:
    """One file's way.

    Attributes:
        source: where it lies.
        target: relative to the batch's folder in the data set, or to the quarantine.
        sha256: of its bytes, by which it is known again.
        group: its group, where it joins; empty: its own.
        record: what the quarantine keeps beside it; None where it joins.
    """

    source: str
    target: str
    sha256: str
    group: str = ""
    record: dict[str, Any] | None = None


@dataclass(frozen=True)
class Plan:
    """What one look at the inbox led to.

    Attributes:
        batch: names the batch; equal arrivals make equal names.
        folder: the batch's folder below the category root, posix; its images become visible all at once.
        moves: of every file that is moved.
        verdicts: all that people said of the category's images, where that is to be written anew; None: not.
    """

    batch: str
    folder: str
    moves: tuple[Move, ...]
    verdicts: tuple[Verdict, ...] | None = None

    @property
    def joining(self) -> list[Move]:
        """The moves into the data set."""
        return [move for move in self.moves if move.record is None]

    def write(self, path: Path) -> None:
        """Write the plan; from then on it will be carried out."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Plan | None":
        """The plan that a killed process left; None when there is none."""
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            said = values["verdicts"]
            return cls(
                values["batch"],
                values["folder"],
                tuple(Move(**move) for move in values["moves"]),
                None if said is None else tuple(Verdict(**one) for one in said),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: is no plan of an ingest ({error}); restore or remove it") from None


def make_plan(
    arrivals: Sequence[Arrival],
    refusals: Sequence[Refusal | None],
    train: Sequence[str],
    judge: str | None,
    *,
    lot: Sequence[bool] = (),
    flags: Sequence[Refusal | None] = (),
) -> Plan:
    """The plan for judged arrivals.

    Args:
        arrivals: (N,) images.
        refusals: (N,) what `judge_arrivals` returned.
        train: folders below the category root that hold the training images.
        judge: the detector that found images suspicious, for the records.
        lot: (N,) whether each is of the calibration lot; empty: none is.
        flags: (N,) why a person should look at each that joins, of which the quarantine gets a copy; empty:
            none is to be looked at.
    """
    batch = sha256_json([[str(item.file), item.probe.sha256] for item in arrivals])[:12]
    moves = []
    rows = zip(
        arrivals, refusals, lot or [False] * len(arrivals), flags or [None] * len(arrivals), strict=True
    )
    for arrival, refusal, in_lot, flag in rows:
        digest = arrival.probe.sha256 or _hash(arrival.file)
        if digest is None:
            continue  # it cannot even be copied, and stays
        if refusal is None:
            target = target_in_batch(arrival.name, in_lot)
            moves.append(Move(str(arrival.file), target, digest, arrival.group))
        if (kept := refusal or flag) is not None:
            record = {"sha256": digest, "name": arrival.name, "group": arrival.group, "judge": judge}
            record |= asdict(kept)
            moves.append(Move(str(arrival.file), quarantine_name(arrival), digest, record=record))
    return Plan(batch, "/".join((*train, BATCH.format(batch))), tuple(moves))


def quarantine_name(arrival: Arrival) -> str:
    """The file name of an arrival that is put aside."""
    # By its place in the inbox too: two refused files may have one content.
    mark = sha256_json([arrival.probe.sha256 or _hash(arrival.file), arrival.name])[:12]
    name = PurePosixPath(arrival.name)
    return f"{name.stem}-{mark}{name.suffix}"


def check_writable(plan: Plan, category_root: Path, settings: DataSettings | None = None) -> None:
    """Refuse a plan that could not be carried out, before it is written down.

    Args:
        plan: what to do.
        category_root: the category that the batch joins.
        settings: as for `carry_out`.

    Raises:
        DataError: a folder that files would be written to cannot be written.
    """
    needed = []
    if plan.joining:
        needed.append((category_root / plan.folder).parent)
    if plan.verdicts is not None or (
        plan.joining and _needs_table(plan, plan.joining, category_root, settings or DataSettings())
    ):
        needed.append(category_root)
    for folder in needed:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            Path(tempfile.mkdtemp(prefix=".write-", dir=folder)).rmdir()
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be written ({error.strerror}), so nothing joined; give the user who runs "
                "ingest the right to write there"
            ) from None


def carry_out(
    plan: Plan,
    category_root: Path,
    quarantine: Path,
    settings: DataSettings | None = None,
    *,
    keep: bool = False,
) -> None:
    """Bring every file of the plan to its place, however often this was begun.

    A file that changed since it was judged stays where it is.

    Args:
        plan: what to do.
        category_root: the category that the batch joins.
        quarantine: folder of the files put aside and of their records (``<file>.json``).
        settings: the category's layout and group pattern; None: the defaults.
        keep: leave the sources, of an inbox that is not ours to empty.

    Raises:
        DataError: the category or its ``groups.csv`` cannot be used.
        SettingsError: the group pattern cannot be used.
        OSError: a file cannot be written.
    """
    _join(plan, category_root, settings or DataSettings())
    if plan.verdicts is not None:
        write_verdicts(category_root, plan.verdicts)
    for move in plan.moves:
        if move.record is not None and _is(Path(move.source), move.sha256):
            write_json(quarantine / f"{move.target}.json", move.record)
            _copy(Path(move.source), quarantine / move.target)
    if keep:
        return
    for move in plan.moves:
        source = Path(move.source)
        target = (category_root / plan.folder if move.record is None else quarantine) / move.target
        if source != target and _is(target, move.sha256) and _is(source, move.sha256):
            source.unlink()
        if quarantine in source.parents and not source.exists():
            forget_record(Path(f"{source}.json"), quarantine)


def forget_record(record: Path, quarantine: Path) -> None:
    """Remove what the quarantine keeps beside an image: its record and its heat map."""
    if not record.is_file():
        return
    heatmap = (read_record(record) or {}).get("heatmap")
    if heatmap:
        (quarantine / HEATMAPS / heatmap).unlink(missing_ok=True)
    record.unlink()


def read_record(path: Path) -> dict[str, Any] | None:
    """What the quarantine keeps beside a file; None, with a warning, where that cannot be read.

    Returns:
        Keys ``sha256``, ``name``, ``group``, ``judge``, ``reason``, ``detail`` and ``heatmap``; text or None.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or not all(isinstance(values.get(name), str) for name in _RECORD):
            raise ValueError(f"it lacks one of {', '.join(_RECORD)}")
    except (OSError, ValueError, RecursionError) as error:
        _LOG.warning(
            "%s: is no record of the quarantine (%s), so the file beside it stays there whatever is said of "
            "it; move that file back to the inbox and remove the record",
            path,
            error,
        )
        return None
    return values


def _join(plan: Plan, category_root: Path, settings: DataSettings) -> None:
    folder = category_root / plan.folder
    if folder.exists() or not plan.joining:
        return
    joined = [move for move in plan.joining if _is(Path(move.source), move.sha256)]
    if not joined:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = _staging(plan, category_root)
    shutil.rmtree(staging, ignore_errors=True)  # of a killed process, maybe with files that changed since
    try:
        for move in joined:
            _copy(Path(move.source), staging / move.target)
        with _groups_named(plan, joined, category_root, settings):
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _staging(plan: Plan, category_root: Path) -> Path:
    """Where the batch is put together: on the disk that it joins, since a rename ends there."""
    root, target = category_root.resolve(), (category_root / plan.folder).parent.resolve()
    outside = root.parent.parent
    # Outside the data set, whose every file DVC and the stages would take for theirs; but the data set may be
    # a mount, or the folder above it be somebody else's.
    place = outside if _can_rename(outside, target) else target
    # Of this batch alone: another category of the data set may be joined at the same time.
    return place / f".{root.parent.name}.{root.name}.{plan.batch}.arrivals"


def _can_rename(source: Path, target: Path) -> bool:
    # Asked of the kernel: of a bind mount of the same disk no number of a device tells.
    try:
        probe = Path(tempfile.mkdtemp(prefix=".rename-", dir=source))
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        return False
    moved = target / probe.name
    try:
        probe.replace(moved)
    except OSError as error:
        probe.rmdir()
        if error.errno != errno.EXDEV:
            raise
        return False
    moved.rmdir()
    return True


@contextmanager
def _groups_named(
    plan: Plan, joined: Sequence[Move], category_root: Path, settings: DataSettings
) -> Iterator[None]:
    """Add lines to the category's groups.csv, where it has or needs one, for images that appear in the block.

    They come first, so that no image is ever seen without its group, and go again where the block fails.
    """
    table = category_root / GROUPS_FILE
    is_new = not table.is_file()
    if not _needs_table(plan, joined, category_root, settings):
        yield
        return
    lines = _present_lines(category_root, settings) if is_new else _lines_without(plan, table)
    paths = [f"{plan.folder}/{move.target}" for move in joined]
    present, _ = assign_groups(paths, category_root, settings.group_pattern)
    path_at, group_at = lines[0].index("path"), lines[0].index("group")
    added = []
    for move, path, group in zip(joined, paths, present, strict=True):
        line = [""] * len(lines[0])
        line[path_at], line[group_at] = path, move.group or group
        added.append(line)
    write_rows(table, [*lines, *added])
    try:
        yield
    except BaseException:
        if is_new:
            table.unlink()
        else:
            write_rows(table, lines)
        raise


def _needs_table(plan: Plan, joined: Sequence[Move], category_root: Path, settings: DataSettings) -> bool:
    """Whether there is a groups.csv to add to, or groups are known that the pattern alone does not tell."""
    return (category_root / GROUPS_FILE).is_file() or not all(
        move.group in ("", patterned_group(move.target, plan.folder, settings.group_pattern))
        for move in joined
    )


def _present_lines(category_root: Path, settings: DataSettings) -> list[list[str]]:
    """A table of the groups that the category's images have without one: it takes the pattern's place."""
    if settings.group_pattern is not None:
        _LOG.info("%s: %s takes the place of data.group_pattern", category_root, GROUPS_FILE)
    paths = [file.path for file in scan_category(category_root, settings.layout)]
    groups, _ = assign_groups(paths, category_root, settings.group_pattern)
    return [["path", "group"], *map(list, zip(paths, groups, strict=True))]


def _lines_without(plan: Plan, table: Path) -> list[list[str]]:
    """The table's lines, but for those of this batch, which a killed process may have left."""
    lines = read_rows(table)
    path_at = lines[0].index("path")
    return [line for line in lines if not line[path_at].startswith(f"{plan.folder}/")]


def _copy(source: Path, target: Path) -> None:
    with atomic_file(target) as temporary:
        shutil.copyfile(source, temporary)


def _hash(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def _is(path: Path, sha256: str) -> bool:
    """Whether the file has these bytes; one that cannot be read has none."""
    return path.is_file() and _hash(path) == sha256

"""Move judged arrivals into the data set and the quarantine, so that none is lost or counted twice.

What shall happen is written down first (the plan); every step can be done again. A process that is killed
leaves a plan that the next one finishes before it looks at the inbox.
"""

import errno
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reconpatch.data.groups import GROUPS_FILE, assign_groups
from reconpatch.data.layouts import scan_category
from reconpatch.data.reviews import write_data_reviews
from reconpatch.errors import DataError
from reconpatch.line.inbox.arrivals import patterned_group
from reconpatch.line.inbox.join_plan import JoinPlan, Move
from reconpatch.line.inbox.quarantine import forget_record, readable_sha256
from reconpatch.settings import DataSettings
from reconpatch.storage.atomic_files import atomic_file, write_json
from reconpatch.text.csv_files import read_rows, write_rows

_LOG = logging.getLogger(__name__)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def check_writable(plan: JoinPlan, category_root: Path, settings: DataSettings | None = None) -> None:
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
    if plan.reviews is not None or (
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
    plan: JoinPlan,
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
    if plan.reviews is not None:
        write_data_reviews(category_root, plan.reviews)
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


def _join(plan: JoinPlan, category_root: Path, settings: DataSettings) -> None:
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


def _staging(plan: JoinPlan, category_root: Path) -> Path:
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
    plan: JoinPlan, joined: Sequence[Move], category_root: Path, settings: DataSettings
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


def _needs_table(plan: JoinPlan, joined: Sequence[Move], category_root: Path, settings: DataSettings) -> bool:
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


def _lines_without(plan: JoinPlan, table: Path) -> list[list[str]]:
    """The table's lines, but for those of this batch, which a killed process may have left."""
    lines = read_rows(table)
    path_at = lines[0].index("path")
    return [line for line in lines if not line[path_at].startswith(f"{plan.folder}/")]


def _copy(source: Path, target: Path) -> None:
    with atomic_file(target) as temporary:
        shutil.copyfile(source, temporary)


def _is(path: Path, sha256: str) -> bool:
    """Whether the file has these bytes; one that cannot be read has none."""
    return path.is_file() and readable_sha256(path) == sha256

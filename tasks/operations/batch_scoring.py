"""A folder of images scored by a detector, resumably: what was scored is not scored again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

import pandas as pd

from reconpatch.data.file_listing import list_files
from reconpatch.data.probe_cache import ProbeCache
from reconpatch.errors import DataError, ReConPatchError, SettingsError
from reconpatch.evaluation.report.heatmaps import write_heatmap
from reconpatch.fitted_detector import FittedDetector
from reconpatch.line.monitoring.prediction_recorder import row_of_file
from reconpatch.prediction import Prediction, stream_readable
from reconpatch.progress import track
from reconpatch.settings import Settings
from reconpatch.storage.file_locks import file_lock
from reconpatch.unified.unified_detector import choose_category
from tasks.operations.batch_table import (
    ScoredImage,
    append_part,
    check_owner,
    list_parts,
    log_part,
    parts_folder,
    read_rows,
    write_table,
)
from tasks.registry.named_model import NamedModel, look_up

SCORED = "scored"  # of the project: where tables lie that were given no place
_CHUNK = 128


@dataclass(frozen=True)
class Request:
    """What is to be scored, and by whom; relative paths start at the project.

    Attributes:
        model: as for `look_up`.
        folder: of the images, with all folders below.
        output: for the table, the parts and the heat maps; None: scored/ and the folder's name.
        category: of a unified model.
        maps: whether heat maps are written.
        log: folder of the prediction log; None: none.
        chunk: images that are kept together, and lost together by a kill.
    """

    model: str
    folder: Path
    output: Path | None = None
    category: str | None = None
    maps: bool = False
    log: Path | None = None
    chunk: int = _CHUNK


@dataclass(frozen=True)
class Batch:
    """What a batch did.

    Attributes:
        folder: of the images.
        output: where the table lies.
        model_version: such as ``reconpatch-demo-brick/3``.
        scored: images scored now.
        table: all that this version ever said of the folder, as `tasks.operations.batch_table.TABLE`.
    """

    folder: Path
    output: Path
    model_version: str
    scored: int
    table: pd.DataFrame

    @property
    def problems(self) -> dict[str, str]:
        """Why images have no score, by path."""
        failed = self.table[self.table["problem"].notna()]
        return dict(zip(failed["path"], failed["problem"], strict=True))

    @property
    def row(self) -> dict[str, str | int]:
        """The same in a few numbers."""
        bands = self.table["band"].value_counts()
        count = int(self.table["score"].notna().sum())
        return {
            "folder": str(self.folder),
            "model": self.model_version,
            "scored now": self.scored,
            "scored before": count - self.scored,
            **{name: int(bands.get(name, 0)) for name in ("accept", "review", "reject")},
            "could not be scored": len(self.problems),
            "table": str(self.output / "predictions.parquet"),
        }

    def __str__(self) -> str:
        return ", ".join(f"{name}: {value}" for name, value in self.row.items())


def score_folder(request: Request, settings: Settings, project: Path) -> Batch:
    """Score the images of a folder that this version has not scored, and write the table.

    An image counts as scored while size and time of its file are the same. One that cannot be scored is told,
    and tried again next time. Every ``chunk`` images are kept as a whole, in the log too.

    Raises:
        SettingsError: the output lies among the images or is another folder's, or a category is named of a
            model that has but one.
        DataError: there is no such folder, or a part or the log cannot be read or written.
        ModelError: the detector cannot be loaded, or was not fitted on the category.
        ReConPatchError: the registry cannot be asked, or another batch writes there.
    """
    folder = project / request.folder
    output = project / (request.output or Path(SCORED) / folder.resolve().name)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    if output.resolve().is_relative_to(folder.resolve()):
        raise SettingsError(f"--output {output}: lies among the images in {folder}; name another folder")
    log = None if request.log is None else project / request.log
    known = look_up(request.model, settings, project)
    parts = parts_folder(output, known.version, request.category)
    # Loaded only when there is something to score: an hourly batch without new images ends in seconds.
    load = cache(lambda: choose_category(known.load(settings, project), request.category))
    work = _Work(
        replace(request, folder=folder, output=output, log=log),
        known,
        load,
        output,
        parts,
        {},
        ProbeCache(None, settings.data.decode_seconds),
    )
    try:
        with file_lock(output / ".lock", patience=0):
            check_owner(output, folder)
            work.log_what_a_kill_kept_from_it()
            scored = work.score(work.unscored())
            table = write_table(output, list_parts(parts), work.problems)
    except TimeoutError:
        raise ReConPatchError(
            f"{output}: another batch writes there; wait for it, or name another --output"
        ) from None
    return Batch(folder, output, known.version, scored, table)


@dataclass(frozen=True)
class _Work:
    """One run over a folder, all paths absolute; ``problems`` gathers why images have no score, by name."""

    request: Request
    model: NamedModel
    load: Callable[[], FittedDetector]
    output: Path
    parts: Path
    problems: dict[str, str]
    probes: ProbeCache

    def log_what_a_kill_kept_from_it(self) -> None:
        # Each part is logged before the next one is written, so only the last may be missing.
        for part in list_parts(self.parts)[-1:]:
            self._log(part)

    def unscored(self) -> list[Path]:
        """Images without a row that still holds, sorted."""
        entries, strays = list_files(self.request.folder)
        self.problems.update({stray.path: stray.reason for stray in strays})
        rows = read_rows(list_parts(self.parts), ["path", "bytes", "modified_ns", "heat_map"])
        known = {row.path: ((row.bytes, row.modified_ns), row.heat_map) for row in rows.itertuples()}
        found = []
        for entry in (entry for entry in entries if entry.is_image):
            if entry.problem is not None:
                self.problems[entry.path] = entry.problem
                continue
            path = self.request.folder / entry.path
            state, picture = known.get(entry.path, (None, None))
            drawn = not self.request.maps or (bool(picture) and (self.output / str(picture)).is_file())
            if state is None or state != _state(path) or not drawn:
                found.append(path)
        return found

    def score(self, images: list[Path]) -> int:
        """Score images and keep what was said, a part at a time; returns how many got a score."""
        scored, step = 0, self.request.chunk
        chunks = [images[start : start + step] for start in range(0, len(images), step)]
        for chunk in track(chunks, "batch"):
            if rows := list(self._rows(chunk)):
                self._log(append_part(self.parts, rows))
            scored += len(rows)
        return scored

    def _log(self, part: Path) -> None:
        if self.request.log is not None:
            log_part(part, self.request.log)

    def _rows(self, images: list[Path]) -> Iterator[ScoredImage]:
        # Before the file is read: one that is being written then differs from its row, and is scored again.
        states = {image: _state(image) for image in images}
        probes = dict(zip(images, self.probes.images(images), strict=True))
        self.problems.update(
            {self._name(image): probe.problem for image, probe in probes.items() if probe.problem is not None}
        )
        readable = [image for image in images if states[image] and probes[image].problem is None]
        if not readable:
            return
        detector = self.load()
        groups = detector.settings.data.group_pattern
        served_as = self.request.category or self.model.source.category
        failed: dict[Path, str] = {}
        for prediction in stream_readable(detector.stream, readable, failed):
            image = Path(str(prediction.path))
            name, state = self._name(image), states[image]
            assert state is not None  # noqa: S101 (for the reader: it is among the readable ones)
            try:
                picture = self._draw(name, prediction, detector) if self.request.maps else None
            except DataError as error:  # it was there a moment ago
                self.problems[name] = str(error)
                continue
            logged = row_of_file(prediction, probes[image], served_as, self.model.version, groups)
            yield ScoredImage(logged, name, str(probes[image].sha256), *state, picture)
        self.problems.update({self._name(image): problem for image, problem in failed.items()})

    def _draw(self, name: str, prediction: Prediction, detector: FittedDetector) -> str:
        place = self.output / "maps" / PurePosixPath(name).parent
        return write_heatmap(place, prediction, detector).relative_to(self.output).as_posix()

    def _name(self, image: Path) -> str:
        return image.relative_to(self.request.folder).as_posix()


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None when there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns

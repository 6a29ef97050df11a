"""What ingest is about to do with arrivals, written down before the first file is moved."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reconpatch.data.batch_folders import BATCH, target_in_batch
from reconpatch.data.reviews import Review, review_of_row, row_of_review
from reconpatch.errors import DataError
from reconpatch.line.inbox.arrivals import Arrival, Refusal
from reconpatch.line.inbox.quarantine import quarantine_name, readable_sha256
from reconpatch.storage.atomic_files import sha256_json, write_json


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
class JoinPlan:
    """What one look at the inbox led to.

    Attributes:
        batch: names the batch; equal arrivals make equal names.
        folder: the batch's folder below the category root, posix; its images become visible all at once.
        moves: of every file that is moved.
        reviews: all reviews of the category's images by path, where they are to be written anew; None: not.
    """

    batch: str
    folder: str
    moves: tuple[Move, ...]
    reviews: dict[str, Review] | None = None

    @property
    def joining(self) -> list[Move]:
        """The moves into the data set."""
        return [move for move in self.moves if move.record is None]

    def write(self, path: Path) -> None:
        """Write the plan; from then on it will be carried out."""
        # "verdicts" is what earlier releases call the reviews: one of them may carry the plan out.
        rows = None if self.reviews is None else [row_of_review(*item) for item in self.reviews.items()]
        moves = [asdict(move) for move in self.moves]
        write_json(path, {"batch": self.batch, "folder": self.folder, "moves": moves, "verdicts": rows})

    @classmethod
    def read(cls, path: Path) -> "JoinPlan | None":
        """The plan that a killed process left; None when there is none."""
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            rows = values["verdicts"]
            return cls(
                values["batch"],
                values["folder"],
                tuple(Move(**move) for move in values["moves"]),
                None if rows is None else dict(map(review_of_row, rows)),
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
) -> JoinPlan:
    """The plan for judged arrivals.

    Args:
        arrivals: (N,) images.
        refusals: (N,) what `find_refusals` returned.
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
        digest = arrival.probe.sha256 or readable_sha256(arrival.file)
        if digest is None:
            continue  # it cannot even be copied, and stays
        if refusal is None:
            target = target_in_batch(arrival.name, in_lot)
            moves.append(Move(str(arrival.file), target, digest, arrival.group))
        if (kept := refusal or flag) is not None:
            record = {"sha256": digest, "name": arrival.name, "group": arrival.group, "judge": judge}
            record |= asdict(kept)
            moves.append(Move(str(arrival.file), quarantine_name(arrival), digest, record=record))
    return JoinPlan(batch, "/".join((*train, BATCH.format(batch))), tuple(moves))

"""New nominal images in an inbox: which may join the data set, and why the others may not."""

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from reconpatch.data.batch_folders import BATCH, is_in_lot
from reconpatch.data.file_listing import list_files
from reconpatch.data.groups import GROUPS_FILE, assign_groups, group_of_image
from reconpatch.data.images import ImageProbe
from reconpatch.data.layouts import train_folder
from reconpatch.data.near_duplicates import find_pairs
from reconpatch.data.nominal_split import is_drawn
from reconpatch.data.probe_cache import ProbeCache
from reconpatch.settings import DataSettings
from reconpatch.storage.atomic_files import sha256_json

_LOG = logging.getLogger(__name__)
UNREADABLE, DUPLICATE, SUSPICIOUS, REJECTED = "unreadable", "duplicate", "suspicious", "rejected"
FLAGGED = "flagged"  # it joined, and a person should look at it
AWAITS_REVIEW = (SUSPICIOUS, FLAGGED)
EVALUATION, CALIBRATION = "evaluation", "calibration"


@dataclass(frozen=True)
class Arrival:
    """An image in the inbox.

    Attributes:
        file: where it lies.
        name: posix path that it keeps below the folder it moves to.
        group: its group, as the data set names groups; empty: it is a group of its own.
        probe: what one look at it told.
        reason: why it was put aside before; None: it comes from the inbox.
    """

    file: Path
    name: str
    group: str
    probe: ImageProbe
    reason: str | None = None

    @property
    def key(self) -> str:
        """Its group, or its content where it is its own, as `group_keys` names them."""
        return sha256_json(self.group) if self.group else str(self.probe.sha256)


@dataclass(frozen=True)
class Refusal:
    """Why an arrival may not join.

    Attributes:
        reason: one of the words above.
        detail: the same for people.
        heatmap: file that shows what the champion sees in it; None where nobody could look.
    """

    reason: str
    detail: str
    heatmap: str | None = None


def read_inbox(inbox: Path, category_root: Path, settings: DataSettings) -> list[Arrival]:
    """The images of an inbox, sorted by name; links that lead away and files that are no images stay unread.

    A warning names what an image may be behind: a link that is not followed, a name that must be changed.

    Args:
        inbox: folder of new images, with subfolders if need be and a ``groups.csv`` where parts are known.
        category_root: the category that they are for.
        settings: its layout and group pattern, which is searched in the path that the image would get; and
            the seconds that an image may take.

    Raises:
        DataError: the inbox cannot be listed, or its ``groups.csv`` cannot be used.
        SettingsError: the group pattern cannot be used.
        ReConPatchError: no process can be started to decode in.
    """
    entries, strays = list_files(inbox)
    left = [(entry.path, entry.problem) for entry in entries if entry.is_image and entry.problem is not None]
    for path, reason in [*left, *((stray.path, stray.reason) for stray in strays if not stray.listed)]:
        _LOG.warning("%s: is left in the inbox: it %s", inbox / path, reason)
    names = [entry.path for entry in entries if entry.is_image and entry.problem is None]
    if (inbox / GROUPS_FILE).is_file():
        groups, _ = assign_groups(names, inbox)
    else:
        folder = "/".join((*train_folder(category_root, settings.layout), BATCH))
        groups = [patterned_group(name, folder, settings.group_pattern) for name in names]
    probes = ProbeCache(None, settings.decode_seconds).images(inbox / name for name in names)
    return [
        Arrival(inbox / name, name, "" if group == name else group, probe)
        for name, group, probe in zip(names, groups, probes, strict=True)
    ]


def patterned_group(name: str, folder: str, pattern: str | None) -> str:
    """The group that the pattern finds in the path that an arrival would get; empty: none.

    Args:
        name: posix path below the batch's folder.
        folder: of any batch, posix, below the category root; what the batch is called does not matter.
        pattern: ``data.group_pattern``.

    Raises:
        SettingsError: the pattern cannot be used, or takes too long.
    """
    path = str(PurePosixPath(folder).with_name(BATCH.format("0" * 12)) / name)
    group = group_of_image(path, "", pattern)
    return "" if group == path else group  # a name in another folder is no group


def draw_lot(arrivals: Sequence[Arrival], known: pd.DataFrame, share: float) -> list[bool]:
    """Which arrivals are of the calibration lot, whole groups, whatever their scores are.

    A group that the data set knows stays where it is. One with an image that a score has put aside before
    was not of the lot then, and is not now.

    Args:
        arrivals: what lies in the inbox.
        known: manifest of the category as it is.
        share: of the new groups that are drawn, in [0, 1].
    """
    train = known[known["problem"].isna() & (known["split"] == "train")]
    in_lot = train["path"].map(is_in_lot).astype(bool)
    of_lot, of_fit = set(train.loc[in_lot, "group"]), set(train.loc[~in_lot, "group"])
    barred = {item.key for item in arrivals if item.reason == SUSPICIOUS}
    drawn = []
    for item in arrivals:
        if item.probe.sha256 is None or item.group in of_fit:
            drawn.append(False)
        else:
            free = item.key not in barred and is_drawn(item.key, share)
            drawn.append(item.group in of_lot or free)
    return drawn


def find_refusals(
    arrivals: Sequence[Arrival],
    known: pd.DataFrame,
    held_out: Set[str],
    reviews: pd.DataFrame,
    suspicions: Mapping[str, Refusal],
    bits: int,
    lot: Sequence[bool],
) -> list[Refusal | None]:
    """Why each arrival may not join: the first reason that applies; None where it may join.

    A person's review ``good`` overrules a suspicion and nothing else: what is evaluated or calibrated with
    is never trained on. No suspicion keeps an image out of the calibration lot: good parts that score high
    would be missed there, and the threshold would reject more good parts than it promises.

    Args:
        arrivals: what lies in the inbox.
        known: manifest of the category as it is.
        held_out: content hashes of the images that the champion was calibrated with.
        reviews: what `read_reviews` returned.
        suspicions: by content hash, why the champion finds an image suspicious.
        bits: the most that perceptual hashes of near copies differ in.
        lot: (N,) whether each is of the calibration lot, as `draw_lot` says.
    """
    kept = known[known["problem"].isna()]
    train = kept["split"] == "train"
    calibrates = kept["sha256"].isin(list(held_out)) | kept["path"].map(is_in_lot).astype(bool)
    reserved = {
        name: _Reserved.of(rows, arrivals, bits)
        for name, rows in ((EVALUATION, kept[~train]), (CALIBRATION, kept[train & calibrates]))
    }
    said = {row.image_sha256: (str(row.verdict), str(row.who)) for row in reviews.itertuples()}
    paths = dict(zip(kept.loc[train, "sha256"], kept.loc[train, "path"], strict=True))
    refusals: list[Refusal | None] = []
    for place, arrival in enumerate(arrivals):
        digest = str(arrival.probe.sha256)
        refusal = (
            _unreadable(arrival)
            or _rejected(said.get(digest))
            or _reserved(arrival, _against(reserved, lot[place]), place)
            or _duplicate(digest, paths)
        )
        if refusal is None and not lot[place] and said.get(digest, ("", ""))[0] != "good":
            refusal = suspicions.get(digest)
        if refusal is None:
            paths[digest] = f"{arrival.name} of the same inbox"
        refusals.append(refusal)
    return refusals


def flag_arrivals(
    arrivals: Sequence[Arrival],
    refusals: Sequence[Refusal | None],
    reviews: pd.DataFrame,
    suspicions: Mapping[str, Refusal],
) -> list[Refusal | None]:
    """Why a person should look at arrivals that join although they were found suspicious; else None.

    Args:
        arrivals: what lies in the inbox.
        refusals: (N,) what `find_refusals` returned.
        reviews: what `read_reviews` returned; what was reviewed needs no second look.
        suspicions: by content hash, why the champion finds an image suspicious.
    """
    judged = set(reviews["image_sha256"])
    flags: list[Refusal | None] = []
    for arrival, refusal in zip(arrivals, refusals, strict=True):
        digest = str(arrival.probe.sha256)
        found = suspicions.get(digest) if refusal is None and digest not in judged else None
        flags.append(None if found is None else replace(found, reason=FLAGGED))
    return flags


def _unreadable(arrival: Arrival) -> Refusal | None:
    problem = arrival.probe.problem
    return None if problem is None else Refusal(UNREADABLE, problem)


def _rejected(said: tuple[str, str] | None) -> Refusal | None:
    if said is None or said[0] != "bad":
        return None
    return Refusal(REJECTED, f"{said[1]} judged the part bad")


@dataclass(frozen=True)
class _Reserved:
    """Images that are kept for one purpose: a path by content, by group, and by place of a near copy."""

    content: Mapping[str, str]
    group: Mapping[str, str]
    near: Mapping[int, str]

    @classmethod
    def of(cls, rows: pd.DataFrame, arrivals: Sequence[Arrival], bits: int) -> "_Reserved":
        last_first = rows.iloc[::-1]  # of several the first is named
        content, group = (
            dict(zip(last_first[name], last_first["path"], strict=True)) for name in ("sha256", "group")
        )
        return cls(content, group, _near(arrivals, rows, bits))


def _against(reserved: Mapping[str, _Reserved], in_lot: bool) -> Mapping[str, _Reserved]:
    """What an arrival may not be like: one of the lot goes to the side of the calibration itself."""
    return {EVALUATION: reserved[EVALUATION]} if in_lot else reserved


def _reserved(arrival: Arrival, reserved: Mapping[str, _Reserved], place: int) -> Refusal | None:
    for name, kept in reserved.items():
        for what, match in (
            ("the same image as", kept.content.get(str(arrival.probe.sha256))),
            (
                f"of one group ({arrival.group}) with",
                kept.group.get(arrival.group) if arrival.group else None,
            ),
            ("a near copy of", kept.near.get(place)),
        ):
            if match is not None:
                return Refusal(name, f"{what} {match}, which is kept for {name}")
    return None


def _duplicate(digest: str, paths: Mapping[str, str]) -> Refusal | None:
    return Refusal(DUPLICATE, f"the same image as {paths[digest]}") if digest in paths else None


def _near(arrivals: Sequence[Arrival], rows: pd.DataFrame, bits: int) -> dict[int, str]:
    """By place of the arrival, a path of ``rows`` that it is a near copy of."""
    places = [place for place, arrival in enumerate(arrivals) if arrival.probe.perceptual_hash]
    hashed = rows[rows["perceptual_hash"].notna()]
    hashes = [str(arrivals[place].probe.perceptual_hash) for place in places]
    asked, found, _ = find_pairs(hashes, hashed["perceptual_hash"].tolist(), bits)
    paths = hashed["path"].tolist()
    return {places[one]: paths[other] for one, other in zip(asked, found, strict=True)}

"""What a manifest says about its images taken together: twins, near copies, and what is out of the ordinary.

One fault is one fact. An unreadable image has no others, an image that is stored unlike the rest is not
compared with them by its image statistics, and an image in both splits is not reported again through its
group.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from reconpatch.calibration.normalisation import NORMAL_CONSISTENCY
from reconpatch.data.batch_folders import has_arrived
from reconpatch.data.near_duplicates import near_copy_of
from reconpatch.data.reviews import BAD, contradicted
from reconpatch.settings import ValidateSettings

_BLANK_CONTRAST = 1.0  # grey values
_MAJORITY = 0.5  # a size that fewer images have is no rule that the others break
_FEW = 5  # nominal images: fewer have no distribution
# The least robust deviations believed: brightness in grey values, sharpness as a factor of about 5 %.
_LEAST_DEVIATION = {"brightness": 1.0, "sharpness": 0.05}


def derive_facts(table: pd.DataFrame, settings: ValidateSettings) -> pd.DataFrame:
    """Add the columns that the checks speak of; the given columns stay as they are.

    Args:
        table: a manifest, one row an image.
        settings: how near a near copy is, and how far off an outlier.

    Returns:
        A copy with the columns below, null where there is nothing to say.

        - ``size`` and ``mask_size`` such as ``"640x480"``, ``side`` the shorter one in pixels, ``storage``
          mode and bit depth, ``turned`` the EXIF orientation where most images have another;
        - ``twin_elsewhere`` on test rows: the train image of the same bytes; ``twin_before``: an earlier
          image of the same split, bytes and label; ``twin_otherwise``: one of the same bytes, another label;
        - ``group_elsewhere`` on the first test row of a group: a train image of that group;
        - ``near`` and ``bits``: the image it is a near copy of, as `near_copy_of`;
        - ``blank``: of one colour; ``unusual_statistics``: brightness or sharpness unlike the
          other images', in words;
        - ``misfit``: the mask's size where it is not the image's;
        - ``withdrawn`` on training rows: an arrival that a person judged bad since, which no fit takes;
        - ``contradicted`` on test rows: the verdict of a person that contradicts the label;
        - ``mask_of``: the earlier image whose mask file has the very same bytes.
    """
    facts = table.reset_index(drop=True).copy()
    readable = facts[facts["problem"].isna()]
    facts["size"] = _size(facts["width"], facts["height"])
    facts["mask_size"] = _size(facts["mask_width"], facts["mask_height"])
    facts["side"] = facts[["width", "height"]].astype("Float64").min(axis=1).astype("float64")
    depth = facts["bit_depth"].astype("string")
    facts["storage"] = (facts["mode"] + " with " + depth + " bits a channel").astype(object)
    usual_turn = readable["orientation"].mode()
    turned = readable["orientation"].where(~readable["orientation"].isin(usual_turn))
    facts["turned"] = turned.reindex(facts.index).astype(object)

    def add(name: str, values: pd.Series) -> None:
        facts[name] = values.reindex(facts.index).astype(object).where(lambda column: column.notna(), None)

    for name, values in _twins(readable):
        add(name, values)
    add(
        "misfit", facts["mask_size"].where(facts["mask_size"].notna() & (facts["mask_size"] != facts["size"]))
    )
    twins = facts[["twin_elsewhere", "twin_before", "twin_otherwise"]].notna().any(axis=1)
    alone = readable[~twins.reindex(readable.index)]
    copies = near_copy_of(alone[alone["perceptual_hash"].notna()], settings.near_duplicate_bits)
    add("near", copies["near"])
    add("bits", copies["bits"])
    blank = readable["contrast"] < _BLANK_CONTRAST
    add("blank", readable["brightness"].where(blank).map("{:.0f}".format, na_action="ignore"))
    ordinary = readable[~blank & ~_unusual(facts).reindex(readable.index)]
    add("unusual_statistics", _unusual_statistics(ordinary, settings.outlier_z))
    masks = readable[(readable["label"] == 1) & readable["mask_sha256"].notna() & (readable["mask_area"] > 0)]
    first = masks.groupby("mask_sha256")["path"].transform("first")
    arrived = facts["path"].map(has_arrived).astype(bool) & (facts["split"] == "train")
    add("withdrawn", facts["verdict"].where(arrived & facts["verdict"].eq(BAD).fillna(False)))
    add("contradicted", facts["verdict"].where(contradicted(facts) & (facts["split"] == "test")))
    add("mask_of", first.where(first != masks["path"]))
    return facts


def _twins(readable: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    train, test = readable[readable["split"] == "train"], readable[readable["split"] == "test"]
    elsewhere = test["sha256"].map(train.drop_duplicates("sha256").set_index("sha256")["path"])
    yield "twin_elsewhere", elsewhere
    first = readable.groupby(["split", "sha256"])[["path", "label"]].transform("first")
    later = first["path"].where(first["path"] != readable["path"])
    same = first["label"] == readable["label"]
    yield "twin_before", later.where(same)
    yield "twin_otherwise", later.where(~same)
    others = test[elsewhere.isna()].drop_duplicates("group")
    yield "group_elsewhere", others["group"].map(train.drop_duplicates("group").set_index("group")["path"])


def _unusual(facts: pd.DataFrame) -> pd.Series:
    """(N,) bool: stored or sized unlike most images, where most are alike."""
    unusual = facts["turned"].notna()
    for column in ("size", "storage"):
        counts = facts.loc[facts["problem"].isna(), column].value_counts(normalize=True)
        if len(counts) and counts.iloc[0] >= _MAJORITY:
            unusual |= facts[column] != counts.index[0]
    return unusual.astype(bool)


def _unusual_statistics(rows: pd.DataFrame, limit: float) -> pd.Series:
    """In words what is unlike the nominal training images; the first of brightness and sharpness."""
    words = pd.Series(pd.NA, index=rows.index, dtype=object)
    for column in ("sharpness", "brightness"):
        # A factor of sharpness counts the same up and down.
        values = rows[column].astype(float)
        usual = values[(rows["split"] == "train") & (rows["label"] == 0)]
        if len(usual) < _FEW:
            continue
        scale = values if column == "brightness" else _log(values)
        known = scale[usual.index]
        deviation = NORMAL_CONSISTENCY * (known - known.median()).abs().median()
        z = (scale - known.median()) / max(deviation, _LEAST_DEVIATION[column])
        for index in z.index[z.abs() > limit]:
            words[index] = (
                f"{column} {values[index]:.3g}, of the training images {usual.median():.3g} "
                f"({usual.min():.3g} to {usual.max():.3g})"
            )
    return words


def _log(values: pd.Series) -> pd.Series:
    logarithm: pd.Series = np.log(values.clip(lower=1e-3))
    return logarithm


def _size(width: pd.Series, height: pd.Series) -> pd.Series:
    both = width.notna() & height.notna()
    text = width[both].astype(int).astype(str) + "x" + height[both].astype(int).astype(str)
    return text.reindex(width.index).astype(object)

"""What a category's manifest must satisfy: facts derived from it, and the expectations on them.

Every expectation names itself and carries its reason as a template over the columns of the row that
fails it. A row is judged by exactly one expectation per fault: unreadable images are left out of all
others, and an image that is in both splits is not reported a second time through its group.
"""

from typing import Any

import pandas as pd

from reconpatch.settings import ValidateSettings

SMALLEST_SIDE = 32  # pixels: the coarsest of the default feature levels has stride 16 there

MANIFEST_COLUMNS = (
    "path", "split", "label", "mask_path", "group", "sha256", "width", "height", "mode",
    "mask_width", "mask_height", "mask_area", "problem",
)  # fmt: skip


def derive_facts(table: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that the expectations speak of; the given columns stay as they are.

    Args:
        table: a manifest with `MANIFEST_COLUMNS`, one row an image.

    Returns:
        A copy with ``size`` and ``mask_size`` (such as ``"640x480"``), ``side`` (the shorter one, pixels),
        ``twin_elsewhere`` (on test rows: the train image of the same bytes), ``twin_before`` (an earlier
        image of the same split and bytes) and ``group_elsewhere`` (on the first test row of a group: a
        train image of that group); null where there is nothing to say.
    """
    facts = table.reset_index(drop=True).copy()
    readable = facts[facts["problem"].isna()]
    facts["size"] = _size(facts["width"], facts["height"])
    facts["mask_size"] = _size(facts["mask_width"], facts["mask_height"])
    facts["side"] = facts[["width", "height"]].astype("Float64").min(axis=1).astype("float64")

    train, test = readable[readable["split"] == "train"], readable[readable["split"] == "test"]
    twins = test["sha256"].map(train.drop_duplicates("sha256").set_index("sha256")["path"])
    facts["twin_elsewhere"] = twins.reindex(facts.index).astype(object)

    first = readable.groupby(["split", "sha256"])["path"].transform("first")
    facts["twin_before"] = first.where(first != readable["path"]).reindex(facts.index).astype(object)

    others = test[twins.isna()].drop_duplicates("group")
    shared = others["group"].map(train.drop_duplicates("group").set_index("group")["path"])
    facts["group_elsewhere"] = shared.reindex(facts.index).astype(object)
    return facts


def build_suite(facts: pd.DataFrame, settings: ValidateSettings) -> Any:
    """The suite for one category's facts, as a ``great_expectations.ExpectationSuite``.

    Args:
        facts: what `derive_facts` returned. Two expectations depend on it: masks are demanded only of a
            category that has some, and sizes and modes are compared with the most frequent ones.
        settings: what the data checks demand.
    """
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    readable = Column("problem").is_null()
    train, test = Column("split") == "train", Column("split") == "test"
    nominal, defective = Column("label") == 0, Column("label") == 1
    masked = Column("mask_path").is_not_null()

    def meta(name: str, reason: str) -> dict[str, str]:
        return {"name": name, "reason": reason}

    expectations = [
        gxe.ExpectColumnValuesToBeNull(
            column="problem", severity="critical", meta=meta("readable", "{problem}"),
        ),
        gxe.ExpectTableRowCountToBeBetween(
            min_value=settings.min_train_images, row_condition=readable & train, severity="critical",
            meta=meta(
                "enough_train_images",
                "{observed_value} readable training images, at least "
                f"{settings.min_train_images} are needed (validate.min_train_images)",
            ),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="label", value_set=[0], row_condition=readable & train, severity="critical",
            meta=meta("train_is_nominal", "a defective image ({defect_type}) among the training images"),
        ),
        gxe.ExpectColumnValuesToBeNull(
            column="twin_elsewhere", row_condition=readable, severity="critical",
            meta=meta("not_in_two_splits", "the same image as {twin_elsewhere}, in the other split"),
        ),
        gxe.ExpectColumnValuesToBeNull(
            column="group_elsewhere", row_condition=readable, severity="critical",
            meta=meta("group_in_one_split", "group {group!r} is in both splits, see {group_elsewhere}"),
        ),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="size", column_B="mask_size", ignore_row_if="either_value_is_missing",
            row_condition=readable, severity="critical",
            meta=meta("mask_fits", "the mask {mask_path} is {mask_size} pixels, the image {size}"),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="mask_area", value_set=[0.0], row_condition=readable & nominal & masked,
            severity="critical",
            meta=meta("nominal_has_no_defect", "a nominal image, but its mask {mask_path} marks a defect"),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="mask_area", min_value=0, strict_min=True, row_condition=readable & defective & masked,
            severity="warning",
            meta=meta(
                "mask_not_empty",
                "a defective image, but no pixel of its mask {mask_path} is above the threshold "
                "(data.mask_threshold)",
            ),
        ),
        gxe.ExpectColumnValuesToBeNull(
            column="twin_before", row_condition=readable, severity="warning",
            meta=meta("unique_in_split", "the same image as {twin_before}"),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="side", min_value=SMALLEST_SIDE, row_condition=readable, severity="warning",
            meta=meta("large_enough", f"{{size}} pixels, sides under {SMALLEST_SIDE} carry too little"),
        ),
    ]  # fmt: skip
    defects = facts[facts["problem"].isna() & (facts["split"] == "test") & (facts["label"] == 1)]
    if defects["mask_path"].notna().any():
        expectations.append(
            gxe.ExpectColumnValuesToNotBeNull(
                column="mask_path", row_condition=readable & test & defective, severity="critical",
                meta=meta("defect_has_mask", "a defective image without a mask, though others have one"),
            )
        )  # fmt: skip
    for column, name in (("size", "one_size"), ("mode", "one_mode")):
        values = facts.loc[facts["problem"].isna(), column].dropna()
        if len(values):
            usual = values.mode().iloc[0]
            expectations.append(
                gxe.ExpectColumnValuesToBeInSet(
                    column=column, value_set=[usual], row_condition=readable, severity="warning",
                    meta=meta(name, f"{column} {{{column}}}, most images have {usual}"),
                )
            )  # fmt: skip
    return gx.ExpectationSuite(name="manifest", expectations=expectations)


def _size(width: pd.Series, height: pd.Series) -> pd.Series:
    both = width.notna() & height.notna()
    text = width[both].astype(int).astype(str) + "x" + height[both].astype(int).astype(str)
    return text.reindex(width.index).astype(object)

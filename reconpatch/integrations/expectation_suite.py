"""What a category's manifest must satisfy, as expectations on the facts derived from it.

Every expectation names itself and carries its reason as a template over the columns of the row that
fails it. A row is judged by exactly one expectation per fault.
"""

from typing import Any

import pandas as pd

from reconpatch.settings import ValidateSettings

LARGEST_DEFECT = 0.8  # share of an image; a mask that marks more is likely inverted
SMALLEST_SIDE = 32  # pixels: the coarsest of the default feature levels has stride 16 there


def build_suite(facts: pd.DataFrame, settings: ValidateSettings) -> Any:
    """The suite for one category's facts, as a ``great_expectations.ExpectationSuite``.

    What only readable images have needs no condition, which would cost more than the expectation itself.

    Args:
        facts: what `derive_facts` returned. Some expectations depend on it: masks are demanded only of a
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
    fitting = defective & (Column("mask_area") > 0) & Column("misfit").is_null()
    # A size that is too small, turned, or not that of the mask is told by those.
    comparable = Column("turned").is_null() & Column("misfit").is_null() & (Column("side") >= SMALLEST_SIDE)

    def meta(name: str, reason: str) -> dict[str, str]:
        return {"name": name, "reason": reason}

    def absent(column: str, severity: str, name: str, reason: str) -> Any:
        return gxe.ExpectColumnValuesToBeNull(column=column, severity=severity, meta=meta(name, reason))

    expectations = [
        absent("problem", "critical", "readable", "{problem}"),
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
        gxe.ExpectColumnValuesToNotBeInSet(
            column="verdict", value_set=["bad"], severity="critical",
            row_condition=readable & train & Column("withdrawn").is_null(),
            meta=meta(
                "train_is_not_judged_bad", "a person judged the part bad; move it out of the training images"
            ),
        ),
        absent(
            "withdrawn", "warning", "arrival_is_not_judged_bad",
            "joined from the inbox, and a person judged the part bad since: no fit takes it",
        ),
        absent(
            "contradicted", "warning", "label_agrees_with_verdict",
            "labelled {defect_type}, but a person judged the part {contradicted}: it is left out; move it "
            "to where it belongs",
        ),
        absent(
            "twin_elsewhere", "critical", "not_in_two_splits",
            "the same image as {twin_elsewhere}, in the other split",
        ),
        absent(
            "group_elsewhere", "critical", "group_in_one_split",
            "group {group!r} is in both splits, see {group_elsewhere}",
        ),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="size", column_B="mask_size", ignore_row_if="either_value_is_missing",
            row_condition=readable, severity="critical",
            meta=meta("mask_fits", "the mask {mask_path} is {mask_size} pixels, the image {size}"),
        ),
        absent(
            "twin_otherwise", "critical", "one_label",
            "labelled {defect_type}, but {twin_otherwise} is the same image",
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="mask_area", value_set=[0.0], row_condition=readable & nominal & masked,
            severity="critical",
            meta=meta("nominal_has_no_defect", "a nominal image, but its mask {mask_path} marks a defect"),
        ),
        gxe.ExpectColumnValuesToBeNull(
            column="mask_path", row_condition=readable & nominal & (Column("mask_area") == 0),
            severity="warning",
            meta=meta("nominal_has_no_mask", "a nominal image with a mask, {mask_path}, that marks nothing"),
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
        gxe.ExpectColumnValuesToBeInSet(
            column="mask_grey", value_set=[0.0], row_condition=fitting,
            severity="warning",
            meta=meta(
                "mask_is_binary",
                "its mask {mask_path} is neither black nor white in {mask_grey:.1%} of its pixels; the "
                "threshold decides about them (data.mask_threshold), or all count as defective where no "
                "value is above 15 (numbers of classes)",
            ),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="mask_area", max_value=LARGEST_DEFECT, row_condition=fitting, severity="warning",
            meta=meta(
                "mask_not_inverted",
                "its mask {mask_path} marks {mask_area:.0%} of the image; is black for good and white for "
                "defective?",
            ),
        ),
        absent(
            "mask_of", "warning", "mask_of_its_own",
            "its mask {mask_path} is the same as that of {mask_of}",
        ),
        absent(
            "near", "warning", "no_near_copy",
            "looks like {near} ({bits} of 256 bits differ): a copy, or the same part? Then put both into "
            "one group and one split",
        ),
        absent("blank", "warning", "not_blank", "is all of one colour (grey value {blank})"),
        absent("unusual_statistics", "warning", "looks_usual", "{unusual_statistics} (validate.outlier_z)"),
        absent(
            "turned", "warning", "one_orientation",
            "is turned by its EXIF orientation {turned} as most images are not; save it upright",
        ),
        absent("twin_before", "warning", "unique_in_split", "the same image as {twin_before}"),
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
    for column, name, asked in (
        ("size", "one_size", settings.same_size),
        ("storage", "one_mode", settings.same_mode),
    ):
        values = facts.loc[facts["problem"].isna(), column].dropna()
        if asked and len(values):
            usual = values.mode().iloc[0]
            expectations.append(
                gxe.ExpectColumnValuesToBeInSet(
                    column=column, value_set=[usual], severity="warning",
                    row_condition=comparable if column == "size" else readable,
                    meta=meta(name, f"{{{column}}}, most images are {usual} (validate.same_{name[4:]})"),
                )
            )  # fmt: skip
    if len(defects) and not ((facts["split"] == "test") & (facts["label"] == 0)).any():
        expectations.append(
            gxe.ExpectTableRowCountToBeBetween(
                min_value=1, row_condition=readable & test & nominal, severity="warning",
                meta=meta("test_has_nominal", "no nominal test image: false alarms cannot be counted"),
            )
        )  # fmt: skip
    return gx.ExpectationSuite(name="manifest", expectations=expectations)

import pandas as pd
from manifest_rows import defect, manifest, row

from reconpatch.data.quality_facts import derive_facts as derive
from reconpatch.settings import ValidateSettings

LIKE, NEAR, FAR = "0" * 64, "0" * 61 + "fff", "f" * 64


def derive_facts(table: pd.DataFrame, **settings: float) -> pd.DataFrame:
    return derive(table, ValidateSettings.model_validate(settings))


def test_sizes_and_shorter_side_are_null_where_the_image_is() -> None:
    facts = derive_facts(manifest([row("a", width=64, height=48), row("b", width=None, height=None)]))
    assert facts["size"].iloc[0] == "64x48"
    assert facts["side"].iloc[0] == 48.0
    assert facts[["size", "side"]].iloc[1].isna().all()


def test_the_test_image_names_its_twin_of_train_and_only_it() -> None:
    facts = derive_facts(manifest([row("train/a", sha256="x"), row("test/b", split="test", sha256="x")]))
    assert facts["twin_elsewhere"].isna().tolist() == [True, False]
    assert facts["twin_elsewhere"].iloc[1] == "train/a"


def test_a_later_twin_of_the_same_split_names_the_first() -> None:
    facts = derive_facts(manifest([row("a", sha256="x"), row("b", sha256="x"), row("c", sha256="x")]))
    assert facts["twin_before"].dropna().tolist() == ["a", "a"]


def test_one_row_a_shared_group_and_none_for_a_twin() -> None:
    facts = derive_facts(
        manifest(
            [
                row("train/a", group="part 1", sha256="x"),
                row("test/b", split="test", group="part 1"),
                row("test/c", split="test", group="part 1"),
                row("train/d", group="part 2", sha256="y"),
                row("test/e", split="test", group="part 2", sha256="y"),
            ]
        )
    )
    assert facts["group_elsewhere"].dropna().to_dict() == {1: "train/a"}


def test_unreadable_images_have_no_twins() -> None:
    facts = derive_facts(manifest([row("a", sha256="x"), row("b", sha256="x", problem="is cut short")]))
    assert facts["twin_before"].isna().all()


def test_the_given_table_stays_as_it_is() -> None:
    table = manifest([row("a"), row("b")])
    before = table.copy()
    derive_facts(table)
    pd.testing.assert_frame_equal(table, before)


def test_one_image_under_two_labels_is_no_plain_twin() -> None:
    facts = derive_facts(manifest([row("test/a", split="test", sha256="x"), defect("test/b", sha256="x")]))
    assert facts["twin_otherwise"].dropna().to_dict() == {1: "test/a"}
    assert facts["twin_before"].isna().all()


def test_a_near_copy_is_told_once_at_the_test_image_or_the_later_one() -> None:
    facts = derive_facts(
        manifest(
            [
                row("test/a", split="test", perceptual_hash=LIKE),
                row("train/b", perceptual_hash=NEAR),
                row("train/c", perceptual_hash=FAR),
                row("train/d", perceptual_hash=FAR),
                row("train/e"),
            ]
        )
    )
    assert facts["near"].dropna().to_dict() == {0: "train/b", 3: "train/c"}
    assert facts["bits"].dropna().to_dict() == {0: 12, 3: 0}


def test_no_near_copies_within_a_group_beyond_the_limit_or_of_twins() -> None:
    rows = [
        row("train/a", perceptual_hash=LIKE, group="part"),
        row("train/b", perceptual_hash=LIKE, group="part"),
        row("train/c", perceptual_hash=NEAR),
        row("test/d", split="test", perceptual_hash=NEAR, sha256="sha of train/c"),
    ]
    assert derive_facts(manifest(rows), near_duplicate_bits=11)["near"].isna().all()
    assert derive_facts(manifest(rows))["near"].dropna().tolist() == ["train/a"]


def test_of_several_the_nearest_is_named() -> None:
    rows = [row(f"train/{i}", perceptual_hash=f"{2**i - 1:064x}") for i in range(9)]
    assert derive_facts(manifest(rows))["near"].tolist() == [None, *(f"train/{i}" for i in range(8))]


def _spread(count: int, **other: float) -> list[dict]:
    return [row(f"train/{i}", brightness=100.0 + i, sharpness=50.0 + 5 * i, **other) for i in range(count)]


def test_what_looks_unlike_the_training_images_is_told_once_with_the_numbers() -> None:
    rows = [
        *_spread(9),
        row("dark", brightness=5.0, contrast=20.0),
        row("soft", brightness=103.0, sharpness=2.0),
        row("dark and soft", brightness=5.0, sharpness=2.0),
        row("black", brightness=0.0, contrast=0.0, sharpness=0.0),
        row("usual", brightness=104.0, sharpness=70.0),
    ]
    facts = derive_facts(manifest(rows)).set_index("path")
    assert facts["unusual_statistics"].dropna().index.tolist() == ["dark", "soft", "dark and soft"]
    assert facts.loc["soft", "unusual_statistics"].startswith("sharpness 2, of the training images")
    assert facts["unusual_statistics"]["dark and soft"].startswith("brightness 5")
    assert facts["blank"].dropna().to_dict() == {"black": "0"}


def test_images_stored_otherwise_are_not_compared_for_their_looks() -> None:
    odd = {"brightness": 5.0, "split": "test"}
    rows = [
        *_spread(9),
        row("wide", width=80, **odd),
        row("deep", bit_depth=16, **odd),
        row("turned", orientation=6, **odd),
    ]
    facts = derive_facts(manifest(rows))
    assert facts["unusual_statistics"].isna().all()
    assert facts["turned"].dropna().tolist() == [6]


def test_a_few_images_have_no_distribution() -> None:
    assert (
        derive_facts(manifest([*_spread(4), row("dark", split="test", brightness=0.0)]))["unusual_statistics"]
        .isna()
        .all()
    )


def test_equal_images_do_not_make_every_other_one_an_outlier() -> None:
    rows = [*(row(f"train/{i}") for i in range(9)), row("train/x", brightness=103.0, sharpness=110.0)]
    assert derive_facts(manifest(rows))["unusual_statistics"].isna().all()


def test_a_mask_used_twice_names_the_first() -> None:
    shared = {"mask_sha256": "m"}
    rows = [defect("a", **shared), defect("b", **shared), defect("c", mask_sha256="n"), row("d")]
    assert derive_facts(manifest(rows))["mask_of"].dropna().to_dict() == {1: "a"}

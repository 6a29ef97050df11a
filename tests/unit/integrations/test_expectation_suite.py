import pandas as pd
from manifest_rows import manifest, row

from reconpatch.integrations.expectation_suite import derive_facts


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

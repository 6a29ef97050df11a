"""The manifest: one row an image, reasons instead of exceptions, a digest of content."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reconpatch.data import manifest as manifest_module
from reconpatch.data.manifest import (
    COLUMNS,
    build_manifest,
    image_paths,
    join_manifests,
    manifest_digest,
    mask_paths,
    read_manifest,
    write_manifest,
)
from reconpatch.errors import DataError
from reconpatch.settings import DataSettings
from reconpatch.storage.atomic_files import sha256_file

SETTINGS = DataSettings()


@pytest.fixture
def category(tmp_path: Path) -> Path:
    """Two nominal images and a defect with a mask, in MVTec's layout."""
    root = tmp_path / "data" / "bottle"
    rng = np.random.default_rng(0)
    for path in ("train/good/0.png", "train/good/1.png", "test/crack/0.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(root / path)
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[:3, :4] = 255
    (root / "ground_truth/crack").mkdir(parents=True)
    Image.fromarray(mask).save(root / "ground_truth/crack/0_mask.png")
    return root


def test_rows_columns_and_attributes(category):
    table = build_manifest(category, SETTINGS)
    assert dict(table.dtypes.astype(str)) == COLUMNS
    assert table["path"].tolist() == ["test/crack/0.png", "train/good/0.png", "train/good/1.png"]
    defect = table.iloc[0]
    assert defect["category"] == "bottle"
    assert (defect["split"], defect["label"], defect["defect_type"]) == ("test", 1, "crack")
    assert (defect["width"], defect["height"], defect["mode"], defect["bit_depth"]) == (8, 6, "RGB", 8)
    assert defect["mask_path"] == "ground_truth/crack/0_mask.png"
    assert (defect["mask_width"], defect["mask_height"], defect["mask_area"]) == (8, 6, 0.25)
    assert defect["sha256"] == sha256_file(category / "test/crack/0.png")
    assert defect["mask_sha256"] == sha256_file(category / "ground_truth/crack/0_mask.png")
    assert (defect["group"], defect["layout"]) == ("test/crack/0.png", "mvtec")
    assert table["problem"].isna().all()
    assert (
        table.loc[1:, ["mask_path", "mask_sha256", "mask_width", "mask_height", "mask_area"]]
        .isna()
        .all(axis=None)
    )
    assert table.attrs == {"root": str(category), "strays": []}


def test_paths_of_rows(category):
    table = build_manifest(category, SETTINGS)
    train = table[table["split"] == "train"]
    assert image_paths(train) == [category / "train/good/0.png", category / "train/good/1.png"]
    assert mask_paths(table) == [category / "ground_truth/crack/0_mask.png", None, None]


def test_broken_files_are_rows_with_a_reason(category):
    (category / "train/good/0.png").write_bytes(b"")
    (category / "train/good/2.png").write_text("text")
    (category / "ground_truth/crack/0_mask.png").write_bytes(b"cut")
    (category / "train/good/3.png").symlink_to("/etc/hostname")
    table = build_manifest(category, SETTINGS).set_index("path")
    assert table["problem"].isna().tolist() == [False, False, True, False, False]
    assert "zero bytes" in table.loc["train/good/0.png", "problem"]
    assert "no image of a known format" in table.loc["train/good/2.png", "problem"]
    assert table.loc["train/good/2.png", "sha256"] == sha256_file(category / "train/good/2.png")
    assert table.loc["test/crack/0.png", "problem"].startswith(
        "its mask ground_truth/crack/0_mask.png holds no"
    )
    assert "leaves the category" in table.loc["train/good/3.png", "problem"]
    assert pd.isna(table.loc["train/good/3.png", "sha256"])
    assert table.loc["train/good/0.png", ["width", "height", "mode", "bit_depth"]].isna().all()


def test_a_table_of_broken_files_only_keeps_its_types(tmp_path):
    (tmp_path / "a.png").touch()
    table = build_manifest(tmp_path, SETTINGS)
    assert dict(table.dtypes.astype(str)) == COLUMNS
    write_manifest(table, tmp_path / "out" / "m.parquet")
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "out" / "m.parquet"), table)


def test_strays_travel_with_the_table(category, tmp_path):
    (category / "train/good/notes.txt").touch()
    (category / "groups.csv").write_text("path,group\ntrain/good/0.png,p\ntrain/good/1.png,p\n")
    table = build_manifest(category, SETTINGS)
    assert table["group"].tolist() == ["test/crack/0.png", "p", "p"]
    assert [path for path, _ in table.attrs["strays"]] == ["train/good/notes.txt", "test/crack/0.png"]
    write_manifest(table, tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").attrs == table.attrs


def test_settings_are_used(category):
    assert build_manifest(category, DataSettings(group_pattern=r"good/(\d)"))["group"].tolist() == [
        "test/crack/0.png",
        "0",
        "1",
    ]
    mask = Image.fromarray(np.full((6, 8), 100, dtype=np.uint8))
    mask.save(category / "ground_truth/crack/0_mask.png")
    assert build_manifest(category, SETTINGS)["mask_area"].iloc[0] == 0
    assert build_manifest(category, DataSettings(mask_threshold=99))["mask_area"].iloc[0] == 1
    by_hand = build_manifest(category, DataSettings(layout="btad"))
    assert by_hand["path"].tolist() == ["test/crack/0.png"]
    assert by_hand["layout"].tolist() == ["btad"]
    assert [path for path, _ in by_hand.attrs["strays"]] == ["train/good/0.png", "train/good/1.png"]


def test_a_broken_groups_csv_is_refused_or_told(category):
    (category / "groups.csv").write_text("path,group\ntrain/good/0.png\n")
    with pytest.raises(DataError, match=r"groups\.csv: line 2"):
        build_manifest(category, SETTINGS)
    ((path, reason),) = build_manifest(category, SETTINGS, tell_groups=True).attrs["faults"]
    assert (path, reason) == ("groups.csv", "line 2 needs one path and one group")


def test_manifests_of_several_categories_are_one_that_finds_every_file(category):
    shutil.copytree(category, other := category.with_name("can"))
    Image.new("RGB", (6, 8)).save(other / "train/good/0.png")
    (other / "train/good/notes.txt").touch()
    tables = {name: build_manifest(category.with_name(name), SETTINGS) for name in ("bottle", "can")}
    joined = join_manifests(tables, category.parent)
    assert dict(joined.dtypes.astype(str)) == COLUMNS
    assert len(joined) == 6
    assert all(path.is_file() for path in image_paths(joined))
    assert [path is not None and path.is_file() for path in mask_paths(joined)] == 2 * [True, False, False]
    assert joined["group"].tolist() == joined["path"].tolist()
    assert joined["defect_type"].tolist()[:2] == ["bottle/crack", "good"]
    assert joined["category"].tolist() == 3 * ["bottle"] + 3 * ["can"]
    assert [path for path, _ in joined.attrs["strays"]] == ["can/train/good/notes.txt"]
    assert tables["can"]["path"].iloc[0] == "test/crack/0.png"


def test_an_empty_category_raises(tmp_path):
    (tmp_path / "train/good").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no image"):
        build_manifest(tmp_path, SETTINGS)
    with pytest.raises(DataError, match="no such folder"):
        build_manifest(tmp_path / "missing", SETTINGS)


def test_each_file_is_looked_at_once(category, looked_at):
    build_manifest(category, SETTINGS)
    assert len(looked_at) == len(set(looked_at)) == 4


def test_workers_do_not_change_the_table(category):
    pd.testing.assert_frame_equal(
        build_manifest(category, SETTINGS, workers=1), build_manifest(category, SETTINGS, workers=7)
    )


def test_equal_tables_are_equal_bytes(category, tmp_path):
    for name in ("a", "b"):
        write_manifest(build_manifest(category, SETTINGS), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_manifest(category, tmp_path, monkeypatch):
    table = build_manifest(category, SETTINGS)
    write_manifest(table, tmp_path / "m")
    before = (tmp_path / "m").read_bytes()

    def fail(_: pd.DataFrame, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(f"disk full {options}")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        write_manifest(table, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "m"]


def test_manifests_that_cannot_be_read(category, tmp_path):
    write_manifest(build_manifest(category, SETTINGS), tmp_path / "m")
    (tmp_path / "cut").write_bytes((tmp_path / "m").read_bytes()[:-100])
    pd.DataFrame({"path": ["a"]}).to_parquet(tmp_path / "other")
    for name in ("missing", "cut"):
        with pytest.raises(DataError, match=f"{name}: is no readable manifest"):
            read_manifest(tmp_path / name)
    with pytest.raises(DataError, match="has other columns"):
        read_manifest(tmp_path / "other")


def test_the_digest_does_not_depend_on_place_order_or_threshold(category, tmp_path):
    digest = manifest_digest(build_manifest(category, SETTINGS))
    shutil.copytree(category, tmp_path / "elsewhere" / "flask")
    moved = build_manifest(tmp_path / "elsewhere" / "flask", DataSettings(mask_threshold=3))
    assert manifest_digest(moved) == digest
    assert manifest_digest(moved.iloc[::-1]) == digest
    write_manifest(moved, tmp_path / "m")
    assert manifest_digest(read_manifest(tmp_path / "m")) == digest


def test_the_digest_depends_on_all_content(category):
    digests = {manifest_digest(build_manifest(category, SETTINGS))}
    changes = [
        lambda: Image.new("L", (8, 6)).save(category / "train/good/0.png"),
        lambda: Image.new("L", (8, 6)).save(category / "ground_truth/crack/0_mask.png"),
        lambda: (category / "groups.csv").write_text("path,group\ntrain/good/0.png,p\n"),
        lambda: (category / "train/good/1.png").rename(category / "train/good/9.png"),
        lambda: (category / "test/crack").rename(category / "test/good"),
        lambda: (category / "ground_truth/crack").rename(category / "ground_truth/good"),
        lambda: (category / "train/good/9.png").unlink(),
    ]
    for change in changes:
        change()
        digests.add(manifest_digest(build_manifest(category, SETTINGS)))
    assert len(digests) == len(changes) + 1


def test_the_thread_count_reaches_the_pool(category, monkeypatch):
    seen: list[int] = []
    real = manifest_module.ThreadPoolExecutor
    monkeypatch.setattr(manifest_module, "ThreadPoolExecutor", lambda n: seen.append(n) or real(n))
    build_manifest(category, SETTINGS, workers=3)
    assert seen == [3]


@pytest.mark.real_images
def test_four_masks_of_magnetic_tile_are_empty(real_images):
    root = real_images / "magnetic_tile" / "magnetic_tile"
    table = build_manifest(root, SETTINGS)
    assert table["problem"].isna().all()
    assert len(table) == 699 + 253 + 392
    defects = table[table["label"] == 1]
    empty = defects.loc[defects["mask_area"] == 0, "path"]
    assert empty.tolist() == [
        "test/uneven/exp3_num_45042.jpg",
        "test/uneven/exp4_num_124690.jpg",
        "test/uneven/exp4_num_352527.jpg",
        "test/uneven/exp4_num_45057.jpg",
    ]
    assert table["group"].nunique() == 224
    assert table["width"].nunique() > 1
    assert (defects["mask_width"] == defects["width"]).all()

"""The manifest: one table that says which bytes a category consists of and what is known about each image."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from reconpatch.data.file_listing import printable
from reconpatch.data.groups import GROUPS_FILE, find_groups
from reconpatch.data.images import ImageProbe, MaskProbe
from reconpatch.data.layouts import ImageFile, detect_layout, find_strays, scan_category
from reconpatch.data.probe_cache import ProbeCache
from reconpatch.data.reviews import read_data_reviews
from reconpatch.errors import DataError
from reconpatch.progress import track
from reconpatch.settings import DataSettings
from reconpatch.storage.atomic_files import atomic_file, sha256_json

# Nullable types, so that a refused image has nulls and no column changes its type with the data.
COLUMNS = {
    "path": "string",
    "category": "string",
    "split": "string",
    "label": "int64",
    "defect_type": "string",
    "mask_path": "string",
    "group": "string",
    "layout": "string",
    "sha256": "string",
    "width": "Int64",
    "height": "Int64",
    "mode": "string",
    "bit_depth": "Int64",
    "orientation": "Int64",
    "perceptual_hash": "string",
    "brightness": "Float64",
    "contrast": "Float64",
    "sharpness": "Float64",
    "mask_sha256": "string",
    "mask_width": "Int64",
    "mask_height": "Int64",
    "mask_area": "Float64",
    "mask_grey": "Float64",
    "verdict": "string",
    "problem": "string",
}
_CONTENT = ("path", "sha256", "split", "label", "defect_type", "group", "mask_path", "mask_sha256", "verdict")


def build_manifest(
    category_root: Path,
    settings: DataSettings,
    *,
    workers: int = 2,
    cache: Path | None = None,
    tell_groups: bool = False,
) -> pd.DataFrame:
    """Hash and decode every image and mask of a category once.

    Args:
        category_root: folder of one category (`layouts` says which are recognised).
        settings: layout, mask threshold, group pattern, and the seconds that an image may take.
        workers: images and masks that are read at the same time, each in a process (`decoding_pool`).
        cache: file that remembers what was read (`probe_cache`): files that are unchanged since are not read
            again, and the table is the same; None: everything is read.
        tell_groups: for the data checks, which find every problem in one pass: what is wrong with a
            ``groups.csv`` is listed as [path, reason] in ``attrs["faults"]``, and its sound lines are used.

    Returns:
        One row an image, sorted by path, with the types of `COLUMNS`. A refused image or mask has its reason
        in ``problem`` and raises nothing. ``attrs["root"]`` is the category root as given, and
        ``attrs["strays"]`` lists [path, reason] of what lies in the category without being one of its images.

    Raises:
        DataError: the folder is no category, holds no image, or its ``groups.csv`` or ``reviews.csv``
            cannot be used.
        SettingsError: the group pattern cannot be used.
        ReConPatchError: no process can be started.
    """
    layout = detect_layout(category_root) if settings.layout == "auto" else settings.layout
    files = scan_category(category_root, layout)
    strays = find_strays(category_root, layout)
    grouping = find_groups([file.path for file in files], category_root, settings.group_pattern)
    if grouping.faults and not tell_groups:
        raise DataError(f"{category_root / GROUPS_FILE}: {grouping.faults[0]}")
    said = {one.image_sha256: one.verdict for one in read_data_reviews(category_root).values()}
    probes = ProbeCache(cache, settings.decode_seconds)
    with ThreadPoolExecutor(workers) as pool:
        looks = pool.map(lambda file: _look(category_root, file, settings.mask_threshold, probes), files)
        looked = list(track(looks, "manifest", total=len(files)))
    probes.save()
    category = printable(category_root.resolve().name)
    rows = [
        _row(file, look)
        | {
            "category": category,
            "group": group,
            "layout": layout,
            "verdict": said.get(str(look.image.sha256)),
        }
        for file, look, group in zip(files, looked, grouping.groups, strict=True)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    table.attrs["root"] = str(category_root)
    table.attrs["strays"] = [[stray.path, stray.reason] for stray in [*strays, *grouping.strays]]
    if grouping.faults:
        table.attrs["faults"] = [[GROUPS_FILE, fault] for fault in grouping.faults]
    return table


def join_manifests(tables: Mapping[str, pd.DataFrame], root: Path) -> pd.DataFrame:
    """The manifests of several categories as one, for a detector of all of them.

    Paths start with the category's name, and so do groups and types of defects: those of two categories
    are two.

    Args:
        tables: by the category's name.
        root: the folder that holds the categories' folders under these names.
    """
    parts = []
    for name, table in tables.items():
        part = table.copy()
        part.attrs = {}
        for column in ("path", "mask_path", "group"):
            part[column] = f"{name}/" + part[column]
        part["defect_type"] = part["defect_type"].mask(part["label"] != 0, f"{name}/" + part["defect_type"])
        parts.append(part)
    joined = pd.concat(parts, ignore_index=True).astype(COLUMNS)
    joined.attrs["root"] = str(root)
    joined.attrs["strays"] = [
        [f"{name}/{path}", reason]
        for name, table in tables.items()
        for path, reason in table.attrs.get("strays", [])
    ]
    return joined


def write_manifest(table: pd.DataFrame, path: Path) -> None:
    """Write a manifest as parquet, atomically; equal tables give equal bytes."""
    with atomic_file(path) as temporary:
        table.to_parquet(temporary, engine="pyarrow", index=False)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read what `write_manifest` wrote, with types and attributes.

    Raises:
        DataError: the file is missing, damaged, or holds another table.
    """
    try:
        table = pd.read_parquet(path, engine="pyarrow")
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: is no readable manifest ({error}); build it again") from None
    if list(table.columns) != list(COLUMNS) or "root" not in table.attrs:
        raise DataError(f"{path}: has other columns than a manifest of this version; build it again")
    return table.astype(COLUMNS)


def manifest_digest(table: pd.DataFrame) -> str:
    """Hex SHA-256 of what the images are and mean: paths, bytes, split, labels, groups, masks, verdicts.

    It depends neither on where the root lies nor on the order of the rows.
    """
    content = table.loc[:, list(_CONTENT)].sort_values("path")
    rows = [
        [None if pd.isna(value) else value for value in row]
        for row in content.to_numpy(dtype=object).tolist()
    ]
    return sha256_json(rows)


def image_paths(table: pd.DataFrame) -> list[Path]:
    """Where the images of ``table`` (a manifest or rows of one) lie, in order."""
    root = Path(table.attrs["root"])
    return [root / path for path in table["path"]]


def mask_paths(table: pd.DataFrame) -> list[Path | None]:
    """Where the masks of ``table`` lie, in order; None for an image without one."""
    root = Path(table.attrs["root"])
    return [None if pd.isna(path) else root / path for path in table["mask_path"]]


@dataclass(frozen=True)
class _Look:
    image: ImageProbe
    mask: MaskProbe


def _look(root: Path, file: ImageFile, threshold: int, probes: ProbeCache) -> _Look:
    if file.problem is not None:
        return _Look(ImageProbe(problem=file.problem), MaskProbe())
    mask = MaskProbe() if file.mask_path is None else probes.mask(root / file.mask_path, threshold)
    return _Look(probes.image(root / file.path), mask)


def _row(file: ImageFile, look: _Look) -> dict[str, Any]:
    problem = look.image.problem
    if problem is None and look.mask.problem is not None:
        problem = f"its mask {file.mask_path} {look.mask.problem}"
    return {
        "path": file.path,
        "split": file.split,
        "label": file.label,
        "defect_type": file.defect_type,
        "mask_path": file.mask_path,
        "sha256": look.image.sha256,
        "width": look.image.width,
        "height": look.image.height,
        "mode": look.image.mode,
        "bit_depth": look.image.bit_depth,
        "orientation": look.image.orientation,
        "perceptual_hash": look.image.perceptual_hash,
        "brightness": look.image.brightness,
        "contrast": look.image.contrast,
        "sharpness": look.image.sharpness,
        "mask_sha256": look.mask.sha256,
        "mask_width": look.mask.width,
        "mask_height": look.mask.height,
        "mask_area": look.mask.area,
        "mask_grey": look.mask.grey,
        "problem": problem,
    }

"""Rows of a manifest as a test needs them: sound ones, with what is wrong given by name."""

from typing import Any

import pandas as pd

from reconpatch.data.manifest import COLUMNS


def row(path: str, **other: Any) -> dict[str, Any]:
    """A sound nominal image."""
    sound = {
        "path": path, "category": "nut", "split": "train", "label": 0, "defect_type": "good", "group": path,
        "layout": "mvtec", "sha256": f"sha of {path}", "width": 64, "height": 64, "mode": "RGB",
        "bit_depth": 8, "orientation": 1, "brightness": 100.0, "contrast": 50.0, "sharpness": 100.0,
    }  # fmt: skip
    return {**dict.fromkeys(COLUMNS), **sound, **other}


def defect(path: str, **other: Any) -> dict[str, Any]:
    """A sound defective test image with its mask."""
    mask = {"mask_path": f"mask of {path}", "mask_width": 64, "mask_height": 64, "mask_area": 0.1}
    mask |= {"mask_sha256": f"sha of mask of {path}", "mask_grey": 0.0}
    return row(path, **{"split": "test", "label": 1, "defect_type": "hole", **mask, **other})


def manifest(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A table with the types that a manifest has."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)

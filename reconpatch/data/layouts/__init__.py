"""Where the images of a category lie: one file a layout, and what finds and reads categories."""

from reconpatch.data.layouts.category_scan import ImageFile, find_strays, scan_category
from reconpatch.data.layouts.layout_detection import (
    REGION,
    category_roots,
    detect_layout,
    find_categories,
    region_file,
    train_folder,
)

__all__ = [
    "REGION",
    "ImageFile",
    "category_roots",
    "detect_layout",
    "find_categories",
    "find_strays",
    "region_file",
    "scan_category",
    "train_folder",
]

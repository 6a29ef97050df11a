"""Images, masks, layouts, groups and the manifest of a category."""

from reconpatch.data.demo import make_demo
from reconpatch.data.groups import assign_groups, hold_out_groups
from reconpatch.data.images import decode_image, read_image, read_mask
from reconpatch.data.layouts import ImageFile, detect_layout, find_categories, find_strays, scan_category
from reconpatch.data.manifest import (
    build_manifest,
    image_paths,
    manifest_digest,
    mask_paths,
    read_manifest,
    write_manifest,
)

__all__ = [
    "ImageFile",
    "assign_groups",
    "build_manifest",
    "decode_image",
    "detect_layout",
    "find_categories",
    "find_strays",
    "hold_out_groups",
    "image_paths",
    "make_demo",
    "manifest_digest",
    "mask_paths",
    "read_image",
    "read_manifest",
    "read_mask",
    "scan_category",
    "write_manifest",
]

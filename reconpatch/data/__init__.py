"""Images, masks, layouts, groups and the manifest of a category."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "demo": ("make_demo",),
    "groups": ("assign_groups", "hold_out_groups"),
    "images": ("decode_image", "read_image", "read_mask"),
    "layouts": ("ImageFile", "detect_layout", "find_categories", "find_strays", "scan_category"),
    "manifest": (
        "build_manifest",
        "image_paths",
        "manifest_digest",
        "mask_paths",
        "read_manifest",
        "write_manifest",
    ),
}


def __getattr__(name: str) -> Any:
    """Import pandas and the rest only for who asks for them: a process that decodes starts without."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Every layout. A new one takes a file beside this one and an entry here; CONTRIBUTING.md has the recipe."""

from reconpatch.data.layouts.btad import BTAD
from reconpatch.data.layouts.layout import Layout
from reconpatch.data.layouts.mvtec import MVTEC
from reconpatch.data.layouts.plain_folder import PLAIN_FOLDER

# Recognised in this order: all first signs, then all second ones, so that a plain folder `good` with a
# `test` beside it is not taken for MVTec's.
LAYOUTS: tuple[Layout, ...] = (
    MVTEC,
    BTAD,
    PLAIN_FOLDER,
)
AUTO = "auto"
LAYOUT_NAMES = tuple(layout.name for layout in LAYOUTS)
LAYOUT_HELP = ", ".join(f"{layout.name} ({layout.title})" for layout in LAYOUTS)

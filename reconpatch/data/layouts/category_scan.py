"""The images of a category with labels and masks, and the files that are none of its images.

Every folder of a layout is searched with all its subfolders. A mask has its image's name (with any image
ending), or that name and one of `masks.MASK_SUFFIXES`, and lies under the same subfolder; a mask beside its
image is recognised by such a suffix. `roi.png` in the root is no image but says what of them counts
(`reconpatch.model.region`). Hidden files are ignored, and links that leave the root are never read.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconpatch.data.file_listing import Stray, list_files
from reconpatch.data.layouts.layout import ImagePlace, MaskPlace
from reconpatch.data.layouts.layout_detection import REGION, find_layout
from reconpatch.data.layouts.layout_registry import AUTO
from reconpatch.data.masks import masks_beside, match_masks
from reconpatch.errors import DataError


@dataclass(frozen=True)
class ImageFile:
    """One image of a category.

    Attributes:
        path: posix, relative to the category root (as ``mask_path``).
        split: ``train`` or ``test``.
        label: 0 nominal, 1 defective.
        defect_type: the folder's name, ``good`` when nominal.
        mask_path: the mask that belongs to it, if any; a nominal image should have none.
        problem: why the file must not be read (a link that leads away); None for the others.
    """

    path: str
    split: str
    label: int
    defect_type: str
    mask_path: str | None = None
    problem: str | None = None


def scan_category(root: Path, layout: str = AUTO) -> list[ImageFile]:
    """All images of a category with their labels and masks, sorted by path.

    Args:
        root: the category's folder.
        layout: name of a layout, or ``auto`` to recognise it.

    Raises:
        DataError: no layout fits, or there is no image at all.
        SettingsError: ``layout`` is unknown.
    """
    images, strays = _scan(root, layout)
    if not images:
        found = f" ({strays[0].path} {strays[0].reason})" if strays else ""
        raise DataError(f"{root}: holds no image of layout {layout}{found}; put nominal images into it")
    return images


def find_strays(root: Path, layout: str = AUTO) -> list[Stray]:
    """Files of a category that `scan_category` leaves out, each with the reason, sorted by path.

    These are masks of no image, files that are no images among images, images outside the layout's folders,
    folder links, special files, and names that are not UTF-8 or hold control characters.

    Raises:
        DataError: no layout fits.
    """
    return _scan(root, layout)[1]


def _scan(root: Path, layout: str) -> tuple[list[ImageFile], list[Stray]]:
    known = find_layout(root, layout)
    train = known.train_folder(root)
    entries, strays = list_files(root)
    problems = {entry.path: entry.problem for entry in entries}
    places: dict[str, ImagePlace] = {}
    masks: dict[str, str] = {}
    for entry in entries:
        if entry.path == REGION:
            continue
        parts = PurePosixPath(entry.path).parts
        place = known.place(parts, train)
        if place is None:
            if entry.is_image:
                strays.append(Stray(entry.path, known.why_unused(parts, train)))
        elif not entry.is_image:
            strays.append(Stray(entry.path, "is no image by its ending; move it out of the images"))
        elif isinstance(place, MaskPlace):
            masks[entry.path] = place.beside
        else:
            places[entry.path] = place
    beside = masks_beside(list(places))
    masks |= {path: path for path in beside}
    images = [path for path in places if path not in beside]
    matches = match_masks(images, masks)
    for mask in masks.keys() - matches.values():
        strays.append(Stray(mask, "is a mask without an image, or a second one; rename or remove it"))
    found = [_image_file(path, places[path], matches.get(path), problems) for path in images]
    return found, sorted(strays, key=lambda stray: stray.path)


def _image_file(path: str, place: ImagePlace, mask: str | None, problems: dict[str, str | None]) -> ImageFile:
    problem = problems[path]
    if mask is not None and problem is None and problems[mask] is not None:
        problem = f"its mask {mask} {problems[mask]}"
    return ImageFile(path, place.split, place.label, place.defect_type, mask, problem)

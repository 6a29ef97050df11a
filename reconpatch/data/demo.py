"""A demonstration data set in MVTec AD's layout, made from photographs that scikit-image ships (CC0).

Each photograph of 512 x 512 pixels is cut into 16 regions. Twelve give the training images and four, one in
each row and column, the test images, so that no pixel is in both. An image is a small view into its region,
which is its group: shifted, turned, zoomed, lit and mirrored a little, with sensor noise.
"""

import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates, spline_filter

from reconpatch.data.groups import GROUPS_FILE
from reconpatch.data.images import read_image
from reconpatch.data.synthetic_defects import DEFECTS, Mask, Picture, add_swap
from reconpatch.errors import DataError
from reconpatch.progress import track
from reconpatch.storage.atomic_files import atomic_file, atomic_folder
from reconpatch.text.csv_files import write_rows

PHOTOGRAPHS = ("brick", "grass", "gravel")
IMAGE_SIDE = 192
_REGIONS_A_SIDE = 4
_TEST_REGIONS = ((0, 1), (1, 3), (2, 0), (3, 2))
_TRAIN_IMAGES, _TEST_IMAGES, _DEFECTS_A_KIND = 120, 20, 8
# Set once, so that plain PatchCore finds most defects of each texture and not all, and then frozen.
_STRENGTH = {"brick": 0.66, "grass": 2.7, "gravel": 2.5}
_KINDS = (*DEFECTS, "swap")
_TITLE = "ReConPatch demonstration data set"
_README_FILE = "README.txt"
_README = f"""{_TITLE}

Layout: that of MVTec AD, with groups.csv (the region of the photograph that an image was cut from).
Images: views into the photographs brick.png, grass.png and gravel.png of scikit-image
(https://scikit-image.org, in its folder skimage/data). Their authors put them under CC0 1.0, "No Rights
Reserved": https://creativecommons.org/publicdomain/zero/1.0/
Defects: painted by a program; the masks are exact. This data set is CC0 1.0 as well.
"""


def make_demo(root: Path, *, categories: tuple[str, ...] = PHOTOGRAPHS, seed: int = 0) -> None:
    """Write the demonstration data set: equal arguments give equal bytes.

    Each category has 120 nominal training images (12 groups), 20 nominal test images (4 other groups) and 40
    with a defect of one of five kinds, as grey PNG of 192 x 192 pixels, with masks.

    Args:
        root: folder to write into; a category that an earlier call wrote is replaced, and what a killed one
            left half written is removed.
        categories: some of `PHOTOGRAPHS`.
        seed: of everything that is drawn.

    Raises:
        DataError: a category is unknown, ``root`` holds something else, or a photograph is missing.
    """
    unknown = [name for name in categories if name not in PHOTOGRAPHS]
    if unknown:
        raise DataError(f"demo category {unknown[0]}: is unknown; choose from {', '.join(PHOTOGRAPHS)}")
    for abandoned in _abandoned(root):
        shutil.rmtree(abandoned) if abandoned.is_dir() else abandoned.unlink()
    readme = root / _README_FILE
    ours = readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith(_TITLE)
    if root.is_file() or (root.is_dir() and any(root.iterdir()) and not ours):
        raise DataError(f"{root}: is not empty and no demonstration data set; choose another folder")
    with atomic_file(readme) as temporary:
        temporary.write_text(_README, encoding="utf-8")
    for category in track(categories, "demo"):
        with atomic_folder(root / category) as folder:
            _write_category(folder, category, seed)


def photograph(name: str) -> NDArray[np.uint8]:
    """One of `PHOTOGRAPHS`, grey, (512, 512) uint8.

    Raises:
        DataError: the installed scikit-image lacks it.
    """
    source = Path(str(files("skimage") / "data" / f"{name}.png"))
    if not source.is_file():
        raise DataError(
            f"{source}: the installed scikit-image lacks this photograph; install scikit-image 0.26"
        )
    return read_image(source)[:, :, 0]


def _abandoned(root: Path) -> list[Path]:
    """What a killed call was still writing: the temporaries of its atomic writes, which DVC would version."""
    ours = tuple(f".{name}." for name in (_README_FILE, *PHOTOGRAPHS))
    return [path for path in root.iterdir() if path.name.startswith(ours)] if root.is_dir() else []


def _write_category(folder: Path, category: str, seed: int) -> None:
    regions = {name: _regions(name) for name in PHOTOGRAPHS}
    train = [region for region in regions[category] if region not in _TEST_REGIONS]
    groups: list[tuple[str, str]] = []
    plan = [("train/good", train, _TRAIN_IMAGES), ("test/good", list(_TEST_REGIONS), _TEST_IMAGES)]
    plan += [(f"test/{kind}", list(_TEST_REGIONS), _DEFECTS_A_KIND) for kind in _KINDS]
    for place, (where, places, count) in enumerate(plan):
        (folder / where).mkdir(parents=True)
        for number in range(count):
            # One generator an image, so that no image depends on which others are made.
            rng = np.random.default_rng([seed, PHOTOGRAPHS.index(category), place, number])
            row, column = places[number % len(places)]
            picture = _view(regions[category][row, column], rng)
            kind = where.removeprefix("test/")
            if kind in _KINDS:
                picture, mask = _with_defect(picture, kind, category, regions, rng)
                _save(mask, folder / "ground_truth" / kind / f"{number:03d}_mask.png")
            name = f"{where}/{number:03d}.png"
            _save(picture + rng.normal(0, 2, picture.shape), folder / name)
            groups.append((name, f"region-{row}{column}"))
    write_rows(folder / GROUPS_FILE, [("path", "group"), *sorted(groups)])


def _with_defect(
    picture: Picture,
    kind: str,
    category: str,
    regions: dict[str, dict[tuple[int, int], Picture]],
    rng: np.random.Generator,
) -> tuple[Picture, Mask]:
    if kind != "swap":
        return DEFECTS[kind](picture, rng, _STRENGTH[category])
    other = rng.choice([name for name in PHOTOGRAPHS if name != category])
    region = regions[other][_TEST_REGIONS[rng.integers(len(_TEST_REGIONS))]]
    return add_swap(picture, rng, _STRENGTH[category], _view(region, rng))


def _regions(name: str) -> dict[tuple[int, int], Picture]:
    """Cubic spline coefficients of each region of a photograph, by row and column."""
    whole = photograph(name).astype(np.float64)
    side = len(whole) // _REGIONS_A_SIDE
    return {
        (row, column): spline_filter(
            whole[row * side : (row + 1) * side, column * side : (column + 1) * side], order=3
        )
        for row in range(_REGIONS_A_SIDE)
        for column in range(_REGIONS_A_SIDE)
    }


def _view(region: Picture, rng: np.random.Generator) -> Picture:
    """A square view (S, S) into a region, of which it never leaves the bounds."""
    side, angle = rng.uniform(92, 104), np.deg2rad(rng.uniform(-4, 4))
    sine, cosine = np.sin(angle), np.cos(angle)
    reach = side / 2 * (abs(sine) + cosine)
    row, column = rng.uniform(reach, len(region) - 1 - reach, 2)
    step = (np.arange(IMAGE_SIDE) + 0.5) / IMAGE_SIDE - 0.5
    y, x = np.meshgrid(step * side, step * side * rng.choice([-1, 1]), indexing="ij")
    source = np.stack([row + cosine * y - sine * x, column + sine * y + cosine * x])
    view: NDArray[np.float64] = map_coordinates(region, source, order=3, prefilter=False, mode="mirror")
    return np.clip(view * rng.uniform(0.92, 1.08) + rng.uniform(-8, 8), 0, 255)


def _save(values: Picture | Mask, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = values * 255 if values.dtype == np.bool_ else np.clip(np.rint(values), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path)

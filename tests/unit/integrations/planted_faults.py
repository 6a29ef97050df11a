"""A small sound data set, and one with every fault that the checks must find planted into a copy of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

SIDE = (60, 80)
_TRAIN, _GOOD, _BAD = 30, 12, 14

# What is planted: where it must be reported (category/path; None: the category), and by which expectation.
Fault = tuple[str, str | None, str]


def write_sound(root: Path) -> None:
    """A category ``nut``: every image another texture, four images a group by groups.csv in train."""
    lines = ["path,group"]
    for folder, count in (("train/good", _TRAIN), ("test/good", _GOOD), ("test/dent", _BAD)):
        for number in range(count):
            name = f"{folder}/{number:03}.png"
            pixels = _texture(f"{folder}{number}")
            if "dent" in folder:
                pixels[20:32, 30:46] //= 2
                mask = np.zeros(SIDE, np.uint8)
                mask[20:32, 30 : 40 + number % 6] = 255
                mask[0, number] = 255  # no two masks alike
                _save(Image.fromarray(mask), root / f"nut/ground_truth/dent/{number:03}_mask.png")
            _save(Image.fromarray(pixels), root / "nut" / name)
            lines.append(f"{name},{folder}-{number // 4}")
    (root / "nut" / "groups.csv").write_text("\n".join(lines) + "\n")


def plant(root: Path) -> list[Fault]:
    """Plant the 25 faults into a sound set; each in a place of its own."""
    nut = root / "nut"

    def train(number: int) -> Path:
        return nut / f"train/good/{number:03}.png"

    def mask(number: int) -> Path:
        return nut / f"ground_truth/dent/{number:03}_mask.png"

    def edit(path: Path, change: Callable[[Image.Image], Image.Image]) -> None:
        change(Image.open(path).convert("RGB")).save(path)

    def exif(picture: Image.Image) -> None:
        tags = Image.Exif()
        tags[0x0112] = 6
        picture.save(train(8), exif=tags)

    train(0).write_bytes(train(0).read_bytes()[:2000])
    jpeg = nut / "train/good/jpeg.jpg"
    Image.fromarray(_texture("jpeg")).save(jpeg, quality=90)
    jpeg.write_bytes(jpeg.read_bytes()[:-700])
    train(2).write_bytes(b"")
    train(3).write_text("this is no image")
    edit(train(4), lambda picture: picture.resize((64, 48)))
    edit(train(5), lambda picture: picture.convert("L"))
    deep = np.asarray(Image.open(train(6)).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(train(6))
    Image.open(train(7)).convert("RGBA").save(train(7))
    exif(Image.open(train(8)))
    shutil.copy(train(9), nut / "test/good/000.png")
    shutil.copy(train(10), nut / "train/good/twin.png")
    near = np.asarray(Image.open(train(11))).astype(int) + 3
    Image.fromarray(near.clip(0, 255).astype(np.uint8)).save(nut / "test/good/001.png")
    csv = nut / "groups.csv"
    text = csv.read_text().replace("test/good/004.png,test/good-1", "test/good/004.png,train/good-3")
    text += "train/good/jpeg.jpg,j\ntrain/good/twin.png,t\ntrain/good/link.png,l\n"
    csv.write_text(text)
    mask(0).unlink()
    edit(mask(1), lambda picture: picture.convert("L").resize((40, 30)))
    edit(mask(2), lambda picture: Image.new("L", picture.size))
    grey = np.asarray(Image.open(mask(3))).copy()
    grey[20:24] = np.linspace(0, 250, SIDE[1]).astype(np.uint8)
    Image.fromarray(grey).save(mask(3))
    _save(Image.open(mask(4)), nut / "ground_truth/good/005_mask.png")
    _save(Image.open(mask(5)).rotate(180), nut / "ground_truth/dent/999_mask.png")
    edit(train(12), lambda picture: Image.new("RGB", picture.size))
    edit(train(13), lambda picture: picture.point(lambda value: min(255, 200 + value // 4)))
    edit(train(14), lambda picture: picture.filter(ImageFilter.GaussianBlur(4)))
    (root / "bolt/train/good").mkdir(parents=True)
    (nut / "train/good/notes.txt").write_text("shift 2")
    outside = root.parent / "outside.png"
    outside.write_bytes(train(20).read_bytes())
    (nut / "train/good/link.png").symlink_to(outside)
    return [
        ("nut", "train/good/000.png", "readable"),
        ("nut", "train/good/jpeg.jpg", "readable"),
        ("nut", "train/good/002.png", "readable"),
        ("nut", "train/good/003.png", "readable"),
        ("nut", "train/good/004.png", "one_size"),
        ("nut", "train/good/005.png", "one_mode"),
        ("nut", "train/good/006.png", "one_mode"),
        ("nut", "train/good/007.png", "one_mode"),
        ("nut", "train/good/008.png", "one_orientation"),
        ("nut", "test/good/000.png", "not_in_two_splits"),
        ("nut", "train/good/twin.png", "unique_in_split"),
        ("nut", "test/good/001.png", "no_near_copy"),
        ("nut", "test/good/004.png", "group_in_one_split"),
        ("nut", "test/dent/000.png", "defect_has_mask"),
        ("nut", "test/dent/001.png", "mask_fits"),
        ("nut", "test/dent/002.png", "mask_not_empty"),
        ("nut", "test/dent/003.png", "mask_is_binary"),
        ("nut", "test/good/005.png", "nominal_has_no_defect"),
        ("nut", "ground_truth/dent/999_mask.png", "belongs_to_category"),
        ("nut", "train/good/012.png", "not_blank"),
        ("nut", "train/good/013.png", "looks_usual"),
        ("nut", "train/good/014.png", "looks_usual"),
        ("bolt", None, "is_a_category"),
        ("nut", "train/good/notes.txt", "belongs_to_category"),
        ("nut", "train/good/link.png", "readable"),
    ]


def plant_others(root: Path) -> list[Fault]:
    """Faults that are on no list, in a sound set."""
    nut = root / "nut"
    frames = [Image.fromarray(_texture(f"frame{number}")) for number in range(2)]
    frames[0].save(nut / "train/good/moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.ones(SIDE, np.float32)).save(nut / "train/good/float.tif")
    shutil.copy(nut / "test/good/003.png", nut / "test/dent/000.png")
    _save(Image.fromarray(_texture("crack")), nut / "train/crack/0.png")
    shutil.copy(nut / "ground_truth/dent/001_mask.png", nut / "ground_truth/dent/002_mask.png")
    inverted = 255 - np.asarray(Image.open(nut / "ground_truth/dent/003_mask.png"))
    Image.fromarray(inverted).save(nut / "ground_truth/dent/003_mask.png")
    _save(Image.new("L", SIDE[::-1]), nut / "ground_truth/good/006_mask.png")
    Image.fromarray(_texture("loose")).save(nut / "test/loose.png")
    _save(Image.fromarray(_texture("inside")[:20, :20]), nut / "train/good/small.png")
    Image.new("RGB", SIDE[::-1], (90, 90, 90)).save(nut / "test/good/007.png")
    (nut / "train/good/folder.png").mkdir()
    csv = nut / "groups.csv"
    added = ("train/good/moving.gif", "train/good/float.tif", "train/good/small.png", "train/good/gone.png")
    csv.write_text(csv.read_text() + "".join(f"{path},{path}\n" for path in added))
    (root / "empty").mkdir()
    return [
        ("nut", "train/good/moving.gif", "readable"),
        ("nut", "train/good/float.tif", "readable"),
        ("nut", "test/good/003.png", "one_label"),
        ("nut", "train/crack/0.png", "belongs_to_category"),
        ("nut", "test/dent/002.png", "mask_of_its_own"),
        ("nut", "test/dent/003.png", "mask_not_inverted"),
        ("nut", "test/good/006.png", "nominal_has_no_mask"),
        ("nut", "test/loose.png", "belongs_to_category"),
        ("nut", "train/good/small.png", "large_enough"),
        ("nut", "test/good/007.png", "not_blank"),
        ("nut", "train/good/gone.png", "belongs_to_category"),
        ("empty", None, "is_a_category"),
    ]


def _texture(name: str) -> np.ndarray:
    """(60, 80, 3) uint8, another for every name, of like brightness and sharpness."""
    random = np.random.default_rng(list(name.encode()))
    coarse = random.normal(120, 40, (SIDE[0] // 5, SIDE[1] // 5)).clip(20, 220).astype(np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize(SIDE[::-1], Image.Resampling.BICUBIC)).astype(float)
    return (picture[:, :, None] + random.normal(0, 6, (*SIDE, 3))).clip(0, 255).astype(np.uint8)


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)

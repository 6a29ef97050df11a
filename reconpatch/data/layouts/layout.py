"""What a layout says: where images and masks lie, and how a folder is recognised as such a category."""

from dataclasses import dataclass
from pathlib import Path

from reconpatch.data.masks import MASK_FOLDERS

_NOMINAL = ("good", "ok")


@dataclass(frozen=True)
class ImagePlace:
    """What the place of an image says about it.

    Attributes:
        split: ``train`` or ``test``.
        label: 0 nominal, 1 defective.
        defect_type: ``good`` when nominal.
    """

    split: str
    label: int
    defect_type: str


@dataclass(frozen=True)
class MaskPlace:
    """A file in a folder of masks.

    Attributes:
        beside: the path that the mask would have beside its image.
    """

    beside: str


@dataclass(frozen=True)
class Layout:
    """A category with ``test/good``, ``test/<defect type>`` and ``ground_truth/<defect type>``.

    This is the layout of MVTec AD, which most data sets follow; a subclass overrides what differs.
    Paths are posix, relative to the category's root.

    Attributes:
        name: value of ``data.layout``.
        title: the data set or habit that the layout comes from, for help texts.
        signs: folders that tell this layout, surest first; the first holds the training images.
    """

    name: str
    title: str
    signs: tuple[str, ...]

    @property
    def recognised_by(self) -> str:
        """How a folder is recognised, for messages."""
        return f"{self.signs[0]} ({self.name})"

    def train_folder(self, root: Path) -> tuple[str, ...]:  # noqa: ARG002 (a subclass looks at the folder)
        """Names of the folders below ``root``, one in the other, that lead to the training images."""
        return tuple(self.signs[0].split("/"))

    def place(self, parts: tuple[str, ...], train: tuple[str, ...]) -> ImagePlace | MaskPlace | None:
        """What a file is by the parts of its path; None: nothing that the layout knows.

        Args:
            parts: of the file's path.
            train: what `train_folder` returns.
        """
        if parts[0] in MASK_FOLDERS:
            return MaskPlace("/".join(("test", *parts[1:])))
        if parts[0] == "test":
            if len(parts) < 3:
                return None
            nominal = parts[1].casefold() in _NOMINAL
            return ImagePlace("test", 0 if nominal else 1, "good" if nominal else parts[1])
        if parts[: len(train)] == train and len(parts) > len(train):
            return ImagePlace("train", 0, "good")
        return None

    def why_unused(self, parts: tuple[str, ...], train: tuple[str, ...]) -> str:
        """Why an image without a `place` is not used, and what to do."""
        if parts[0] == "test":
            return "lies directly in test; put it into test/good or test/<defect type>"
        return f"lies outside {'/'.join(train)} and test and is not used; move it there or elsewhere"

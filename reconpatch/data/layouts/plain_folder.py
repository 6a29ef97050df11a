"""A plain folder of nominal images: ``good``, or without it every image outside ``test`` and the masks."""

from pathlib import Path

from reconpatch.data.file_listing import Entry
from reconpatch.data.layouts.layout import ImagePlace, Layout, MaskPlace


class PlainFolder(Layout):
    """Nominal images in ``good`` or directly in the category's folder; ``test`` and masks as in MVTec AD."""

    @property
    def recognised_by(self) -> str:
        """How a folder is recognised, for messages."""
        return f"{self.signs[0]}, or images directly in it ({self.name})"

    def train_folder(self, root: Path) -> tuple[str, ...]:
        """``good`` where there is such a folder; otherwise the root."""
        return ("good",) if (root / "good").is_dir() else ()

    def place(self, parts: tuple[str, ...], train: tuple[str, ...]) -> ImagePlace | MaskPlace | None:
        """As in MVTec AD, but a licence or groups.csv beside the images of a plain folder is nothing."""
        if not train and len(parts) == 1 and not Entry(parts[0]).is_image:
            return None
        return super().place(parts, train)


PLAIN_FOLDER = PlainFolder(name="folder", title="plain folder", signs=("good",))

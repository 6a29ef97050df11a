"""Heat maps beside the image and its ground truth, on the category's one colour scale."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from reconpatch.data.file_listing import printable
from reconpatch.data.images import read_image
from reconpatch.evaluation.detector_protocol import Detector, Prediction
from reconpatch.evaluation.evaluation_result import ColourScale, Example
from reconpatch.evaluation.report.figure_style import DEFECTIVE, MUTED, NOMINAL, new_figure
from reconpatch.model.preprocess import prepare_image
from reconpatch.storage.atomic_files import atomic_file

COLOURS = "turbo"
_SOURCE = "source"
_TRUTH_COLOUR = "#00e5ff"
_CONTOUR_COLOUR = "#ffffff"
_EXAMPLES_A_ROW = 2
_PANEL, _GAP, _HEADING, _TITLE_HEIGHT = 1.75, 0.08, 0.2, 0.5  # inches, as all below
_EXAMPLE_WIDTH, _EXAMPLE_HEIGHT, _BAR_WIDTH = 3 * (_PANEL + _GAP) + 0.2, _PANEL + _HEADING + 0.3, 0.95
_CAPTION_LETTERS = 38


def overlay(
    image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], scale: ColourScale
) -> NDArray[np.uint8]:
    """Colour a map over its image, the more opaque the higher the value.

    Args:
        image: (S, S, 3) uint8, shown in grey below the colours.
        anomaly_map: (S, S) float32.
        scale: values at or below ``low`` leave the image as it is.

    Returns:
        (S, S, 3) uint8.
    """
    colours, opacity = colour_layer(anomaly_map, scale)
    grey, opacity = image.mean(axis=2, keepdims=True), 0.65 * opacity[..., None]
    blended: NDArray[np.uint8] = np.rint(grey * (1 - opacity) + colours * opacity).astype(np.uint8)
    return blended


def colour_layer(
    anomaly_map: NDArray[np.float32], scale: ColourScale
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """A map's colours and how opaque each is over an image.

    Args:
        anomaly_map: (H, W) float32.
        scale: values at or below ``low`` are transparent.

    Returns:
        (H, W, 3) in 0..255 and (H, W) in 0..1.
    """
    level = np.clip((anomaly_map - scale.low) / (scale.high - scale.low), 0, 1)
    colours: NDArray[np.float64] = mpl.colormaps[COLOURS](level)[..., :3] * 255
    return colours, np.clip((level - 0.08) * 2.5 / 0.65, 0, 1)


def heatmap_figure(examples: Sequence[Example], scale: ColourScale, title: str) -> Figure:
    """Rows of input, ground truth and heat map, with truth, score and verdict above each.

    Args:
        examples: shown two a row, in their order.
        scale: the category's; its contour is drawn in white.
        title: what they are of.
    """
    across = max(1, min(len(examples), _EXAMPLES_A_ROW))
    rows = max(1, -(-len(examples) // across))
    width = across * _EXAMPLE_WIDTH + _BAR_WIDTH
    height = rows * _EXAMPLE_HEIGHT + _TITLE_HEIGHT
    page = _Page(new_figure(width, height), width, height)
    page.text(_GAP, 0.12, title, fontsize=12, fontweight="bold")
    for place, example in enumerate(examples):
        row, column = divmod(place, across)
        _draw_example(page, column * _EXAMPLE_WIDTH, _TITLE_HEIGHT + row * _EXAMPLE_HEIGHT, example, scale)
    _draw_bar(page, across * _EXAMPLE_WIDTH, scale)
    return page.figure


def write_heatmap(folder: Path, prediction: Prediction, detector: Detector) -> Path:
    """Write one image's heat map over it, on the detector's own scale, as ``<stem>.png``.

    Where another image's map has that name, a number is added; a map of the same image is replaced.

    Args:
        folder: made when missing.
        prediction: of an image given by path.
        detector: whose calibration gives the scale; without one the map's own range does.

    Returns:
        The file written.

    Raises:
        DataError: the image cannot be read.
    """
    source = Path(str(prediction.path))
    shown = printable(source)
    image = prepare_image(read_image(source), detector.settings.features)
    coloured = overlay(image, prediction.anomaly_map, detector_scale(detector, prediction.anomaly_map))
    note = PngInfo()
    note.add_itxt(_SOURCE, shown)
    stem = source.stem
    names = (f"{stem}.png" if number == 1 else f"{stem}-{number}.png" for number in itertools.count(1))
    target = next(folder / name for name in names if _source_of(folder / name) in (None, shown))
    with atomic_file(target) as temporary:
        Image.fromarray(coloured).save(temporary, format="PNG", pnginfo=note)
    return target


def _source_of(path: Path) -> str | None:
    """Which image a written map is of; None when there is no file, and empty when it is no such map."""
    if not path.exists():
        return None
    try:
        with Image.open(path) as picture:
            return str(picture.info.get(_SOURCE, ""))
    except OSError:
        return ""


def detector_scale(detector: Detector, anomaly_map: NDArray[np.float32]) -> ColourScale:
    """From the median nominal pixel to as far above the pixel threshold as it lies above that median."""
    calibration = detector.calibration
    if calibration is None:
        low, high = float(anomaly_map.min()), float(anomaly_map.max())
        return ColourScale(low, max(high, low + 1e-6))
    low, threshold = calibration.pixels.median, calibration.pixel_threshold.value
    return ColourScale(low, max(2 * threshold - low, low + 1e-6), threshold, "pixel threshold")


@dataclass(frozen=True)
class _Page:
    """A figure laid out by hand, in inches from its upper left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def text(self, left: float, top: float, text: str, **keywords: Any) -> None:
        place = (left / self.width, 1 - top / self.height)
        # Names of files and of defects are among the texts: a dollar in them begins no formula.
        self.figure.text(*place, text, va="top", parse_math=False, **keywords)


def _draw_example(page: _Page, left: float, top: float, example: Example, scale: ColourScale) -> None:
    good = example.defect_type == "good"
    verdict = {True: "rejected", False: "accepted", None: "not calibrated"}[example.is_anomalous]
    wrong = example.is_anomalous is not None and example.is_anomalous == good
    if example.to_review:
        verdict, wrong = "to review", False
    page.text(
        left + _GAP,
        top,
        f"{example.defect_type.replace('_', ' ')}: score {example.score:.3g}, {verdict}"
        f"{' (wrong)' if wrong else ''}",
        fontsize=9,
        color=DEFECTIVE if wrong else "black",
        fontweight="bold" if wrong else "normal",
    )
    panels = (
        (example.image, example.path),
        (example.image, _truth_note(example)),
        (overlay(example.image, example.anomaly_map, scale), example.reason),
    )
    for place, (picture, caption) in enumerate(panels):
        x = left + _GAP + place * (_PANEL + _GAP)
        axis = page.axes(x, top + _HEADING, _PANEL, _PANEL)
        axis.imshow(picture, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color(NOMINAL if good else DEFECTIVE)
        if place == 1 and example.mask is not None and example.mask.any():
            _outline(axis, example.mask, 0.5, _TRUTH_COLOUR)
        if place == 2 and scale.contour is not None and (example.anomaly_map > scale.contour).any():
            _outline(axis, example.anomaly_map, scale.contour, _CONTOUR_COLOUR)
        shown = caption if len(caption) <= _CAPTION_LETTERS else "…" + caption[1 - _CAPTION_LETTERS :]
        page.text(x, top + _HEADING + _PANEL + 0.04, shown, fontsize=6.5, color=MUTED)


def _outline(axis: Any, values: NDArray[Any], level: float, colour: str) -> None:
    lines = axis.contour(values, levels=[level], colors=colour, linewidths=1.2)
    lines.set_path_effects([withStroke(linewidth=2.4, foreground="black", alpha=0.6)])


def _truth_note(example: Example) -> str:
    if example.defect_type == "good":
        return "ground truth: nothing to find"
    return "ground truth: no mask" if example.mask is None else "ground truth"


def _draw_bar(page: _Page, left: float, scale: ColourScale) -> None:
    length = min(2.4, page.height - _TITLE_HEIGHT - 0.6)
    top = _TITLE_HEIGHT + _HEADING
    axis = page.axes(left + 0.15, top, 0.16, length)
    bar = page.figure.colorbar(
        ScalarMappable(Normalize(scale.low, scale.high), COLOURS), cax=axis, extend="both"
    )
    bar.set_label("anomaly map (feature distance)", fontsize=8)
    axis.tick_params(labelsize=7)
    if scale.contour is not None:
        axis.axhline(scale.contour, color=_CONTOUR_COLOUR, linewidth=1.5)
        note = f"white line:\n{scale.contour_name}\nat {scale.contour:.3g}"
        page.text(left + 0.1, top + length + 0.08, note, fontsize=7, color=MUTED)

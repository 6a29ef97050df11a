"""Every export format. A new one takes a file beside this one and an entry here; see CONTRIBUTING.md."""

from typing import TYPE_CHECKING, Literal

from reconpatch.errors import SettingsError
from reconpatch.line.export.formats.graph_format import GraphFormat
from reconpatch.line.export.formats.onnx_graph import ONNX
from reconpatch.line.export.formats.openvino_graph import OPENVINO

FORMATS: dict[str, GraphFormat] = {
    one.name: one
    for one in (
        ONNX,
        OPENVINO,
    )
}
if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[tuple(FORMATS)]


def find_format(name: str) -> GraphFormat:
    """The format called ``name``.

    Raises:
        SettingsError: there is none.
    """
    if name not in FORMATS:
        raise SettingsError(f"format: {name} is unknown; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]

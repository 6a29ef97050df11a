"""ONNX: ``model.onnx``, run by onnxruntime."""

import io
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconpatch.integrations.optional_packages import import_extra
from reconpatch.line.export.formats.graph_format import GraphFormat, Run

if TYPE_CHECKING:
    from reconpatch.line.export.graph import DetectorGraph

FILE = "model.onnx"
_OPSET = 18


def write_onnx(graph: "DetectorGraph", side: int, folder: Path) -> None:
    """Write ``model.onnx``.

    Args:
        graph: of the detector.
        side: S, of its square input.
        folder: exists.

    Raises:
        ReConPatchError: the extra ``export`` is not installed.
    """
    import torch

    for package in ("onnx", "onnxscript"):
        import_extra(package, "reconpatch export", extra="export")
    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        # The exporter's progress and its advice to programmers mean nothing to the person who exports.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph.eval(), (example,), folder / FILE, dynamo=True, external_data=False,
                opset_version=_OPSET,
                input_names=["images"], output_names=list(graph.outputs),
                dynamic_shapes={"images": {0: torch.export.Dim("images", min=1)}},
            )  # fmt: skip
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def _open(folder: Path, threads: int) -> Run:
    from reconpatch.line.export.graph import DetectorGraph

    onnxruntime: Any = import_extra("onnxruntime", "running an ONNX detector", extra="export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(DetectorGraph.outputs[:3], {"images": images})


ONNX = GraphFormat(name="onnx", title="ONNX", write=write_onnx, open=_open, runner="runner.py")

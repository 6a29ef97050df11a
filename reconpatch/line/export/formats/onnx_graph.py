"""ONNX: ``model.onnx``, run by onnxruntime."""

import copy
import io
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconpatch.integrations.optional_packages import import_extra
from reconpatch.line.export.formats.graph_format import GraphFormat, Run

if TYPE_CHECKING:
    from torch import nn

FILE = "model.onnx"
_OPSET = 18


def write_onnx(model: "nn.Module", side: int, folder: Path) -> None:
    """Write ``model.onnx``.

    Args:
        model: as `FittedDetector.module` gives it; it is left as it is.
        side: S, of its square input.
        folder: exists.

    Raises:
        ReConPatchError: the extra ``export`` is not installed.
    """
    import torch

    from reconpatch.model.anomaly_model import OUTPUTS
    from reconpatch.model.patch_network import PatchNetwork

    for package in ("onnx", "onnxscript"):
        import_extra(package, "reconpatch export", extra="export")
    # A copy in plain memory order and full precision: other runtimes know neither channels last nor autocast.
    graph = copy.deepcopy(model).to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    for part in graph.modules():
        if isinstance(part, PatchNetwork):
            part.autocast = False
    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        # The exporter's progress and its advice to programmers mean nothing to the person who exports.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph, (example,), folder / FILE, dynamo=True, external_data=False,
                opset_version=_OPSET,
                input_names=["images"], output_names=list(OUTPUTS),
                dynamic_shapes={"images": {0: torch.export.Dim("images", min=1)}},
            )  # fmt: skip
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def _open(folder: Path, threads: int) -> Run:
    from reconpatch.model.anomaly_model import OUTPUTS

    onnxruntime: Any = import_extra("onnxruntime", "running an ONNX detector", extra="export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(OUTPUTS[:3], {"images": images})


ONNX = GraphFormat(name="onnx", title="ONNX", write=write_onnx, open=_open, runner="runner.py")

"""Writing a graph in each format, and running what was written."""

import copy
import io
import logging
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from reconpatch.integrations.optional_packages import import_extra
from reconpatch.model.anomaly_model import OUTPUTS
from reconpatch.model.patch_network import PatchNetwork

Format = Literal["onnx", "openvino"]
Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]]

ONNX, OPENVINO = "model.onnx", "model.xml"
_OPSET = 18


def write_graph(model: nn.Module, side: int, form: Format, folder: Path) -> None:
    """Write ``model.onnx``, or ``model.xml`` with ``model.bin``; any number of images may go in at once.

    Args:
        model: as `FittedDetector.module` gives it; it is left as it is.
        side: S, of its square input.
        form: which of the two.
        folder: exists.

    Raises:
        ReConPatchError: the extra ``export`` is not installed.
    """
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
        # Its progress and its advice to programmers are nothing to who exports.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph, (example,), folder / ONNX, dynamo=True, external_data=False,
                opset_version=_OPSET,
                input_names=["images"], output_names=list(OUTPUTS),
                dynamic_shapes={"images": {0: torch.export.Dim("images", min=1)}},
            )  # fmt: skip
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
    if form == "openvino":
        openvino: Any = import_extra("openvino", "reconpatch export --format openvino", extra="export")
        # Weights in half precision would change the scores.
        openvino.save_model(openvino.convert_model(folder / ONNX), folder / OPENVINO, compress_to_fp16=False)
        (folder / ONNX).unlink()


def open_graph(form: Format, folder: Path, threads: int) -> Run:
    """A function from (B, S, S, 3) uint8 to scores (B,), maps (B, S, S) and whether each is rejected (B,).

    Args:
        form: what ``folder`` holds.
        folder: written by `write_graph`.
        threads: CPU threads, at least 1.
    """
    names = OUTPUTS
    if form == "onnx":
        onnxruntime: Any = import_extra("onnxruntime", "running an ONNX detector", extra="export")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(
            str(folder / ONNX), options, providers=["CPUExecutionProvider"]
        )
        return lambda images: session.run(names[:3], {"images": images})
    openvino: Any = import_extra("openvino", "running an OpenVINO detector", extra="export")
    compiled = openvino.Core().compile_model(
        folder / OPENVINO,
        "CPU",
        # Else the plug-in computes in bfloat16 where the CPU has it.
        {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
    )

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        found = compiled({"images": images})
        score, anomaly_map, rejected = (np.array(found[name]) for name in names[:3])
        return score, anomaly_map, rejected.astype(bool)

    return run

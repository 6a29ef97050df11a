"""OpenVINO: ``model.xml`` with ``model.bin``, converted from ONNX."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.integrations.optional_packages import import_extra
from reconpatch.line.export.formats import onnx_graph
from reconpatch.line.export.formats.graph_format import GraphFormat, Run

if TYPE_CHECKING:
    from torch import nn

FILE = "model.xml"


def _write(model: "nn.Module", side: int, folder: Path) -> None:
    openvino: Any = import_extra("openvino", "reconpatch export --format openvino", extra="export")
    onnx_graph.write_onnx(model, side, folder)
    source = folder / onnx_graph.FILE
    # Weights in half precision would change the scores.
    openvino.save_model(openvino.convert_model(source), folder / FILE, compress_to_fp16=False)
    source.unlink()


def _open(folder: Path, threads: int) -> Run:
    from reconpatch.model.anomaly_model import OUTPUTS

    openvino: Any = import_extra("openvino", "running an OpenVINO detector", extra="export")
    compiled = openvino.Core().compile_model(
        folder / FILE,
        "CPU",
        # Otherwise the plug-in computes in bfloat16 where the CPU has it.
        {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
    )

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        found = compiled({"images": images})
        score, anomaly_map, rejected = (np.array(found[name]) for name in OUTPUTS[:3])
        return score, anomaly_map, rejected.astype(bool)

    return run


OPENVINO = GraphFormat(name="openvino", title="OpenVINO", write=_write, open=_open)

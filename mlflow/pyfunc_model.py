"""The detector as an MLflow model, from code: executed by MLflow when the model is loaded.

In: a DataFrame with a column ``image`` (an encoded file's bytes) or ``path``. Where both are given the
bytes are scored and the path is only repeated. Out: ``path``, ``score``, ``is_anomalous`` (null when the
detector is not calibrated), a row an image, in order.

Paths are read like this: with an allowed root (model_config ``allowed_root``, or the environment variable
RECONPATCH_ALLOWED_ROOT, which wins) only below it, links resolved, wherever the model runs; the opened file
is checked, since its name may lead elsewhere a moment later. Without one, any path in a process that loaded
the model itself, and none behind a scoring server, whose callers are strangers.
"""

import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

from reconpatch import load
from reconpatch.data.decoding.decoding_pool import shared_pool
from reconpatch.data.decoding.image_bytes import read_bytes_below
from reconpatch.errors import DataError

ALLOWED_ROOT = "RECONPATCH_ALLOWED_ROOT"
# MLflow imports this module in every process that serves a model, and in no other that only loads one.
_SERVER = "mlflow.pyfunc.scoring_server"
_AT_ONCE = 64  # decoded images in memory


class DetectorModel(PythonModel):
    """A detector folder behind MLflow's predict."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the detector that travels with the model."""
        config = context.model_config or {}
        self.allowed_root = os.environ.get(ALLOWED_ROOT) or config.get("allowed_root")
        self.detector = load(
            context.artifacts["detector"],
            device=config.get("device", "auto"),
            threads=config.get("threads", 0),
        )

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 (MLflow passes it by name)
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """Score a frame of images; there is no answer when one of them is refused."""
        columns = model_input.columns
        if "image" not in columns and "path" not in columns:
            raise MlflowException.invalid_parameter_value("give a column `image` (encoded bytes) or `path`")
        paths = list(model_input["path"]) if "path" in columns else [None] * len(model_input)
        try:
            if "image" in columns:
                images: Iterator[Any] = (
                    self._decode(f"row {row}", data) for row, data in enumerate(model_input["image"])
                )
            else:
                images = (self._permit(row, path) for row, path in enumerate(paths))
            found = []
            while part := list(islice(images, _AT_ONCE)):
                # The maps, a megabyte an image, are let go one by one.
                found += [(one.score, one.is_anomalous) for one in self.detector.stream(part)]
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame(
            {
                "path": pd.Series(paths, dtype=object),
                "score": pd.Series([score for score, _ in found], dtype="float64"),
                "is_anomalous": pd.Series([verdict for _, verdict in found], dtype=object),
            }
        )

    def _permit(self, row: int, path: Any) -> Path | NDArray[np.uint8]:
        if not isinstance(path, str):
            raise DataError(f"row {row}: `path` is empty")
        if self.allowed_root:
            try:
                data = read_bytes_below(Path(self.allowed_root), Path(path))
            except DataError as error:
                raise DataError(f"row {row}: `path` {error}; or send the bytes as `image`") from None
            return self._decode(path, data)
        if _SERVER in sys.modules:
            raise DataError(
                f"row {row}: this server reads no paths; send the bytes as `image`, "
                f"or let the operator set {ALLOWED_ROOT}"
            )
        return Path(path)

    def _decode(self, name: str, data: Any) -> NDArray[np.uint8]:
        if not isinstance(data, bytes):
            raise DataError(f"{name}: `image` is empty")
        # Callers may be strangers, whose images may never come to an end.
        return shared_pool().image(data, name, self.detector.settings.data.decode_seconds)


mlflow.models.set_model(DetectorModel())

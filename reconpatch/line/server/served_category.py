"""One category of a server: the detector in use, and how a newer one takes its place."""

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ModelError, ReConPatchError
from reconpatch.evaluation.evaluation_result import ColourScale
from reconpatch.evaluation.report.heatmaps import detector_scale
from reconpatch.fitted_detector import FittedDetector
from reconpatch.line.server.model_source import ModelSource
from reconpatch.line.server.prometheus_metrics import Metrics
from reconpatch.line.server.server_options import ServerOptions
from reconpatch.prediction import Prediction
from reconpatch.text.redaction import redact

_log = logging.getLogger(__name__)
# A version that failed is tried again after so long: its failure may have been the machine's.
_RETRY_SECONDS = 60.0
# MLflow's client tries for a quarter of an hour before it gives up on a server that hangs.
_SILENCE_SECONDS = 15.0


@dataclass(frozen=True)
class Served:
    """A detector in use; never changed, only replaced as a whole.

    Attributes:
        detector: loaded and tested.
        version: as the source names it.
        scale: the category's one colour scale; None where the detector is not calibrated.
        since: when it was loaded.
    """

    detector: FittedDetector
    version: str
    scale: ColourScale | None
    since: datetime


class Slot:
    """A category and what serves it.

    Attributes:
        source: where its detectors come from.
        served: the one in use.
    """

    def __init__(self, source: ModelSource, options: ServerOptions, metrics: Metrics) -> None:
        """Load and test the first detector.

        Raises:
            ModelError: it cannot be loaded, or fails its self-test.
        """
        self.source = source
        self._problem: str | None = None
        self._asked: float | None = None
        self._options = options
        self._metrics = metrics
        self._failed: tuple[str, float] | None = None
        self.served = self._load(None)
        metrics.model_loaded(source.category, None, self.served.version)

    @property
    def problem(self) -> str | None:
        """Why the source's present version is not in use; None when it is."""
        asked = self._asked
        silence = 0.0 if asked is None else time.monotonic() - asked
        if silence > _SILENCE_SECONDS:
            return f"{self.source.source}: has not said for {silence:.0f} s which version it is now"
        return self._problem

    def follow(self, stop: threading.Event) -> None:
        """Ask the source again and again, and take over what is new there, until told to stop.

        It blocks for as long as a source hangs, so it needs a thread that nothing else waits for.
        """
        while not stop.wait(self._options.follow_seconds):
            self.refresh()

    def refresh(self) -> None:
        """Take over another version if there is one; on any failure the old one stays in use."""
        category, old = self.source.category, self.served
        version = ""
        try:
            version = self._ask()
            if version == old.version:
                self._problem = None
                return
            if self._failed is not None and self._failed[0] == version and time.monotonic() < self._failed[1]:
                return
            new = self._load(old)
        except Exception as error:  # whatever a broken model or registry raises, the line goes on
            self._failed = version, time.monotonic() + _RETRY_SECONDS
            reason = redact(str(error))
            if self._problem != reason:
                _log.warning("%s: keeps %s: %s", category, old.version, reason)
            self._problem = reason
            self._metrics.follow_failed(category)
            return
        self.served = new
        self._problem, self._failed = None, None
        self._metrics.model_loaded(category, old.version, new.version)
        _log.info("%s: %s is in use now, after %s", category, new.version, old.version)

    def _ask(self) -> str:
        self._asked = time.monotonic()
        try:
            return self.source.version()
        finally:
            self._asked = None

    def _load(self, old: Served | None) -> Served:
        detector, version = self.source.load(device=self._options.device, threads=self._options.threads)
        try:
            prediction = self_test(detector)
            if old is not None and old.detector.calibration is not None and detector.calibration is None:
                raise ModelError("is not calibrated, and the one in use is: it would give no verdicts")
        except ReConPatchError as error:
            raise ModelError(f"{self.source.source}: {version} failed its self-test: {error}") from None
        calibrated = detector.calibration is not None
        scale = detector_scale(detector, prediction.anomaly_map) if calibrated else None
        return Served(detector, version, scale, datetime.now(UTC))


def self_test(detector: FittedDetector) -> Prediction:
    """Score one made-up image twice, which also loads the network before the first request needs it.

    Raises:
        ModelError: the answers are not finite, of the wrong shape, or differ.
        ReConPatchError: the detector cannot be used at all.
    """
    size = detector.settings.features.image_size
    image: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    first, second = (detector.predict(image)[0] for _ in range(2))
    if not (np.isfinite(first.score) and np.isfinite(first.anomaly_map).all()):
        raise ModelError("a score or map is not finite")
    if first.anomaly_map.ndim != 2 or not first.anomaly_map.size:
        raise ModelError(f"a map has shape {first.anomaly_map.shape}")
    if first.score != second.score:
        raise ModelError(f"one image scores {first.score:g} and then {second.score:g}")
    return first

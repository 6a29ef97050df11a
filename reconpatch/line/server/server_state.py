"""The parts of a running server, made before it listens and closed after."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from reconpatch.line.monitoring.prediction_recorder import Recorder, Subject
from reconpatch.line.server.byte_budget import ByteBudget
from reconpatch.line.server.image_decoder import ImageDecoder, Picture, Upload
from reconpatch.line.server.model_source import ModelSource
from reconpatch.line.server.prediction_queue import PredictionQueue
from reconpatch.line.server.prometheus_metrics import Metrics
from reconpatch.line.server.recent_images import RecentImage, RecentImages, half, new_id
from reconpatch.line.server.schemas import ImageResult
from reconpatch.line.server.served_category import ServedCategory, ServedDetector
from reconpatch.line.server.server_options import ServerOptions
from reconpatch.prediction import Prediction
from reconpatch.settings import FeatureSettings

# A detector that is being loaded at the end may finish; a source that hangs is left alone.
_FOLLOWERS_SECONDS = 3.0


class ServerState:
    """The parts of the server.

    Attributes:
        options: as given.
        metrics: Prometheus counters.
        categories: served categories by name.
        bytes: budget for the bytes of all requests.
        decoder: decodes images.
        queue: scores decoded images.
        recent: the images scored last.
        recorder: logs predictions; None where nothing is logged.
    """

    def __init__(self, sources: Sequence[ModelSource], options: ServerOptions) -> None:
        """Load every model.

        Raises:
            ModelError: one cannot be loaded, or fails its self-test.
        """
        self.options = options
        self.metrics = Metrics()
        self.categories = {
            source.category: ServedCategory(source, options, self.metrics) for source in sources
        }
        self.bytes = ByteBudget(options.limits.total_bytes)
        self.decoder = ImageDecoder(options)
        self.queue = PredictionQueue(self.metrics, batch=options.batch, waiting=options.limits.waiting)
        self.recent = RecentImages(options.recent)
        self.recorder = Recorder(options.log) if options.log is not None else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Score and follow while the block lasts; images that wait at its end are still scored."""
        self.queue.start()
        stop = threading.Event()
        # Not the event loop's own threads: a registry that hangs would take them from the requests. And
        # daemons, since the process must end though one still waits for an answer.
        followers = [
            threading.Thread(
                target=category.follow, args=(stop,), name=f"reconpatch-follow-{name}", daemon=True
            )
            for name, category in self.categories.items()
        ]
        for follower in followers:
            follower.start()
        try:
            yield
        finally:
            stop.set()
            await self.queue.stop()
            self.decoder.close()
            await asyncio.to_thread(_join, followers, _FOLLOWERS_SECONDS)
            if self.recorder is not None:
                await asyncio.to_thread(self.recorder.close)

    async def score(self, category: ServedCategory, upload: Upload) -> ImageResult:
        """Decode, score and remember one image.

        Raises:
            DataError: it is no image, or too large.
            OverloadedError: too many images wait.
        """
        async with self.decoder.decode(upload) as picture:
            prediction, served = await self.queue.predict(category, picture.pixels)
        image = _remembered(category.source.category, upload, picture, prediction, served)
        self.recent.add(image)
        if self.recorder is not None:
            subject = Subject(category.source.category, served.version, upload.name, picture.sha256)
            pattern = served.detector.settings.data.group_pattern
            self.recorder.record(subject, prediction, picture.pixels, pattern)
        self.metrics.images.labels(category.source.category, prediction.band or "uncalibrated").inc()
        return image.result


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _remembered(
    category: str, upload: Upload, picture: Picture, prediction: Prediction, served: ServedDetector
) -> RecentImage:
    calibration = served.detector.calibration
    identifier, received = new_id(), datetime.now(UTC)
    link = f"/api/images/{identifier}"
    result = ImageResult(
        id=identifier,
        name=upload.name,
        category=category,
        sha256=picture.sha256,
        model_version=served.version,
        received=received.isoformat(timespec="milliseconds"),
        score=prediction.score,
        is_anomalous=prediction.is_anomalous,
        band=prediction.band,
        false_reject_probability=prediction.false_reject_probability,
        threshold=None if calibration is None else calibration.threshold.value,
        review_threshold=None if calibration is None else calibration.review.value,
        picture=f"{link}/picture.jpg",
        map_png=f"{link}/map.png",
        map_npy=f"{link}/map.npy",
        map_area=_map_area(served.detector.settings.features),
        review=None,
    )
    return RecentImage(result, picture.jpeg, half(prediction.anomaly_map), served.scale, received)


def _map_area(features: FeatureSettings) -> tuple[float, float, float, float]:
    """Where the network's input lies in the image: all of it, but for a centre crop."""
    side = features.resize or features.image_size
    start, share = (side - features.image_size) // 2 / side, features.image_size / side
    return start, start, share, share

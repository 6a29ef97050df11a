"""What a server counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "reconpatch_requests", "Answered requests", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "reconpatch_request_seconds", "Time to answer", ("route",), buckets=_SECONDS, registry=registry
        )
        self.images = Counter("reconpatch_images", "Scored images", ("category", "band"), registry=registry)
        self.batches = Histogram(
            "reconpatch_batch_images", "Images a batch", buckets=_SIZES, registry=registry
        )
        self.waiting = Gauge("reconpatch_waiting_images", "Images that wait", registry=registry)
        self.reviews = Counter(
            "reconpatch_reviews", "Reviews of people", ("category", "verdict"), registry=registry
        )
        self.model = Gauge(
            "reconpatch_model_info", "1: the detector in use", ("category", "version"), registry=registry
        )
        self.swaps = Counter(
            "reconpatch_model_swaps", "Newer detectors taken over", ("category",), registry=registry
        )
        self.failures = Counter(
            "reconpatch_follow_failures", "Times a category kept its detector against its source",
            ("category",), registry=registry,
        )  # fmt: skip

    def model_loaded(self, category: str, old: str | None, new: str) -> None:
        """Note which version is in use."""
        if old is not None:
            self.model.remove(category, old)
            self.swaps.labels(category).inc()
        self.model.labels(category, new).set(1)

    def follow_failed(self, category: str) -> None:
        """Note that a category kept its detector against its source."""
        self.failures.labels(category).inc()

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)

"""How fast a fitted detector is on this machine."""

import platform
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reconpatch.device import choose_device, limit_threads, usable_cores
from reconpatch.errors import DataError
from reconpatch.fitted_detector import FittedDetector

_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Speed:
    """What was measured, each time from image file to score and map, nothing cached.

    Attributes:
        latency_p50_ms: median milliseconds of one image given alone.
        latency_p95_ms: 95th percentile of the same.
        images_per_second: of many images given at once.
        peak_rss_mib: largest resident memory of the process so far, MiB.
        samples: images behind each of the first three.
        hardware: CPU, cores, device.
        threads: CPU threads used.
        torch: its version.
    """

    latency_p50_ms: float
    latency_p95_ms: float
    images_per_second: float
    peak_rss_mib: float
    samples: int
    hardware: str
    threads: int
    torch: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


def measure_speed(
    detector: FittedDetector, images: Sequence[Path], *, samples: int = 100, warm_up: int = 10
) -> Speed:
    """Time predictions of a detector that keeps no feature cache.

    Args:
        detector: fitted.
        images: image files; they are gone through again where there are fewer than ``samples``.
        samples: images timed alone, and again all together.
        warm_up: images predicted before; they load the network, build the index and fill the disk's cache.

    Raises:
        DataError: there is no image, or one cannot be read.
    """
    if not images:
        raise DataError("bench: no image was given; give some to time")
    for image in islice(cycle(images), warm_up):
        detector.predict(image)
    latencies = []
    timed = list(islice(cycle(images), samples))
    for image in timed:
        start = time.perf_counter()
        detector.predict(image)
        latencies.append(time.perf_counter() - start)
    start = time.perf_counter()
    for _ in detector.stream(timed):
        pass
    rate = samples / (time.perf_counter() - start)
    p50, p95 = np.percentile(latencies, [50, 95]) * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    threads = limit_threads(detector.settings.threads)
    hardware = describe_hardware(choose_device(detector.settings.device))
    return Speed(float(p50), float(p95), rate, peak, samples, hardware, threads, torch.__version__)


def describe_hardware(device: torch.device) -> str:
    """CPU model, usable cores and the device, in one line."""
    cpu = f"{_cpu_model()}, {usable_cores()} cores"
    return cpu if device.type == "cpu" else f"{cpu}, {torch.cuda.get_device_name(device)}"


def _cpu_model() -> str:
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

"""Running one side at a time, and what else the machine did meanwhile."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


def run(command: list[str], threads: int, name: str) -> dict[str, Any]:
    """Run a side in a process of its own.

    Returns:
        What its last line of output says, if that is JSON; ``process_seconds`` and ``process_cpu_seconds``
        of the whole process; ``others``: how many cores other processes kept busy meanwhile.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    started, own, busy = time.perf_counter(), _children(), _busy()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    seconds, own, busy = time.perf_counter() - started, _children() - own, _busy() - busy
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    result = json.loads(last) if last.startswith("{") else {}
    result |= {
        "process_seconds": seconds,
        "process_cpu_seconds": own,
        "others": max(0.0, (busy - own) / seconds),
    }
    print(f"{name}: {json.dumps(result)}", file=sys.stderr, flush=True)
    return result


def describe() -> dict[str, Any]:
    """The processor, its cores, and the load average of the last minute."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def _children() -> float:
    return sum(os.times()[2:4])


def _busy() -> float:
    """CPU seconds that all processes together have used since the machine started."""
    user, nice, system, _idle, _wait, irq, softirq = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / _TICKS

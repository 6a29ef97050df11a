"""Try a GPU: compare the results, times and peak memory of every step that can use it with the CPU's.

    python -m benchmarks.gpu [--device cuda:0] [--images FOLDER] [--count 64] [--out gpu.md]

Without a GPU nothing is compared, and the status is 0; `--device cpu` compares the CPU with itself, which
tests this program. The status is 1 if a result is beyond its tolerance or a step fails.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.gpu_steps import CPU, Results, Step, make_steps, write_synthetic
from reconpatch.data.file_listing import expand_images
from reconpatch.device import choose_device, limit_threads
from reconpatch.errors import SettingsError
from reconpatch.evaluation.speed import describe_hardware
from reconpatch.settings import load_settings

_COLUMNS = ("step: result, measure", "difference", "tolerance", "verdict", "seconds", "peak MiB")


@dataclass(frozen=True)
class Measured:
    """One step on one device.

    Attributes:
        results: of the last round.
        seconds: of the fastest round.
        peak_mib: most memory: allocated by torch on a GPU; resident so far in the process on the CPU.
    """

    results: Results
    seconds: float
    peak_mib: float


def measure(run: Callable[[torch.device], Results], device: torch.device, rounds: int) -> Measured:
    """Do a step's work ``rounds`` times; the first round also warms the device up."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        results = run(device)
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    if on_gpu:
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(results, min(seconds), peak)


def compare(step: Step, device: torch.device, rounds: int) -> tuple[bool, list[list[str]]]:
    """Whether a step passes on a device, and its rows of the table."""
    reference = measure(step.reference or step.run, CPU, rounds)
    try:
        found = measure(step.run, device, rounds)
    except Exception as error:  # a step that this GPU cannot run must not hide what the others do
        reason = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return False, [[step.name, "", "", reason, f"{reference.seconds:.2f}", f"{reference.peak_mib:.0f}"]]
    passed, rows = True, []
    for name, check in step.checks.items():
        difference = check.difference(reference.results[name], found.results[name])
        within = difference <= check.tolerance
        passed = passed and within
        rows.append(
            [
                f"{step.name}: {name}, {check.measure}",
                f"{difference:.1e}",
                f"{check.tolerance:g}",
                "within" if within else "BEYOND",
                f"{reference.seconds:.2f} / {found.seconds:.2f}",
                f"{reference.peak_mib:.0f} / {found.peak_mib:.0f}",
            ]
        )
    return passed, rows


def markdown(title: str, rows: Iterable[Sequence[str]]) -> str:
    """The table in Markdown."""
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *rows]
    cells = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{title}\n\n{cells}\n"


def show(title: str, rows: Iterable[Sequence[str]]) -> None:
    """The table on the terminal."""
    table = Table(*_COLUMNS, title=title)
    for row in rows:
        table.add_row(*row, style=None if row[3] == "within" else "red")
    Console().print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print; returns the status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="cuda[:n], or cpu to compare the CPU with itself")
    parser.add_argument("--images", type=Path, help="folder of images; without it they are synthetic")
    parser.add_argument("--count", type=int, default=64, help="most images, at least 4")
    parser.add_argument("--rounds", type=int, default=2, help="of every step; the fastest one counts")
    parser.add_argument("--set", dest="params", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, help="file for the table in Markdown")
    given = parser.parse_args(arguments)
    try:
        device = choose_device(given.device)
    except SettingsError as error:
        parser.error(str(error))
    if given.device == "auto" and device.type == "cpu":
        print("torch finds no GPU here: nothing to compare; --device cpu compares the CPU with itself")
        return 0
    # No held-out images: the threshold is not compared, and few images are enough.
    settings = load_settings(None, ["calibrate.holdout=0", "device=cpu", *given.params])
    limit_threads(settings.threads)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if given.images is None:
            images = write_synthetic(scratch / "images", given.count)
        else:
            images = expand_images([given.images])[: given.count]
        if len(images) < 4:
            parser.error(f"{len(images)} images; give at least 4")
        passed, rows = True, []
        for step in make_steps(images, settings, scratch):
            within, found = compare(step, device, given.rounds)
            passed = passed and within
            rows += found
        what = f"{len(images)} {'synthetic' if given.images is None else given.images.name} images"
    title = f"{describe_hardware(device)}, torch {torch.__version__}, {what}; CPU / {device}"
    show(title, rows)
    if given.out is not None:
        given.out.write_text(markdown(title, rows), encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())

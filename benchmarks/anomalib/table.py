"""The comparison's result as a Markdown table."""

import statistics
from typing import Any


def render(result: dict[str, Any]) -> str:
    """One row a measurement: medians, their ratio, and the cores that other processes kept busy."""
    lines = [
        "| what | ours | anomalib 2.7.0 | ratio | ratio of CPU time | runs | cores busy with other work |",
        "|---|---|---|---|---|---|---|",
        *(_coreset_row(part) for part in result["coreset"]),
    ]
    if "fit" in result:
        fit, predict = result["fit"], result["predict"]
        images = predict["ours"][0]["images"]
        what = f"fit, {fit['images']} image files, whole process"
        lines.append(_row(what, fit, ("process_seconds", "process_cpu_seconds"), lambda s: f"{s:.1f} s"))
        what = f"predict, {images} image files, score and map"
        lines.append(_row(what, predict, ("seconds", "cpu_seconds"), lambda s: f"{images / s:.1f} images/s"))
        for kind in ("image", "pixel"):
            ours, theirs = (predict["auroc"][side][kind] for side in ("ours", "theirs"))
            lines.append(f"| {kind} AUROC | {ours:.4f} | {theirs:.4f} | | | | |")
    for part in result["coreset"]:
        ours, theirs = (part["radius"].get(side) for side in ("ours", "theirs"))
        shown = "not run to the end" if theirs is None else f"{theirs:.4f}"
        lines.append(f"| covering radius at {100 * part['ratio']:g} % | {ours:.4f} | {shown} | | | | |")
    return "\n".join(lines)


def _coreset_row(part: dict[str, Any]) -> str:
    count, width = part["shape"]
    some = part["theirs"][0]
    note = "" if some["steps"] == some["size"] - 1 else f" (theirs from {some['steps']} steps)"
    what = f"coreset {100 * part['ratio']:g} % of {count:,} x {width}{note}"
    return _row(what, part, ("seconds", "cpu_seconds"), lambda seconds: f"{seconds:.2f} s")


def _row(what: str, part: dict[str, Any], keys: tuple[str, str], shown: Any) -> str:
    wall, cpu = ({side: _median(part[side], key) for side in ("ours", "theirs")} for key in keys)
    others = " / ".join(f"{_median(part[side], 'others'):.1f}" for side in ("ours", "theirs"))
    return (
        f"| {what} | {shown(wall['ours'])} | {shown(wall['theirs'])} | {wall['theirs'] / wall['ours']:.1f} x "
        f"| {cpu['theirs'] / cpu['ours']:.1f} x | {len(part['ours'])} / {len(part['theirs'])} | {others} |"
    )


def _median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)

"""A category `nut` with an inbox, for tests of what arrives."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from reconpatch.line.inbox.arrivals import SUSPICIOUS, Refusal
from reconpatch.settings import Settings, parse_settings
from reconpatch.storage.atomic_files import sha256_file
from tasks.operations.arrival_scores import ArrivalScores

VALUES = {
    "pipeline": {"dataset": "toy", "root": "data/toy", "categories": ["nut"]},
    "ingest": {"settle_seconds": 0.0},
    "data": {"group_pattern": r"part(\d+)_"},
    "calibrate": {"holdout": 0.0},  # no calibration lot, but where a test is about it
}


def settings(**values: object) -> Settings:
    return parse_settings({**VALUES, "ingest": {**VALUES["ingest"], **values}})


def picture(path: Path, name: str, size: int = 32) -> Path:
    coarse = np.random.default_rng(list(name.encode())).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return path


def scores_with(suspicious: Path | None = None, held_out: frozenset[str] = frozenset()):
    found = {} if suspicious is None else {sha256_file(suspicious): Refusal(SUSPICIOUS, "score 9")}
    return lambda *_: ArrivalScores("reconpatch-toy-nut/1", held_out, found)


def contents(*folders: Path) -> Counter[str]:
    images = [path for folder in folders for path in folder.rglob("*.png")]
    return Counter(sha256_file(path) for path in images)


def records(project: Path) -> dict[str, str]:
    found = [json.loads(path.read_text()) for path in (project / "quarantine/toy/nut").glob("*.png.json")]
    return {record["name"]: record["reason"] for record in found}

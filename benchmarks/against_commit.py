"""An earlier commit beside this one: scores of detectors that it saved, CPU time of fit and predict.

    git worktree add --detach /tmp/old 08fce32
    python -m benchmarks.against_commit --old /tmp/old CATEGORY [--rounds 5]

The earlier commit fits detectors of several kinds on good images, saves them and scores test
images. This commit loads the same folders and scores the same images. Times are of the CPU, one thread, in
turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_BASE = {"threads": 1, "device": "cpu", "modulation.steps": 200, "coreset.ratio": 0.03}
KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "plain PatchCore": {"modulation.enabled": False},
    "eq. 10 for every patch": {"scoring.reweighting": "patch"},
    "tiles": {"features.image_size": 320, "features.tile": 224, "coreset.ratio": 0.02},
}
# It runs under both commits, so it uses what both have.
_CHILD = """
import json, sys, time
from pathlib import Path
import numpy as np
from PIL import Image
from reconpatch import ReConPatch
task = json.loads(sys.stdin.read())
good, test = ([Path(path) for path in task[name]] for name in ("good", "test"))
if task["what"] == "fit":
    for name, params in task["kinds"].items():
        ReConPatch(params=params).fit(good).save(Path(task["folder"]) / name)
elif task["what"] == "score":
    found = {}
    for name in task["kinds"]:
        detector = ReConPatch.load(Path(task["folder"]) / name, device="cpu", threads=1)
        found[name] = [one.score for one in detector.predict(test)]
    print(json.dumps(found))
else:
    def spent(call):
        start = time.process_time(); call(); return time.process_time() - start
    detector = ReConPatch.load(Path(task["folder"]) / "default", device="cpu", threads=1)
    detector.predict(test[:2])
    arrays = [np.asarray(Image.open(path).convert("RGB").resize((224, 224))) for path in test]
    print(json.dumps({
        "predict from files, ms": 1e3 * spent(lambda: detector.predict(test)) / len(test),
        "predict from arrays, ms": 1e3 * spent(lambda: detector.predict(arrays)) / len(test),
        "fit, s": spent(lambda: ReConPatch(params=task["kinds"]["default"]).fit(good)),
    }))
"""


def run(tree: Path, task: dict[str, Any]) -> Any:
    """What the child says under the source code of ``tree``."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        cwd=tree, env=environment, input=json.dumps(task), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout) if done.stdout.strip() else None


def main() -> None:
    """Fit, score and time; print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("category", type=Path)
    parser.add_argument("--old", type=Path, required=True, help="working tree of the earlier commit")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    good = sorted(path.resolve().as_posix() for path in (given.category / "train" / "good").glob("*.*"))
    test = sorted(path.resolve().as_posix() for path in (given.category / "test").glob("*/*.*"))
    with tempfile.TemporaryDirectory() as folder:
        task = {
            "folder": folder,
            "good": good[: given.images],
            "test": test[:: max(1, len(test) // given.images)],
            "kinds": {name: _BASE | more for name, more in KINDS.items()},
        }
        run(given.old, task | {"what": "fit"})
        before, after = (run(tree, task | {"what": "score"}) for tree in (given.old, ROOT))
        print("| detector | largest relative difference of a score |\n|---|---|")
        for name in KINDS:
            pairs = zip(before[name], after[name], strict=True)
            print(f"| {name} | {max(abs(new - old) / abs(old) for old, new in pairs):.1e} |")
        times = [
            [run(tree, task | {"what": "time"}) for tree in (given.old, ROOT)] for _ in range(given.rounds)
        ]
    print("\n| CPU, one thread | before | now | ratio, median of pairs |\n|---|---|---|---|")
    for name in times[0][0]:
        old, new = ([pair[side][name] for pair in times] for side in (0, 1))
        ratio = statistics.median(b / a for a, b in zip(old, new, strict=True))
        print(f"| {name} | {statistics.median(old):.1f} | {statistics.median(new):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()

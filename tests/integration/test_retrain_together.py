"""Retrains in processes of their own: of one category one after the other, of two side by side."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# A retrain whose work is to wait until both categories are at work (none would be, were one to exclude the
# other) and a moment longer, and to write down when it began and ended.
_RETRAIN = """
import json, os, sys, time
from pathlib import Path
from flows import retrain as module

root, category = Path(sys.argv[1]), sys.argv[2]

def work(settings, project, outputs, categories):
    begun = time.time()
    (root / f"begun-{category}").touch()
    while not all((root / f"begun-{one}").exists() for one in ("dents", "plain")):
        assert time.time() < begun + 900, "alone"
        time.sleep(0.05)
    time.sleep(1)
    (root / f"{os.getpid()}.json").write_text(json.dumps([category, begun, time.time()]))
    return [], []

module.run_stages = work
module.retrain([category], root)
"""


@pytest.mark.slow
@pytest.mark.server
def test_of_one_category_one_waits_and_of_two_both_run(make_project, mlflow_template: Path) -> None:
    from prefect.settings import PREFECT_API_URL

    root = make_project().root
    shutil.copy(mlflow_template, root / "mlflow.db")
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": str(root)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _RETRAIN, str(root), category],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for category in ("plain", "dents", "plain")
    ]
    for process in running:
        printed, _ = process.communicate()
        assert process.returncode == 0, printed.decode()
    spans = [json.loads(file.read_text()) for file in root.glob("*.json")]
    assert sorted(category for category, *_ in spans) == ["dents", "plain", "plain"]
    (_, _, first_end), (_, second_begun, _) = sorted(span for span in spans if span[0] == "plain")
    assert first_end < second_begun
    (_, other_begun, other_end) = next(span for span in spans if span[0] == "dents")
    assert any(begun < other_end and other_begun < end for name, begun, end in spans if name == "plain")

"""A server under load follows the champion, loses no request, and goes on when the next one is broken.

`make test` sends some hundred requests, `make soak` 2,000.
"""

import os
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from finished_runs import PipelineRun, fit_detector, write_images
from served import ServedProcess, serving
from waiting import PATIENCE

from reconpatch import ReConPatch
from tasks.registry.register import register_run

COUNT = 2_000 if os.environ.get("RECONPATCH_SOAK") == "1" else 200
CLIENTS = 4
NAME = "reconpatch-tiny-nut"


@pytest.fixture(scope="module")
def project(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    """Three versions in a registry: the champion, one with another bank, and one that is cut short."""
    root = tmp_path_factory.mktemp("swapped")
    images = write_images(root / "data" / "nut")
    shutil.copy(mlflow_template, root / "mlflow.db")
    first = fit_detector(images, root / "first")
    second = ReConPatch.load(first, threads=1)
    second.update([images / "test" / "good"], mode="frozen")
    second.save(root / "second")
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        run = PipelineRun(root, first, images)
        register_run(run.settings(), [run.finish()])
    packed = next((root / "mlartifacts").rglob("MLmodel")).parent
    held = next(packed.rglob("bank.safetensors")).parent.relative_to(packed)
    for number in ("second", "broken"):
        copy = shutil.copytree(packed, root / "registered" / number)
        shutil.rmtree(copy / held)
        shutil.copytree(root / "second", copy / held)
        run.client.create_model_version(NAME, str(copy))
    bank = copy / held / "bank.safetensors"
    bank.write_bytes(bank.read_bytes()[:1000])
    return run


@pytest.fixture(scope="module")
def server(project: PipelineRun) -> Iterator[ServedProcess]:
    project.client.set_registered_model_alias(NAME, "champion", "1")
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{project.root / 'mlflow.db'}", "OMP_NUM_THREADS": "1"}
    with serving(project.root, f"models:/{NAME}@champion", environment=store) as served:
        yield served


def _category(server: ServedProcess) -> dict:
    return server.ask("GET", "/api/categories")[1]["categories"][0]


def _await(condition, seconds: float = PATIENCE) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds
        time.sleep(0.05)
    return time.monotonic() - start


@pytest.mark.slow
@pytest.mark.server
def test_the_champion_moves_under_load_and_no_request_is_lost(
    project: PipelineRun, server: ServedProcess
) -> None:
    image = (project.images / "test" / "good" / "0.png").read_bytes()
    answers: list[tuple[int, str, float, float]] = []
    done = threading.Event()

    def client(_: int) -> None:
        sent = 0
        while sent < COUNT // CLIENTS or not done.is_set():
            start = time.perf_counter()
            status, told = server.predict("tiny-nut", image)
            result = told["results"][0] if status == 200 else {"model_version": "", "score": 0.0}
            answers.append((status, result["model_version"], result["score"], time.perf_counter() - start))
            sent += 1

    started = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            _await(lambda: len(answers) > COUNT // 4)
            project.client.set_registered_model_alias(NAME, "champion", "2")
            followed = _await(lambda: _category(server)["model_version"] == f"{NAME}/2")
            _await(lambda: len(answers) > COUNT // 2)
            project.client.set_registered_model_alias(NAME, "champion", "3")
            _await(lambda: _category(server)["problem"] is not None)
        finally:
            done.set()
        for one in clients:
            one.result()
    seconds = time.monotonic() - started

    assert {status for status, *_ in answers} == {200}
    assert len(answers) >= COUNT
    for version, folder in ((1, "first"), (2, "second")):
        (expected,) = ReConPatch.load(project.root / folder, threads=1).predict(
            project.images / "test/good/0.png"
        )
        scores = {score for _, served, score, _ in answers if served == f"{NAME}/{version}"}
        assert len(scores) == 1
        assert scores.pop() == pytest.approx(expected.score, abs=1e-5)
    assert {served for _, served, _, _ in answers} == {f"{NAME}/1", f"{NAME}/2"}
    now = _category(server)
    assert now["model_version"] == f"{NAME}/2"
    assert "cut short" in now["problem"]
    times = sorted(1000 * took for *_, took in answers)
    print(
        f"{len(answers)} requests of {CLIENTS} clients, {len(answers) / seconds:.1f} images/s, "
        f"p50 {statistics.median(times):.0f} ms, p95 {times[int(0.95 * len(times))]:.0f} ms, "
        f"largest {times[-1]:.0f} ms; the champion was followed in {followed:.1f} s"
    )


# Last in the file: it ends the server.
@pytest.mark.server
def test_a_stopped_server_answers_what_it_has_taken(project: PipelineRun, server: ServedProcess) -> None:
    image = (project.images / "test" / "good" / "0.png").read_bytes()
    assert f"at http://127.0.0.1:{server.port}\n" in server.log.read_text()
    with ThreadPoolExecutor(3) as pool:
        under_way = [pool.submit(server.predict, "tiny-nut", *([image] * 30)) for _ in range(3)]
        # Until the first image of each was scored, so that all are under way.
        _await(lambda: len(server.ask("GET", "/api/images?count=100")[1]["results"]) >= 3)
        server.process.send_signal(signal.SIGTERM)
        assert [len(one.result()[1]["results"]) for one in under_way] == [30, 30, 30]
    assert server.process.wait(PATIENCE) in (0, -signal.SIGTERM)
    with pytest.raises(OSError, match="refused"):
        server.ask("GET", "/ready")

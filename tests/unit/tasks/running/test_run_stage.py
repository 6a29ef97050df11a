import json
import sys
import threading
from pathlib import Path

import pytest

from reconpatch.errors import DataError
from tasks.running import source_code
from tasks.running.run_stage import TIMINGS, run_stage
from tasks.running.source_code import CodeChangedError
from tasks.running.stage_folders import Job


def test_a_stage_runs_once_and_is_then_found_done(toy) -> None:
    assert run_stage("first", toy.job).ran
    finished = run_stage("first", toy.job)
    assert not finished.ran
    assert finished.folder == toy.root / "outputs" / "toy" / "brick" / "first"
    assert (finished.folder / "text").read_text() == "pixels"
    assert toy.ran == ["first"]


def test_its_own_parameters_make_a_stage_stale_and_no_others(toy) -> None:
    for name in ("first", "second"):
        run_stage(name, toy.job)
    changed = toy.job_with(alpha=0.25)
    assert not run_stage("first", changed).ran
    assert run_stage("second", changed).ran


def test_an_image_makes_every_reader_stale_until_the_content_is_the_same_again(toy) -> None:
    for name in ("first", "second"):
        run_stage(name, toy.job)
    (toy.root / "data" / "toy" / "brick" / "image").write_text("PIXELS")
    assert run_stage("first", toy.job).ran
    assert not run_stage("second", toy.job).ran  # `first` wrote the same bytes as before
    (toy.root / "data" / "toy" / "brick" / "another").write_text("")
    assert run_stage("first", toy.job).ran
    (toy.root / "data" / "toy" / "brick" / "image").write_text("other")
    assert run_stage("first", toy.job).ran
    assert run_stage("second", toy.job).ran


def test_code_makes_a_stage_stale_in_the_next_process(toy) -> None:
    run_stage("first", toy.job)
    (toy.root / "lib" / "code.py").write_text("two")
    source_code.note_code.cache_clear()
    assert run_stage("first", toy.job).ran


def test_code_that_was_edited_under_a_running_process_is_refused(toy) -> None:
    run_stage("first", toy.job)
    (toy.root / "lib" / "code.py").write_text("two")
    with pytest.raises(CodeChangedError, match="lib: edited while this process ran"):
        run_stage("first", toy.job)


@pytest.mark.parametrize("spoil", ["cut", "remove", "add", "record", "half a record"])
def test_spoilt_outputs_are_made_again(toy, spoil: str) -> None:
    folder = run_stage("first", toy.job).folder
    if spoil == "cut":
        (folder / "text").write_text("pix")
    elif spoil == "remove":
        (folder / "folder" / "name").unlink()
    elif spoil == "add":
        (folder / "folder" / "stray").write_text("")
    elif spoil == "record":
        (folder / "record.json").unlink()
    else:
        (folder / "record.json").write_text((folder / "record.json").read_text()[:40])
    assert run_stage("first", toy.job).ran
    assert (folder / "text").read_text() == "pixels"
    assert not run_stage("first", toy.job).ran


def test_equal_inputs_give_equal_bytes_but_for_the_timings(toy) -> None:
    def contents() -> dict[str, bytes]:
        folder = toy.job.folder("second")
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.name != TIMINGS}

    run_stage("first", toy.job)
    run_stage("second", toy.job)
    before = contents()
    (toy.job.folder("second") / "record.json").unlink()
    run_stage("second", toy.job)
    assert contents() == before
    timings = json.loads((toy.job.folder("second") / TIMINGS).read_text())
    assert timings["seconds_per_image"] == 0.5
    assert timings["seconds"] >= 0


def test_a_failing_body_leaves_the_old_outputs_and_nothing_else(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_stage("first", toy.job).folder
    (toy.root / "data" / "toy" / "brick" / "image").write_text("other")

    def fail(_job: Job, folder: Path) -> dict[str, float]:
        (folder / "text").write_text("half")
        raise DataError("image: is cut short")

    monkeypatch.setattr(sys.modules["tasks.stages.first"], "run", fail)
    with pytest.raises(DataError, match="cut short"):
        run_stage("first", toy.job)
    assert (folder / "text").read_text() == "pixels"
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == ["first"]


def test_a_body_that_forgets_an_output_is_no_finished_stage(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tasks.stages.first"], "run", lambda _job, _folder: {})
    with pytest.raises(FileNotFoundError, match="text"):
        run_stage("first", toy.job)
    assert not toy.job.folder("first").exists()


def test_what_a_killed_run_left_is_removed(toy) -> None:
    abandoned = toy.job.folder("first").parent / ".first.killed.new"
    abandoned.mkdir(parents=True)
    (abandoned / "text").write_text("half")
    run_stage("first", toy.job)
    assert not abandoned.exists()


def test_two_at_once_do_the_work_once(toy) -> None:
    threads = [threading.Thread(target=run_stage, args=("first", toy.job)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert toy.ran == ["first"]


def test_a_missing_input_is_named_with_what_to_do(toy) -> None:
    with pytest.raises(DataError, match="run the stage `first` first"):
        run_stage("second", toy.job)
    (toy.root / "data" / "toy" / "brick").rename(toy.root / "elsewhere")
    with pytest.raises(DataError, match=r"correct pipeline\.root"):
        run_stage("first", toy.job)

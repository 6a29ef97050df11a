import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from reconpatch.errors import ReConPatchError, SettingsError
from tasks.running.dvc_commit import CommitRefusedError, DvcBusyError, commit_stages
from tasks.running.full_disk import FullDiskError
from tasks.running.run_stage import run_stage


@pytest.fixture
def finished(toy, monkeypatch: pytest.MonkeyPatch):
    """Both stages of the toy project, and a dvc that keeps the names that it was asked to commit."""
    fake_dvc(monkeypatch, toy.root, lambda names: "\n".join(names))
    write_params(toy.root)
    return [run_stage("first", toy.job), run_stage("second", toy.job)]


def fake_dvc(monkeypatch: pytest.MonkeyPatch, root: Path, lock: Callable[[list[str]], str]) -> None:
    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        names = [name for name in command if "@" in name]
        if "status" in command:
            known = (root / "dvc.lock").read_text().split() if (root / "dvc.lock").exists() else []
            status = {name: ["changed"] for name in names if name not in known}
            return subprocess.CompletedProcess(command, 0, json.dumps(status), "")
        (root / "dvc.lock").write_text(lock(names))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("tasks.running.dvc_commit.subprocess.run", run)


def write_params(root: Path, **modulation: object) -> None:
    pipeline = {"dataset": "toy", "root": "data/toy", "categories": ["brick"], "backbones": ["net"]}
    (root / "params.yaml").write_text(yaml.safe_dump({"pipeline": pipeline, "modulation": modulation}))


def test_finished_stages_are_recorded_under_the_names_that_dvc_knows(toy, finished) -> None:
    assert commit_stages(finished, toy.root) == ["first@brick", "second@brick-net"]
    assert (toy.root / "dvc.lock").read_text() == "first@brick\nsecond@brick-net"


def test_what_dvc_knows_already_is_not_committed_again(toy, finished) -> None:
    (toy.root / "dvc.lock").write_text("first@brick")
    assert commit_stages(finished, toy.root) == ["second@brick-net"]
    (toy.root / "dvc.lock").write_text("first@brick\nsecond@brick-net")
    assert commit_stages(finished, toy.root) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda root: write_params(root, alpha=0.25), "second@brick-net: params: modulation.alpha"),
        (lambda root: (root / "lib" / "code.py").write_text("two"), "first@brick: code: lib"),
        (lambda root: (root / "data/toy/brick/image").write_text("x"), "first@brick: data"),
        (lambda root: (root / "data/toy/brick/image").unlink(), "first@brick: data"),
        (lambda root: (root / "outputs/toy/brick/first/text").write_text("x"), "first@brick: its outputs"),
        (lambda root: (root / "outputs/toy/brick/net/second/text").unlink(), "second/text is missing"),
        (lambda root: (root / "outputs/toy/brick/net/second/record.json").unlink(), "its record is missing"),
    ],
)
def test_any_change_refuses_the_whole_commit_and_is_named(toy, finished, change, named: str) -> None:
    change(toy.root)
    with pytest.raises(CommitRefusedError, match="run the flow again") as caught:
        commit_stages(finished, toy.root)
    assert named in str(caught.value)
    assert not (toy.root / "dvc.lock").exists()


def test_a_change_while_dvc_reads_puts_the_lock_back(toy, finished, monkeypatch: pytest.MonkeyPatch) -> None:
    (toy.root / "dvc.lock").write_text("as it was")

    def change(_names: list[str]) -> str:
        (toy.root / "data/toy/brick/image").write_text("late")
        return "of a mixture"

    fake_dvc(monkeypatch, toy.root, change)
    with pytest.raises(CommitRefusedError):
        commit_stages(finished, toy.root)
    assert (toy.root / "dvc.lock").read_text() == "as it was"


def test_a_taken_lock_can_be_tried_again(toy, finished, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = "ERROR: '/p/dvc.yaml' is busy, it is being blocked by:\n  (PID 1): dvc repro"
    answer = subprocess.CompletedProcess([], 255, "", busy)
    monkeypatch.setattr("tasks.running.dvc_commit.subprocess.run", lambda *_, **__: answer)
    with pytest.raises(DvcBusyError, match="PID 1"):
        commit_stages(finished, toy.root)


def test_a_list_of_locks_that_was_half_written_goes_once_nobody_writes_it(toy, finished) -> None:
    torn = toy.root / ".dvc" / "tmp" / "rwlock"
    torn.parent.mkdir(parents=True)
    torn.write_text('{"read": {"half')
    commit_stages(finished, toy.root)
    assert torn.exists()  # it may be being written
    os.utime(torn, (1, 1))
    (toy.root / "dvc.lock").unlink()
    commit_stages(finished, toy.root)
    assert not torn.exists()
    torn.write_text("{}")
    os.utime(torn, (1, 1))
    commit_stages(finished, toy.root)
    assert torn.exists()


def test_a_list_of_locks_whose_holders_are_gone_goes_though_their_numbers_live_on(toy, finished) -> None:
    rwlock = toy.root / ".dvc" / "tmp" / "rwlock"
    rwlock.parent.mkdir(parents=True)
    holder = {"pid": os.getpid(), "cmd": "dvc add data"}
    rwlock.write_text(json.dumps({"write": {"data": holder}, "read": {"x": [holder]}}))
    commit_stages(finished, toy.root)
    assert rwlock.exists()  # this process lived when it was written
    os.utime(rwlock, (1, 1))  # before a power cut: the number is another's by now
    (toy.root / "dvc.lock").unlink()
    commit_stages(finished, toy.root)
    assert not rwlock.exists()


@pytest.mark.parametrize("end", ["failure", "full disk", "busy", "Ctrl-C", "broken params.yaml"])
def test_whatever_ends_a_commit_half_way_puts_the_lock_back(
    toy, finished, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    (toy.root / "dvc.lock").write_text("as it was")
    raised = {
        "failure": ReConPatchError,
        "full disk": FullDiskError,
        "busy": DvcBusyError,
        "Ctrl-C": KeyboardInterrupt,
        "broken params.yaml": SettingsError,
    }

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        if "status" in command:
            return subprocess.CompletedProcess(command, 0, '{"first@brick": ["changed"]}', "")
        (toy.root / "dvc.lock").write_text("half")
        if end == "Ctrl-C":
            raise KeyboardInterrupt
        if end == "broken params.yaml":
            (toy.root / "params.yaml").write_text("pipeline: [")
            return subprocess.CompletedProcess(command, 0, "", "")
        message = {"busy": "it is being blocked by:", "full disk": "No space left on device"}.get(end, "no")
        return subprocess.CompletedProcess(command, 255, "", message)

    monkeypatch.setattr("tasks.running.dvc_commit.subprocess.run", run)
    with pytest.raises(raised[end]):
        commit_stages(finished, toy.root)
    assert (toy.root / "dvc.lock").read_text() == "as it was"
    assert not list(toy.root.rglob("dvc.lock.*"))

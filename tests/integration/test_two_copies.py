"""Two copies of a project on one registry: one move is one event, and a log that was forked can be mended."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from waiting import PATIENCE

from flows import promote as command
from reconpatch.errors import ModelError, ReConPatchError
from reconpatch.integrations.mlflow_lineage import PROMOTIONS
from reconpatch.settings import load_settings
from tasks.registry import promotion_log
from tasks.registry.champion_change import HeldModel
from tasks.registry.mend_log import mend_log
from tasks.registry.promotion import promote_version, read_log, reconcile, roll_back
from tasks.registry.promotion_event import Entry
from tasks.registry.promotion_log import PromotionLog
from tasks.running.stage_folders import PROJECT
from tasks.running.typer_commands import run_command

NAME = "reconpatch-tiny-nut"


class Copies:
    """Two copies of a project whose first version was moved to champion in the UI."""

    def __init__(self, root: Path) -> None:
        uri = f"sqlite:///{root / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.client.create_registered_model(NAME)
        for _ in range(3):
            self.client.create_model_version(NAME, str(root / "model"))
        self.client.set_registered_model_alias(NAME, "champion", "1")
        settings = load_settings(None, {"register.tracking_uri": uri})
        self.places: list[dict[str, Any]] = []
        for name in ("one", "two"):
            (root / name / "mlflow").mkdir(parents=True)
            shutil.copy(PROJECT / "mlflow" / "gate.yaml", root / name / "mlflow")
            self.places.append({"settings": settings, "project": root / name})
        self.one, self.two = self.places

    def both_see(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Reconcile in both at the same time: each has read the log before the other writes; the errors."""
        intend, verdict = PromotionLog.intend, HeldModel.verdict
        both, one_at_a_time, errors = threading.Barrier(2, timeout=PATIENCE), threading.Lock(), []

        def together(log: PromotionLog, *given: Any, **said: Any) -> Any:
            both.wait()
            return intend(log, *given, **said)

        def judged(*given: Any, **named: Any) -> Any:
            with one_at_a_time:  # MLflow itself cannot write one tag twice at the same time
                return verdict(*given, **named)

        def work(place: dict[str, Any]) -> None:
            try:
                reconcile(NAME, **place)
            except ReConPatchError as error:
                errors.append(str(error))
                both.abort()

        with monkeypatch.context() as patched:
            patched.setattr(PromotionLog, "intend", together)
            patched.setattr(HeldModel, "verdict", judged)
            threads = [threading.Thread(target=work, args=(place,)) for place in self.places]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return errors

    def fork(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both log the move, as versions did that claimed nothing: one has read the log, the other writes."""
        intend, others = PromotionLog.intend, [self.two]

        def late(log: PromotionLog, entries: list[Entry], **said: Any) -> Entry:
            if others:
                reconcile(NAME, **others.pop())
            with monkeypatch.context() as patched:
                patched.setattr(PromotionLog, "unverified", lambda _: (entries, None))
                return intend(log, entries, **said)

        with monkeypatch.context() as patched:
            patched.setattr(PromotionLog, "_claim", lambda *_: None)
            patched.setattr(PromotionLog, "intend", late)
            reconcile(NAME, **self.one)

    @property
    def runs(self) -> dict[str, Any]:
        experiment = self.client.get_experiment_by_name(PROMOTIONS)
        assert experiment is not None
        return {
            run.info.run_id: run.to_dictionary()
            for run in self.client.search_runs([experiment.experiment_id])
        }


@pytest.fixture
def copies(mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copies:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    return Copies(tmp_path)


def _told(place: dict[str, Any]) -> list[tuple[str, str, str]]:
    done = (one.event for one in read_log(NAME, **place) if one.is_done)
    return [(event.kind, event.from_version, event.to_version) for event in done]


def test_a_move_that_both_see_at_once_is_one_event_and_promotion_goes_on(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    (error,) = copies.both_see(monkeypatch)
    assert "another copy of this project changes its champion" in error
    assert _told(copies.one) == [("ui", "none", "1")]
    copies.client.set_registered_model_alias(NAME, "champion", "3")
    assert len(copies.both_see(monkeypatch)) == 1
    promote_version(NAME, "2", "from the second copy", **copies.two)
    roll_back(NAME, "from the first copy", **copies.one)
    expected = [("ui", "none", "1"), ("ui", "1", "3"), ("promotion", "3", "2"), ("rollback", "2", "3")]
    assert _told(copies.one) == _told(copies.two) == expected
    names = [one.name for one in copies.client.search_experiments()]
    assert not [name for name in names if "claim" in name], "claims are not shown among the experiments"


def test_what_a_copy_has_half_done_is_left_to_it_until_its_process_is_taken_for_dead(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconcile(NAME, **copies.one)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_registered_model_alias", crash)
        with pytest.raises(KeyboardInterrupt):
            promote_version(NAME, "2", "killed", **copies.one)
    with pytest.raises(ModelError, match="another copy of this project"):
        promote_version(NAME, "3", "from the second copy", **copies.two)
    assert read_log(NAME, **copies.two)[-1].is_open
    monkeypatch.setattr(promotion_log, "_PATIENCE_SECONDS", 0.0)
    promote_version(NAME, "3", "from the second copy", **copies.two)
    assert _told(copies.two) == [("ui", "none", "1"), ("promotion", "1", "3")]


def test_a_copy_killed_between_claim_and_event_keeps_itself_from_nothing_and_others_for_a_while(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconcile(NAME, **copies.one)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "create_run", crash)
        with pytest.raises(KeyboardInterrupt):
            promote_version(NAME, "2", "killed", **copies.one)
    with pytest.raises(ModelError, match="another copy of this project"):
        promote_version(NAME, "3", "from the second copy", **copies.two)
    promote_version(NAME, "2", "again", **copies.one)
    promote_version(NAME, "3", "from the second copy", **copies.two)
    assert _told(copies.one)[1:] == [("promotion", "1", "2"), ("promotion", "2", "3")]


def test_a_forked_log_is_mended_by_one_more_event_and_nothing_is_rewritten(
    copies: Copies, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copies.fork(monkeypatch)
    with pytest.raises(ModelError, match=f"flows.promote --model {NAME} --mend-log"):
        promote_version(NAME, "2", "blocked", **copies.one)
    before = copies.runs
    assert len(before) == 2

    monkeypatch.setattr(command, "PROJECT", copies.one["project"])
    monkeypatch.setattr(command, "read_params", lambda: copies.one["settings"])
    run_command(command.main, "promote", ["--model", NAME, "--mend-log", "--dry-run"])
    said = capsys.readouterr().out
    assert "event 1 is there 2 times" in said
    assert "without --dry-run" in said
    assert copies.runs == before
    run_command(command.main, "promote", ["--model", NAME, "--mend-log"])
    assert "mend: 1 to 1" in capsys.readouterr().out
    after = copies.runs
    assert {run: after[run] for run in before} == before
    assert len(after) == 3
    assert mend_log(NAME, dry_run=False, **copies.two) == []
    run_command(command.main, "promote", ["--model", NAME, "--mend-log"])
    assert "nothing to mend" in capsys.readouterr().out

    promote_version(NAME, "2", "goes on", **copies.two)
    roll_back(NAME, "to the one before", **copies.one)
    assert _told(copies.two)[2:] == [("mend", "1", "1"), ("promotion", "1", "2"), ("rollback", "2", "1")]
    with pytest.raises(ModelError, match="no earlier champion"):
        roll_back(NAME, "there is none", **copies.one)

    # What was sealed is still guarded: an event, and that it is there twice.
    run = next(iter(before))
    copies.client.delete_run(run)
    with pytest.raises(ModelError, match="taken out before event 2, which sealed them; look into"):
        read_log(NAME, **copies.one)
    with pytest.raises(ModelError, match="this is not mended"):
        mend_log(NAME, dry_run=False, **copies.one)
    copies.client.restore_run(run)
    assert len(read_log(NAME, **copies.one)) == 5


def test_what_was_edited_is_not_mended(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    copies.fork(monkeypatch)
    copies.client.set_tag(next(iter(copies.runs)), "why", "nothing to see here")
    with pytest.raises(ModelError, match="was edited; this is not mended"):
        mend_log(NAME, dry_run=True, **copies.one)


def test_an_event_that_one_copy_gave_up_and_the_other_finished_is_mended(copies: Copies) -> None:
    reconcile(NAME, **copies.one)
    done = promote_version(NAME, "2", "first", **copies.one)
    promote_version(NAME, "3", "second", **copies.two)
    copies.client.set_terminated(done.run_id, "FAILED")
    with pytest.raises(ModelError, match="event 2 ended as FAILED, event 3 says FINISHED; mend it by"):
        read_log(NAME, **copies.one)
    assert mend_log(NAME, dry_run=False, **copies.one) == ["event 2 ended as FAILED, event 3 says FINISHED"]
    promote_version(NAME, "2", "goes on", **copies.two)
    assert _told(copies.one)[-1] == ("promotion", "3", "2")

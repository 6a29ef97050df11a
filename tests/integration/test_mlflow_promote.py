import shutil
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from waiting import PATIENCE

from flows.promote import watch_once
from reconpatch.errors import ModelError, ReConPatchError, SettingsError
from reconpatch.integrations.mlflow_lineage import PROMOTIONS
from reconpatch.settings import Settings
from reconpatch.storage.file_locks import file_lock
from tasks.registry import champion_change, promotion
from tasks.registry.gate_policy import load_policy
from tasks.registry.gate_rules import FAILED, PASSED, GateReport, RuleResult
from tasks.registry.promotion import promote_version, read_log, reconcile, roll_back
from tasks.registry.promotion_log import PromotionLog
from tasks.running.stage_folders import PROJECT

NAME = "reconpatch-tiny-nut"


class Registry:
    """A project with three versions, the first of them champion, as registration leaves it."""

    def __init__(self, root: Path) -> None:
        uri = f"sqlite:///{root / 'mlflow.db'}"
        self.root = root
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.client.create_registered_model(NAME)
        for _ in range(3):
            self.client.create_model_version(NAME, str(root / "model"))
        self.client.set_registered_model_alias(NAME, "champion", "1")
        self.place = {"settings": Settings(), "project": root}

    def promote(self, version: str, why: str = "fewer false alarms"):
        return promote_version(NAME, version, why, **self.place)

    def judged(self, version: str, *verdicts: str, champion: str | None = "1") -> None:
        """Write the gate's verdict on a version, as registration would have."""
        results = tuple(RuleResult(f"rule {number}", one, "0.5") for number, one in enumerate(verdicts))
        report = GateReport(results, champion, "set", load_policy(self.root).digest)
        for key, value in report.to_tags().items():
            self.client.set_model_version_tag(NAME, version, key, value)

    def policy(self, text: str) -> None:
        (self.root / "mlflow" / "gate.yaml").write_text(text)

    def move_in_the_ui(self, version: str) -> None:
        self.client.set_registered_model_alias(NAME, "champion", version)

    @property
    def aliases(self) -> dict[str, str]:
        found = self.client.get_registered_model(NAME).aliases
        return {alias: str(version) for alias, version in found.items()}

    @property
    def runs(self) -> list:
        experiment = self.client.get_experiment_by_name(PROMOTIONS)
        return [] if experiment is None else self.client.search_runs([experiment.experiment_id])

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [
            (entry.event.kind, entry.event.from_version, entry.event.to_version)
            for entry in read_log(NAME, **self.place)
            if entry.is_done
        ]


@pytest.fixture
def registry(mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    (tmp_path / "mlflow").mkdir()
    shutil.copy(PROJECT / "mlflow" / "gate.yaml", tmp_path / "mlflow")
    made = Registry(tmp_path)
    reconcile(NAME, **made.place)
    return made


def test_the_alias_moves_and_the_old_champion_stays_within_reach(registry: Registry) -> None:
    done = registry.promote("2")
    assert (done.version, done.previous, done.kind) == ("2", "1", "promotion")
    assert registry.aliases == {"champion": "2", "previous": "1"}


def test_who_when_and_why_are_one_run(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    registry.judged("2", PASSED)
    done = registry.promote("2", " fewer false alarms ")
    event = registry.client.get_run(done.run_id)
    assert event.info.status == "FINISHED"
    told = {
        key: event.data.tags[key] for key in ("model", "from_version", "to_version", "who", "why", "gate")
    }
    assert told == {
        "model": NAME,
        "from_version": "1",
        "to_version": "2",
        "who": "ada",
        "why": "fewer false alarms",
        "gate": "passed",
    }
    assert event.data.tags["when"].endswith("+00:00")
    assert "| rule 0 | passed | 0.5 |" in event.data.tags["mlflow.note.content"]
    assert registry.client.get_model_version(NAME, "2").tags["promotion_run"] == done.run_id
    (entry,) = read_log(NAME, **registry.place)[-1:]
    assert (entry.event.evaluation_set, entry.event.hash) == ("set", done.hash)


@pytest.mark.parametrize(
    ("model", "version", "why", "error", "message"),
    [
        (NAME, "4", "x", ModelError, "has no version 4; it has 1, 2, 3"),
        (NAME, "1", "x", ModelError, "version 1 is the champion already"),
        ("other", "1", "x", ModelError, f"no such registered model; there are {NAME}"),
        (NAME, "2", " ", SettingsError, "--why is empty"),
        (NAME, "2", "x" * 1001, SettingsError, "1001 characters"),
    ],
)
def test_what_cannot_be_promoted_is_one_clear_error_and_no_event(
    registry: Registry, model: str, version: str, why: str, error: type, message: str
) -> None:
    before = len(registry.runs)
    with pytest.raises(error, match=message):
        promote_version(model, version, why, **registry.place)
    assert len(registry.runs) == before
    assert registry.aliases == {"champion": "1"}


def test_a_move_that_fails_is_given_up_in_the_log(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("the store is read-only")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_registered_model_alias", refuse)
        with pytest.raises(ReConPatchError, match="read-only"):
            registry.promote("2")
    assert registry.told == [("ui", "none", "1")]
    assert [entry.status for entry in read_log(NAME, **registry.place)] == ["FINISHED", "FAILED"]
    assert registry.aliases == {"champion": "1"}
    registry.promote("2")
    assert registry.aliases["champion"] == "2"


def test_rollback_goes_back_and_further_back(registry: Registry) -> None:
    registry.promote("2")
    registry.promote("3")
    assert roll_back(NAME, "misses", **registry.place).version == "2"
    assert roll_back(NAME, "misses", **registry.place).version == "1"
    with pytest.raises(ModelError, match="no earlier champion"):
        roll_back(NAME, "misses", **registry.place)
    assert registry.aliases["champion"] == "1"


def test_rollback_to_a_deleted_version_says_so(registry: Registry) -> None:
    registry.promote("2")
    registry.client.delete_model_version(NAME, "1")
    with pytest.raises(ModelError, match="version 1, the champion before, was deleted"):
        roll_back(NAME, "misses", **registry.place)


def test_a_refused_version_is_not_promoted_and_the_rule_is_named(registry: Registry) -> None:
    registry.judged("2", PASSED, FAILED)
    with pytest.raises(ModelError, match=r"the gate refuses version 2: rule 1: 0\.5"):
        registry.promote("2")
    assert registry.aliases == {"champion": "1"}


def test_by_policy_a_refused_version_is_promoted_and_marked(registry: Registry) -> None:
    registry.policy("broken_gate: keep")
    registry.judged("2", FAILED)
    assert registry.promote("2").gate == "breaks the gate: rule 0: 0.5"
    assert registry.aliases["champion"] == "2"


def test_a_move_in_the_ui_is_logged_by_the_watcher(registry: Registry) -> None:
    registry.judged("2", PASSED)
    registry.move_in_the_ui("2")
    (seen,) = watch_once(**registry.place)
    assert (seen.kind, seen.who, seen.version, seen.previous) == ("ui", "unknown (UI)", "2", "1")
    assert watch_once(**registry.place) == []
    assert registry.aliases == {"champion": "2", "previous": "1"}
    assert roll_back(NAME, "a slip", **registry.place).version == "1"


def test_a_move_in_the_ui_that_breaks_the_gate_is_undone(registry: Registry) -> None:
    registry.judged("2", FAILED)
    registry.move_in_the_ui("2")
    seen, undone = watch_once(**registry.place)
    assert seen.gate == "breaks the gate: rule 0: 0.5"
    assert (undone.kind, undone.who, undone.version) == ("undo", "policy", "1")
    assert registry.aliases["champion"] == "1"
    assert watch_once(**registry.place) == []
    registry.move_in_the_ui("2")  # and is no former champion through it
    assert [change.kind for change in watch_once(**registry.place)] == ["ui", "undo"]


def test_or_kept_and_marked(registry: Registry) -> None:
    registry.policy("broken_gate: keep")
    registry.judged("2", FAILED)
    registry.move_in_the_ui("2")
    (seen,) = watch_once(**registry.place)
    assert seen.gate == "breaks the gate: rule 0: 0.5"
    assert registry.aliases["champion"] == "2"


def test_a_crash_between_seeing_and_undoing_is_made_up_for(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.judged("2", FAILED)
    registry.move_in_the_ui("2")
    with monkeypatch.context() as patched:
        patched.setattr(
            champion_change.HeldModel, "move", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            watch_once(**registry.place)
    assert registry.aliases["champion"] == "2"
    assert [change.kind for change in watch_once(**registry.place)] == ["undo"]
    assert registry.aliases["champion"] == "1"


def test_a_rollback_in_the_ui_is_no_breach(registry: Registry) -> None:
    registry.promote("2")
    registry.judged("1", FAILED, champion=None)
    registry.move_in_the_ui("1")
    assert [change.kind for change in watch_once(**registry.place)] == ["ui"]
    assert registry.aliases["champion"] == "1"


def test_an_alias_taken_away_in_the_ui_comes_back(registry: Registry) -> None:
    registry.client.delete_registered_model_alias(NAME, "champion")
    assert [(change.kind, change.version) for change in watch_once(**registry.place)] == [
        ("ui", "none"),
        ("undo", "1"),
    ]
    assert registry.aliases["champion"] == "1"


@pytest.mark.parametrize("step", ["before the alias", "after the alias"])
def test_what_a_crash_left_is_finished_or_given_up(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = MlflowClient.set_registered_model_alias

    def crash(*arguments: object) -> None:
        if step == "after the alias":
            original(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_registered_model_alias", crash)
        with pytest.raises(KeyboardInterrupt):
            registry.promote("2")
    assert reconcile(NAME, **registry.place) == []
    if step == "after the alias":
        assert registry.aliases == {"champion": "2", "previous": "1"}
        assert registry.told[-1] == ("promotion", "1", "2")
    else:
        assert registry.aliases == {"champion": "1"}
        assert registry.told == [("ui", "none", "1")]


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(champion_change, "WAIT_SECONDS", 0.2)
    lock = registry.root / ".cache" / f"promote-{NAME}.lock"
    with file_lock(lock), pytest.raises(ModelError, match="another change of its champion"):
        registry.promote("2")
    monkeypatch.setattr(champion_change, "WAIT_SECONDS", PATIENCE)
    errors: list[str] = []

    def work(version: str) -> None:
        try:
            registry.promote(version)
        except ModelError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=work, args=(version,)) for version in ("2", "3")]
    start = promotion.check_promotion
    both = threading.Barrier(2)

    def looked_at_the_same_time(*arguments: object, **named: object) -> object:
        seen = start(*arguments, **named)
        both.wait()
        return seen

    monkeypatch.setattr(promotion, "check_promotion", looked_at_the_same_time)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert "another promotion came first" in errors[0]
    assert registry.told[-1] == ("promotion", "1", registry.aliases["champion"])


def test_a_log_that_grows_while_it_is_read_is_read_again(registry: Registry, monkeypatch) -> None:
    before, look = len(read_log(NAME, **registry.place)), PromotionLog._runs

    def look_then_grow(log: PromotionLog) -> list[Run]:
        found = list(look(log))
        monkeypatch.setattr(PromotionLog, "_runs", look)
        registry.promote("2")
        return found

    monkeypatch.setattr(PromotionLog, "_runs", look_then_grow)
    assert len(read_log(NAME, **registry.place)) == before + 1


def test_a_log_with_a_deleted_event_stops_promotion_until_it_is_restored(registry: Registry) -> None:
    registry.promote("2")
    (first,) = (run for run in registry.runs if run.data.tags["kind"] == "ui")
    registry.client.delete_run(first.info.run_id)
    with pytest.raises(ModelError, match="does not verify: event 1 is missing"):
        registry.promote("3")
    registry.client.restore_run(first.info.run_id)
    registry.promote("3")


def test_an_edited_event_is_found(registry: Registry) -> None:
    done = registry.promote("2")
    registry.client.set_tag(done.run_id, "why", "nothing to see here")
    with pytest.raises(ModelError, match="was edited"):
        read_log(NAME, **registry.place)

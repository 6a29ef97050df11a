"""How a model's champion changes: the event is written, the alias moves, the event ends.

What a crash leaves half done is finished or given up by `HeldModel.reconcile`, which every change runs first.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from reconpatch.errors import ModelError, ReConPatchError
from reconpatch.integrations.mlflow_lineage import PROMOTIONS
from reconpatch.settings import Settings
from reconpatch.storage.file_locks import file_lock
from tasks.registry.champion_history import champion_of, former_champions, reference_champions
from tasks.registry.gate_check import run_gate
from tasks.registry.gate_policy import Policy, load_policy
from tasks.registry.gate_rules import REFUSED, GateReport
from tasks.registry.mlflow_store import CHAMPION, PREVIOUS, mlflow_errors, open_experiment
from tasks.registry.promotion_event import BREAKS, MEND, NOBODY, SEEN, UNDO, Entry, Event
from tasks.registry.promotion_log import PromotionLog

BY_HAND, BY_POLICY = "unknown (UI)", "policy"
WAIT_SECONDS = 5.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Promotion:
    """A champion's change.

    Attributes:
        model: name of the registered model.
        version: the new champion; ``none`` when there is none any more.
        previous: the version that it replaced; None when it is the first.
        kind: ``first``, ``promotion``, ``rollback``, ``ui``, ``undo`` or ``mend``.
        who: account that did it.
        why: the reason it gave.
        gate: the gate's outcome for the version, and what it means for this change.
        hash: of the event in the log; whoever keeps a copy can prove that the log was not rewritten.
        run_id: MLflow run in the experiment ``reconpatch-promotions`` that records it.
    """

    model: str
    version: str
    previous: str | None
    kind: str
    who: str
    why: str
    gate: str
    hash: str
    run_id: str


@dataclass
class HeldModel:
    """A registered model under its lock: who is champion, what the log says, and how both change."""

    model: str
    client: MlflowClient
    log: PromotionLog
    policy: Policy
    settings: Settings
    project: Path
    entries: list[Entry]

    def alias(self, name: str) -> str | None:
        """The version that an alias names."""
        return alias_of(self.client, self.model, name)

    def versions(self) -> set[str]:
        """Numbers of the versions that are there."""
        return versions_of(self.client, self.model)

    def reconcile(self) -> list[Promotion]:
        """Finish what a crash left; write down, and by policy undo, what was moved in the MLflow UI."""
        self._recover()
        changes = []
        logged, actual = champion_of(self.entries), self.alias(CHAMPION)
        if logged != actual:
            changes.append(self._see(logged, actual))
        last = next((one.event for one in reversed(self.entries) if one.event.kind != MEND), None)
        # Asked of the log and not of what was just seen: a crash may lie between the two.
        if last is not None and last.kind == SEEN and last.gate.startswith(BREAKS) and self._may_undo(last):
            why = f"broken_gate is `undo` in mlflow/gate.yaml: {last.gate}"
            back = last.from_version
            report = self.verdict(back, None, judged_before=True)
            changes.append(self.move(UNDO, actual, back, BY_POLICY, why, report, broken=False))
        return changes

    def verdict(self, version: str, champion: str | None, *, judged_before: bool) -> GateReport | None:
        """The gate's verdict against this champion: the one that is kept, or a new one.

        Where it cannot be had, that is the verdict: one rule that cannot tell, so that a person decides.
        None: of a version that was champion before anything was judged.
        """
        kept = GateReport.from_tags(self.client.get_model_version(self.model, version).tags)
        fitting = kept is not None and kept.champion == champion and kept.policy == self.policy.digest
        if judged_before or (fitting and kept is not None and kept.was_judged):
            return kept
        against = f"against version {champion}" if champion is not None else "without a champion"
        _LOG.info("%s: version %s goes through the gate %s", self.model, version, against)
        try:
            there = self.versions()
            former = [number for number in reference_champions(self.entries) if number in there]
            report = run_gate(
                self.client, self.model, version, champion, self.policy, self.settings, self.project, former
            )
        except (ReConPatchError, KeyError) as error:
            _LOG.warning("%s: version %s cannot be judged: %s", self.model, version, error)
            report = GateReport.unjudged(str(error), champion, self.policy.digest)
        for key, value in report.to_tags().items():
            self.client.set_model_version_tag(self.model, version, key, value)
        return report

    def move(
        self,
        kind: str,
        old: str | None,
        new: str,
        who: str,
        why: str,
        report: GateReport | None,
        *,
        broken: bool,
    ) -> Promotion:
        """Write the event, move the alias, end the event.

        Raises:
            MlflowException: the alias was not moved; the event says so.
        """
        entry = self._intend(kind, old, new, who, why, report, broken=broken)
        try:
            self.client.set_registered_model_alias(self.model, CHAMPION, new)
        except MlflowException:
            self._close(entry, done=False)
            raise
        self._settle(entry)
        return self._close(entry, done=True)

    def _see(self, old: str | None, new: str | None) -> Promotion:
        """Write down a move that happened already."""
        if new is None:
            told = f"the alias {CHAMPION} was taken away"
            entry = self._intend(SEEN, old, NOBODY, BY_HAND, told, None, broken=True)
            return self._close(entry, done=True)
        former = new in former_champions(self.entries)
        report = self.verdict(new, old, judged_before=former)
        broken = report is not None and report.outcome == REFUSED and not former
        told = f"the alias {CHAMPION} was moved outside `python -m flows.promote`"
        entry = self._intend(SEEN, old, new, BY_HAND, told, report, broken=broken)
        self._settle(entry)
        return self._close(entry, done=True)

    def _may_undo(self, seen: Event) -> bool:
        return self.policy.broken_gate == "undo" and seen.from_version in self.versions()

    def _recover(self) -> None:
        if not self.entries:
            return
        if self.log.is_of_another(self.entries[-1]):
            raise self.log.came_first()
        self.log.note_head(self.entries)
        last = self.entries[-1]
        if not last.is_open:
            return
        moved = (self.alias(CHAMPION) or NOBODY) == last.event.to_version
        if moved:
            self._settle(last)
        self._close(last, done=moved)
        _LOG.info(
            "%s: event %d, left half done, is %s", self.model, last.event.sequence,
            "finished" if moved else "given up",
        )  # fmt: skip

    def _intend(
        self,
        kind: str,
        old: str | None,
        new: str,
        who: str,
        why: str,
        report: GateReport | None,
        *,
        broken: bool,
    ) -> Entry:
        if broken:
            reason = report.broken() if report is not None else "there is no champion"
            gate = f"{BREAKS}{reason}"
        else:
            gate = "not judged" if report is None else report.outcome
        entry = self.log.intend(
            self.entries,
            kind=kind,
            from_version=old or NOBODY,
            to_version=new,
            who=who,
            why=why,
            gate=gate,
            gate_table=() if report is None else tuple(report.table),
            evaluation_set="unknown" if report is None else report.evaluation_set,
        )
        self.entries.append(entry)
        return entry

    def _settle(self, entry: Entry) -> None:
        """What follows the champion's alias, and may be done twice."""
        event = entry.event
        if event.from_version in self.versions():
            self.client.set_registered_model_alias(self.model, PREVIOUS, event.from_version)
        if event.to_version != NOBODY:
            self.client.set_model_version_tag(self.model, event.to_version, "promotion_run", entry.run_id)

    def _close(self, entry: Entry, *, done: bool) -> Promotion:
        closed = self.log.close(entry, done=done)
        self.entries[-1] = closed
        event = closed.event
        old = None if event.from_version == NOBODY else event.from_version
        return Promotion(
            self.model,
            event.to_version,
            old,
            event.kind,
            event.who,
            event.why,
            event.gate,
            event.hash,
            entry.run_id,
        )


@contextmanager
def hold_model(model: str, settings: Settings, project: Path) -> Iterator[HeldModel]:
    """Hold a model against every other change of its champion.

    Raises:
        ModelError: another change is going on and does not end in time, or the log does not verify.
        ReConPatchError: MLflow refused something.
    """
    with mlflow_errors(f"a change of champion of {model}"), lock_model(model, project):
        experiment = open_experiment(PROMOTIONS, settings, project)
        log = PromotionLog(experiment, model, project)
        policy = load_policy(project)
        yield HeldModel(model, experiment.client, log, policy, settings, project, log.entries())


@contextmanager
def lock_model(model: str, project: Path) -> Iterator[None]:
    """Hold a model against every other change of its champion from this copy of the project.

    Raises:
        ModelError: another change is going on and does not end in time.
    """
    with ExitStack() as held:
        try:
            held.enter_context(file_lock(project / ".cache" / f"promote-{model}.lock", WAIT_SECONDS))
        except TimeoutError:
            raise ModelError(
                f"{model}: another change of its champion is going on; wait until it is done, then look "
                "before asking again"
            ) from None
        yield


def alias_of(client: MlflowClient, model: str, name: str) -> str | None:
    """The version that an alias names; None when it names none."""
    version = client.get_registered_model(model).aliases.get(name)
    return None if version is None else str(version)


def versions_of(client: MlflowClient, model: str) -> set[str]:
    """Numbers of the versions that are there."""
    return {str(found.version) for found in client.search_model_versions(f"name = '{model}'")}

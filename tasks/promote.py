"""Who is champion: promotion, rollback, and what was moved in the MLflow UI, all in one log.

Every change goes through `_move`: the event is written, the alias moves, the event ends. What a crash
leaves half done is finished or given up by `_recover`, which every change runs first.
"""

import getpass
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from reconpatch.errors import ModelError, ReConPatchError, SettingsError
from reconpatch.settings import Settings
from tasks.gate import PASSED, REFUSED, GateReport
from tasks.gate_policy import Policy, load_policy
from tasks.gate_version import judge_version
from tasks.mlflow_store import Experiment, mlflow_errors, open_client, open_experiment
from tasks.named_lock import hold
from tasks.promotion_log import (
    BREAKS,
    EXPERIMENT,
    FIRST,
    NOBODY,
    PROMOTION,
    ROLLBACK,
    SEEN,
    UNDO,
    Entry,
    Event,
    PromotionLog,
    champion_of,
    champions,
    former_champions,
)

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
BY_HAND, BY_POLICY = "unknown (UI)", "policy"
_LONGEST_REASON = 1000

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Promotion:
    """A champion's change.

    Attributes:
        model: name of the registered model.
        version: the new champion; ``none`` when there is none any more.
        previous: the version that it replaced; None when it is the first.
        kind: ``first``, ``promotion``, ``rollback``, ``ui`` or ``undo``.
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


def promote_version(model: str, version: str, why: str, *, settings: Settings, project: Path) -> Promotion:
    """Move the alias ``champion``; the version it leaves gets the alias ``previous``.

    A version that was judged against another champion than today's is judged anew; one that was champion
    before is not. One that the gate refuses is not promoted, or is and is marked, as the policy says
    (``broken_gate``).

    Args:
        model: name of the registered model, such as ``reconpatch-demo-brick``.
        version: number of the version.
        why: the reason, for those who ask later.
        settings: section ``register`` says where the registry is.
        project: root of the project; its mlflow/gate.yaml is the policy.

    Raises:
        SettingsError: no reason is given, or the policy cannot be read.
        ModelError: there is no such model or version, it is the champion already, the gate refuses it,
            another promotion is going on or came first, or the log does not verify.
        ReConPatchError: MLflow refused the change.
    """
    seen = check_promotion(model, version, why, settings=settings, project=project)
    with _registry(model, settings, project) as registry:
        registry.reconcile()
        now = registry.alias(CHAMPION)
        if now != seen:
            raise ModelError(
                f"{model}: another promotion came first: version {now or NOBODY} is champion, it was "
                f"{seen or NOBODY}; look at it, then ask again"
            )
        former = version in former_champions(registry.entries)
        report = registry.verdict(version, now, judged_before=former)
        broken = report is not None and report.outcome == REFUSED and not former
        if broken and registry.policy.broken_gate == "undo":
            assert report is not None  # noqa: S101 (for the type checker; `broken` says it)
            raise ModelError(
                f"{model}: the gate refuses version {version}: {report.broken()}; train a better one, or "
                "change mlflow/gate.yaml"
            )
        return registry.move(PROMOTION, now, version, account(), why.strip(), report, broken=broken)


def roll_back(model: str, why: str, *, settings: Settings, project: Path) -> Promotion:
    """Make the champion before this one champion again; repeated, go further back.

    Raises:
        ModelError: there is no earlier champion, or its version was deleted; and as `promote_version`.
    """
    check_reason(why)
    with _registry(model, settings, project) as registry:
        registry.reconcile()
        stack = champions(registry.entries)
        now = registry.alias(CHAMPION)
        earlier = stack[:-1] if stack and stack[-1] == now else stack
        if not earlier:
            raise ModelError(f"{model}: no earlier champion is known to the log; promote a version instead")
        target = earlier[-1]
        if target not in registry.versions():
            raise ModelError(
                f"{model}: version {target}, the champion before, was deleted from the registry; promote "
                "another with --version"
            )
        report = registry.verdict(target, now, judged_before=True)
        return registry.move(ROLLBACK, now, target, account(), why.strip(), report, broken=False)


def nominate(
    model: str, version: str, *, settings: Settings, project: Path
) -> tuple[GateReport | None, tuple[str, ...]]:
    """Put a run's candidate through the gate and name it: ``challenger`` unless the gate refuses it.

    Where the model has no champion yet it becomes that too; where the policy promotes by itself, a
    candidate that passed every rule does.

    Returns:
        The gate's verdict (None: it could not be judged) and the aliases that the version was given.

    Raises:
        ReConPatchError: as `promote_version`.
    """
    with _registry(model, settings, project) as registry:
        registry.reconcile()
        champion = registry.alias(CHAMPION)
        report = registry.verdict(version, champion, judged_before=champion == version)
        if report is not None and report.outcome == REFUSED and champion != version:
            return report, ()
        registry.client.set_registered_model_alias(model, CHALLENGER, version)
        if champion is None:
            why = "the model's first version"
            registry.move(FIRST, None, version, account(), why, report, broken=False)
            return report, (CHALLENGER, CHAMPION)
        passed = report is not None and report.outcome == PASSED
        if passed and champion != version and registry.policy.promotion == "automatic":
            why = "it passed every rule, and promotion is automatic"
            registry.move(PROMOTION, champion, version, BY_POLICY, why, report, broken=False)
            return report, (CHALLENGER, CHAMPION)
        return report, (CHALLENGER,)


def gate_of(model: str, version: str, *, settings: Settings, project: Path) -> GateReport | None:
    """The gate's verdict that is kept on a version; None when it was never judged."""
    with mlflow_errors(f"a look at {model}, version {version}"):
        tags = open_client(settings, project).get_model_version(model, version).tags
    return GateReport.from_tags(tags)


def reconcile(model: str, *, settings: Settings, project: Path) -> list[Promotion]:
    """Finish what a crash left, and write down (and by policy undo) what was moved in the MLflow UI.

    Returns:
        The changes that were found or made, in order.

    Raises:
        ModelError: another promotion is going on, or the log does not verify.
        ReConPatchError: MLflow cannot be used.
    """
    with _registry(model, settings, project) as registry:
        return registry.reconcile()


def promoted_models(settings: Settings, project: Path) -> list[str]:
    """Names of the registered models of this project's data sets."""
    with mlflow_errors("a look into the registry"):
        found = open_client(settings, project).search_registered_models("name LIKE 'reconpatch-%'")
        return sorted(str(model.name) for model in found)


def read_log(model: str, *, settings: Settings, project: Path) -> list[Entry]:
    """The verified log of a model's champions.

    Raises:
        ModelError: it does not verify.
    """
    with mlflow_errors(f"the log of {model}"):
        return PromotionLog(open_experiment(EXPERIMENT, settings, project), model).entries()


def check_promotion(model: str, version: str, why: str, *, settings: Settings, project: Path) -> str | None:
    """Find out whether a promotion can be tried; changes nothing.

    Returns:
        The version that is champion now, or None.

    Raises:
        SettingsError, ModelError: as `promote_version`.
    """
    check_reason(why)
    with mlflow_errors("a look into the registry"):
        client = open_client(settings, project)
        versions = _versions(client, model)
        known = sorted(found.name for found in client.search_registered_models())
        champion = _alias(client, model, CHAMPION) if versions else None
    if not versions:
        raise ModelError(f"{model}: no such registered model; there are {', '.join(known) or 'none yet'}")
    if version not in versions:
        listed = ", ".join(sorted(versions, key=int))
        raise ModelError(f"{model}: has no version {version}; it has {listed}")
    if champion == version:
        raise ModelError(f"{model}: version {version} is the champion already")
    return champion


def check_reason(why: str) -> None:
    """Refuse a reason that says nothing, or too much for the log.

    Raises:
        SettingsError: it is empty, or longer than 1000 characters.
    """
    if not why.strip():
        raise SettingsError("--why is empty; say why this version becomes champion")
    if len(why) > _LONGEST_REASON:
        raise SettingsError(f"--why has {len(why)} characters; say it in {_LONGEST_REASON}")


def account() -> str:
    """Who is acting: the account on the MLflow server where there is one, else that of the system."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()


@dataclass
class _Registry:
    """One registered model, held by the named lock."""

    model: str
    client: MlflowClient
    log: PromotionLog
    policy: Policy
    settings: Settings
    project: Path
    entries: list[Entry]

    def alias(self, name: str) -> str | None:
        return _alias(self.client, self.model, name)

    def versions(self) -> set[str]:
        return _versions(self.client, self.model)

    def reconcile(self) -> list[Promotion]:
        self._recover()
        changes = []
        logged, actual = champion_of(self.entries), self.alias(CHAMPION)
        if logged != actual:
            changes.append(self._see(logged, actual))
        last = self.entries[-1].event if self.entries else None
        # Asked of the log and not of what was just seen: a crash may lie between the two.
        if last is not None and last.kind == SEEN and last.gate.startswith(BREAKS) and self._may_undo(last):
            why = f"broken_gate is `undo` in mlflow/gate.yaml: {last.gate}"
            back = last.from_version
            report = self.verdict(back, None, judged_before=True)
            changes.append(self.move(UNDO, actual, back, BY_POLICY, why, report, broken=False))
        return changes

    def verdict(self, version: str, champion: str | None, *, judged_before: bool) -> GateReport | None:
        """The gate's verdict against this champion: the one that is kept, or a new one."""
        kept = GateReport.from_tags(self.client.get_model_version(self.model, version).tags)
        fitting = kept is not None and kept.champion == champion and kept.policy == self.policy.digest
        if judged_before or fitting:
            return kept
        try:
            return judge_version(
                self.client, self.model, version, champion, self.policy, self.settings, self.project
            )
        except (ReConPatchError, KeyError) as error:
            _LOG.warning("%s: version %s cannot be judged: %s", self.model, version, error)
            return None

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
def _registry(model: str, settings: Settings, project: Path) -> Iterator[_Registry]:
    with mlflow_errors(f"a change of champion of {model}"), hold(f"promote-{model}", project):
        experiment: Experiment = open_experiment(EXPERIMENT, settings, project)
        log = PromotionLog(experiment, model)
        policy = load_policy(project)
        yield _Registry(model, experiment.client, log, policy, settings, project, log.entries())


def _alias(client: MlflowClient, model: str, name: str) -> str | None:
    version = client.get_registered_model(model).aliases.get(name)
    return None if version is None else str(version)


def _versions(client: MlflowClient, model: str) -> set[str]:
    return {str(found.version) for found in client.search_model_versions(f"name = '{model}'")}

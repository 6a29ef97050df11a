"""Who is champion: promotion, rollback, and what was moved in the MLflow UI, all in one log."""

import getpass
import os
from pathlib import Path

from mlflow import MlflowClient

from reconpatch.errors import ModelError, SettingsError
from reconpatch.integrations.mlflow_lineage import PROMOTIONS
from reconpatch.settings import Settings
from tasks.registry.champion_change import BY_POLICY, Promotion, alias_of, hold_model, versions_of
from tasks.registry.champion_history import champions, former_champions
from tasks.registry.gate_rules import PASSED, REFUSED, GateReport
from tasks.registry.mlflow_store import (
    CHALLENGER,
    CHAMPION,
    every_page,
    mlflow_errors,
    open_client,
    open_experiment,
)
from tasks.registry.promotion_event import FIRST, NOBODY, PROMOTION, ROLLBACK, Entry
from tasks.registry.promotion_log import PromotionLog

_LONGEST_REASON = 1000


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
    with hold_model(model, settings, project) as registry:
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
    with hold_model(model, settings, project) as registry:
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
    with hold_model(model, settings, project) as registry:
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
    with hold_model(model, settings, project) as registry:
        return registry.reconcile()


def promoted_models(settings: Settings, project: Path) -> list[str]:
    """Names of all models of ReConPatch that are registered, whatever project or data set they are of."""
    with mlflow_errors("a look into the registry"):
        return _model_names(open_client(settings, project), "name LIKE 'reconpatch-%'")


def read_log(model: str, *, settings: Settings, project: Path) -> list[Entry]:
    """The verified log of a model's champions.

    Raises:
        ModelError: it does not verify.
    """
    with mlflow_errors(f"the log of {model}"):
        return PromotionLog(open_experiment(PROMOTIONS, settings, project), model, project).entries()


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
        versions = versions_of(client, model)
        known = [] if versions else _model_names(client)
        champion = alias_of(client, model, CHAMPION) if versions else None
    if not versions:
        raise ModelError(f"{model}: no such registered model; there are {', '.join(known) or 'none yet'}")
    if version not in versions:
        listed = ", ".join(sorted(versions, key=int))
        raise ModelError(f"{model}: has no version {version}; it has {listed}")
    if champion == version:
        raise ModelError(f"{model}: version {version} is the champion already")
    return champion


def _model_names(client: MlflowClient, asked: str | None = None) -> list[str]:
    return sorted(str(model.name) for model in every_page(client.search_registered_models, asked))


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

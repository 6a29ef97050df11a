"""What a retrain says at its end: to Prefect as a table, and to whoever listens at a webhook."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from prefect.artifacts import create_table_artifact

from flows.artifacts import artifact_key
from reconpatch.settings import Settings
from tasks.arrivals import Arrivals
from tasks.evaluation_output import registered_name

_WEBHOOK_SECONDS = 10.0

_LOG = logging.getLogger("tasks.notice")


@dataclass(frozen=True)
class Outcome:
    """What a retrain did for a category.

    Attributes:
        category: whose.
        new: nominal images that the champion did not know.
        gone: those that it knew and that are no longer there.
        version: the candidate's number in the registry; None when there is none.
        decision: ``nothing new``, ``busy``, ``failed``, ``champion``, ``awaiting approval``, ``refused``.
        note: the same for people.
    """

    category: str
    new: int
    gone: int
    version: str | None
    decision: str
    note: str

    def __str__(self) -> str:
        return f"{self.category}: {self.note}"

    @classmethod
    def nothing_new(cls, arrivals: Arrivals) -> "Outcome":
        """The champion knows every image."""
        version = arrivals.champion.version if arrivals.champion is not None else None
        note = f"no new data since version {version}, nothing to do"
        return cls(arrivals.category, 0, 0, version, "nothing new", note)

    @classmethod
    def busy(cls, arrivals: Arrivals) -> "Outcome":
        """Another retrain is at it, and the policy is not to wait."""
        note = "another retrain runs, this one leaves it to that (retrain.when_busy: skip)"
        return cls(arrivals.category, arrivals.new, arrivals.gone, None, "busy", note)

    @classmethod
    def of(cls, arrivals: Arrivals, models: Sequence[Any]) -> "Outcome":
        """What registration made of it; of several backbones the candidate counts."""
        own = [model for model in models if model.category == arrivals.category]
        counts = (arrivals.category, arrivals.new, arrivals.gone)
        if not own:
            return cls(*counts, None, "failed", "no candidate; the failures say why")
        named = [model for model in own if model.aliases]
        judged = [model for model in own if model.gate is not None]
        model = (named or judged or own)[0]
        told = f"{arrivals.new} new and {arrivals.gone} removed images, version {model.version}"
        told += "" if model.created else " (registered before)"
        if not named:
            broken = "" if model.gate is None else f" ({model.gate.broken()})"
            return cls(*counts, model.version, "refused", f"{told}: refused by the gate{broken}")
        if "champion" in model.aliases:
            return cls(*counts, model.version, "champion", f"{told}: is champion")
        command = f'python -m flows.promote --model {model.name} --version {model.version} --why "..."'
        return cls(
            *counts, model.version, "awaiting approval", f"{told}: awaiting approval; to approve: {command}"
        )


def publish(outcomes: Sequence[Outcome], failures: Sequence[str], settings: Settings) -> None:
    """Keep the outcomes as a table of the flow run and post them where ``retrain.webhook`` says.

    A listener that does not answer is logged: the candidate is registered whoever hears of it.
    """
    dataset = settings.pipeline.dataset
    create_table_artifact(
        key=artifact_key("retrain", dataset),
        table=[asdict(outcome) for outcome in outcomes],
        description=f"Retrain of {dataset}",
    )
    url = settings.retrain.webhook
    if url is None or all(outcome.decision == "nothing new" for outcome in outcomes):
        return
    body = {
        "dataset": dataset,
        "failures": list(failures),
        "outcomes": [
            {"model": registered_name(dataset, outcome.category), **asdict(outcome)} for outcome in outcomes
        ],
    }
    try:
        httpx.post(url, json=body, timeout=_WEBHOOK_SECONDS).raise_for_status()
    except httpx.HTTPError as error:
        _LOG.warning("retrain.webhook %s: not told (%s)", url, error)

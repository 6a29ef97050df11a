"""What a retrain says at its end: to Prefect a table and heat maps, and word to a webhook."""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import create_table_artifact

from flows.support.prefect_artifacts import artifact_key, publish_picture
from reconpatch.settings import Settings
from reconpatch.text.redaction import origin_of
from tasks.operations.image_changes import ImageChanges
from tasks.registry.finished_evaluation import registered_name
from tasks.registry.registered_model import RegisteredModel

WEBHOOK = "RECONPATCH_WEBHOOK"
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
        heat_maps: picture of the hardest and of typical test images as the candidate sees them, or None.
    """

    category: str
    new: int
    gone: int
    version: str | None
    decision: str
    note: str
    heat_maps: Path | None = None

    def __str__(self) -> str:
        return f"{self.category}: {self.note}"

    def told(self) -> dict[str, Any]:
        """What is told in words and numbers: all but the picture."""
        return {name: value for name, value in asdict(self).items() if name != "heat_maps"}

    @classmethod
    def nothing_new(cls, changes: ImageChanges) -> "Outcome":
        """The champion knows every image."""
        version = changes.champion.version if changes.champion is not None else None
        note = f"no new data since version {version}, nothing to do"
        return cls(changes.category, 0, 0, version, "nothing new", note)

    @classmethod
    def busy(cls, changes: ImageChanges) -> "Outcome":
        """Another retrain is at it, and the policy is not to wait."""
        note = "another retrain runs, this one leaves it to that (retrain.when_busy: skip)"
        return cls(changes.category, changes.new, changes.gone, None, "busy", note)

    @classmethod
    def failed(cls, category: str) -> "Outcome":
        """What is new for it cannot be told."""
        return cls(category, 0, 0, None, "failed", "not looked at; the failures say why")

    @classmethod
    def of(cls, changes: ImageChanges, models: Sequence[RegisteredModel]) -> "Outcome":
        """What registration made of it; of several backbones the candidate counts."""
        own = [model for model in models if model.category == changes.category]
        counts = (changes.category, changes.new, changes.gone)
        if not own:
            return cls(*counts, None, "failed", "no candidate; the failures say why")
        named = [model for model in own if model.aliases]
        judged = [model for model in own if model.gate is not None]
        model = (named or judged or own)[0]
        told = f"{changes.new} new and {changes.gone} removed images, version {model.version}"
        told += "" if model.created else " (registered before)"
        if not named:
            broken = "" if model.gate is None else f" ({model.gate.broken()})"
            decision, note = "refused", f"{told}: refused by the gate{broken}"
        elif "champion" in model.aliases:
            decision, note = "champion", f"{told}: is champion"
        else:
            command = f'python -m flows.promote --model {model.name} --version {model.version} --why "..."'
            decision, note = "awaiting approval", f"{told}: awaiting approval; to approve: {command}"
        return cls(*counts, model.version, decision, note, model.heat_maps)


def publish(outcomes: Sequence[Outcome], failures: Sequence[str], settings: Settings) -> None:
    """Keep the outcomes with their heat maps in the flow run, and post them where RECONPATCH_WEBHOOK says.

    Without that variable ``retrain.webhook`` says it.
    A listener that does not answer is logged: the candidate is registered whoever hears of it.
    """
    dataset = settings.pipeline.dataset
    create_table_artifact(
        key=artifact_key("retrain", dataset),
        table=[outcome.told() for outcome in outcomes],
        description=f"Retrain of {dataset}",
    )
    for outcome in outcomes:
        if outcome.heat_maps is not None:
            key = artifact_key("retrain-heat-maps", dataset, outcome.category)
            publish_picture(key, outcome.heat_maps, str(outcome))
    url = os.environ.get(WEBHOOK) or settings.retrain.webhook
    if url is None or not (failures or any(outcome.decision != "nothing new" for outcome in outcomes)):
        return
    body = {
        "dataset": dataset,
        "failures": list(failures),
        "outcomes": [
            {"model": registered_name(dataset, outcome.category), **outcome.told()} for outcome in outcomes
        ],
    }
    try:
        httpx.post(url, json=body, timeout=_WEBHOOK_SECONDS).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # The whole URL may let whoever reads the log post there; httpx's own text repeats it.
        _LOG.warning("retrain.webhook %s: not told (%s)", origin_of(url), _reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__

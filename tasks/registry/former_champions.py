"""Which champions of the past a candidate is compared with, beside the champion of today.

Ten candidates, each not worse than the champion before it, may lose up to ten margins together. So the gate
also compares with the best champion that ever was.
"""

from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from reconpatch.evaluation.comparison import Comparison
from tasks.registry.gate_rules import GateReport

_TEST_SET = "evaluation_set_sha256"


class FormerChampions:
    """The former champions of a model, and which of them did best.

    Args:
        client: of the registry.
        name: registered model.
        champion: the champion of today.
        versions: numbers of the former champions; those of the candidate and the champion are left out.
    """

    def __init__(
        self, client: MlflowClient, name: str, champion: ModelVersion, versions: Sequence[str]
    ) -> None:
        self._client = client
        self._champion = champion
        self._versions = {number: client.get_model_version(name, number) for number in versions}

    def best(self, metric: str, test_set: str) -> list[str]:
        """The versions that may be the best on these test images, each once.

        These are the best of those evaluated on them, and the best of all as far as the champion's own gate
        knew, which may have been evaluated on other images. Where neither is there, the best on the images
        that the champion was evaluated on.
        """
        found = self._best_on(metric, test_set)
        report = GateReport.from_tags(self._champion.tags)
        kept = None if report is None else report.best.get(metric)
        if kept in self._versions and kept not in found:
            found.append(kept)
        return found or self._best_on(metric, self._champion.tags.get(_TEST_SET))

    def _best_on(self, metric: str, test_set: str | None) -> list[str]:
        same = [one for one in self._versions.values() if one.tags.get(_TEST_SET) == test_set]
        known = [(self._figure(metric, one), one) for one in same]
        figures = {str(one.version): figure for figure, one in known if figure is not None}
        return [max(figures, key=lambda number: figures[number])] if figures else []

    def _figure(self, metric: str, version: ModelVersion) -> float | None:
        """What a version's run says; None where the run does not, or was deleted for good."""
        try:
            figure: float | None = self._client.get_run(version.run_id).data.metrics.get(metric)
        except MlflowException:
            return None
        return figure


def is_stricter(compared: Comparison, known: Comparison) -> bool:
    """Whether the first comparison leaves the candidate a smaller difference; none at all is the smallest."""
    if known.difference is None:
        return False
    return compared.difference is None or compared.difference < known.difference

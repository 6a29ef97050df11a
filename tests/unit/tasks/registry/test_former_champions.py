from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from benchmarks.gate_ratchet import START, ratchet
from reconpatch.evaluation.comparison import MARGIN, Comparison, Conclusion
from tasks.registry.former_champions import FormerChampions, is_stricter
from tasks.registry.gate_rules import GateReport


class Registry:
    """Versions with the test set that each was evaluated on, and their AUROC there."""

    gone: tuple[str, ...] = ()

    def __init__(self, **versions: tuple[str, float | None]) -> None:
        self._versions = {name.removeprefix("v"): found for name, found in versions.items()}

    def get_model_version(self, _: str, number: str, **tags: str) -> SimpleNamespace:
        test_set, _ = self._versions[number]
        return SimpleNamespace(
            version=number, run_id=number, tags={"evaluation_set_sha256": test_set, **tags}
        )

    def get_run(self, number: str) -> SimpleNamespace:
        if number in self.gone:
            raise MlflowException(f"no run {number}")
        figure = self._versions[number][1]
        metrics = {} if figure is None else {"image_auroc": figure}
        return SimpleNamespace(data=SimpleNamespace(metrics=metrics))


def best(registry: Registry, champion: str, former: list[str], test_set: str, **known: str) -> list[str]:
    report = GateReport((), None, test_set, "policy", known)
    tags = report.to_tags() if known else {}
    past = FormerChampions(registry, "m", registry.get_model_version("m", champion, **tags), former)
    return past.best("image_auroc", test_set)


def test_the_best_on_the_same_test_images():
    registry = Registry(v1=("A", 0.94), v2=("A", 0.95), v3=("B", 0.99), v4=("A", None), v5=("A", 0.93))
    assert best(registry, "5", ["1", "2", "3", "4"], "A") == ["2"]
    assert best(registry, "5", [], "A") == []


def test_a_run_that_was_deleted_stops_no_candidate():
    registry = Registry(v1=("A", 0.99), v2=("A", 0.95), v3=("A", 0.94))
    registry.gone = ("1",)
    assert best(registry, "3", ["1", "2"], "A") == ["2"]


def test_new_test_images_do_not_forget_the_best():
    registry = Registry(v1=("A", 0.95), v2=("A", 0.94), v3=("B", 0.90), v4=("C", 0.91))
    # What the champion's own gate compared with; where that is not known, the best on the champion's images.
    assert best(registry, "3", ["1", "2"], "B", image_auroc="1") == ["1"]
    assert best(registry, "4", ["1", "2", "3"], "B", image_auroc="1") == ["3", "1"]
    assert best(registry, "2", ["1"], "C") == ["1"]
    # A version that may no longer be compared with is out, whatever an earlier gate knew.
    assert best(registry, "3", ["2"], "B", image_auroc="1") == []


def difference(value: float | None) -> Comparison:
    return Comparison(Conclusion.CANNOT_TELL, value, None, None, None, MARGIN, "")


@pytest.mark.parametrize(
    ("compared", "known", "stricter"),
    [(-0.02, -0.01, True), (-0.01, -0.02, False), (None, -0.01, True), (-0.01, None, False)],
)
def test_the_comparison_that_leaves_less_is_stricter(compared, known, stricter):
    assert is_stricter(difference(compared), difference(known)) is stricter


def test_ten_candidates_lose_no_more_than_the_margin():
    alone = ratchet(0, remember=False, resamples=200)
    assert START - alone[-1] > 2 * MARGIN
    assert START - ratchet(0, remember=True, resamples=200)[-1] <= MARGIN

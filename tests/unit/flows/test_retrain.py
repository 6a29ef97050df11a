"""A category that cannot be looked at keeps no other from its candidate."""

from pathlib import Path

import pytest
from prefect.states import Completed, Failed

from flows import retrain
from flows.support.flow_failures import FlowFailedError
from flows.support.retrain_notice import Outcome
from reconpatch.errors import ModelError
from tasks.operations.image_changes import ImageChanges

NEW = ImageChanges("nut", None, 5, 0)


class _Line:
    """A retrain of two categories whose looks, one after the other, find what is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
        (project / "params.yaml").write_text("pipeline:\n  categories: [brick, nut]\n  commit: false\n")
        self._project = project
        self.looks: dict[str, list[ImageChanges | str]] = {}
        self.worked: list[str] = []
        self.told: list[Outcome] = []
        self.failures: list[str] = []
        monkeypatch.setattr(retrain, "note_code", lambda _: None)
        monkeypatch.setattr(retrain, "_occupy", lambda *_: True)
        monkeypatch.setattr(retrain, "image_changes", self._look)
        monkeypatch.setattr(retrain, "_make_candidates", self._make)
        monkeypatch.setattr(retrain, "publish", self._publish)

    def _look(self, _, __, category: str, *, return_state: bool = False):
        found = self.looks[category].pop(0)
        if not return_state:
            raise AssertionError("an error of this look would end the flow")
        if isinstance(found, str):
            return Failed(data=ModelError(found))
        return Completed(data=found)

    def _make(self, _, __, todo):
        self.worked = [one.category for one in todo]
        return [Outcome.of(one, []) for one in todo], ["fit nut: no memory"] if todo else []

    def _publish(self, outcomes, failures, _) -> None:
        self.told, self.failures = list(outcomes), list(failures)

    def run(self) -> None:
        retrain.retrain.fn([], self._project)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Line:
    return _Line(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    "looks",
    [["no tag 'backbone'"], [ImageChanges("brick", None, 1, 0), "no tag 'backbone'"]],
    ids=["1st", "2nd"],
)
def test_a_failed_look_is_told_with_all_that_was_done(line: _Line, looks: list) -> None:
    line.looks = {"brick": looks, "nut": [NEW, NEW]}
    with pytest.raises(FlowFailedError, match=r"image changes brick: no tag 'backbone'\nfit nut: no memory"):
        line.run()
    assert line.worked == ["nut"]
    assert [(one.category, one.decision) for one in line.told] == [("brick", "failed"), ("nut", "failed")]
    assert line.failures == ["image changes brick: no tag 'backbone'", "fit nut: no memory"]

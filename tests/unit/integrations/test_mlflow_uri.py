import sys
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from reconpatch.errors import ModelError
from reconpatch.integrations.mlflow_lineage import trace
from reconpatch.integrations.mlflow_uri import detector_path, download_detector, registered_version

STORE = "http://ada:s3cret-pw@127.0.0.1:9"


@pytest.mark.parametrize("ask", [registered_version, download_detector, trace])
def test_a_registry_that_does_not_answer_is_named_without_its_password(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class MlflowException(Exception):  # noqa: N818  # MLflow's own name
        message = f"API request to {STORE}/api failed"

    def refuse(*_: object) -> NoReturn:
        raise MlflowException

    client = SimpleNamespace(get_model_version_by_alias=refuse)
    fake = SimpleNamespace(
        MlflowException=MlflowException,
        MlflowClient=lambda: client,
        models=SimpleNamespace(get_model_info=refuse),
        get_tracking_uri=lambda: STORE,
        is_tracking_uri_set=lambda: True,
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    with pytest.raises(ModelError) as caught:
        ask("models:/reconpatch-demo-brick@champion")
    said = str(caught.value)
    assert "s3cret-pw" not in said
    assert said.count("http://***@127.0.0.1:9") == 2
    assert "models:/reconpatch-demo-brick@champion" in said


def _flavors(place: Any) -> dict[str, Any]:
    return {"python_function": {"artifacts": {"detector": {"path": place}}}}


@pytest.mark.parametrize(
    "place",
    ["../../etc", "artifacts/../../secret", "/etc", "..", ".", "", ".git", "artifacts/.dvc", "a\\..\\b",
     "%2e%2e/a", "file:///etc", "a\nb", "a\0b"],
)  # fmt: skip
def test_a_detector_that_lies_outside_its_version_is_refused(place: str) -> None:
    with pytest.raises(ModelError, match="outside the version's own folder"):
        detector_path(_flavors(place), "nut, version 1")


@pytest.mark.parametrize("flavors", [{}, _flavors(None), _flavors(3), {"python_function": []}])
def test_a_model_without_a_detector_is_refused(flavors: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="holds no detector"):
        detector_path(flavors, "nut, version 1")


def test_the_place_that_the_packaging_gives_is_taken() -> None:
    assert detector_path(_flavors("artifacts/detector"), "nut, version 1") == "artifacts/detector"

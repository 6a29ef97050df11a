import sys
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from reconpatch.errors import ModelError
from reconpatch.integrations.mlflow_lineage import trace
from reconpatch.integrations.mlflow_uri import download_detector, registered_version

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

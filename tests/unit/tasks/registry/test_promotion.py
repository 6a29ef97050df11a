"""Which models are watched."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from reconpatch.errors import ModelError
from reconpatch.settings import Settings
from tasks.registry import promotion


class _Page(list):
    token: str | None = None


class _Registry:
    """122 models, 50 a page; no model has a version."""

    def search_registered_models(self, asked: str | None = None, page_token: str | None = None) -> _Page:
        assert asked in (None, "name LIKE 'reconpatch-%'")
        first = int(page_token or 0)
        page = _Page(SimpleNamespace(name=f"reconpatch-big-{i:03}") for i in range(122)[first : first + 50])
        page.token = str(first + 50) if first + 50 < 122 else ""
        return page

    def search_model_versions(self, _: str) -> _Page:
        return _Page()


def test_every_model_is_found_however_many_pages_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "open_client", lambda *_: _Registry())
    found = promotion.promoted_models(Settings(), tmp_path)
    assert found == [f"reconpatch-big-{i:03}" for i in range(122)]
    with pytest.raises(ModelError, match=r"reconpatch-nut: no such registered model.*reconpatch-big-121"):
        promotion.check_promotion("reconpatch-nut", "1", "why", settings=Settings(), project=tmp_path)

"""A newer detector takes over, or the old one stays."""

import json
import shutil

import pytest
from tiny_server import TINY, png

from reconpatch import ReConPatch
from reconpatch.errors import ModelError
from reconpatch.line.server.model_source import ModelSource
from reconpatch.line.server.prometheus_metrics import Metrics
from reconpatch.line.server.served_category import ServedCategory
from reconpatch.line.server.server_options import ServerOptions


@pytest.fixture
def category(detector_folder, tmp_path):
    folder = shutil.copytree(detector_folder, tmp_path / "nut")
    return ServedCategory(ModelSource("nut", str(folder)), ServerOptions(threads=1), Metrics()), folder


def _replace(folder, **params):
    images = folder.parent / "images"
    images.mkdir(exist_ok=True)
    for seed in range(10):
        (images / f"{seed}.png").write_bytes(png(seed))
    ReConPatch(params=TINY | params).fit(sorted(images.iterdir())).save(folder)


def test_another_version_takes_over(category):
    category, folder = category
    old = category.current
    category.refresh()
    assert category.current is old
    _replace(folder, **{"coreset.ratio": 0.2})
    category.refresh()
    assert category.current.version == category.source.version() != old.version
    assert len(category.current.detector.parts.bank) > len(old.detector.parts.bank)
    assert category.problem is None


def test_one_that_cannot_be_loaded_does_not(category):
    category, folder = category
    old = category.current
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"note": "other bytes"}))
    (folder / "bank.safetensors").write_bytes(b"cut")
    category.refresh()
    assert category.current is old
    assert "cut short or altered" in category.problem
    shutil.rmtree(folder)
    category.refresh()
    assert category.current is old
    assert "no detector folder" in category.problem


def test_one_that_fails_its_self_test_does_not(category):
    category, folder = category
    old = category.current
    _replace(folder, **{"calibrate.holdout": 0})
    category.refresh()
    assert category.current is old
    assert "failed its self-test" in category.problem
    assert "not calibrated" in category.problem
    # It is not loaded again at every look, and the next one is taken.
    loads = []
    category._load = lambda _: loads.append(1)
    category.refresh()
    assert loads == []
    del category._load
    _replace(folder, **{"coreset.ratio": 0.3})
    category.refresh()
    assert category.current.version == category.source.version()
    assert category.problem is None


def test_a_server_does_not_start_without_its_models(tmp_path):
    with pytest.raises(ModelError, match="no detector folder"):
        ServedCategory(ModelSource("nut", str(tmp_path / "none")), ServerOptions(), Metrics())

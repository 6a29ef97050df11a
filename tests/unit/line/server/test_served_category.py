"""A newer detector takes over, or the old one stays."""

import json
import shutil

import pytest
from tiny_server import TINY, png

from reconpatch import ReConPatch
from reconpatch.errors import ModelError
from reconpatch.line.server.model_source import ModelSource
from reconpatch.line.server.prometheus_metrics import Metrics
from reconpatch.line.server.served_category import Slot
from reconpatch.line.server.server_options import ServerOptions


@pytest.fixture
def slot(detector_folder, tmp_path):
    folder = shutil.copytree(detector_folder, tmp_path / "nut")
    return Slot(ModelSource("nut", str(folder)), ServerOptions(threads=1), Metrics()), folder


def _replace(folder, **params):
    images = folder.parent / "images"
    images.mkdir(exist_ok=True)
    for seed in range(10):
        (images / f"{seed}.png").write_bytes(png(seed))
    ReConPatch(params=TINY | params).fit(sorted(images.iterdir())).save(folder)


def test_another_version_takes_over(slot):
    slot, folder = slot
    old = slot.served
    slot.refresh()
    assert slot.served is old
    _replace(folder, **{"coreset.ratio": 0.2})
    slot.refresh()
    assert slot.served.version == slot.source.version() != old.version
    assert len(slot.served.detector.parts.bank) > len(old.detector.parts.bank)
    assert slot.problem is None


def test_one_that_cannot_be_loaded_does_not(slot):
    slot, folder = slot
    old = slot.served
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"note": "other bytes"}))
    (folder / "bank.safetensors").write_bytes(b"cut")
    slot.refresh()
    assert slot.served is old
    assert "cut short or altered" in slot.problem
    shutil.rmtree(folder)
    slot.refresh()
    assert slot.served is old
    assert "no detector folder" in slot.problem


def test_one_that_fails_its_self_test_does_not(slot):
    slot, folder = slot
    old = slot.served
    _replace(folder, **{"calibrate.holdout": 0})
    slot.refresh()
    assert slot.served is old
    assert "failed its self-test" in slot.problem
    assert "not calibrated" in slot.problem
    # It is not loaded again at every look, and the next one is taken.
    loads = []
    slot._load = lambda _: loads.append(1)
    slot.refresh()
    assert loads == []
    del slot._load
    _replace(folder, **{"coreset.ratio": 0.3})
    slot.refresh()
    assert slot.served.version == slot.source.version()
    assert slot.problem is None


def test_a_server_does_not_start_without_its_models(tmp_path):
    with pytest.raises(ModelError, match="no detector folder"):
        Slot(ModelSource("nut", str(tmp_path / "none")), ServerOptions(), Metrics())

from types import SimpleNamespace

import numpy as np

from benchmarks import study_modulation
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.settings import ScoringSettings


def test_the_maps_of_the_study_are_as_smooth_as_those_of_a_detector(monkeypatch):
    drawn = study_modulation.anomaly_maps
    asked = []
    monkeypatch.setattr(study_modulation, "anomaly_maps", lambda *given: asked.append(given) or drawn(*given))
    rng = np.random.default_rng(0)
    side = 448 // study_modulation.PIXEL_STRIDE
    masks = np.zeros((2, side, side), bool)
    masks[1, 3:9, 3:9] = True
    vectors = [rng.normal(size=(1, 16, 3)).astype(np.float32) for _ in range(2)]
    bank = MemoryBank(rng.normal(size=(20, 3)).astype(np.float32))
    task = SimpleNamespace(labels=np.array([0, 1]), masks=masks)
    study_modulation._figures(task, bank, vectors, ScoringSettings(blur_sigma=4, reweighting="none"))
    ((_, size, sigma),) = asked
    # `anomaly_maps` itself scales the blur, which is meant at 224 px, with the size.
    assert (size, sigma) == (448, 4)

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reconpatch.calibration.calibration import Calibration, calibrate_scores
from reconpatch.calibration.conformal import NominalScores
from reconpatch.calibration.normalisation import RobustStatistics
from reconpatch.calibration.threshold import Threshold
from reconpatch.data.training_images import TrainingSet
from reconpatch.errors import ModelError
from reconpatch.storage.atomic_files import write_json
from reconpatch.storage.detector_schema import BackboneReference, json_values, read_stored


def _calibration() -> Calibration:
    random = np.random.default_rng(0)
    groups = [str(i // 2) for i in range(34)]
    return calibrate_scores(random.random(34), random.random(400), random.random(34), groups=groups)


DIGESTS = tuple(f"{number:064x}" for number in range(4))
VALUES = [
    _calibration(),
    replace(_calibration(), carried_over=True, method="crossfit"),
    TrainingSet(DIGESTS[:3], DIGESTS[3:], 2, ("a", "a", "ü"), ("b",)),
    TrainingSet(DIGESTS[:3], DIGESTS[3:]),
    BackboneReference("wide_resnet50_2", "0" * 64, "hub"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_written_is_read_again_to_the_last_digit(tmp_path, value):
    write_json(tmp_path / "a.json", json_values(value))
    assert read_stored(tmp_path / "a.json", type(value)) == value


def test_a_calibration_is_written_without_its_held_out_images_which_have_a_file_of_their_own():
    held_out = pd.DataFrame({"score": [1.0]})
    assert json_values(replace(_calibration(), held_out=held_out)) == json_values(_calibration())


NOT_VALUES = [
    (RobustStatistics, "median", "x"),
    (RobustStatistics, "median", float("inf")),
    (RobustStatistics, "mad", None),
    (RobustStatistics, "mad", -1.0),
    (RobustStatistics, "mean_deviation", float("nan")),
    (RobustStatistics, "n", [1]),
    (RobustStatistics, "n", 0),
    (RobustStatistics, "n", True),
    (Threshold, "value", None),
    (Threshold, "false_reject_rate", 1.5),
    (Threshold, "n", "many"),
    (Threshold, "interval", [0.1]),
    (Threshold, "interval", 3),
    (NominalScores, "values", "x"),
    (NominalScores, "values", []),
    (NominalScores, "values", [float("nan")] * 34),
    (NominalScores, "weights", [0.0] * 34),
    (NominalScores, "weights", [2.0] * 34),
]


@pytest.mark.parametrize(("content", "name", "value"), NOT_VALUES)
def test_a_wrong_value_is_refused_and_file_and_value_are_named(tmp_path, content, name, value):
    place = {RobustStatistics: "scores", Threshold: "review", NominalScores: "nominal"}[content]
    values = json_values(_calibration())
    values[place][name] = value
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match=rf"calibration\.json: .*{place}\.{name}"):
        read_stored(path, Calibration)


@pytest.mark.parametrize(
    "change", [{"values": [2.0, 1.0], "weights": [1.0, 1.0]}, {"values": [1.0], "weights": []}]
)
def test_nominal_scores_out_of_order_or_without_a_weight_each(tmp_path, change):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(json_values(_calibration()) | {"nominal": change}))
    with pytest.raises(ModelError, match=r"calibration\.json: .*nominal: .*ascend and have a weight each"):
        read_stored(path, Calibration)


@pytest.mark.parametrize("absent", ["median", "mad", "mean_deviation", "n"])
def test_a_missing_value_is_named(tmp_path, absent):
    values = json_values(_calibration())
    del values["pixels"][absent]
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match=rf"pixels\.{absent}: Field required"):
        read_stored(path, Calibration)


def test_a_training_set_with_groups_for_some_images_only(tmp_path):
    values = json_values(TrainingSet(DIGESTS, ())) | {"fit_groups": ["a"]}
    path = tmp_path / "training_set.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"training_set\.json: .*\(has 4 images and 1 groups\)"):
        read_stored(path, TrainingSet)

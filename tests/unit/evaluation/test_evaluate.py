import json
import os
import weakref

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from reconpatch.data.images import read_mask
from reconpatch.data.manifest import build_manifest
from reconpatch.data.training_images import TrainingSet
from reconpatch.errors import DataError
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.evaluation.report.html_report import write_evaluation
from reconpatch.evaluation.unlabelled import leave_group_out_rate
from reconpatch.model.preprocess import prepare_mask
from reconpatch.storage.atomic_files import dump_json

PROMISED = {"image_auroc", "pixel_auroc", "aupro", "image_f1_max", "threshold", "n_train", "n_test"}


def only(manifest, rows):
    kept = manifest[rows].reset_index(drop=True)
    kept.attrs = manifest.attrs
    return kept


def test_figures_agree_with_what_the_detector_said(detector, manifest, settings, category):
    found = evaluate(detector, manifest, settings)
    test = only(manifest, manifest["split"] == "test")
    said = list(detector.stream([category / path for path in test["path"]]))
    scores = np.array([p.score for p in said])
    labels = test["label"].to_numpy()
    assert found.metrics.keys() >= PROMISED
    assert found.metrics["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found.metrics["threshold"] == detector.calibration.threshold.value
    rejected = scores > detector.calibration.threshold.value
    assert found.metrics["detection_rate"] == pytest.approx(rejected[labels == 1].mean())
    assert found.metrics["false_reject_rate"] == pytest.approx(rejected[labels == 0].mean())
    assert (found.metrics["n_train"], found.metrics["n_test"]) == (12, 20)
    assert found.table["score"].tolist() == scores.tolist()
    assert found.table["path"].tolist() == test["path"].tolist()

    masks, maps = [], []
    for row, prediction in zip(test.itertuples(), said, strict=True):
        mask = np.zeros(prediction.anomaly_map.shape, bool)
        if row.label:
            mask = prepare_mask(read_mask(category / row.mask_path, 127), settings.features)
            if not mask.any():
                continue
        masks.append(mask)
        maps.append(prediction.anomaly_map)
    expected = roc_auc_score(np.array(masks).ravel(), np.array(maps).ravel())
    assert found.metrics["pixel_auroc"] == pytest.approx(expected, abs=1e-9)
    assert 0 < found.metrics["aupro"] <= 1


def test_a_defect_without_ground_truth_is_left_out_of_pixel_metrics(detector, manifest, settings):
    found = evaluate(detector, manifest, settings)
    assert found.metrics["n_test_without_mask"] == 1
    assert found.metrics["n_test_pixel"] == 19


def test_defect_types_are_measured_alone(detector, manifest, settings):
    found = evaluate(detector, manifest, settings)
    assert set(found.defect_types) == {"dent", "stain"}
    scores = found.table.set_index("defect_type")["score"]
    for name, figures in found.defect_types.items():
        labels = np.repeat([0, 1], [8, 6])
        merged = np.concatenate([scores["good"], scores[name]])
        assert figures["n"] == 6
        assert figures["image_auroc"] == pytest.approx(roc_auc_score(labels, merged))
    assert found.defect_types["dent"]["detection_rate"] == 1.0


def test_equal_runs_are_equal_bytes(detector, manifest, settings, tmp_path):
    for name in ("a", "b"):
        write_evaluation(evaluate(detector, manifest, settings), tmp_path / name, {"backbone": "none"})
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    pictures = ["curves.png", "heat_maps.png", "scores.png"]
    files = ["metrics.json", "pixel_histograms.safetensors", "report.html", "scores.csv"]
    assert names == sorted(pictures + files)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "seconds_per_image" not in (tmp_path / "a" / "metrics.json").read_text()


def test_a_category_whose_name_is_not_utf_8_is_told_in_escapes(detector, category, settings, tmp_path):
    renamed = category.rename(category.with_name(os.fsdecode(b"caf\xe9 $\\foo$")))
    found = evaluate(detector, build_manifest(renamed, settings.data), settings)
    assert found.category == r"caf\udce9 $\foo$"
    write_evaluation(found, tmp_path / "out")
    assert r"caf\udce9 $\foo$" in (tmp_path / "out/report.html").read_text()
    assert json.loads((tmp_path / "out/metrics.json").read_text())["category"] == found.category


def test_no_picture_of_an_earlier_evaluation_stays(detector, manifest, settings, tmp_path):
    write_evaluation(evaluate(detector, manifest, settings), tmp_path)
    good = only(manifest, manifest["label"] == 0)
    write_evaluation(evaluate(detector, good, settings), tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == ["heat_maps", "scores"]


def test_everything_is_json(detector, manifest, settings):
    found = evaluate(detector, manifest, settings)
    assert json.loads(dump_json(found.to_dict()))["seconds_per_image"] > 0


def test_maps_are_not_kept(detector, manifest, settings):
    alive, most = [], 0
    stream = detector.stream

    def watched(images):
        nonlocal most
        for prediction in stream(images):
            alive.append(weakref.ref(prediction.anomaly_map))
            most = max(most, sum(ref() is not None for ref in alive))
            yield prediction
            del prediction

    detector.stream = watched
    evaluate(
        detector,
        manifest,
        settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update={"pictures": 0})}),
    )
    assert len(alive) == 20
    assert most <= 3


def test_examples_are_those_of_the_rule(detector, manifest, settings):
    found = evaluate(detector, manifest, settings)
    table = found.table
    reasons = [example.reason for example in found.examples]
    assert len(found.examples) == 9
    assert reasons[:3] == ["lowest score among defects"] * 3
    worst = table[table["label"] == 1].sort_values("score")["path"].tolist()[:3]
    assert [example.path for example in found.examples[:3]] == worst
    for example in found.examples:
        assert example.score == table.set_index("path")["score"][example.path]
        assert example.image.shape == (48, 48, 3)


def test_without_a_defect(detector, manifest, settings):
    found = evaluate(detector, only(manifest, manifest["label"] == 0), settings)
    assert found.metrics.keys() >= PROMISED
    for name in ("image_auroc", "pixel_auroc", "aupro", "image_f1_max", "d_prime", "detection_rate"):
        assert found.metrics[name] is None
        assert found.not_available[name]
    assert 0 < found.metrics["heldout_false_reject_rate"] < 1
    assert found.metrics["heldout_false_reject_low"] < found.metrics["heldout_false_reject_high"]
    assert found.metrics["synthetic_image_auroc"] > 0.8
    assert found.metrics["synthetic_n"] == 8 * 3
    assert 0 <= found.metrics["stability"] <= 1
    assert found.defect_types == {}


def test_good_images_that_a_person_judged_bad_are_no_base_of_the_figures_without_defects(
    detector, manifest, settings
):
    held = manifest["path"][manifest["sha256"].isin(detector.training_set.holdout)].iloc[0]
    good = only(manifest, manifest["label"] == 0)
    good.loc[good["path"].isin([held, "test/good/00.png"]), "verdict"] = "bad"
    found = evaluate(detector, good, settings)
    assert (found.metrics["n_test"], found.metrics["n_contradicted"]) == (7, 1)
    assert found.metrics["synthetic_n"] == 7 * 3
    assert str(manifest.attrs["root"] + "/" + held) not in map(str, detector.asked)
    untested = evaluate(detector, only(good, good["split"] == "train"), settings)
    assert untested.metrics["synthetic_n"] == 5 * 3


def test_images_that_choose_thresholds_are_no_base_of_the_figures_without_defects(
    detector, manifest, settings
):
    half = settings.model_copy(
        update={"evaluate": settings.evaluate.model_copy(update={"choose_share": 0.5})}
    )
    found = evaluate(detector, only(manifest, manifest["label"] == 0), half)
    assert found.metrics["synthetic_n"] == found.metrics["n_test"] * 3 == 4 * 3


def test_without_any_test_image(detector, manifest, settings, tmp_path):
    found = evaluate(detector, only(manifest, manifest["split"] == "train"), settings)
    assert found.metrics["n_test"] == 0
    assert found.metrics["false_reject_rate"] is None
    assert found.timings["seconds_per_image"] > 0  # of the held-out images
    assert found.metrics["synthetic_n"] == 6 * 3
    write_evaluation(found, tmp_path / "out")
    assert "not available" in (tmp_path / "out" / "report.html").read_text().lower()


def test_where_nothing_was_shown_no_seconds_are_told(detector, manifest, settings):
    unfitted = type(detector)(settings)  # holds nothing out
    found = evaluate(unfitted, only(manifest, manifest["split"] == "train"), settings)
    assert found.timings["seconds_per_image"] is None


def test_every_none_has_its_reason(detector, manifest, settings):
    for table in (
        manifest,
        only(manifest, manifest["label"] == 0),
        only(manifest, manifest["split"] == "train"),
    ):
        for made in (detector, type(detector)(settings)):
            found = evaluate(made, table, settings)
            absent = {name for name, value in found.metrics.items() if value is None}
            assert absent == set(found.not_available)


def test_without_calibration(detector, manifest, settings):
    detector.calibration = None
    found = evaluate(detector, manifest, settings)
    assert found.metrics["threshold"] is None
    assert "not calibrated" in found.not_available["detection_rate"]
    assert found.metrics["image_auroc"] is not None
    assert found.table["is_anomalous"].tolist() == [None] * 20


def test_images_of_another_fit_are_not_taken_for_held_out(detector, manifest, settings):
    detector.training_set = TrainingSet((), ("0" * 64,))
    found = evaluate(detector, only(manifest, manifest["label"] == 0), settings)
    assert found.metrics["heldout_false_reject_rate"] is None
    assert "held out" in found.not_available["heldout_false_reject_rate"]


def test_a_mask_of_the_wrong_size_names_both(detector, category, settings):
    Image.new("L", (56, 41), 255).save(category / "ground_truth/dent/03_mask.png")
    with pytest.raises(DataError, match=r"03_mask\.png.*56 x 41.*03\.png.*56 x 40"):
        evaluate(detector, build_manifest(category, settings.data), settings)


def test_a_truncated_image_is_named(detector, category, settings):
    path = category / "test/dent/03.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"dent/03\.png"):
        evaluate(detector, build_manifest(category, settings.data), settings)


@pytest.mark.real_images
def test_on_real_masks(real_images, detector, settings):
    """Soft masks and images of hardly two sizes alike: figures come out, empty masks are counted."""
    root = real_images / "magnetic_tile" / "magnetic_tile"
    table = build_manifest(root, settings.data)
    tests = table[(table["split"] == "test") & ((table["mask_area"] == 0) | (np.arange(len(table)) % 9 == 0))]
    tests = tests.reset_index(drop=True)
    tests.attrs = table.attrs
    found = evaluate(detector, tests, settings)
    assert found.metrics["n_test_without_mask"] == 4
    assert found.metrics["image_auroc_low"] < found.metrics["image_auroc"] < found.metrics["image_auroc_high"]
    assert 0 < found.metrics["pixel_auroc"] < 1


def test_the_rate_of_held_out_images_by_hand():
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    # Each image alone: only the largest lies above the largest of the others.
    assert leave_group_out_rate(scores, ["a", "b", "c", "d"], 0.01) == 0.25
    # Two groups: 3 and 4 lie above 2, and nothing of the first group above 4.
    assert leave_group_out_rate(scores, ["a", "a", "b", "b"], 0.01) == 0.5
    with pytest.raises(DataError, match="one group"):
        leave_group_out_rate(scores, ["a"] * 4, 0.01)

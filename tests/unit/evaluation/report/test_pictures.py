import io
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reconpatch.errors import DataError
from reconpatch.evaluation.evaluation_result import ColourScale, Example
from reconpatch.evaluation.report.example_choice import choose_examples, colour_scale
from reconpatch.evaluation.report.figure_style import png_bytes
from reconpatch.evaluation.report.heatmaps import detector_scale, heatmap_figure, overlay, write_heatmap
from reconpatch.evaluation.report.score_plots import curves_figure, histogram_figure, losses_figure
from reconpatch.training.training_loop import TrainingRecord


def a_table(good=20, bad=10):
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(good + bad)],
            "label": np.repeat([0, 1], [good, bad]),
            "defect_type": ["good"] * good + [("dent", "stain")[i % 2] for i in range(bad)],
            "score": np.concatenate([rng.normal(1, 0.2, good), rng.normal(2, 0.5, bad)]),
            "group": [f"g{i}" for i in range(good + bad)],
            "map_median": 0.5,
            "map_max": np.concatenate([rng.normal(1, 0.1, good), rng.normal(2, 0.1, bad)]),
        }
    )


def an_example(seed=0, defect_type="dent", mask=True):
    rng = np.random.default_rng(seed)
    truth = np.zeros((32, 32), bool)
    truth[8:15, 9:20] = defect_type != "good"
    return Example(
        path=f"test/{defect_type}/{seed}.png",
        reason="lowest score among defects",
        defect_type=defect_type,
        score=3.2,
        is_anomalous=True,
        image=rng.integers(0, 255, (32, 32, 3), dtype=np.uint8),
        mask=truth if mask else None,
        anomaly_map=(rng.random((32, 32)) + 2 * truth).astype(np.float32),
    )


SCALE = ColourScale(0.5, 3.0, 1.5, "best pixel F1")


def figures():
    return [
        histogram_figure(a_table(), 1.4, 2.5, "plate"),
        curves_figure(a_table(), 1.4, "plate"),
        heatmap_figure([an_example(0), an_example(1, "good"), an_example(2, mask=False)], SCALE, "plate"),
    ]


def test_threads_draw_the_same_bytes():
    alone = [png_bytes(figure) for figure in figures()]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: [png_bytes(figure) for figure in figures()], range(4)))
    assert all(drawn == alone for drawn in together)


def test_pngs_hold_no_date_and_no_program():
    for figure in figures():
        picture = Image.open(io.BytesIO(png_bytes(figure)))
        assert set(picture.info) <= {"dpi"}
        assert np.asarray(picture.convert("L")).std() > 5


def test_losses_are_shown_with_their_ratio_and_without_validation_alone():
    watched = [TrainingRecord(step, 10.0 / step, 11.0 / step, 1.1) for step in (1, 2, 3)]
    upper, lower = losses_figure(watched, "line").axes
    assert [line.get_label() for line in upper.lines] == ["training", "validation"]
    assert lower.lines[0].get_ydata().tolist() == [1.1, 1.1, 1.1]
    upper, lower = losses_figure([TrainingRecord(1, 10.0, None, None)], "line").axes
    assert len(upper.lines) == 1
    assert len(lower.lines) == 0


def test_histogram_says_what_it_shows():
    figure = histogram_figure(a_table(), 1.4, 2.5, "plate")
    upper, lower = figure.axes
    assert "d' = 2.50" in upper.get_title(loc="left")
    assert [text.get_text() for text in upper.get_legend().get_texts()] == [
        "good (n = 20)", "defective (n = 10)", "threshold 1.4",
    ]  # fmt: skip
    assert [text.get_text() for text in lower.get_yticklabels()] == ["good", "dent", "stain"]
    heights = sum(patch.get_height() for patch in upper.patches)
    assert heights == 30


def test_histogram_of_equal_scores_and_of_nothing():
    table = a_table().assign(score=1.0)
    assert png_bytes(histogram_figure(table, None, None, "plate"))
    with pytest.raises(DataError, match="no test image"):
        histogram_figure(a_table().iloc[:0], None, None, "plate")


def test_curves_mark_the_threshold():
    table = a_table()
    left, right = curves_figure(table, 1.4, "plate").axes
    marked = left.lines[-1].get_xydata()[0]
    rejected = table["score"] > 1.4
    assert marked.tolist() == [rejected[table["label"] == 0].mean(), rejected[table["label"] == 1].mean()]
    assert right.lines[-1].get_xydata()[0][1] == table["label"][rejected].mean()


@pytest.mark.parametrize("label", [0, 1])
def test_curves_need_both_classes(label):
    with pytest.raises(DataError):
        curves_figure(a_table()[lambda table: table["label"] == label], 1.4, "plate")


def test_overlay_leaves_nominal_pixels_grey_and_colours_the_rest():
    example = an_example()
    shown = overlay(example.image, example.anomaly_map, SCALE)
    calm = example.anomaly_map <= SCALE.low
    grey = np.rint(example.image.mean(axis=2))
    assert calm.any()
    assert (shown[calm] == grey[calm][:, None]).all()
    colourful = shown.max(axis=2).astype(int) - shown.min(axis=2)
    assert (colourful[example.anomaly_map > 2] > 40).all()


def test_one_scale_for_all_maps():
    image = np.full((4, 4, 3), 100, np.uint8)
    faint = overlay(image, np.full((4, 4), 1.0, np.float32), SCALE)
    glaring = overlay(image, np.full((4, 4), 3.0, np.float32), SCALE)
    beyond = overlay(image, np.full((4, 4), 30.0, np.float32), SCALE)
    assert not np.array_equal(faint, glaring)
    assert np.array_equal(glaring, beyond)


def test_heat_map_of_a_prediction(detector, category, tmp_path):
    folder = tmp_path / "maps"
    dent, stain = detector.stream([category / "test/dent/00.png", category / "test/stain/00.png"])
    written = write_heatmap(folder, dent, detector)
    assert written == folder / "00.png"
    assert Image.open(written).size == (48, 48)
    assert write_heatmap(folder, stain, detector) == folder / "00-2.png"
    assert write_heatmap(folder, dent, detector) == folder / "00.png"
    (folder / "00-2.png").write_text("not ours")
    assert write_heatmap(folder, stain, detector) == folder / "00-3.png"


def test_names_with_dollars_are_no_formulas():
    name = r"$\foo$"
    drawn = [
        histogram_figure(a_table().replace({"defect_type": {"dent": name}}), 1.4, 2.5, name),
        curves_figure(a_table(), 1.4, name),
        losses_figure([TrainingRecord(1, 10.0, None, None)], name),
        heatmap_figure([replace(an_example(), path=f"test/{name}.png", defect_type=name)], SCALE, name),
    ]
    for figure in drawn:
        assert png_bytes(figure)


def test_heat_map_of_a_file_whose_name_is_not_utf_8(detector, category, tmp_path):
    file = category / os.fsdecode(b"caf\xe9.png")
    shutil.copy(category / "test/dent/00.png", file)
    (prediction,) = detector.stream([file])
    written = write_heatmap(tmp_path, prediction, detector)
    assert os.fsencode(written.name) == b"caf\xe9.png"
    assert Image.open(written).info["source"].endswith(r"caf\udce9.png")
    assert write_heatmap(tmp_path, prediction, detector) == written


def test_scale_of_a_detector(detector):
    anomaly_map = np.array([[1.0, 3.0]], np.float32)
    scale, calibration = detector_scale(detector, anomaly_map), detector.calibration
    assert scale.low == calibration.pixels.median
    assert (scale.low + scale.high) / 2 == pytest.approx(calibration.threshold.value)
    detector.calibration = None
    assert detector_scale(detector, anomaly_map) == ColourScale(1.0, 3.0)


def test_chosen_examples():
    table = a_table()
    chosen = choose_examples(table, 12)
    order = table.sort_values("score")
    defects, good = order[order["label"] == 1].index, order[order["label"] == 0].index
    assert list(chosen)[:4] == list(defects[:4])
    assert list(chosen)[4:8] == list(good[::-1][:4])
    for name in ("dent", "stain", "good"):
        members = order.index[order["defect_type"] == name]
        assert members[len(members) // 2] in chosen
    assert len(chosen) == 12
    same = choose_examples(table.assign(group="one"), 12)
    assert list(same.values()).count("lowest score among defects") == 1
    assert choose_examples(table, 0) == {}
    assert len(choose_examples(table, 100)) == 30
    assert choose_examples(table.iloc[:0], 5) == {}


def test_scale_without_calibration_and_without_images():
    table = a_table()
    scale = colour_scale(table, None, {"pixel_f1_threshold": 1.2})
    assert scale.low == 0.5
    assert scale.high == pytest.approx(table["map_max"][table["label"] == 1].quantile(0.9))
    assert (scale.contour, scale.contour_name) == (1.2, "best pixel F1")
    assert colour_scale(table.iloc[:0], None, {}) is None
    flat = colour_scale(table.assign(map_max=0.5), None, {})
    assert flat.high > flat.low
    assert flat.contour is None


def test_the_review_band_hides_no_bar():
    table = a_table()
    figure = histogram_figure(table, 1.9, 2.5, "plate", review=1.3)
    for axis in figure.axes:
        bands = [patch for patch in axis.patches if patch.get_label().startswith("to review")]
        others = [artist for artist in (*axis.patches, *axis.lines) if artist not in bands]
        assert len(bands) == 1
        assert bands[0].get_zorder() < min(artist.get_zorder() for artist in others)


def test_an_image_to_review_is_called_neither_accepted_nor_wrong():
    examples = [
        replace(an_example(0), is_anomalous=False),
        replace(an_example(1), is_anomalous=False, to_review=True),
    ]
    told = [text.get_text() for text in heatmap_figure(examples, SCALE, "plate").texts]
    assert "dent: score 3.2, accepted (wrong)" in told
    assert "dent: score 3.2, to review" in told

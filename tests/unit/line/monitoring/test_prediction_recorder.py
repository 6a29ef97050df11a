"""Predictions reach the log measured as the manifest measures, and the log never stops who predicts."""

import logging
import threading

import numpy as np
import pytest
from log_rows import row
from PIL import Image

from reconpatch.data.images import probe_image, read_image
from reconpatch.errors import DataError
from reconpatch.line.monitoring import prediction_recorder
from reconpatch.line.monitoring.prediction_log import read_predictions
from reconpatch.line.monitoring.prediction_recorder import LogBuffer, Recorder, Subject, logged
from reconpatch.prediction import Prediction

SUBJECT = Subject("nut", "v/1", "a.png", "a")


def _prediction(path=None) -> Prediction:
    return Prediction(path, 2.5, False, np.zeros((4, 4), np.float32), np.ones(3, np.float16), 0.25, "accept")


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "part7_a.png")
    return tmp_path / "part7_a.png"


def test_files_and_pixels_are_measured_alike(image, tmp_path) -> None:
    list(logged([_prediction(str(image))], tmp_path / "log", "nut", "v/1", r"(part\d+)"))
    recorder = Recorder(tmp_path / "log")
    recorder.record(SUBJECT, _prediction(), read_image(image))
    recorder.close()
    found = read_predictions(tmp_path / "log", model_version="v/1")
    probe = probe_image(image)
    assert list(found["group"]) == ["part7", "a"]
    for name in ("brightness", "contrast", "sharpness"):
        assert list(found[name]) == [getattr(probe, name)] * 2
    assert list(found["score"]) == [2.5, 2.5]


def test_an_image_without_a_part_is_its_own_group(image, tmp_path) -> None:
    list(logged([_prediction(str(image))], tmp_path / "log", "nut", "v/1", None))
    assert list(read_predictions(tmp_path / "log", model_version="v/1")["group"]) == [
        probe_image(image).sha256
    ]


def test_what_was_predicted_before_an_error_is_logged(image, tmp_path) -> None:
    def predictions():
        yield _prediction(str(image))
        raise ValueError("the detector failed")

    with pytest.raises(ValueError, match="the detector failed"):
        list(logged(predictions(), tmp_path / "log", "nut", "v/1", None))
    assert len(read_predictions(tmp_path / "log", model_version="v/1")) == 1


def test_rows_are_written_many_at_a_time_and_again_when_the_log_is_back(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(prediction_recorder, "_ROWS", 3)
    (tmp_path / "nut").write_text("a file in the way")
    with LogBuffer(tmp_path) as buffer:
        for number in range(2):
            buffer.add(row(number))
        with pytest.raises(DataError):
            buffer.add(row(2))
        (tmp_path / "nut").unlink()
        buffer.add(row(3))
        (file,) = tmp_path.rglob("*.parquet")
    assert list(tmp_path.rglob("*.parquet")) == [file]
    assert len(read_predictions(tmp_path, model_version="reconpatch-demo-nut/3")) == 4


def test_a_category_that_cannot_be_written_holds_up_and_doubles_no_other(tmp_path) -> None:
    (tmp_path / "nut").write_text("a file in the way")
    buffer = LogBuffer(tmp_path)
    for number, category in enumerate(["bolt", "nut", "washer", "nut"]):
        buffer.add(row(number, category=category))
    for _ in range(2):
        with pytest.raises(DataError, match=r"nut/.*cannot be written"):
            buffer.flush()
        assert sorted(file.parts[-3] for file in tmp_path.rglob("*.parquet")) == ["bolt", "washer"]
    (tmp_path / "nut").unlink()
    buffer.flush()
    assert sorted(read_predictions(tmp_path, model_version="reconpatch-demo-nut/3")["score"]) == [0, 1, 2, 3]


def test_who_predicts_neither_waits_nor_fails(tmp_path, monkeypatch, caplog) -> None:
    (tmp_path / "nut").write_text("a file in the way")
    monkeypatch.setattr(prediction_recorder, "_WAITING_BYTES", 10_000)
    measure, recorded = prediction_recorder.measure_image_statistics, threading.Event()
    monkeypatch.setattr(
        prediction_recorder,
        "measure_image_statistics",
        lambda picture: (recorded.wait(), measure(picture))[1],
    )
    recorder = Recorder(tmp_path)
    pixels = np.zeros((40, 80, 3), np.uint8)  # 9.6 kB: the second finds no room
    for _ in range(3):
        recorder.record(SUBJECT, _prediction(), pixels)
    recorded.set()
    with caplog.at_level(logging.WARNING):
        recorder.close()
    assert "2 predictions were left out of the log" in caplog.text
    assert "predictions are not logged" in caplog.text
    assert "cannot be written" in caplog.text


def test_a_pattern_that_takes_too_long_is_tried_once_and_loses_no_row(tmp_path, caplog) -> None:
    recorder = Recorder(tmp_path)
    subject = Subject("nut", "v/1", "a" * 60 + ".png", "its digest")
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            recorder.record(subject, _prediction(), np.zeros((4, 4, 3), np.uint8), r"^((?:a|aa)+)$")
        recorder.record(SUBJECT, _prediction(), np.zeros((4, 4, 3), np.uint8), r"^(a)\.")
        recorder.close()
    assert caplog.text.count("data.group_pattern") == 1
    found = read_predictions(tmp_path, model_version="v/1")
    assert list(found["group"]) == ["its digest"] * 30 + ["a"]

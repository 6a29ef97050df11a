"""A server logs what it predicts, when it is told to."""

from tiny_server import form, png

from reconpatch.line.monitoring.prediction_log import read_predictions


def test_every_prediction_is_in_the_log_when_the_server_has_ended(connect, tmp_path) -> None:
    client = connect(log=tmp_path / "log")
    images = [png(20), png(21, spoiled=True)]
    answers = client.post("/api/categories/nut/predict", files=form(*images)).json()["results"]
    client.__exit__(None, None, None)
    found = read_predictions(tmp_path / "log", model_version=answers[0]["model_version"])
    rows = found.set_index("group").loc[[one["sha256"] for one in answers]]
    for name in ("score", "is_anomalous", "band", "false_reject_probability"):
        assert list(rows[name]) == [one[name] for one in answers]
    assert set(rows["category"]) == {"nut"}
    assert all(len(one) > 100 for one in rows["embedding"])

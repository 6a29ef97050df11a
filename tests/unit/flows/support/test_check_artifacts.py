"""What was found wrong with the images, as the Prefect run tells it."""

from pathlib import Path

import pytest

from flows.support import check_artifacts
from reconpatch.settings import parse_settings
from tasks.running.stage_folders import Job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    settings = parse_settings({"pipeline": {"dataset": "line_3", "categories": ["Nut.A"]}})
    return Job(settings, "Nut.A", "net", tmp_path, tmp_path / "outputs")


@pytest.mark.parametrize(("third", "told"), [("True", 1), ("False", 0)])
def test_suspicious_nominal_images_are_told_and_nothing_where_there_are_none(
    job: Job, monkeypatch: pytest.MonkeyPatch, third: str, told: int
) -> None:
    artifacts: list[dict] = []
    monkeypatch.setattr(check_artifacts, "create_table_artifact", lambda **given: artifacts.append(given))
    job.folder("calibrate").mkdir(parents=True)
    (job.folder("calibrate") / "nominal_check.csv").write_text(
        f"path,score,z,suspicious\na.png,9.0,7.5,{third}\nb.png,1.0,0.0,False\n"
    )
    with check_artifacts.publishing("calibrate", job):
        pass
    assert len(artifacts) == told
    if told:
        assert artifacts[0]["key"] == "nominal-check-line-3-nut-a-net"
        assert artifacts[0]["table"] == [{"path": "a.png", "score": 9.0, "z": 7.5}]
        assert "1 of 2 nominal images" in artifacts[0]["description"]


def test_a_table_without_a_row_tells_nothing(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_artifacts, "create_table_artifact", lambda **given: pytest.fail(str(given)))
    job.folder("calibrate").mkdir(parents=True)
    (job.folder("calibrate") / "nominal_check.csv").write_text("path,score,z,suspicious\n")
    with check_artifacts.publishing("calibrate", job):
        pass

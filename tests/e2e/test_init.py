"""From a fresh folder of images to a project that the pipeline can run."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from reconpatch.errors import DataError, ReConPatchError, SettingsError
from reconpatch.integrations.check_report import ChecksFailedError
from reconpatch.integrations.project_init import initialise
from reconpatch.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """What `project` copies: starting DVC takes seconds."""
    root = tmp_path_factory.mktemp("template")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)
    return root


@pytest.fixture
def project(template, tmp_path):
    return shutil.copytree(template, tmp_path / "a project", symlinks=True)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "Line 3"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_plain_folder_of_good_images(project, photographs):
    before = (project / "params.yaml").read_text()
    done = initialise(photographs, project)
    assert (done.dataset, done.categories) == ("line-3", ("line-3",))
    assert sorted(p.name for p in (project / "data/line-3/line-3").iterdir()) == [
        f"{i}.png" for i in sorted(range(12), key=str)
    ]
    assert len(list(photographs.iterdir())) == 12
    assert yaml.safe_load(done.dvc_file.read_text())["outs"][0]["nfiles"] == 12
    pipeline = load_settings(project / "params.yaml").pipeline
    assert (pipeline.dataset, str(pipeline.root)) == ("line-3", "data/line-3")
    assert pipeline.categories == ("line-3",)
    comments = [line.partition("#")[2] for line in before.splitlines() if "#" in line]
    after = (project / "params.yaml").read_text()
    assert after.count(": null") == before.count(": null") > 0
    assert all(comment in after for comment in comments)
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "data/line-3.dvc"],
        cwd=project, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "up to date" in status.stdout


def test_a_folder_of_categories(project, photographs, tmp_path):
    plant = tmp_path / "plant"
    for name in ("left", "right"):
        shutil.copytree(photographs, plant / name / "train" / "good")
    done = initialise(plant, project, name="plant-7")
    assert done.categories == ("left", "right")
    assert (project / "data/plant-7/right/train/good/3.png").is_file()


def test_what_exists_with_other_content_is_never_overwritten(project, photographs):
    initialise(photographs, project)
    (photographs / "3.png").unlink()
    with pytest.raises(DataError, match="exists already with other content"):
        initialise(photographs, project)
    assert (project / "data/line-3/line-3/3.png").is_file()


def test_a_call_that_failed_after_the_copy_is_finished_by_the_next(project, photographs, monkeypatch):
    def fail(*_):
        raise DataError("dvc add: the lock is taken")

    with monkeypatch.context() as patched:
        patched.setattr("reconpatch.integrations.project_init._dvc", fail)
        with pytest.raises(DataError, match="the lock is taken"):
            initialise(photographs, project)
    assert load_settings(project / "params.yaml").pipeline.dataset == "demo"
    (project / "data/.line-3.k1ll.new").mkdir()
    done = initialise(photographs, project)
    assert done.dvc_file.is_file()
    assert load_settings(project / "params.yaml").pipeline.dataset == "line-3"
    assert sorted(path.name for path in (project / "data").iterdir()) == [
        ".gitignore",
        "line-3",
        "line-3.dvc",
    ]


def test_what_training_would_stop_at_is_refused_and_taken_by_force(project, photographs):
    (photographs / "3.png").write_bytes((photographs / "3.png").read_bytes()[:100])
    before = (project / "params.yaml").read_text()
    with pytest.raises(ChecksFailedError, match=r"1 critical problem\(s\).*--force") as refused:
        initialise(photographs, project)
    problem = refused.value.reports["Line 3"].problems[0]
    assert (problem.severity, problem.path) == ("critical", "3.png")
    assert not (project / "data").exists()
    assert (project / "params.yaml").read_text() == before
    done = initialise(photographs, project, force=True)
    assert (done.root / "line-3/3.png").is_file()
    assert done.reports == refused.value.reports


def test_without_a_package_nothing_is_copied(project, photographs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    with pytest.raises(ReConPatchError, match=r"needs the package ruamel.yaml"):
        initialise(photographs, project)
    assert not (project / "data").exists()


def test_category_names_that_a_shell_or_yaml_reads_otherwise(project, photographs, tmp_path):
    plant = tmp_path / "plant"
    for name in ("01", "on", "1_0", "1e3", "Line A", "Nr. 7 (new)"):
        shutil.copytree(photographs, plant / name / "good")
    done = initialise(plant, project, name="no")
    assert done.categories == ("01", "1_0", "1e3", "Line-A", "Nr.-7-new", "on")
    pipeline = load_settings(project / "params.yaml").pipeline
    assert (pipeline.dataset, pipeline.categories) == ("no", done.categories)
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=project, capture_output=True, text=True, check=True,
    )  # fmt: skip
    stages = [line.split()[0] for line in listed.stdout.splitlines()]
    assert {f"validate@{category}" for category in done.categories} <= set(stages)
    assert (project / "data/no/Line-A/good/0.png").is_file()


@pytest.mark.parametrize("pair", [("Line A", "Line-A"), ("ライン",)])
def test_category_names_that_cannot_be_told_apart_or_written(project, photographs, tmp_path, pair):
    plant = tmp_path / "plant"
    for name in (*pair, "left"):
        shutil.copytree(photographs, plant / name / "good")
    with pytest.raises((DataError, SettingsError), match="rename"):
        initialise(plant, project)
    assert not (project / "data").exists()


def test_an_image_that_cannot_be_copied_is_named(project, photographs):
    (photographs / "lost.png").symlink_to(photographs / "nowhere.png")
    with pytest.raises(DataError, match=r"lost.png: cannot be copied"):
        initialise(photographs, project, force=True)
    assert not (project / "data" / "line-3").exists()


@pytest.mark.parametrize("name", ["Line 3", "../up", ""])
def test_a_name_that_does_not_fit_leaves_no_trace(project, photographs, name):
    with pytest.raises(SettingsError):
        initialise(photographs, project, name=name)
    assert not (project / "data").exists()


def test_outside_a_project(tmp_path, photographs):
    with pytest.raises(SettingsError, match="project's root"):
        initialise(photographs, tmp_path)


def test_nothing_in_the_folder(project, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        initialise(tmp_path / "empty", project)

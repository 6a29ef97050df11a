"""Bad input on the command line: one line that names it, the right exit status, no traceback."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from reconpatch import cli
from tests.command_line import SET, assert_one_line, cut_off

ROOT = Path(__file__).resolve().parents[3]


def test_a_truncated_image(run, model, spoiled, tmp_path):
    image = spoiled / "train/good/3.png"
    cut_off(image)
    assert_one_line(run("fit", spoiled, "--out", tmp_path / "m", *SET), 1, "train/good/3.png")
    assert not (tmp_path / "m").exists()
    assert_one_line(run("predict", model, image), 1, str(image))


@pytest.mark.slow
def test_predict_goes_on_past_what_cannot_be_read_and_lists_it(run, model, category, tmp_path):
    good, other = (category / f"test/good/{number}.png" for number in (0, 1))
    corrupt, text = tmp_path / "[b]cut.png", tmp_path / "text.png"
    shutil.copy(good, corrupt)
    cut_off(corrupt)
    text.write_text("no image")
    images = (good, corrupt, other, text, category / "test/hole/0.png")
    whole = [run("predict", model, image).out for image in (images[0], images[2], images[4])]
    done = run("predict", model, *images, "--json", tmp_path / "p.json", "--log", tmp_path / "log")
    assert done.status == 1
    assert done.out == "".join(whole)
    assert [line.partition(":")[0] for line in done.err.splitlines()] == [f"error {corrupt}", f"error {text}"]
    rows = json.loads((tmp_path / "p.json").read_text())
    scored, failed = rows[:3], rows[3:]
    assert [row["path"] for row in scored] == [str(images[0]), str(images[2]), str(images[4])]
    assert all(row["problem"] is None and row["score"] is not None for row in scored)
    assert [row["path"] for row in failed] == [str(corrupt), str(text)]
    assert all(row["score"] is None and "cut short" in row["problem"] for row in failed[:1])
    assert sum(len(pd.read_parquet(part)) for part in (tmp_path / "log").rglob("*.parquet")) == 3


def test_init_refuses_what_data_check_fails_with_its_findings(run, spoiled, tmp_path):
    cut_off(spoiled / "train/good/3.png")
    project = tmp_path / "project"
    project.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, project / name)
    done = run("init", spoiled, "--name", "line", "--project", project)
    assert done.status == 1
    assert done.out == run("data", "check", spoiled).out
    assert "critical spoiled/train/good/3.png: " in done.out
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    assert "--force" in done.err
    assert sorted(path.name for path in project.iterdir()) == ["dvc.yaml", "params.yaml"]


def test_an_empty_category(run, model, tmp_path):
    (tmp_path / "[empty]").mkdir()
    for arguments in (("fit", tmp_path / "[empty]", "--out", tmp_path / "m"), ("data", "check", tmp_path)):
        assert_one_line(run(*arguments), 1, str(tmp_path))
    assert_one_line(run("evaluate", model, tmp_path / "[empty]"), 1, str(tmp_path / "[empty]"))
    assert_one_line(run("fit", tmp_path / "nowhere", "--out", tmp_path / "m"), 1, "there is no such folder")


def test_a_mask_of_the_wrong_size(run, model, spoiled):
    Image.new("L", (32, 64), 255).save(spoiled / "ground_truth/hole/1_mask.png")
    assert_one_line(run("evaluate", model, spoiled), 1, "ground_truth/hole/1_mask.png", "32", "64")


def test_an_unknown_parameter_suggests_the_right_one(run, category, tmp_path):
    fit = ("fit", category, "--out", tmp_path / "m")
    assert_one_line(run(*fit, "--set", "coreset.ration=0.1"), 2, "did you mean `coreset.ratio`?")
    (tmp_path / "p.yaml").write_text("features: {imagesize: 64}\n")
    assert_one_line(run(*fit, "--params", tmp_path / "p.yaml"), 2, "p.yaml: ", "`features.image_size`?")
    assert_one_line(run(*fit, "--params", tmp_path / "no.yaml"), 2, "no.yaml: cannot be read")
    (tmp_path / "p.yaml").write_text("features: [64\n")
    assert_one_line(run(*fit, "--params", tmp_path / "p.yaml"), 2, "p.yaml: is not valid YAML")


@pytest.mark.parametrize(
    "arguments", [("fit", "--wrong"), ("fit",), ("nothing",), ("data", "check", "x", "--[/b]")]
)
def test_wrong_usage(run, arguments):
    done = run(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert "Usage: " in done.err
    assert "Traceback" not in done.err


def test_a_cut_off_bank(run, model, category, tmp_path):
    broken = shutil.copytree(model, tmp_path / "broken")
    cut_off(broken / "bank.safetensors")
    for command in ("predict", "evaluate"):
        assert_one_line(run(command, broken, category), 1, str(broken / "bank.safetensors"), "cut short")


def test_a_missing_model(run, category, tmp_path):
    for command in ("predict", "evaluate"):
        assert_one_line(run(command, tmp_path / "[/b] :smile:", category), 1, f"{tmp_path}/[/b] :smile:")


def test_an_error_is_printed_as_it_is_on_one_line(monkeypatch, run, tmp_path):
    def fail(*_, **__):
        raise cli.ReConPatchError("/data/[old]/:dog:/[/b].png: is\n  broken" + " and long" * 30)

    monkeypatch.setattr("reconpatch.data.demo.make_demo", fail)
    done = run("data", "demo", tmp_path)
    assert done.err == "error /data/[old]/:dog:/[/b].png: is broken" + " and long" * 30 + "\n"
    assert done.status == 1


@pytest.mark.slow
def test_places_that_cannot_be_written(run, model, category, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    image, below = category / "test/good/0.png", tmp_path / "file" / "x"
    for arguments, named in (
        (("data", "check", category, "--json", tmp_path / "folder"), tmp_path / "folder"),
        (("data", "demo", below), tmp_path / "file"),
        (("predict", model, image, "--maps", tmp_path / "file"), tmp_path / "file"),
        (("predict", model, image, "--json", below), tmp_path / "file"),
        (("fit", category, "--out", below, *SET), tmp_path / "file"),
    ):
        done = run(*arguments)
        assert (done.status, "Traceback" in done.err) == (1, False), arguments
        assert done.err.splitlines()[-1].startswith(f"error {named}"), done.err
        assert done.err.splitlines()[-1].endswith(("Is a directory", "Not a directory", "File exists"))

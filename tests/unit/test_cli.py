"""The command line in this process: what it prints, where, and with which exit status."""

import csv
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from reconpatch import cli
from reconpatch.files import sha256_file
from reconpatch.monitoring.prediction_log import read_predictions

TINY = (
    "features.image_size=64", "modulation.steps=5", "modulation.batch_size=64", "coreset.ratio=0.1",
    "calibrate.holdout=0.3", "threads=1", "evaluate.pictures=2", "validate.min_train_images=4",
)  # fmt: skip
SET = [part for override in TINY for part in ("--set", override)]


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["reconpatch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return SimpleNamespace(status=left.value.code, out=out, err=err)

    return run


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    """A category whose own name looks like markup."""
    root = tmp_path_factory.mktemp("plant") / "line [b] [old]"
    rng = np.random.default_rng(0)
    for where, count in (("train/good", 8), ("test/good", 2), ("test/hole", 2)):
        (root / where).mkdir(parents=True)
        for i in range(count):
            picture = rng.normal(128, 12, (64, 64, 3))
            mask = np.zeros((64, 64), np.uint8)
            if where == "test/hole":
                # Elsewhere in each image: two defects with one and the same mask are a finding.
                picture[20 + i : 40 + i, 20:40], mask[20 + i : 40 + i, 20:40] = [250, 20, 20], 255
                (root / "ground_truth/hole").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / f"ground_truth/hole/{i}_mask.png")
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / where / f"{i}.png")
    return root


@pytest.fixture
def spoiled(category, tmp_path):
    """A copy to do harm to."""
    return shutil.copytree(category, tmp_path / "spoiled")


@pytest.fixture(scope="module")
def model(category, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "fitted"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["reconpatch", "fit", str(category), "--out", str(folder), *SET])
        with pytest.raises(SystemExit, match="0"):
            cli.main()
    return folder


def assert_one_line(done, status, *parts):
    assert done.status == status
    assert done.err.startswith("error ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_fit_says_what_it_wrote(run, category, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text("modulation: {enabled: false}\ncoreset: {ratio: 0.5}\n")
    out, written = tmp_path / "[/b]", tmp_path / "fit.json"
    done = run("fit", category, "--out", out, "--params", params, *SET, "--json", written)
    assert done.status == 0
    assert done.out.startswith(f"{out}: 8 images, bank ")
    # --params holds where --set says nothing, --set goes before it.
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings["modulation"]["enabled"] is False
    assert settings["coreset"]["ratio"] == 0.1
    values = json.loads(written.read_text())
    assert (values["model"], values["n_train"]) == (str(out), 8)
    assert values["threshold"] > 0


def test_evaluate(run, model, category, tmp_path):
    done = run("evaluate", model, category, "--json", tmp_path / "e.json", "--out", tmp_path / "report")
    assert done.status == 0
    assert "line [b] [old]" in done.out
    values = json.loads((tmp_path / "e.json").read_text())
    assert values.keys() >= {
        "image_auroc", "pixel_auroc", "aupro", "image_f1_max", "threshold", "n_train", "n_test",
        "seconds_per_image",
    }  # fmt: skip
    assert values["image_auroc"] == 1.0
    assert values["pixel_auroc"] > 0.8
    assert (values["n_train"], values["n_test"]) == (8, 4)
    assert values["seconds_per_image"] > 0
    assert f"{values['aupro']:.4f}" in done.out
    assert values["not_available"]
    for name, reason in values["not_available"].items():
        assert values[name] is None
        assert f"{name}: not available ({reason})\n" in done.out
    metrics = json.loads((tmp_path / "report/metrics.json").read_text())
    assert metrics["image_auroc"] == values["image_auroc"]
    assert "seconds_per_image" not in metrics


def test_predict_prints_a_line_an_image_with_its_path_as_given(run, model, category, tmp_path):
    images = [category / "test/good/0.png", category / "test/hole/0.png"]
    done = run("predict", model, *images, "--maps", tmp_path / "maps", "--json", tmp_path / "p.json")
    assert done.status == 0
    good, hole = csv.reader(done.out.splitlines(), delimiter="\t")
    assert [good[0], hole[0]] == [str(image) for image in images]
    assert float(hole[1]) > float(good[1])
    assert hole[2] == "anomalous"
    rows = json.loads((tmp_path / "p.json").read_text())
    assert [row["path"] for row in rows] == [str(image) for image in images]
    assert rows[1]["is_anomalous"] is True
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 2


def test_predict_logs_where_it_is_told_to_under_the_name_and_version_that_a_server_gives(
    run, model, category, tmp_path
):
    images = [category / "test/good/0.png", category / "test/hole/0.png"]
    plain = run("predict", model, *images)
    done = run("predict", f"nut={model}", *images, "--log", tmp_path / "log")
    assert (done.status, done.out) == (0, plain.out)
    version = f"sha256:{sha256_file(model / 'config.json')[:16]}"
    found = read_predictions(tmp_path / "log", model_version=version)
    assert set(found["category"]) == {"nut"}
    assert [f"{score:.6f}" for score in found["score"]] == [
        line.split("\t")[1] for line in done.out.splitlines()
    ]
    assert_one_line(run("predict", f"a b={model}", images[0], "--log", tmp_path), 2, "model name 'a b'")


def test_data_demo(run, tmp_path, monkeypatch):
    asked = []
    with monkeypatch.context() as patched:
        patched.setattr(
            "reconpatch.data.demo.make_demo", lambda *given, **named: asked.append((given, named))
        )
        done = run("data", "demo", tmp_path / "[red]", "--seed", 3)
    assert (done.status, done.out) == (0, f"Demo data set in {tmp_path}/[red]\n")
    assert asked == [((tmp_path / "[red]",), {"seed": 3})]
    (tmp_path / "mine.png").touch()
    assert_one_line(run("data", "demo", tmp_path), 1, f"{tmp_path}: is not empty")


def test_data_check(run, category, spoiled, tmp_path):
    done = run("data", "check", category, *SET, "--json", tmp_path / "c.json")
    assert done.status == 0
    assert done.out.splitlines()[-1] == "line [b] [old]: 12 images, 0 problems, passed"
    assert json.loads((tmp_path / "c.json").read_text())["line [b] [old]"]["success"] is True

    cut_off(spoiled / "train/good/3.png")
    Image.new("L", (32, 64), 255).save(spoiled / "ground_truth/hole/1_mask.png")
    done = run("data", "check", spoiled, *SET)
    assert done.status == 1
    critical = [line for line in done.out.splitlines() if line.startswith("critical")]
    assert [line.split()[1] for line in critical] == ["spoiled/test/hole/1.png:", "spoiled/train/good/3.png:"]
    assert "the mask ground_truth/hole/1_mask.png is 32x64 pixels, the image 64x64" in critical[0]
    assert done.out.splitlines()[-1] == "spoiled: 12 images, 2 problems, FAILED"
    assert done.err == ""
    (spoiled / "train/good/3.png").write_bytes((category / "train/good/3.png").read_bytes())
    done = run("data", "check", spoiled, *SET)
    assert done.out.splitlines()[-1] == "spoiled: 12 images, 1 problem, FAILED"


def test_verdicts_on_images_and_what_waits_for_them(run, model, category, tmp_path):
    from reconpatch.data.reviews import read_reviews

    table, image, defect = tmp_path / "r.jsonl", category / "test/good/0.png", category / "test/hole/1.png"
    assert_one_line(run("data", "review", "bad", image, tmp_path / "gone.png", "--reviews", table), 1, "gone")
    assert not table.exists()
    done = run("data", "review", "bad", image, defect, "--who", "Ann", "--reviews", table)
    assert done.status == 0
    assert done.out.splitlines() == [
        f"{image}: bad", f"{defect}: bad", f"2 verdicts in {table}; the next ingest acts on them",
    ]  # fmt: skip
    assert read_reviews(table)["who"].tolist() == ["Ann", "Ann"]
    assert run("data", "review", "fine", image, "--reviews", table).status == 2

    aside = tmp_path / "aside/set/line"
    aside.mkdir(parents=True)
    shutil.copy(image, aside / "0-1234.png")
    record = {
        "sha256": read_reviews(table)["image_sha256"].iloc[0],
        "reason": "suspicious",
        "detail": "[score]",
    }
    (aside / "0-1234.png.json").write_text(json.dumps(record))
    (aside / ".plan.json").write_text("{}")
    done = run("data", "quarantine", tmp_path / "aside", "--reviews", table, "--json", tmp_path / "q.json")
    assert done.status == 0
    assert "1 image in" in done.out
    ((row),) = json.loads((tmp_path / "q.json").read_text())
    assert (row["file"], row["reason"], row["verdict"]) == (str(aside / "0-1234.png"), "suspicious", "bad")

    run("evaluate", model, category, "--json", tmp_path / "all.json")
    done = run("evaluate", model, category, "--reviews", table, "--json", tmp_path / "some.json")
    assert done.status == 0
    for name, expected in (("all", (4, 0)), ("some", (3, 1))):
        values = json.loads((tmp_path / f"{name}.json").read_text())
        assert (values["n_test"], values["n_contradicted"]) == expected


def test_a_truncated_image(run, model, spoiled, tmp_path):
    image = spoiled / "train/good/3.png"
    cut_off(image)
    assert_one_line(run("fit", spoiled, "--out", tmp_path / "m", *SET), 1, "train/good/3.png")
    assert not (tmp_path / "m").exists()
    assert_one_line(run("predict", model, image), 1, str(image))


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


def test_help_needs_no_torch_and_ends_well(run):
    done = run("--help")
    assert done.status == 0
    for command in ("data", "init", "fit", "evaluate", "predict"):
        assert command in done.out


def test_presets_are_listed_with_what_they_are(run):
    listed = run("presets")
    assert listed.status == 0
    assert "wrn50-224" in listed.out
    assert "ensemble-lite" in listed.out


def test_reproduce_prints_a_row_a_category_and_the_mean(run, category, tmp_path):
    done = run(
        "reproduce", "lite0", category.parent, "--out", tmp_path / "o", "--json", tmp_path / "j.json", *SET
    )
    assert done.status == 0, done.err
    assert f"{category.name}: " in done.out
    found = json.loads((tmp_path / "j.json").read_text())
    assert [row["category"] for row in found["rows"]] == [category.name, "mean"]
    assert found["rows"][0]["ours"] == found["rows"][1]["ours"]
    assert all(0 <= value <= 1 for value in found["rows"][0]["ours"])


def test_one_model_for_all_categories(run, category, tmp_path):
    for number, name in enumerate(("calm", "[noisy]")):
        for path in category.rglob("*.png"):
            picture = np.asarray(Image.open(path))
            if "ground_truth" not in path.parts:
                picture = picture - number  # another content, the same look
            target = tmp_path / "line" / name / path.relative_to(category)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(target)
    model = tmp_path / "m"
    fitted = run("fit", tmp_path / "line", "--unified", "--out", model, "--json", tmp_path / "fit.json", *SET)
    assert fitted.status == 0, fitted.err
    assert "ratio" in fitted.out
    assert "[noisy]: 8 images" in fitted.out
    values = json.loads((tmp_path / "fit.json").read_text())
    assert values["categories"] == ["[noisy]", "calm"]
    assert values["history"][-1]["validation_loss"] > 0

    image = next((tmp_path / "line/calm/test/hole").glob("*.png"))
    known = run("predict", model, image, "--category", "calm")
    assert (known.status, known.err) == (0, "")
    assert known.out.split("\t")[2].strip() == "anomalous"
    unknown = run("predict", model, image)
    assert unknown.status == 0
    assert "pooled threshold" in unknown.err
    assert run("predict", model, image, "--category", "bottle").status == 1

    evaluated = run("evaluate", model, tmp_path / "line/calm", "--json", tmp_path / "e.json")
    assert (evaluated.status, evaluated.err) == (0, "")
    assert json.loads((tmp_path / "e.json").read_text())["image_auroc"] == 1.0
    (tmp_path / "line/calm").rename(tmp_path / "line/other")
    assert "pooled threshold" in run("evaluate", model, tmp_path / "line/other").err
    fused = ["--set", "pipeline.fuse=[modified_z]", "--set", "pipeline.backbones=[a, b]"]
    assert run("fit", tmp_path / "line", "--unified", "--out", tmp_path / "x", *SET, *fused).status == 2


def test_a_category_is_named_to_a_unified_model_alone(run, model, category):
    told = run("predict", model, category / "test/good/0.png", "--category", "calm")
    assert told.status == 2
    assert "--category" in told.err

"""The command line in this process: what it prints, where, and with which exit status."""

import csv
import json
import os
import shutil

import pytest
from PIL import Image

from reconpatch.line.monitoring.prediction_log import read_predictions
from reconpatch.storage.atomic_files import sha256_file
from tests.command_line import SET, assert_one_line, cut_off


def test_fit_says_what_it_wrote(run, category, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text("modulation: {enabled: false}\ncoreset: {ratio: 0.5}\n")
    out, written = tmp_path / "[/b]", tmp_path / "fit.json"
    done = run("fit", category, "--out", out, "--params", params, *SET, "--json", written)
    assert done.status == 0
    assert done.out.splitlines()[1].startswith(f"{out}: 8 images, bank ")
    # --params holds where --set says nothing, --set goes before it.
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings["modulation"]["enabled"] is False
    assert settings["coreset"]["ratio"] == 0.1
    values = json.loads(written.read_text())
    assert (values["model"], values["n_train"]) == (str(out), 8)
    assert values["threshold"] > 0


@pytest.mark.slow
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


def test_a_file_whose_name_is_not_utf_8_is_told_in_escapes(run, model, category, tmp_path):
    file = tmp_path / os.fsdecode(b"caf\xe9.png")
    shutil.copy(category / "test/good/0.png", file)
    more = ("--maps", tmp_path / "maps", "--json", tmp_path / "p.json", "--log", tmp_path / "log")
    done = run("predict", f"nut={model}", file, *more)
    shown = str(tmp_path / r"caf\udce9.png")
    assert done.status == 0
    assert done.out.startswith(f"{shown}\t")
    assert json.loads((tmp_path / "p.json").read_text())[0]["path"] == shown
    assert [os.fsencode(path.name) for path in (tmp_path / "maps").iterdir()] == [b"caf\xe9.png"]
    version = f"sha256:{sha256_file(model / 'config.json')[:16]}"
    assert read_predictions(tmp_path / "log", model_version=version)["image"].tolist() == [shown]
    file.write_bytes(b"")
    assert_one_line(run("predict", model, file), 1, f"{shown}: ")


@pytest.mark.slow
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


@pytest.mark.slow
def test_reviews_of_images_and_what_waits_for_them(run, model, category, tmp_path):
    from reconpatch.data.reviews import read_reviews

    table, image, defect = tmp_path / "r.jsonl", category / "test/good/0.png", category / "test/hole/1.png"
    assert_one_line(run("data", "review", "bad", image, tmp_path / "gone.png", "--reviews", table), 1, "gone")
    assert not table.exists()
    done = run("data", "review", "bad", image, defect, "--who", "Ann", "--reviews", table)
    assert done.status == 0
    assert done.out.splitlines() == [
        f"{image}: bad", f"{defect}: bad", f"2 reviews in {table}; the next ingest acts on them",
    ]  # fmt: skip
    assert read_reviews(table)["who"].tolist() == ["Ann", "Ann"]
    assert run("data", "review", "fine", image, "--reviews", table).status == 2

    aside = tmp_path / "aside/set/line"
    aside.mkdir(parents=True)
    shutil.copy(image, aside / "0-1234.png")
    record = {
        "sha256": read_reviews(table)["image_sha256"].iloc[0],
        "name": "0.png",
        "group": "",
        "reason": "suspicious",
        "detail": "[score]",
    }
    (aside / "0-1234.png.json").write_text(json.dumps(record))
    (aside / ".plan.json").write_text("{")
    shutil.copy(defect, aside / "1-5678.png")
    (aside / "1-5678.png.json").write_text('{"sha256": "')
    done = run("data", "quarantine", tmp_path / "aside", "--reviews", table, "--json", tmp_path / "q.json")
    assert done.status == 0
    assert "2 images in" in done.out
    row, torn = json.loads((tmp_path / "q.json").read_text())
    assert (torn["file"], torn["reason"], torn["verdict"]) == (str(aside / "1-5678.png"), "unknown", "bad")
    assert (row["file"], row["reason"], row["verdict"]) == (str(aside / "0-1234.png"), "suspicious", "bad")

    run("evaluate", model, category, "--json", tmp_path / "all.json")
    done = run("evaluate", model, category, "--reviews", table, "--json", tmp_path / "some.json")
    assert done.status == 0
    for name, expected in (("all", (4, 0)), ("some", (3, 1))):
        values = json.loads((tmp_path / f"{name}.json").read_text())
        assert (values["n_test"], values["n_contradicted"]) == expected


def test_one_look_judges_all_that_waits_but_what_is_named(run, tmp_path):
    from reconpatch.data.reviews import Review, append_review, read_reviews
    from reconpatch.storage.atomic_files import sha256_file

    table, aside = tmp_path / "r.jsonl", tmp_path / "aside/set/line"
    aside.mkdir(parents=True)
    reasons = {"a": "suspicious", "b": "suspicious", "c": "flagged", "d": "duplicate", "e": "suspicious"}
    digests = {}
    for name, reason in reasons.items():
        (aside / f"{name}.png").write_text(name)
        digests[name] = sha256_file(aside / f"{name}.png")
        record = {"sha256": digests[name], "reason": reason, "detail": "", "judge": "m/1"}
        record |= {"name": f"{name}.png", "group": ""}
        (aside / f"{name}.png.json").write_text(json.dumps(record))
    append_review(table, Review(image_sha256=digests["e"], verdict="bad", who="Bob"))
    listed = run("data", "quarantine", tmp_path / "aside", "--reviews", table)
    assert "3 of them wait for a review" in listed.out
    assert len(read_reviews(table)) == 1

    judged = ("data", "quarantine", aside, "--judge", "good", "--who", "Ann", "--reviews", table)
    assert run(*judged, "--but", aside / "gone.png").status == 2
    assert len(read_reviews(table)) == 1
    done = run(*judged, "--but", aside / "b.png")
    assert done.status == 0
    assert done.out.splitlines()[-1] == f"2 reviews by Ann in {table}; the next ingest acts on them"
    said = read_reviews(table).set_index("image_sha256")
    assert said[["verdict", "who"]].T.to_dict("list") == {
        digests["a"]: ["good", "Ann"], digests["c"]: ["good", "Ann"], digests["e"]: ["bad", "Bob"],
    }  # fmt: skip
    assert said.loc[digests["a"], "model_version"] == "m/1"
    assert said["when"].notna().all()
    done = run(*judged)
    assert done.out.splitlines()[-1].startswith("1 review by Ann")


def test_check_and_fit_say_first_how_many_images_a_promise_needs(run, category, tmp_path):
    says = "8 good images in 8 groups, of which 3 calibrate (calibrate.holdout 0.3)"
    needs = "1 % rejected needs 99 calibrating groups, about 327 good images"
    for command in (("data", "check", category), ("fit", category, "--out", tmp_path / "m")):
        lines = run(*command, *SET).out.splitlines()
        (line,) = [line for line in lines if says in line]
        assert needs in line
        assert lines.index(line) < len(lines) - 1  # what was found, or written, follows


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


def test_params_lists_a_section_and_suggests_the_right_one(run, tmp_path):
    done = run("params", "coreset", "--json", tmp_path / "p.json")
    assert done.status == 0
    rows = json.loads((tmp_path / "p.json").read_text())
    assert [row["name"] for row in rows] == ["coreset.ratio", "coreset.max_bank", "coreset.memory_budget_mib"]
    assert "coreset.max_bank" in done.out
    run("params", "features.tile", "--json", tmp_path / "p.json")
    (one,) = json.loads((tmp_path / "p.json").read_text())
    assert (one["values"], one["default"]) == ("integer ≥ 32 or null", None)
    wrong = run("params", "coreest")
    assert wrong.status == 2
    assert "unknown parameter or section `coreest`; did you mean `coreset`?" in wrong.err

"""One model for all categories on the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.command_line import SET


@pytest.mark.slow
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

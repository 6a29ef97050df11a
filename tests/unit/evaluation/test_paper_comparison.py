"""A preset over a data set: rows, means, the paper's figures, and work that is not done twice."""

import shutil

import numpy as np
import pytest
from PIL import Image

from reconpatch.errors import SettingsError
from reconpatch.evaluation import paper_comparison
from reconpatch.settings import load_settings, paper_figures

PRESET = "wrn50-224"


def picture(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(path)


@pytest.fixture
def root(tmp_path):
    for number, name in enumerate(("bottle", "tile")):
        for split in ("train", "test"):
            picture(tmp_path / "mvtec" / name / split / "good" / "0.png", number)
    return tmp_path / "mvtec"


@pytest.fixture
def measured(monkeypatch):
    """Stands for fit and evaluate; says for which folders they were asked."""
    asked = []

    class Figures:
        def __init__(self, name):
            self.name = name

        def to_dict(self):
            image = {"bottle": 0.9, "tile": 0.7}[self.name]
            return {"image_auroc": image, "pixel_auroc": None if self.name == "tile" else 0.8, "aupro": None}

    monkeypatch.setattr(paper_comparison, "fit_folder", lambda images, *_: asked.append(images.name))
    monkeypatch.setattr(paper_comparison, "evaluate", lambda _, table, __: Figures(table["category"][0]))
    return asked


def test_each_category_and_the_mean_of_what_is_known(root, measured, tmp_path):
    rows = paper_comparison.reproduce(root, load_settings(preset=PRESET), tmp_path / "out", preset=PRESET)
    assert [(row.category, row.ours[:2]) for row in rows] == [
        ("bottle", (0.9, 0.8)),
        ("tile", (0.7, None)),
        ("mean", (pytest.approx(0.8), 0.8)),
    ]
    paper = paper_figures(PRESET)
    assert rows[0].paper[0] == pytest.approx(paper["image"]["bottle"] / 100)
    assert rows[2].paper == pytest.approx(tuple(np.array(paper["mean"]) / 100))
    assert measured == ["bottle", "tile"]


def test_a_second_call_goes_on_and_other_parameters_start_anew(root, measured, tmp_path):
    def run(*overrides, **options):
        settings = load_settings(None, overrides, preset=PRESET)
        return paper_comparison.reproduce(root, settings, tmp_path / "out", preset=PRESET, **options)

    some = run(categories=["bottle"])
    assert some[-1].paper == (None, None), "the paper's mean is over all categories"
    run()
    assert measured == ["bottle", "tile"]
    run("seed=1")
    assert measured == ["bottle", "tile", "bottle", "tile"]


def test_what_changed_is_measured_anew_and_nothing_else(root, measured, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"first")
    settings = load_settings(None, {"features.weights": str(weights)}, preset=PRESET)

    def run(data=root):
        measured.clear()
        paper_comparison.reproduce(data, settings, tmp_path / "out", preset=PRESET)
        return measured

    assert run() == ["bottle", "tile"]
    assert run() == []
    picture(root / "tile/train/good/1.png", 7)
    assert run() == ["tile"]
    picture(root / "bottle/roi.png", 255)
    assert run() == ["bottle"]
    picture(root / "bottle/roi.png", 254)
    assert run() == ["bottle"]
    weights.write_bytes(b"second")
    assert run() == ["bottle", "tile"]
    twin = shutil.copytree(root, tmp_path / "twin")
    assert run(twin) == []
    picture(twin / "bottle/test/good/0.png", 9)
    assert run(twin) == ["bottle"]
    assert run() == []


def test_an_unknown_category_is_named_before_any_work(root, measured, tmp_path):
    with pytest.raises(SettingsError, match="has no nut; it has bottle, tile"):
        paper_comparison.reproduce(
            root, load_settings(preset=PRESET), tmp_path, preset=PRESET, categories=["bottle", "nut"]
        )
    assert not measured

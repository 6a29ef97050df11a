from pathlib import Path

import pytest

from reconpatch.errors import SettingsError
from tasks.registry.gate_policy import load_policy
from tasks.running.stage_folders import PROJECT


@pytest.fixture
def write(tmp_path: Path):
    def to_file(text: str) -> Path:
        (tmp_path / "mlflow").mkdir(exist_ok=True)
        (tmp_path / "mlflow" / "gate.yaml").write_text(text)
        return tmp_path

    return to_file


def test_the_policy_that_comes_along_leaves_promotion_to_a_person():
    policy = load_policy(PROJECT)
    assert (policy.promotion, policy.broken_gate) == ("person", "undo")
    assert policy.rules("anything").not_worse["image_auroc"] == 0.01


def test_a_category_overrides_metric_by_metric(write):
    policy = load_policy(
        write(
            "minimum: {image_auroc: 0.8, aupro: 0.5}\nlatency_ratio: 2\n"
            "categories: {brick: {minimum: {aupro: 0.9}, latency_ratio: null}}\n"
        )
    )
    assert policy.rules("brick").minimum == {"image_auroc": 0.8, "aupro": 0.9}
    assert (policy.rules("brick").latency_ratio, policy.rules("grass").latency_ratio) == (None, 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("minimun: {}", "minimun: Extra inputs"),
        ("promotion: maybe", "promotion"),
        ("categories: {brick: {latency: 3}}", "latency: Extra inputs"),
        ("categories: {brick: {promotion: automatic}}", "promotion: Extra inputs"),
        ("not_worse: {f1: 0.1}", "not_worse.*image_auroc, pixel_auroc, aupro"),
        ("[1", "not valid YAML"),
        ("", "gate.yaml"),
    ],
)
def test_a_wrong_policy_is_refused_and_named(write, text, told):
    with pytest.raises(SettingsError, match=told):
        load_policy(write(text))


def test_without_a_policy_nothing_passes(tmp_path: Path):
    with pytest.raises(SettingsError, match="without a policy no candidate passes"):
        load_policy(tmp_path)


def test_another_policy_has_another_digest(write):
    one = load_policy(write("latency_ratio: 2")).digest
    assert one != load_policy(write("latency_ratio: 3")).digest

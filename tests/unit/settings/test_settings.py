import pytest
from pydantic import ValidationError

from reconpatch.errors import SettingsError
from reconpatch.settings import Settings, load_settings, parameter_names, parse_settings


def test_defaults_are_frozen():
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.features.image_size = 320


def test_names_that_scripts_rely_on_exist():
    promised = {
        "seed", "device", "features.backbone", "features.levels", "features.image_size", "modulation.enabled",
        "modulation.dim", "coreset.ratio", "coreset.max_bank", "scoring.reweighting",
    }  # fmt: skip
    assert promised <= set(parameter_names())


@pytest.mark.parametrize(
    ("wrong", "suggestion"),
    [
        ("features.imagesize=320", "features.image_size"),
        ("coreset.ration=0.1", "coreset.ratio"),
        ("modulaton.enabled=false", "modulation"),
        ("backbone=resnet18", "features.backbone"),
    ],
)
def test_unknown_parameter_suggests_the_right_one(wrong, suggestion):
    with pytest.raises(SettingsError, match=f"did you mean `{suggestion}`"):
        load_settings(None, [wrong])


def test_every_problem_is_reported_at_once():
    with pytest.raises(SettingsError) as caught:
        load_settings(None, ["coreset.ratio=7", "modulation.neighbours=1", "features.patch_size=2"])
    text = str(caught.value)
    assert "coreset.ratio" in text
    assert "modulation.neighbours" in text
    assert "patch_size must be odd" in text


def test_overrides_reach_nested_sections_and_keep_the_base():
    base = load_settings(None, ["features.image_size=320"])
    changed = load_settings(None, {"coreset.ratio": 0.1}, base=base)
    assert (changed.features.image_size, changed.coreset.ratio) == (320, 0.1)
    assert base.coreset.ratio == Settings().coreset.ratio


def test_a_params_file_in_another_encoding_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_bytes("seed: 0  # f\xfcr Linie 3\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"p\.yaml: is not UTF-8 \(byte 13 is 0xfc\); save it in"):
        load_settings(path)


def test_dump_and_parse_are_inverse():
    settings = load_settings(None, ["validate.min_train_images=3", "features.levels=[1, 2, 3]"])
    assert parse_settings(settings.model_dump(mode="json", by_alias=True)) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [("features: [", "not valid YAML"), ("- 1\n- 2\n", "must hold sections"), ("seed: -1", "seed")],
)
def test_bad_params_file_names_the_file(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(path)
    assert str(path) in str(caught.value)


def test_missing_params_file(tmp_path):
    with pytest.raises(SettingsError, match=r"absent\.yaml: cannot be read"):
        load_settings(tmp_path / "absent.yaml")


def test_steps_and_epochs_exclude_each_other():
    with pytest.raises(SettingsError, match="either steps or epochs"):
        load_settings(None, ["modulation.epochs=3"])
    assert load_settings(None, ["modulation.epochs=3", "modulation.steps=null"]).modulation.epochs == 3


@pytest.mark.parametrize("override", ["seed", "=3", "seed.deeper=1"])
def test_malformed_override(override):
    with pytest.raises(SettingsError):
        load_settings(None, ["seed=1", override])


@pytest.mark.parametrize("name", ["Line A", "a/b", "..", ".hidden", "-x", "", "1:30", "a\n", "größe"])
def test_categories_that_no_stage_or_model_can_carry(name):
    with pytest.raises(SettingsError, match=r"pipeline.categories.1: .*rename the category's folder"):
        parse_settings({"pipeline": {"categories": ["bottle", name]}})


def test_categories_that_fit():
    names = ("01", "Line-A", "v1.2_left", "on")
    assert parse_settings({"pipeline": {"categories": names}}).pipeline.categories == names


def test_git_commit_needs_the_dvc_commit() -> None:
    with pytest.raises(SettingsError, match=r"pipeline.*git_commit needs commit"):
        parse_settings({"pipeline": {"git_commit": True, "commit": False}})


@pytest.mark.parametrize(
    ("asked", "calibrate", "message"),
    [
        (
            {"fuse": ["modified_z"]},
            {"calibration": "crossfit"},
            r"calibrate.calibration: pipeline.fuse needs",
        ),
        ({"fuse": ["modified_z"]}, {"holdout": 0}, r"calibrate.holdout: pipeline.fuse needs held-out images"),
        (
            {"unify": ["a"]},
            {"calibration": "crossfit"},
            r"calibrate.calibration: pipeline.unify needs holdout",
        ),
    ],
)
def test_what_several_detectors_calibrate_needs_held_out_images(asked, calibrate, message):
    with pytest.raises(SettingsError, match=message):
        parse_settings({"pipeline": {"backbones": ["a", "b"]} | asked, "calibrate": calibrate})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unify": True}, r"pipeline.unify: .*name backbones"),
        ({"unify": ["other"]}, "unify names other, which is not among backbones"),
        ({"unify": ["net"], "categories": ["bottle"]}, "unify needs at least two categories"),
        ({"unify": ["net"], "categories": ["all", "bottle"]}, "rename the category"),
    ],
)
def test_what_cannot_be_unified(changes, message):
    with pytest.raises(SettingsError, match=message):
        parse_settings({"pipeline": {"backbones": ["net"]} | changes})


def test_a_message_names_the_options_that_came_beside_the_file(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("seed: 1\n")
    with pytest.raises(SettingsError, match=r"params\.yaml with --set modulaton\.steps: unknown"):
        load_settings(file, ["modulaton.steps=10"])
    with pytest.raises(SettingsError, match=r"^--set modulaton\.steps: unknown"):
        load_settings(None, ["modulaton.steps=10"])


def test_what_may_be_shown_holds_no_secret_and_makes_the_same_results():
    secret = ["retrain.webhook=https://hooks.example/SECRET", "register.tracking_uri=https://a:SECRET@host"]
    shown = load_settings(None, [*secret, "coreset.ratio=0.5"]).without_secrets()
    assert "SECRET" not in str(shown)
    assert parse_settings(shown) == load_settings(None, ["coreset.ratio=0.5"])


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("no capture", "has 0 captures"),
        ("(two)(captures)", "has 2 captures"),
        ("(", "is not a regular expression"),
        ("(?:" * 5_000 + "(a)" + ")" * 5_000, "has 20003 characters"),
        ("(?:" * 240 + "(a)" + ")" * 240, "is not a regular expression"),
        ("(a{99999999999999999999})", "is not a regular expression"),
        ("((((a{100}){100}){100}){100})", "has 4 captures"),
        ("((?:(?:(?:a{100}){100}){100}){100})", "repeats too often"),
        ("(?x)((?:(?:(?:a{1 00}){1 00}){1 00}){1 00})", "uses the flag x"),
        ("(?i:(?x:(a{1 000000})))", "uses the flag x"),
    ],
)
def test_a_group_pattern_that_cannot_be_used_is_refused_when_the_settings_are_read(pattern, problem):
    with pytest.raises(SettingsError, match=rf"data\.group_pattern: .*{problem}"):
        parse_settings({"data": {"group_pattern": pattern}})


@pytest.mark.parametrize(
    "pattern", [r"(part\d+)_", r"(?i)/([A-Z]\d{4}-\d{2}-\d{2})", r"(?<=x)(?P<part>\w+)(?!y)"]
)
def test_group_patterns_that_can_be_used(pattern):
    assert parse_settings({"data": {"group_pattern": pattern}}).data.group_pattern == pattern

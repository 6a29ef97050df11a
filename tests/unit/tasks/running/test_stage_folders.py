from pathlib import Path

from reconpatch.settings import load_settings, parse_settings
from tasks.running.stage_folders import is_recorded, jobs_of, outputs_folder


def test_only_what_params_yaml_says_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 3\n")
    outputs = outputs_folder(load_settings(tmp_path / "params.yaml"), tmp_path)
    assert outputs == tmp_path / "outputs"
    assert is_recorded(outputs, tmp_path)
    tried = outputs_folder(load_settings(tmp_path / "params.yaml", ["coreset.ratio=0.1"]), tmp_path)
    assert tried.parent == tmp_path / "runs"
    assert not is_recorded(tried, tmp_path)


def test_the_unified_model_is_of_all_categories_once_a_backbone_that_is_named(tmp_path: Path) -> None:
    pipeline = {"dataset": "line", "categories": ["a", "b"], "backbones": ["net", "wide"], "unify": ["wide"]}
    settings = parse_settings({"pipeline": pipeline | {"root": "data/line"}})
    (job,) = jobs_of("unified", settings, tmp_path, tmp_path / "outputs")
    assert (job.category, job.backbone, str(job)) == ("all", "wide", "all, wide")
    assert job.folder("unified") == tmp_path / "outputs" / "line+unified" / "wide"
    assert job.images == tmp_path / "data" / "line"
    assert [(one.category, one.backbone) for one in job.upstream("features")] == [
        ("a", "wide"),
        ("b", "wide"),
    ]
    assert job.upstream("validate")[0].folder("validate") == tmp_path / "outputs" / "line" / "a" / "validate"
    assert list(jobs_of("unified", settings, tmp_path, tmp_path / "outputs", ["a"])) == []


def test_without_unify_a_category_may_be_called_all(tmp_path: Path) -> None:
    settings = parse_settings({"pipeline": {"categories": ["all", "b"], "backbones": ["net"]}})
    assert list(jobs_of("unified", settings, tmp_path, tmp_path / "outputs")) == []
    job = next(jobs_of("evaluate", settings, tmp_path, tmp_path / "outputs"))
    assert not job.is_unified
    assert job.by_category == (job,)
    assert job.images.name == "all"


def test_an_edit_of_params_yaml_does_not_split_a_run(tmp_path: Path) -> None:
    settings = parse_settings({"pipeline": {"categories": ["a", "b"], "backbones": ["net"]}})
    (tmp_path / "params.yaml").write_text("pipeline: {categories: [a, b], backbones: [net]}\n")
    outputs = outputs_folder(settings, tmp_path)
    jobs = jobs_of("train", settings, tmp_path, outputs)
    first = next(jobs)
    (tmp_path / "params.yaml").write_text("seed: 9\n")
    folders = [
        job.folder(stage)
        for stage in ("train", "coreset")
        for job in (first, *jobs_of(stage, settings, tmp_path, outputs))
    ]
    assert all(folder.is_relative_to(tmp_path / "outputs") for folder in folders)

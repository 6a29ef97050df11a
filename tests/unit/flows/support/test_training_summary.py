"""The table at the end of a training flow."""

import json
from pathlib import Path

from flows.support.training_summary import print_table, summarise
from reconpatch.settings import parse_settings
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import Job


def _finish(name: str, job: Job, **metrics: float | None) -> Finished:
    found = Finished(name, job, job.folder(name), ran=True)
    found.evaluation.mkdir(parents=True, exist_ok=True)
    (found.evaluation / "metrics.json").write_text(json.dumps({"category": job.category, **metrics}))
    return found


def test_a_unified_model_has_a_row_a_category_and_one_as_it_stands(tmp_path: Path) -> None:
    pipeline = {
        "categories": ["nut", "bolt"],
        "backbones": ["b", "a"],
        "unify": ["b"],
        "fuse": ["modified_z"],
    }
    settings = parse_settings({"pipeline": pipeline})
    figures = {"image_auroc": 0.8, "nut.image_auroc": 0.9, "bolt.image_auroc": None}
    finished = [
        _finish("evaluate", Job(settings, "nut", "b", tmp_path, tmp_path), image_auroc=0.5, aupro=0.25),
        _finish("evaluate", Job(settings, "nut", "a", tmp_path, tmp_path), image_auroc=0.6),
        _finish("ensemble", Job(settings, "nut", None, tmp_path, tmp_path), image_auroc=0.7),
        _finish("unified", Job(settings, "all", "b", tmp_path, tmp_path), **figures),
    ]
    rows = summarise(finished)
    assert [(row["category"], row["backbone"], row["image_auroc"]) for row in rows] == [
        ("bolt", "unified, b", "not available"),
        ("nut", "a", "0.6000"),
        ("nut", "b", "0.5000"),
        ("nut", "ensemble", "0.7000"),
        ("nut", "unified, b", "0.9000"),
        ("all", "unified, b", "0.8000"),
    ]
    assert rows[2]["aupro"] == "0.2500"


def test_what_is_known_without_a_labelled_defect_is_shown_too(tmp_path: Path, capsys) -> None:
    job = Job(parse_settings({"pipeline": {"categories": ["nut"]}}), "nut", "b", tmp_path, tmp_path)
    known = {"heldout_false_reject_rate": 0.125, "synthetic_detection_rate": 1.0}
    print_table(summarise([_finish("evaluate", job, image_auroc=None, **known)]), "tiny")
    shown = capsys.readouterr().out
    assert "held-out false rejects" in shown
    assert shown.count("not available") == 3
    assert "0.1250" in shown
    print_table(summarise([_finish("evaluate", job, image_auroc=1.0, **known)]), "tiny")
    assert "held-out" not in capsys.readouterr().out

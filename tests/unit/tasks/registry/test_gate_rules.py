import json

import pytest

from reconpatch.evaluation.comparison import Comparison, Verdict
from tasks.registry.gate_policy import Rules
from tasks.registry.gate_rules import (
    CANNOT_TELL,
    FAILED,
    PASSED,
    REFUSED,
    UNDECIDED,
    Evidence,
    GateReport,
    apply_rules,
)

RULES = Rules(
    minimum={"image_auroc": 0.9},
    maximum={"false_reject_rate": 0.05},
    not_worse={"image_auroc": 0.01},
    latency_ratio=1.5,
    model_mib=10,
    lineage=("git_commit", "params_hash"),
)


def evidence(**changed) -> Evidence:
    good = {
        "metrics": {"image_auroc": 0.95, "false_reject_rate": 0.02},
        "comparisons": {"image_auroc": compared(Verdict.NOT_WORSE)},
        "seconds": (0.010, 0.009),
        "model_bytes": 5 * 2**20,
        "data_checks": True,
        "lineage": {"git_commit": "abc", "git_dirty": "false", "params_hash": "def"},
    }
    return Evidence(**(good | changed))


def compared(verdict: Verdict) -> Comparison:
    return Comparison(verdict, 0.001, -0.004, 0.006, 0.008, 0.01, "told")


def verdicts(**changed) -> list[str]:
    return [result.verdict for result in apply_rules(RULES, evidence(**changed))]


def outcome(**changed) -> str:
    return GateReport(apply_rules(RULES, evidence(**changed)), "1", "set", "policy").outcome


def test_a_good_candidate_passes_every_rule():
    assert verdicts() == [PASSED] * 7
    assert outcome() == PASSED


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        (0, {"metrics": {"image_auroc": 0.89, "false_reject_rate": 0.02}}),
        (1, {"metrics": {"image_auroc": 0.95, "false_reject_rate": 0.06}}),
        (2, {"comparisons": {"image_auroc": compared(Verdict.WORSE)}}),
        (3, {"seconds": (0.020, 0.010)}),
        (4, {"model_bytes": 11 * 2**20}),
        (5, {"data_checks": False}),
    ],
)
def test_one_rule_that_fails_refuses_and_is_named(place, changed):
    found = verdicts(**changed)
    assert found.pop(place) == FAILED
    assert found == [PASSED] * 6
    report = GateReport(apply_rules(RULES, evidence(**changed)), "1", "set", "policy")
    assert report.outcome == REFUSED
    assert report.broken().startswith(report.results[place].rule)


@pytest.mark.parametrize(
    ("place", "changed", "told"),
    [
        (0, {"metrics": {"image_auroc": None, "false_reject_rate": 0.02}}, "not available"),
        (1, {"metrics": {"image_auroc": 0.95}}, "not measured"),
        (2, {"comparisons": {"image_auroc": compared(Verdict.CANNOT_TELL)}}, "CANNOT TELL"),
        (2, {"comparisons": None, "not_compared": "the images are gone"}, "images are gone"),
        (0, {"metrics": {"image_auroc": float("nan"), "false_reject_rate": 0.02}}, "not measured"),
        (3, {"seconds": None, "not_measured": "no images"}, "no images"),
        (3, {"seconds": (float("nan"), float("nan"))}, "no measurement"),
        (3, {"seconds": (0.010, 0.0)}, "no measurement"),
        (5, {"data_checks": None}, "no report"),
        (6, {"lineage": {"git_commit": "unknown", "params_hash": "def"}}, "git_commit"),
        (6, {"lineage": {"git_commit": "abc", "params_hash": "d", "git_dirty": "true"}}, "differed"),
    ],
)
def test_what_is_not_known_never_passes(place, changed, told):
    result = apply_rules(RULES, evidence(**changed))[place]
    assert result.verdict == CANNOT_TELL
    assert told in result.finding
    assert outcome(**changed) == UNDECIDED


def test_without_a_champion_there_is_nothing_to_be_worse_than():
    assert outcome(comparisons=None, seconds=None) == PASSED
    found = apply_rules(RULES, evidence(comparisons=None, seconds=None))
    assert [found[2].finding, found[3].finding] == ["there is no champion yet"] * 2


def test_better_passes_and_says_so():
    better = evidence(comparisons={"image_auroc": compared(Verdict.BETTER)})
    (result,) = (one for one in apply_rules(RULES, better) if "not worse" in one.rule)
    assert (result.verdict, result.finding) == (PASSED, "better: told")


def test_the_verdict_survives_the_registry():
    report = GateReport(apply_rules(RULES, evidence()), None, "set", "policy")
    assert GateReport.from_tags(report.to_tags()) == report
    assert json.loads(report.to_tags()["gate_table"]) == report.table
    assert GateReport.from_tags({}) is None


@pytest.mark.parametrize(
    "kept",
    [
        '{"champion": "8", "evaluation_set": "x", "policy": "y", "results": [], "schema": 2}',
        '{"champion": "8", "evaluation_set": "x", "policy": "y"}',
        '{"champion": "8", "evaluation_set": "x", "policy": "y", "results": [{"verdict": "passed"}]}',
        '{"champion": "8", "evaluation_set": "x", "policy": "y", "results": 3}',
        "[]",
        "null",
        "passed",
        "",
    ],
)
def test_a_verdict_that_cannot_be_read_is_none(kept: str) -> None:
    assert GateReport.from_tags({"gate": "passed", "gate_report": kept}) is None


def test_the_rules_name_the_versions_that_they_compare_with() -> None:
    worse = {"image_auroc": ("2", compared(Verdict.WORSE))}
    champion, former = apply_rules(RULES, evidence(champion="7", best_former=worse))[2:4]
    assert champion.rule == "image_auroc not worse than the champion's (version 7) by 0.01"
    assert former.rule == "image_auroc not worse than the best former champion's (version 2) by 0.01"
    assert (champion.verdict, former.verdict) == (PASSED, FAILED)
    assert outcome(best_former=worse) == REFUSED


def test_a_verdict_of_an_earlier_release_knows_no_best_champion() -> None:
    tags = GateReport((), "7", "set", "policy", {"image_auroc": "2"}).to_tags()
    kept = json.loads(tags["gate_report"])
    assert GateReport.from_tags(tags).best == {"image_auroc": "2"}
    del kept["best"]
    assert GateReport.from_tags({"gate_report": json.dumps(kept)}).best == {}

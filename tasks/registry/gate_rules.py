"""The gate: what is known of a candidate against what the policy demands; files and registry stay away."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconpatch.evaluation.comparison import Comparison, Verdict
from tasks.registry.gate_policy import Rules

PASSED, FAILED, CANNOT_TELL = "passed", "FAILED", "CANNOT TELL"
# The gate as a whole: of its rules, none failed or left open; one failed; none failed, but one is open.
REFUSED, UNDECIDED = "refused", "a person decides"
NOT_JUDGED = "not judged"
_MIB = 2**20


@dataclass(frozen=True)
class Evidence:
    """What is known of a candidate.

    Attributes:
        metrics: figures of its evaluation; None where not available.
        not_available: metric -> why.
        comparisons: metric -> comparison with the champion; None: there is no champion.
        not_compared: why there is a champion and no comparison.
        champion: version that it is compared with; None where there is none.
        best_former: metric -> version and comparison of the best former champion, where that version is
            better than the champion.
        seconds: seconds an image of candidate and champion in one run; None where not measured.
        not_measured: why not.
        model_bytes: size of the detector folder.
        data_checks: whether they passed; None where they left no report.
        lineage: tags of the version.
    """

    metrics: Mapping[str, float | None]
    not_available: Mapping[str, str] = field(default_factory=dict)
    comparisons: Mapping[str, Comparison] | None = None
    not_compared: str | None = None
    champion: str | None = None
    best_former: Mapping[str, tuple[str, Comparison]] = field(default_factory=dict)
    seconds: tuple[float, float] | None = None
    not_measured: str = "not measured"
    model_bytes: int = 0
    data_checks: bool | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RuleResult:
    """One rule's verdict with its numbers.

    Attributes:
        rule: what is demanded.
        verdict: ``passed``, ``FAILED`` or ``CANNOT TELL``.
        finding: the numbers, or why there are none.
    """

    rule: str
    verdict: str
    finding: str

    @property
    def row(self) -> dict[str, str]:
        """A row of the table that people see."""
        return {"rule": self.rule, "verdict": self.verdict, "finding": self.finding}


@dataclass(frozen=True)
class GateReport:
    """The gate's verdict on one version.

    Attributes:
        results: one a rule.
        champion: version that it was compared with; None when there was none.
        evaluation_set: digest of the test images behind the comparison.
        policy: digest of the policy.
        best: metric -> the best of all champions on that set; the next test set compares with it again.
    """

    results: tuple[RuleResult, ...]
    champion: str | None
    evaluation_set: str
    policy: str
    best: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def unjudged(cls, reason: str, champion: str | None, policy: str) -> "GateReport":
        """What is said of a version whose evidence cannot be had."""
        result = RuleResult("the evidence can be had", CANNOT_TELL, reason)
        return cls((result,), champion, NOT_JUDGED, policy)

    @property
    def was_judged(self) -> bool:
        """False for an `unjudged` one."""
        return self.evaluation_set != NOT_JUDGED

    @property
    def outcome(self) -> str:
        """``passed``, ``refused`` or ``a person decides``."""
        verdicts = {result.verdict for result in self.results}
        if FAILED in verdicts:
            return REFUSED
        return UNDECIDED if CANNOT_TELL in verdicts else PASSED

    @property
    def table(self) -> list[dict[str, str]]:
        """All rules, for people."""
        return [result.row for result in self.results]

    def broken(self) -> str:
        """The rules that failed, in one line."""
        return self._findings(FAILED)

    def undecided(self) -> str:
        """The rules that cannot tell, in one line."""
        return self._findings(CANNOT_TELL)

    def _findings(self, verdict: str) -> str:
        return "; ".join(f"{one.rule}: {one.finding}" for one in self.results if one.verdict == verdict)

    def to_tags(self) -> dict[str, str]:
        """As tags of a model version: for people, and last the one that `from_tags` reads.

        A crash on the way leaves that one out, or that of an earlier verdict: the version is judged again.
        """
        report: dict[str, Any] = {"champion": self.champion, "evaluation_set": self.evaluation_set}
        report |= {"policy": self.policy, "best": dict(self.best)}
        return {
            "gate": self.outcome,
            "gate_table": json.dumps(self.table),
            "gate_champion": self.champion or "none",
            "gate_evaluation_set": self.evaluation_set,
            "gate_report": json.dumps(report | {"results": self.table}),
        }

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "GateReport | None":
        """What `to_tags` wrote; None when the version was never judged.

        None too where something else stands there, which another release or a person wrote: judge it anew.
        """
        try:
            values = json.loads(tags["gate_report"])
            return cls(**values | {"results": tuple(RuleResult(**row) for row in values["results"])})
        except (KeyError, TypeError, ValueError):
            return None


def apply_rules(rules: Rules, evidence: Evidence) -> tuple[RuleResult, ...]:
    """Every rule of a policy against the evidence, in the policy's order."""
    return tuple(_results(rules, evidence))


def _results(rules: Rules, evidence: Evidence) -> Iterator[RuleResult]:
    for name, bound in rules.minimum.items():
        yield _bounded(
            f"{name} at least {bound:g}", name, evidence, lambda value, least=bound: value >= least
        )
    for name, bound in rules.maximum.items():
        yield _bounded(f"{name} at most {bound:g}", name, evidence, lambda value, most=bound: value <= most)
    for name, margin in rules.not_worse.items():
        yield _compared(name, margin, evidence)
        if name in evidence.best_former:
            former, comparison = evidence.best_former[name]
            whose = f"best former champion's (version {former})"
            yield _not_worse(f"{name} not worse than the {whose} by {margin:g}", comparison)
    if rules.latency_ratio is not None:
        yield _fast(rules.latency_ratio, evidence)
    if rules.model_mib is not None:
        size = evidence.model_bytes / _MIB
        passed = size <= rules.model_mib
        yield _result(f"model of at most {rules.model_mib:g} MiB", passed, f"{size:.1f} MiB")
    if rules.data_checks:
        known = {None: "no report", True: "passed", False: "a critical problem"}[evidence.data_checks]
        yield _result("data checks passed", evidence.data_checks, known)
    if rules.lineage:
        yield _complete(rules.lineage, evidence.lineage)


def _bounded(rule: str, name: str, evidence: Evidence, accept: Any) -> RuleResult:
    value = evidence.metrics.get(name)
    if value is None or math.isnan(value):
        return _result(rule, None, f"not available: {evidence.not_available.get(name, 'not measured')}")
    return _result(rule, accept(value), f"{value:.4f}")


def _compared(name: str, margin: float, evidence: Evidence) -> RuleResult:
    whose = "champion's" if evidence.champion is None else f"champion's (version {evidence.champion})"
    rule = f"{name} not worse than the {whose} by {margin:g}"
    if evidence.not_compared is not None:
        return _result(rule, None, evidence.not_compared)
    if evidence.comparisons is None:
        return _result(rule, True, "there is no champion yet")
    return _not_worse(rule, evidence.comparisons[name])


def _not_worse(rule: str, found: Comparison) -> RuleResult:
    verdict = {Verdict.WORSE: False, Verdict.CANNOT_TELL: None}.get(found.verdict, True)
    return _result(rule, verdict, f"{found.verdict}: {found.reason}")


def _fast(most: float, evidence: Evidence) -> RuleResult:
    rule = f"at most {most:g} times the champion's seconds an image"
    if evidence.comparisons is None and evidence.not_compared is None:
        return _result(rule, True, "there is no champion yet")
    if evidence.seconds is None:
        return _result(rule, None, f"not available: {evidence.not_measured}")
    own, champion = evidence.seconds
    if not (math.isfinite(own) and math.isfinite(champion) and champion > 0):
        return _result(rule, None, f"not available: {own:g} s and {champion:g} s are no measurement")
    return _result(rule, own / champion <= most, f"{own / champion:.2f} ({own:.4f} s and {champion:.4f} s)")


def _complete(names: tuple[str, ...], lineage: Mapping[str, str]) -> RuleResult:
    unknown = [name for name in names if lineage.get(name, "unknown") in ("", "none", "unknown")]
    told = [f"not known: {', '.join(unknown)}"] if unknown else []
    if "git_commit" in names and lineage.get("git_dirty") == "true":
        told.append("code, parameters or policy differed from the commit")
    return _result("lineage complete", None if told else True, "; ".join(told) or "complete")


def _result(rule: str, passed: bool | None, finding: str) -> RuleResult:
    return RuleResult(rule, {True: PASSED, False: FAILED, None: CANNOT_TELL}[passed], finding)

"""The commands that make a registered version again to the bit, in working trees and a registry of their own.

A version that learned new images starts from another one: that one's commands come first.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

KEPT, PARAMS = "reproduce", "params.yaml"  # what a run keeps so that it can be repeated
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Made:
    """How a version was made.

    Attributes:
        model: registered name.
        version: its number.
        run_id: MLflow run that explains it.
        tags: of the run and the version.
        params: of the run, by full name.
    """

    model: str
    version: str
    run_id: str
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        """Git commit of the code."""
        return self.tags.get("git_commit", UNKNOWN)

    @property
    def updated_from(self) -> str | None:
        """Number of the version that learned new images to become this one; None of a full fit."""
        if self.tags.get("updates", "0") == "0":
            return None
        return self.tags.get("updated_from", UNKNOWN)

    @property
    def place(self) -> str:
        """The working tree that it is made again in, beside the project's."""
        return f"../reproduce-{self.commit[:12]}-{self.run_id[:8]}"

    @classmethod
    def of(cls, client: Any, version: Any) -> "Made":
        """From an ``MlflowClient`` and its model version; what the client raises is not caught here."""
        run = client.get_run(version.run_id).data
        tags = {**run.tags, **version.tags}
        return cls(version.name, str(version.version), version.run_id, tags, run.params)


def ancestry(client: Any, made: Made) -> list[Made]:
    """A version and those that it was updated from, the fit first, as far as the registry has them."""
    steps, numbers = [made], {made.version}
    while (base := steps[0].updated_from) is not None and base not in {UNKNOWN, *numbers}:
        found = client.search_model_versions(f"name = '{made.model}' and version_number = {int(base)}")
        if not found:
            break
        numbers.add(base)
        steps.insert(0, Made.of(client, found[0]))
    return steps


def problem_of(steps: Sequence[Made]) -> str | None:
    """Why the last of the steps cannot be made again exactly; None when it can."""
    base = steps[0].updated_from
    if base is not None:
        missing = "a version that nobody noted" if base == UNKNOWN else f"version {base}, which is gone"
        return (
            f"version {steps[0].version} learned new images on top of {missing}: bank, f and threshold "
            "depend on all that was known before, so it cannot be made again to the bit"
        )
    for step in steps:
        reason = _problem(step.tags)
        if reason is not None:
            return reason if step is steps[-1] else f"version {step.version}, which it learned from: {reason}"
    return None


def _problem(tags: dict[str, str]) -> str | None:
    if tags.get("git_commit", UNKNOWN) == UNKNOWN:
        return "it was made outside git: the code is not known"
    if tags.get("git_dirty") == "true":
        return "code, parameters or policy differed from the commit when it was made"
    if tags.get("dvc_record", UNKNOWN) == UNKNOWN:
        return "its images are not under DVC: have the same ones at hand"
    return None


def commands_for(steps: Sequence[Made]) -> list[str]:
    """Shell commands, run in the project's root; none where the origin is not known.

    Args:
        steps: as `ancestry` gives them.

    Returns:
        Commands; the last one of each step ends with status 0 when the same detector and figures came out.
    """
    if steps[0].updated_from is not None or any(step.commit == UNKNOWN for step in steps):
        return []
    # All steps share one registry, in which a fit is version 1 and each update the next one.
    store = f"sqlite:///$PWD/{steps[0].place}/reproduced.db"
    commands = []
    for number, step in enumerate(steps, start=1):
        inside = f"cd {step.place} && export MLFLOW_TRACKING_URI={store} &&"
        made = _fit(step) if number == 1 else _update(step, number - 1)
        commands += [
            *_set_up(step),
            *(f"({inside} {command})" for command in made),
            f"({inside} .venv/bin/reconpatch lineage models:/{step.model}/{number} "
            f"| grep -F {step.tags['output_digest']})",
        ]
    return commands


def _set_up(step: Made) -> list[str]:
    place, record = step.place, step.tags.get("dvc_record", UNKNOWN)
    images = [
        f"cp {place}/{KEPT}/images_dvc.yaml {place}/{record}",
        f'dvc --cd {place} cache dir --local "$(dvc cache dir)"',
        f"dvc --cd {place} checkout {record} || dvc --cd {place} pull {record}",
    ]
    return [
        f"git worktree add --detach {place} {step.commit}",
        f"mlflow artifacts download --run-id {step.run_id} --artifact-path {KEPT} --dst-path {place}",
        *(images if record != UNKNOWN else []),
        f"python -m venv {place}/.venv && {place}/.venv/bin/pip install -c {place}/constraints.txt "
        f"-e '{place}[pipeline,lite]'",
    ]


def _fit(step: Made) -> list[str]:
    tags = step.tags
    # The other categories and backbones of that run are other versions; none of them is needed here.
    own = {"pipeline.commit": "false"}
    if tags["kind"] in ("single", "ensemble"):
        own["pipeline.categories"] = f"[{tags['category']}]"
        if step.params.get("pipeline.unify", "[]") != "[]":  # earlier runs know no such parameter
            own["pipeline.unify"] = "[]"
    if tags["kind"] == "unified":
        names = ("pipeline.backbones", "pipeline.unify")
        own |= dict.fromkeys(names, f"[{tags['backbone']}]") | {"pipeline.fuse": "[]"}
    if tags["kind"] == "single":
        own |= {"pipeline.backbones": f"[{tags['backbone']}]", "pipeline.fuse": "[]"}
    overrides = " ".join(f"--set {shlex.quote(f'{name}={value}')}" for name, value in own.items())
    return [f".venv/bin/python -m flows.train --params {KEPT}/{PARAMS} {overrides}"]


def _update(step: Made, champion: int) -> list[str]:
    """The champion of that day learns what it does not know of the images of that day."""
    # The alias is set past the gate, which has judged already; and nobody is told of a retrain that is none.
    alias = f"set_registered_model_alias('{step.model}', 'champion', '{champion}')"
    return [
        f"sed 's/^  webhook: .*/  webhook: null/' {KEPT}/{PARAMS} > {PARAMS}",
        f'.venv/bin/python -c "import mlflow; mlflow.MlflowClient().{alias}"',
        f"RECONPATCH_WEBHOOK= .venv/bin/python -m flows.retrain --category {step.tags['category']}",
    ]

"""The log of champions: one MLflow run an event, append-only, each holding the hash of the one before.

An event is written before the alias moves, as a run that is RUNNING; the run ends as FINISHED when the
alias has moved and as FAILED when it has not. What the event says is hashed with the hash and the ending of
the event before: an event that was edited, put in, or taken out of the middle is found. The hash of the last
event is kept on the registered model as well, so that the loss of the end is found too. Who can write
to the database can forge both; copy the hash elsewhere (the flow prints it) where that matters.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mlflow.entities import Run, RunStatus, ViewType

from reconpatch.errors import ModelError
from reconpatch.files import sha256_json
from tasks.mlflow_store import Experiment, every_page

EXPERIMENT = "reconpatch-promotions"
HEAD = "promotion_head"  # tag of the registered model
NOBODY = "none"
FIRST, PROMOTION, ROLLBACK, SEEN, UNDO = "first", "promotion", "rollback", "ui", "undo"
_INTENDED, _DONE, _ABANDONED = "RUNNING", "FINISHED", "FAILED"
_START = "0" * 64
BREAKS = "breaks the gate: "  # how the gate's part of an event starts where a refused version became champion
_PAGE = 1000
_LONGEST, _SHORT = 7500, 100  # characters: MLflow cuts a run's tag after 8000
_SHOWN = ("model", "kind", "from_version", "to_version", "who", "when", "why", "gate")


@dataclass(frozen=True)
class Event:
    """A change of champion, intended or done.

    Attributes:
        model: registered model.
        kind: ``first``, ``promotion``, ``rollback``, ``ui`` (seen after the fact) or ``undo``.
        from_version: the champion before; ``none`` when there was none.
        to_version: the new one; ``none`` when the alias was taken away.
        who: the account that did it, or ``unknown (UI)``.
        when: ISO time in UTC.
        why: the reason that was given.
        gate: the gate's outcome for ``to_version``, and in brackets what it means for this event.
        gate_table: the rules' verdicts.
        evaluation_set: digest of the test images behind them.
        sequence: 1, 2, 3, ... of this model.
        previous_hash: hash of the event before.
        previous_ending: how the event before ended.
    """

    model: str
    kind: str
    from_version: str
    to_version: str
    who: str
    why: str
    gate: str
    gate_table: tuple[dict[str, str], ...]
    evaluation_set: str
    sequence: int
    previous_hash: str
    previous_ending: str
    when: str

    @property
    def hash(self) -> str:
        """SHA-256 of all of it."""
        return sha256_json(asdict(self))


@dataclass(frozen=True)
class Entry:
    """An event as it lies in the log.

    Attributes:
        event: what it says.
        run_id: of its run.
        status: RUNNING, FINISHED or FAILED.
        problem: what is wrong with the entry; None when nothing is.
    """

    event: Event
    run_id: str
    status: str
    problem: str | None

    @property
    def is_open(self) -> bool:
        """Intended, and neither done nor abandoned."""
        return self.status == _INTENDED

    @property
    def is_done(self) -> bool:
        """The alias has moved."""
        return self.status == _DONE


class PromotionLog:
    """The log of one registered model.

    Args:
        experiment: ``reconpatch-promotions``.
        model: its name.
    """

    def __init__(self, experiment: Experiment, model: str) -> None:
        self._experiment = experiment
        self.model = model

    def entries(self) -> list[Entry]:
        """All events, in order.

        Raises:
            ModelError: the chain is broken; the message names the first event that does not fit.
        """
        found = sorted((_read(run) for run in self._runs()), key=lambda entry: entry.event.sequence)
        head = self._experiment.client.get_registered_model(self.model).tags.get(HEAD)
        problem = chain_problem(found, head)
        if problem is not None:
            raise ModelError(
                f"{self.model}: the log of its champions does not verify: {problem}; look into the "
                f"experiment {EXPERIMENT}, deleted runs can be restored there; nothing is promoted "
                "until it verifies"
            )
        return found

    def intend(self, entries: Sequence[Entry], **said: Any) -> Entry:
        """Write down what is about to happen; ``entries`` is the log so far."""
        last = entries[-1] if entries else None
        event = Event(
            model=self.model,
            **said,
            sequence=1 if last is None else last.event.sequence + 1,
            previous_hash=_START if last is None else last.event.hash,
            previous_ending=NOBODY if last is None else last.status,
            when=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        if len(json.dumps(asdict(event))) > _LONGEST:
            short = tuple({**row, "finding": row["finding"][:_SHORT]} for row in event.gate_table)
            event = replace(event, gate_table=short)
        values = asdict(event)
        tags = {key: str(values[key]) for key in _SHOWN} | {
            "event": json.dumps(values, sort_keys=True),
            "event_hash": event.hash,
            "mlflow.note.content": _describe(event)[:_LONGEST],
        }
        name = f"{event.sequence:04} {event.kind} {event.from_version} to {event.to_version}"
        client = self._experiment.client
        run = client.create_run(self._experiment.id, run_name=f"{self.model} {name}", tags=tags)
        client.set_registered_model_tag(self.model, HEAD, event.hash)
        return Entry(event, run.info.run_id, _INTENDED, None)

    def close(self, entry: Entry, *, done: bool) -> Entry:
        """End an event: the alias has moved, or it has not."""
        status = _DONE if done else _ABANDONED
        self._experiment.client.set_terminated(entry.run_id, status)
        return Entry(entry.event, entry.run_id, status, entry.problem)

    def note_head(self, entries: Sequence[Entry]) -> None:
        """Mend the kept hash after a crash between an event and it."""
        if entries:
            self._experiment.client.set_registered_model_tag(self.model, HEAD, entries[-1].event.hash)

    def _runs(self) -> list[Run]:
        search, asked = self._experiment.client.search_runs, f"tags.model = '{self.model}'"
        return list(every_page(search, [self._experiment.id], asked, ViewType.ACTIVE_ONLY, _PAGE))


def champions(entries: Sequence[Entry]) -> list[str]:
    """The versions that a rollback can go back through, the present champion last.

    A promotion adds one; a rollback takes the last away, and so does the undoing of a move.
    """
    stack: list[str] = []
    for entry in entries:
        event = entry.event
        if not entry.is_done:
            continue
        if event.kind in (ROLLBACK, UNDO) and event.to_version in stack:
            del stack[stack.index(event.to_version) + 1 :]
        elif event.to_version != NOBODY:
            stack.append(event.to_version)
    return stack


def champion_of(entries: Sequence[Entry]) -> str | None:
    """The champion by the log; None when there is none."""
    done = [entry.event.to_version for entry in entries if entry.is_done]
    return None if not done or done[-1] == NOBODY else done[-1]


def former_champions(entries: Sequence[Entry]) -> set[str]:
    """Every version that ever was champion without breaking the gate."""
    done = [entry.event for entry in entries if entry.is_done]
    return {event.to_version for event in done if not event.gate.startswith(BREAKS)} - {NOBODY}


def reference_champions(entries: Sequence[Entry]) -> list[str]:
    """Champions of the past and present that a candidate must not be worse than, in order.

    Without those that broke the gate, and without those from which the line went back to an earlier champion,
    by whatever means: whoever goes back found them bad, whatever they show on the test images.
    """
    kept: list[str] = []
    for event in (entry.event for entry in entries if entry.is_done):
        if event.to_version in kept:
            del kept[kept.index(event.to_version) + 1 :]
        elif event.to_version != NOBODY and not event.gate.startswith(BREAKS):
            kept.append(event.to_version)
    return kept


def chain_problem(entries: Sequence[Entry], head: str | None) -> str | None:
    """What is wrong with a log, or None.

    Args:
        entries: ordered by sequence.
        head: hash kept on the registered model.
    """
    before, ending = _START, NOBODY
    hashes = []
    for number, entry in enumerate(entries, start=1):
        event = entry.event
        if entry.problem is not None:
            return entry.problem
        if event.sequence != number:
            return f"event {number} is missing or there twice (event {event.sequence} comes next)"
        if event.previous_hash != before:
            return f"event {number} does not continue event {number - 1}"
        if event.previous_ending != ending:
            return f"event {number - 1} ended as {ending}, event {number} says {event.previous_ending}"
        before, ending = event.hash, entry.status
        hashes.append(before)
    # A crash between an event and its hash on the model leaves the hash one behind, or absent.
    if head is not None and head not in hashes[-2:]:
        return "its last events are missing: the registered model knows of a later one"
    return None


def _read(run: Run) -> Entry:
    tags, run_id = run.data.tags, run.info.run_id
    status = RunStatus.to_string(RunStatus.from_string(run.info.status))
    try:
        values = json.loads(tags["event"])
        event = Event(**{**values, "gate_table": tuple(values["gate_table"])})
    except (KeyError, TypeError, ValueError):
        nothing = Event(*([""] * 7), (), "", 0, "", "", "")
        return Entry(nothing, run_id, status, f"run {run_id} holds no event")
    problem = None
    if event.hash != tags.get("event_hash") or any(str(values[key]) != tags.get(key) for key in _SHOWN):
        problem = f"event {event.sequence} (run {run_id}) was edited"
    return Entry(event, run_id, status, problem)


def _describe(event: Event) -> str:
    rows = [f"| {row['rule']} | {row['verdict']} | {row['finding']} |" for row in event.gate_table]
    table = ["| rule | verdict | finding |", "|---|---|---|", *rows] if rows else ["No gate table."]
    head = (
        f"**{event.model}: version {event.from_version} to {event.to_version}** ({event.kind}) by "
        f"{event.who}, {event.when}\n\n{event.why}\n\nGate: {event.gate}\n"
    )
    return "\n".join([head, *table])

"""The log of champions: one MLflow run an event, append-only, each holding the hash of the one before.

An event is written before the alias moves, as a run that is RUNNING; the run ends as FINISHED when the
alias has moved and as FAILED when it has not. What the event says is hashed with the hash and the ending of
the event before: an event that was edited, put in, or taken out of the middle is found. The hash of the last
event is kept on the registered model as well, so that the loss of the end is found too. Who can write
to the database can forge both; copy the hash elsewhere (the flow prints it) where that matters.

Copies of a project share no lock file. So whoever writes an event first claims its number: a claim is the
name of an experiment, which the database gives once, and which is deleted again at once (MLflow keeps the
name). A log in which two copies wrote one number, as earlier versions did, is mended by an event that seals
all events before it; the chain goes on from that.
"""

import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities import Run, RunStatus, ViewType
from mlflow.exceptions import MlflowException

from reconpatch.errors import ModelError
from reconpatch.storage.atomic_files import sha256_json
from reconpatch.text.markdown import plain_markdown
from tasks.registry.mlflow_store import Experiment, every_page

EXPERIMENT = "reconpatch-promotions"
HEAD = "promotion_head"  # tag of the registered model
NOBODY = "none"
FIRST, PROMOTION, ROLLBACK, SEEN, UNDO, MEND = "first", "promotion", "rollback", "ui", "undo", "mend"
_INTENDED, _DONE, _ABANDONED = "RUNNING", "FINISHED", "FAILED"
_START = "0" * 64
BREAKS = "breaks the gate: "  # how the gate's part of an event starts where a refused version became champion
_PAGE = 1000
_COPY = "copy"  # tag of a run and of a claim: which copy of the project wrote it
# A claim or an open event of another copy is left alone for so long; then its process is taken for dead.
_PATIENCE_SECONDS = 600.0
_LONGEST, _SHORT = 7500, 100  # characters: MLflow cuts a run's tag after 8000
_SHOWN = ("model", "kind", "from_version", "to_version", "who", "when", "why", "gate")


@dataclass(frozen=True)
class Event:
    """A change of champion, intended or done.

    Attributes:
        model: registered model.
        kind: ``first``, ``promotion``, ``rollback``, ``ui`` (seen after the fact), ``undo`` or ``mend``.
        from_version: the champion before; ``none`` when there was none.
        to_version: the new one; ``none`` when the alias was taken away.
        who: the account that did it, or ``unknown (UI)``.
        when: ISO time in UTC.
        why: the reason that was given.
        gate: the gate's outcome for ``to_version``, and in brackets what it means for this event.
        gate_table: the rules' verdicts.
        evaluation_set: digest of the test images behind them; of a ``mend`` that of all events before.
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


_NO_EVENT = Event("", "", "", "", "", "", "", (), "", 0, "", "", "")  # of a run whose own cannot be read


@dataclass(frozen=True)
class Entry:
    """An event as it lies in the log.

    Attributes:
        event: what it says.
        run_id: of its run.
        status: RUNNING, FINISHED or FAILED.
        problem: what is wrong with the entry; None when nothing is.
        copy: the copy of the project that wrote it; empty where that is not known.
        started: seconds since 1970.
    """

    event: Event
    run_id: str
    status: str
    problem: str | None
    copy: str = ""
    started: float = 0.0

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
        project: root of the project, whose lock whoever writes holds.
    """

    def __init__(self, experiment: Experiment, model: str, project: Path) -> None:
        self._experiment = experiment
        self.model = model
        self._copy = _name_of_copy(project)

    def entries(self) -> list[Entry]:
        """All events, in order.

        Raises:
            ModelError: the chain is broken; the message names the first event that does not fit.
        """
        found, head = self.unverified()
        problem = chain_problem(found, head)
        if problem is None:
            return found
        if not faults_to_mend(found, head):
            mending = f"look into the experiment {EXPERIMENT}, deleted runs can be restored there"
        else:
            mending = f"mend it by `python -m flows.promote --model {self.model} --mend-log`"
        raise ModelError(
            f"{self.model}: the log of its champions does not verify: {problem}; {mending}; nothing is "
            "promoted until it verifies"
        )

    def unverified(self) -> tuple[list[Entry], str | None]:
        """All events in order, and the hash of the last one that is kept on the registered model.

        A reader holds no lock, so it reads again where that hash has moved meanwhile.
        """
        head = self._head()
        while True:
            found = sorted((_read(run) for run in self._runs()), key=_place)
            before, head = head, self._head()
            if head == before:
                return found, head

    def _head(self) -> str | None:
        head: str | None = self._experiment.client.get_registered_model(self.model).tags.get(HEAD)
        return head

    def is_of_another(self, entry: Entry) -> bool:
        """Whether another copy of the project may still be at work on an open event."""
        young = time.time() - entry.started < _PATIENCE_SECONDS
        return entry.is_open and young and entry.copy not in ("", self._copy)

    def intend(self, entries: Sequence[Entry], **said: Any) -> Entry:
        """Write down what is about to happen; ``entries`` is the log so far.

        Raises:
            ModelError: another copy of the project writes an event, or wrote one since the log was read.
        """
        last = entries[-1] if entries else None
        self._claim(1 if last is None else last.event.sequence + 1)
        if {entry.run_id for entry in self.unverified()[0]} != {entry.run_id for entry in entries}:
            raise self.came_first()
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
            _COPY: self._copy,
        }
        name = f"{event.sequence:04} {event.kind} {event.from_version} to {event.to_version}"
        client = self._experiment.client
        run = client.create_run(self._experiment.id, run_name=f"{self.model} {name}", tags=tags)
        client.set_registered_model_tag(self.model, HEAD, event.hash)
        return Entry(event, run.info.run_id, _INTENDED, None, self._copy, time.time())

    def close(self, entry: Entry, *, done: bool) -> Entry:
        """End an event: the alias has moved, or it has not."""
        status = _DONE if done else _ABANDONED
        self._experiment.client.set_terminated(entry.run_id, status)
        return replace(entry, status=status)

    def note_head(self, entries: Sequence[Entry]) -> None:
        """Mend the kept hash after a crash between an event and it."""
        if entries:
            self._experiment.client.set_registered_model_tag(self.model, HEAD, entries[-1].event.hash)

    def came_first(self) -> ModelError:
        """What to raise where another copy of the project changes the champion."""
        return ModelError(
            f"{self.model}: another copy of this project changes its champion; look at it, then ask again "
            f"(where that copy was killed, after {_PATIENCE_SECONDS / 60:g} minutes)"
        )

    def _claim(self, sequence: int) -> None:
        """Take the number of an event; a claim that a killed process left is passed over."""
        client = self._experiment.client
        place = client.get_experiment(self._experiment.id).artifact_location
        for attempt in itertools.count(1):
            name = f"{EXPERIMENT} claim: {self.model} {sequence:04} {attempt}"
            try:
                made = client.create_experiment(name, artifact_location=place, tags={_COPY: self._copy})
                client.delete_experiment(made)
                break
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            taken = client.get_experiment_by_name(name)
            if taken is None or taken.tags.get(_COPY) == self._copy:
                continue  # of this copy, whose lock is held: nobody is at work on it
            if time.time() - taken.creation_time / 1000 < _PATIENCE_SECONDS:
                raise self.came_first()

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
        if not entry.is_done or event.kind == MEND:
            continue
        if event.kind in (ROLLBACK, UNDO) and event.to_version in stack:
            del stack[stack.index(event.to_version) + 1 :]
        elif event.to_version != NOBODY and event.to_version not in stack[-1:]:
            stack.append(event.to_version)
    return stack


def champion_of(entries: Sequence[Entry]) -> str | None:
    """The champion by the log; None when there is none."""
    done = [entry.event.to_version for entry in entries if entry.is_done]
    return None if not done or done[-1] == NOBODY else done[-1]


def former_champions(entries: Sequence[Entry]) -> set[str]:
    """Every version that ever was champion without breaking the gate."""
    done = [entry.event for entry in entries if entry.is_done and entry.event.kind != MEND]
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
    if broken := next((entry.problem for entry in entries if entry.problem is not None), None):
        return broken
    before, ending = _START, NOBODY
    hashes = []
    done = 0
    mends = [entry for entry in entries if entry.event.kind == MEND]
    if mends:
        mend = mends[-1].event
        earlier = [entry for entry in entries if entry.event.sequence < mend.sequence]
        if mend.evaluation_set != seal(earlier):
            return f"an event was edited, put in or taken out before event {mend.sequence}, which sealed them"
        last = {entry.event.hash: entry.status for entry in earlier}
        done, before, ending = mend.sequence - 1, mend.previous_hash, last.get(mend.previous_hash, NOBODY)
        hashes = [before]
        entries = [entry for entry in entries if entry.event.sequence >= mend.sequence]
    for number, entry in enumerate(entries, start=done + 1):
        event = entry.event
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


def seal(entries: Sequence[Entry]) -> str:
    """Digest of events and how they ended, whichever of them the chain goes through."""
    return sha256_json(sorted([entry.event.sequence, entry.event.hash, entry.status] for entry in entries))


def faults_to_mend(entries: Sequence[Entry], head: str | None) -> list[str]:
    """What copies of a project that wrote at the same time did to a log; empty: nothing, or something else.

    Each event is sound, and the event that it continues is there: events are there twice, or one ended
    otherwise than the next one says. Nothing else is mended: what was edited or taken out is for people.

    Args:
        entries: ordered by sequence.
        head: hash kept on the registered model.
    """
    if chain_problem(entries, head) is None or any(entry.problem is not None for entry in entries):
        return []
    known = {(0, _START)} | {(entry.event.sequence, entry.event.hash) for entry in entries}
    if any((one.event.sequence - 1, one.event.previous_hash) not in known for one in entries):
        return []
    if head is not None and head not in {entry.event.hash for entry in entries}:
        return []
    mends = [entry.event for entry in entries if entry.event.kind == MEND]
    since = mends[-1].sequence if mends else 0
    if mends and mends[-1].evaluation_set != seal([one for one in entries if one.event.sequence < since]):
        return []
    return _forks(entries, since) + _endings(entries, since)


def _forks(entries: Sequence[Entry], since: int) -> list[str]:
    counts = Counter(entry.event.sequence for entry in entries)
    return [
        f"event {number} is there {count} times (runs "
        + ", ".join(entry.run_id for entry in entries if entry.event.sequence == number)
        + ")"
        for number, count in sorted(counts.items())
        if count > 1 and number >= since
    ]


def _endings(entries: Sequence[Entry], since: int) -> list[str]:
    ended = {entry.event.hash: entry.status for entry in entries}
    return [
        f"event {event.sequence - 1} ended as {ended[event.previous_hash]}, event {event.sequence} says "
        f"{event.previous_ending}"
        for event in (entry.event for entry in entries)
        if event.sequence > since
        and event.previous_hash in ended
        and event.previous_ending != ended[event.previous_hash]
    ]


def tip(entries: Sequence[Entry], head: str | None) -> Entry:
    """The event that a mending one continues: the last, and of several the one that the model knows of."""
    last = [entry for entry in entries if entry.event.sequence == entries[-1].event.sequence]
    return next((entry for entry in last if entry.event.hash == head), last[0])


def _place(entry: Entry) -> tuple[int, str]:
    return entry.event.sequence, entry.event.hash


def _name_of_copy(project: Path) -> str:
    """Tells copies of a project apart, also those of two machines or containers."""
    found = project.resolve().stat()
    return f"{socket.gethostname()} {project.resolve()} {found.st_dev}:{found.st_ino}"


def _read(run: Run) -> Entry:
    tags, run_id = run.data.tags, run.info.run_id
    status = RunStatus.to_string(RunStatus.from_string(run.info.status))
    try:
        values = json.loads(tags["event"])
        event = Event(**{**values, "gate_table": tuple(values["gate_table"])})
    except (KeyError, TypeError, ValueError):
        return Entry(_NO_EVENT, run_id, status, f"run {run_id} holds no event")
    problem = None
    if event.hash != tags.get("event_hash") or any(str(values[key]) != tags.get(key) for key in _SHOWN):
        problem = f"event {event.sequence} (run {run_id}) was edited"
    return Entry(event, run_id, status, problem, tags.get(_COPY, ""), (run.info.start_time or 0) / 1000)


def _describe(event: Event) -> str:
    cells = ([row["rule"], row["verdict"], row["finding"]] for row in event.gate_table)
    rows = [f"| {' | '.join(map(plain_markdown, row))} |" for row in cells]
    table = ["| rule | verdict | finding |", "|---|---|---|", *rows] if rows else ["No gate table."]
    head = (
        f"**{event.model}: version {event.from_version} to {event.to_version}** ({event.kind}) by "
        f"{plain_markdown(event.who)}, {event.when}\n\n{plain_markdown(event.why)}\n\n"
        f"Gate: {plain_markdown(event.gate)}\n"
    )
    return "\n".join([head, *table])

"""The log of champions: one MLflow run an event, append-only, each holding the hash of the one before.

An event is written before the alias moves, as a run that is RUNNING; the run ends as FINISHED when the
alias has moved and as FAILED when it has not. What the event says is hashed with the hash and the ending of
the event before: an event that was edited, put in, or taken out of the middle is found. The hash of the last
event is kept on the registered model as well, so that the loss of the end is found too. Who can write
to the database can forge both; copy the hash elsewhere (the flow prints it) where that matters.

Copies of a project share no lock file. To write an event, a process first claims its number: a claim is the
name of an experiment, which the database gives once, and which is deleted again at once (MLflow keeps the
name). A log in which two copies wrote one number, as earlier versions did, is mended by an event that seals
all events before it; the chain goes on from that.
"""

import itertools
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities import Run, RunStatus, ViewType
from mlflow.exceptions import MlflowException

from reconpatch.errors import ModelError
from reconpatch.integrations.mlflow_lineage import PROMOTIONS
from tasks.registry.mlflow_store import Experiment, every_page
from tasks.registry.promotion_chain import START, chain_problem, faults_to_mend
from tasks.registry.promotion_event import (
    ABANDONED,
    DONE,
    INTENDED,
    NO_EVENT,
    NOBODY,
    Entry,
    Event,
    event_markdown,
)

HEAD = "promotion_head"  # tag of the registered model
_PAGE = 1000
_COPY = "copy"  # tag of a run and of a claim: which copy of the project wrote it
# A claim or an open event of another copy is left alone for so long; then its process is taken for dead.
_PATIENCE_SECONDS = 600.0
_LONGEST, _SHORT = 7500, 100  # characters: MLflow cuts a run's tag after 8000
_SHOWN = ("model", "kind", "from_version", "to_version", "who", "when", "why", "gate")


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
            mending = f"look into the experiment {PROMOTIONS}, deleted runs can be restored there"
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
            previous_hash=START if last is None else last.event.hash,
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
            "mlflow.note.content": event_markdown(event)[:_LONGEST],
            _COPY: self._copy,
        }
        name = f"{event.sequence:04} {event.kind} {event.from_version} to {event.to_version}"
        client = self._experiment.client
        run = client.create_run(self._experiment.id, run_name=f"{self.model} {name}", tags=tags)
        client.set_registered_model_tag(self.model, HEAD, event.hash)
        return Entry(event, run.info.run_id, INTENDED, None, self._copy, time.time())

    def close(self, entry: Entry, *, done: bool) -> Entry:
        """End an event: the alias has moved, or it has not."""
        status = DONE if done else ABANDONED
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
            name = f"{PROMOTIONS} claim: {self.model} {sequence:04} {attempt}"
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
        return Entry(NO_EVENT, run_id, status, f"run {run_id} holds no event")
    problem = None
    if event.hash != tags.get("event_hash") or any(str(values[key]) != tags.get(key) for key in _SHOWN):
        problem = f"event {event.sequence} (run {run_id}) was edited"
    return Entry(event, run_id, status, problem, tags.get(_COPY, ""), (run.info.start_time or 0) / 1000)

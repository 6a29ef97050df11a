"""An event of the log of champions: what it says, and how it ended."""

from dataclasses import asdict, dataclass

from reconpatch.storage.atomic_files import sha256_json
from reconpatch.text.markdown import plain_markdown

NOBODY = "none"
FIRST, PROMOTION, ROLLBACK, SEEN, UNDO, MEND = "first", "promotion", "rollback", "ui", "undo", "mend"
INTENDED, DONE, ABANDONED = "RUNNING", "FINISHED", "FAILED"  # status of an event's run
BREAKS = "breaks the gate: "  # how the gate's part of an event starts where a refused version became champion


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
        """SHA-256 of the whole event."""
        return sha256_json(asdict(self))


NO_EVENT = Event("", "", "", "", "", "", "", (), "", 0, "", "", "")  # of a run whose own cannot be read


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
        return self.status == INTENDED

    @property
    def is_done(self) -> bool:
        """The alias has moved."""
        return self.status == DONE


def event_markdown(event: Event) -> str:
    """The event as people read it on the page of its run."""
    cells = ([row["rule"], row["verdict"], row["finding"]] for row in event.gate_table)
    rows = [f"| {' | '.join(map(plain_markdown, row))} |" for row in cells]
    table = ["| rule | verdict | finding |", "|---|---|---|", *rows] if rows else ["No gate table."]
    head = (
        f"**{event.model}: version {event.from_version} to {event.to_version}** ({event.kind}) by "
        f"{plain_markdown(event.who)}, {event.when}\n\n{plain_markdown(event.why)}\n\n"
        f"Gate: {plain_markdown(event.gate)}\n"
    )
    return "\n".join([head, *table])

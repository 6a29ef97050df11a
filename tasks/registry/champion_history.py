"""Who is and who was champion, by the log: for a rollback, for the gate, and beside the alias."""

from collections.abc import Sequence

from tasks.registry.promotion_event import BREAKS, MEND, NOBODY, ROLLBACK, UNDO, Entry


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
    by whatever means: the person who went back found them bad, whatever they show on the test images.
    """
    kept: list[str] = []
    for event in (entry.event for entry in entries if entry.is_done):
        if event.to_version in kept:
            del kept[kept.index(event.to_version) + 1 :]
        elif event.to_version != NOBODY and not event.gate.startswith(BREAKS):
            kept.append(event.to_version)
    return kept

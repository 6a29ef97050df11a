"""Whether the log of champions verifies, and which of its faults can be mended."""

from collections import Counter
from collections.abc import Sequence

from reconpatch.storage.atomic_files import sha256_json
from tasks.registry.promotion_event import MEND, NOBODY, Entry

START = "0" * 64  # what the first event names as the hash of the event before


def chain_problem(entries: Sequence[Entry], head: str | None) -> str | None:
    """What is wrong with a log, or None.

    Args:
        entries: ordered by sequence.
        head: hash kept on the registered model.
    """
    if broken := next((entry.problem for entry in entries if entry.problem is not None), None):
        return broken
    before, ending = START, NOBODY
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
    known = {(0, START)} | {(entry.event.sequence, entry.event.hash) for entry in entries}
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

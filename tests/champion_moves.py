"""Logs of champions, for tests that need no MLflow."""

from tasks.registry.promotion_event import Entry, Event


def chain(*moves: tuple[str, str, str], gate: str = "passed") -> list[Entry]:
    """(kind, from, to), ...; all done."""
    entries: list[Entry] = []
    for number, (kind, old, new) in enumerate(moves, start=1):
        last = entries[-1] if entries else None
        event = Event(
            "m", kind, old, new, "ada", "why", gate, (), "set", number,
            "0" * 64 if last is None else last.event.hash, "none" if last is None else last.status, "now",
        )  # fmt: skip
        entries.append(Entry(event, f"run {number}", "FINISHED", None))
    return entries


MOVES = (("first", "none", "1"), ("promotion", "1", "2"), ("ui", "2", "3"))

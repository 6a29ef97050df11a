from dataclasses import replace

import pytest

from tasks.registry.promotion_log import (
    BREAKS,
    Entry,
    Event,
    chain_problem,
    champion_of,
    champions,
    former_champions,
    reference_champions,
)


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


def test_an_untouched_chain_verifies_with_or_without_its_head():
    entries = chain(*MOVES)
    assert chain_problem(entries, entries[-1].event.hash) is None
    assert chain_problem(entries, entries[-2].event.hash) is None  # a crash before the head was kept
    assert chain_problem(entries, None) is None
    assert chain_problem([], None) is None


def test_every_tampering_is_found():
    entries = chain(*MOVES)
    head = entries[-1].event.hash
    edited = replace(entries[1], event=replace(entries[1].event, who="eve"))
    assert "event 3 does not continue event 2" in chain_problem([entries[0], edited, entries[2]], head)
    assert "event 2 is missing" in chain_problem([entries[0], entries[2]], head)
    assert "last events are missing" in chain_problem(entries[:1], head)
    assert "last events are missing" in chain_problem([], head)
    assert "is missing" in chain_problem(entries[1:], head)
    assert "there twice" in chain_problem([*entries[:2], entries[1], entries[2]], head)
    ending = replace(entries[0], status="FAILED")
    assert "event 1 ended as FAILED" in chain_problem([ending, *entries[1:]], head)
    assert chain_problem([replace(entries[0], problem="event 1 was edited")], None) == "event 1 was edited"


@pytest.mark.parametrize(
    ("moves", "stack"),
    [
        (MOVES, ["1", "2", "3"]),
        ((*MOVES, ("rollback", "3", "2")), ["1", "2"]),
        ((*MOVES, ("rollback", "3", "2"), ("rollback", "2", "1")), ["1"]),
        ((*MOVES, ("rollback", "3", "2"), ("promotion", "2", "4")), ["1", "2", "4"]),
        ((*MOVES, ("undo", "3", "2")), ["1", "2"]),
        ((*MOVES, ("ui", "3", "none")), ["1", "2", "3"]),
    ],
)
def test_rollback_goes_back_through_the_champions(moves, stack):
    assert champions(chain(*moves)) == stack


def test_the_champion_is_that_of_the_last_event_that_was_done():
    entries = chain(*MOVES)
    assert champion_of(entries) == "3"
    assert champion_of([*entries[:2], replace(entries[2], status="FAILED")]) == "2"
    assert champion_of(chain(("first", "none", "1"), ("ui", "1", "none"))) is None
    assert champion_of([]) is None


def test_who_broke_the_gate_is_no_former_champion():
    entries = chain(*MOVES)
    broken = replace(entries[2], event=replace(entries[2].event, gate=f"{BREAKS}aupro"))
    assert former_champions([*entries[:2], broken]) == {"1", "2"}


@pytest.mark.parametrize(
    ("moves", "kept"),
    [
        (MOVES, ["1", "2", "3"]),
        ((*MOVES, ("rollback", "3", "2")), ["1", "2"]),
        ((*MOVES, ("undo", "3", "2")), ["1", "2"]),
        # Gone back by other means than a rollback.
        ((*MOVES, ("ui", "3", "1")), ["1"]),
        ((*MOVES, ("promotion", "3", "2"), ("promotion", "2", "4")), ["1", "2", "4"]),
        # Found good after all.
        ((*MOVES, ("rollback", "3", "2"), ("promotion", "2", "3")), ["1", "2", "3"]),
        ((*MOVES, ("ui", "3", "none")), ["1", "2", "3"]),
    ],
)
def test_a_champion_that_the_line_went_back_from_is_no_reference(moves, kept):
    assert reference_champions(chain(*moves)) == kept


def test_a_champion_that_broke_the_gate_or_never_was_is_no_reference():
    entries = chain(*MOVES)
    broken = replace(entries[1], event=replace(entries[1].event, gate=f"{BREAKS}image_auroc"))
    assert reference_champions([entries[0], broken, entries[2]]) == ["1", "3"]
    assert reference_champions([*entries[:2], replace(entries[2], status="FAILED")]) == ["1", "2"]

"""Who is and who was champion, by the log."""

from dataclasses import replace

import pytest
from champion_moves import MOVES, chain

from tasks.registry.champion_history import champion_of, champions, former_champions, reference_champions
from tasks.registry.promotion_event import BREAKS


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

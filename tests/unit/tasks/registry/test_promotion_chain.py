"""What makes a log of champions verify."""

from dataclasses import replace

from champion_moves import MOVES, chain

from tasks.registry.promotion_chain import chain_problem


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

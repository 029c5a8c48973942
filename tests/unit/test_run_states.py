"""The one table of states: random walks on it, driven through the record as the launcher does."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsaflow.runs.record import Busy, Record
from dsaflow.runs.states import FINISHED, LIVE, TRANSITIONS, State, may_become, may_precede

STATES = st.sampled_from(list(State))


def test_the_states_are_those_of_wes_and_all_in_the_table():
    wes = (
        "QUEUED INITIALIZING RUNNING PAUSED COMPLETE EXECUTOR_ERROR SYSTEM_ERROR CANCELED CANCELING"
    )
    assert set(State) == set(wes.split()) == set(TRANSITIONS)
    assert {State.QUEUED} | LIVE | FINISHED == set(State)
    assert not LIVE & FINISHED


def test_every_state_is_reached_from_the_queue_and_every_live_one_can_end():
    reached = {State.QUEUED}
    while more := {new for old in reached for new in TRANSITIONS[old]} - reached:
        reached |= more
    assert reached == set(State)
    for state in LIVE | {State.QUEUED}:
        ends = {state}
        while more := {new for old in ends for new in TRANSITIONS[old]} - ends:
            ends |= more
        assert State.SYSTEM_ERROR in ends  # a machine can always fail
        assert State.CANCELED in ends
        if state not in (State.QUEUED, State.PAUSED):
            assert State.COMPLETE in TRANSITIONS[state]


def test_finished_is_finished_but_for_an_explicit_retry():
    assert TRANSITIONS[State.COMPLETE] == frozenset()
    for state in FINISHED - {State.COMPLETE}:
        assert TRANSITIONS[state] == {State.QUEUED}
    # nothing else leads back to the queue
    assert set(may_precede(State.QUEUED)) == FINISHED - {State.COMPLETE}


@given(STATES, STATES)
def test_both_directions_of_the_table_agree(old, new):
    assert may_become(old, new) == (old in may_precede(new))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(STATES, st.one_of(st.none(), STATES)), max_size=25))
def test_a_walk_through_the_record_never_leaves_the_table(steps):
    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder) / "runs", Path(folder) / "record.sqlite")
        run_id = record.create_run("run", folder)
        state = State.QUEUED
        for new, only_from in steps:
            moved = record.transition(run_id, new, only_from=only_from)
            assert moved == (may_become(state, new) and only_from in (None, state))
            state = new if moved else state
            row = record.run(run_id)
            assert row["state"] == state
            assert (row["ended_s"] is not None) == (state in FINISHED)
            assert (record.live_run(folder) is not None) == (state in LIVE)
        record.close()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), STATES), max_size=30))
def test_never_two_live_runs_in_one_directory(steps):
    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder) / "runs", Path(folder) / "record.sqlite")
        runs = [record.create_run("run", folder) for _ in range(3)]
        for index, new in steps:
            live = [r for r in runs if record.run(r)["state"] in LIVE]
            may = may_become(State(record.run(runs[index])["state"]), new)
            if may and new in LIVE and live not in ([], [runs[index]]):
                with pytest.raises(Busy):
                    record.transition(runs[index], new)
            else:
                assert record.transition(runs[index], new) == may
            assert sum(record.run(r)["state"] in LIVE for r in runs) <= 1
        record.close()

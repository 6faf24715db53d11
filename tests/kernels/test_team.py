"""What a leader does after the system has taken a helper off its core in the middle of a task."""

import threading
import time

import numpy as np
import pytest

from gdl.kernels._jit import njit
from gdl.kernels.cpu import _team
from gdl.kernels.cpu._atomics import add, load

pytestmark = pytest.mark.compiled  # threads share nothing else


@njit(cache=False)
def close(call):
    _team.close_phase(0, call, 1, True)


@njit(cache=False)
def opens_shared(call, work):
    return _team.open_phase(0, call, 1, 2, work)


@njit(cache=False)
def finish(call):
    add(call, _team.DONE, 1)


@njit(cache=False)
def joins(call):
    return _team.open_phase(1, call, 1, 2, 10**6)


@njit(cache=False)
def fails(me, call, team, divisor):
    _team.announce(me, call, team)
    if me == 0 and divisor[0] == 0:
        raise ValueError("no")
    _team.end_call(me, call, team)


@njit(cache=False)
def note_a_loss(me, call, team, seen):
    if me == 0:
        seen[:] = call[_team.CAUTION], call[_team.SHARED]
        call[_team.CAUTION], call[_team.SHARED] = _team.VERY_CAUTIOUS, 7
        call[_team.ALONE] = 10**9


@pytest.fixture
def call():
    call = _team.new_call(2)
    call[_team.SPINS] = 1000
    finish(call)  # compiles
    close(call)
    call[_team.DONE] = 0
    return call


def lose_a_helper(call):
    """Wait for a helper that finishes its task when its leader has given it up."""
    call[_team.DONE] = call[_team.ALONE] = 0

    def helper():
        deadline = time.monotonic() + 30
        while call[_team.ALONE] == 0 and time.monotonic() < deadline:
            time.sleep(0.001)
        finish(call)

    thread = threading.Thread(target=helper)
    thread.start()
    close(call)
    thread.join()


def test_who_need_not_sleep_stays_in_company(call):
    finish(call)
    close(call)
    assert call[_team.ALONE] == call[_team.CAUTION] == 0
    assert opens_shared(call, 10**6)


def test_a_leader_goes_on_alone_and_longer_if_it_happens_again(call):
    lose_a_helper(call)
    assert call[_team.CAUTION] == _team.CAUTIOUS
    alone = call[_team.ALONE]
    assert alone >= _team.SPIN_US * _team.OPERATIONS_PER_US * _team.CAUTIOUS
    assert not opens_shared(call, 10**6)
    assert call[_team.ALONE] == alone - 10**6

    call[_team.ALONE] = 0
    assert opens_shared(call, _team.UNDISTURBED_WORK // 2)
    lose_a_helper(call)
    assert call[_team.CAUTION] == _team.VERY_CAUTIOUS
    assert call[_team.ALONE] >= _team.SPIN_US * _team.OPERATIONS_PER_US * _team.VERY_CAUTIOUS

    call[_team.ALONE] = 0
    assert opens_shared(call, _team.UNDISTURBED_WORK + 1)
    lose_a_helper(call)
    assert call[_team.CAUTION] == _team.CAUTIOUS


def test_a_team_is_cautious_from_call_to_call(monkeypatch):
    team, seen = _team.Team(), np.zeros(2, np.int64)
    monkeypatch.setattr(_team, "_team", team)
    monkeypatch.setattr(_team, "n_threads", lambda: 2)
    _team.run(note_a_loss, 1e8, seen)
    assert seen.tolist() == [0, 0]
    assert team.alone == 10**9
    _team.run(note_a_loss, 1.1e9, seen)  # more than it has to do alone: in company from then on
    assert seen.tolist() == [_team.VERY_CAUTIOUS, 7]
    seen[:] = -1
    _team.run(note_a_loss, 0.9e9, seen)  # less: nobody is woken, and the words are those of a call alone
    assert seen.tolist() == [0, 0]
    assert team.alone == 10**8


def is_over(call):
    """Whether a helper that comes to a call is through with it, in a minute at most."""
    joined = []
    helper = threading.Thread(target=lambda: joined.append(joins(call)), daemon=True)
    helper.start()
    helper.join(60)
    return joined == [False]


def test_nobody_waits_for_a_call_that_never_comes():
    """A helper may find words that are put aside before they are announced, or whose leader failed."""
    team = _team.Team()
    team._make_words(2, 0.0)
    assert is_over(team.call_words)
    with pytest.raises(ValueError, match="no"):
        team.run(2, fails, (np.zeros(1),), 0.0, None)
    assert team.call is _team.NO_CALL
    assert is_over(team.call_words)


BY_PYTHON, TAKEN, TORN, LED = range(4)


@njit(cache=False)
def note_a_call(me, call, team, seen, key, start, stop, step):
    if me == 0:
        if _team.offer(call, team, abs(key), start, stop, step) > 0 and key > 0:
            return _team.NOT_DONE, 0.0
        _team.announce(me, call, team)
        seen[LED] += 1
    else:
        seen[BY_PYTHON] += 1
    number = 0
    while True:
        if me > 0:
            number = _team.take_offer(call, team, abs(key), number)
            start, stop, step = load(team, _team.START), load(team, _team.STOP), load(team, _team.STEP)
            if number == 0 or load(team, _team.OFFER) != number:
                return _team.NOT_DONE, 0.0
            seen[TAKEN] += 1
            if stop != 2 * start or step != 3 * start:
                seen[TORN] += 1
        _team.end_call(me, call, team)
        if me == 0:
            return _team.outcome(call), float(start)


@njit(cache=False)
def add_busy(team, n):
    add(team, _team.BUSY, n)


class TestSeries:
    """Calls of one function that differ in three numbers."""

    @pytest.fixture
    def team(self, monkeypatch):
        team = _team.Team()
        monkeypatch.setattr(_team, "_team", team)
        return team

    @pytest.fixture
    def seen(self):
        return np.zeros(4, np.int64)

    @pytest.fixture
    def series(self, team, seen):
        series = _team.Series(2, note_a_call, 1e6, (seen,), None)
        series.run(1, 2, 3)
        return series

    def test_a_helper_takes_calls_without_python(self, series, seen):
        deadline, n = time.monotonic() + 60, 1
        while seen[TAKEN] <= seen[BY_PYTHON] and time.monotonic() < deadline:
            n += 1
            assert series.run(n, 2 * n, 3 * n) == n
        assert seen[TAKEN] > seen[BY_PYTHON] > 0
        assert seen[TORN] == 0
        assert seen[LED] == n

    def test_words_that_a_busy_helper_may_look_at_are_not_used_again(self, team, series, seen):
        add_busy(team.words, 1)
        words = team.call_words
        series.run(1, 2, 3)
        assert team.call_words is not words
        assert seen[LED] == 2
        add_busy(team.words, -1)

    def test_another_call_comes_between(self, team, series, seen):
        _team.run_by(2, note_a_loss, 1e6, (np.zeros(2, np.int64),))
        assert team.call is _team.NO_CALL
        team.alone = 0.0
        series.run(1, 2, 3)
        assert team.call is series.call
        assert seen[LED] == 2

    def test_who_finds_the_team_taken_computes_alone(self, team, series, seen):
        with team.taken:
            assert series.run(5, 2, 3) == 5
        assert seen[LED] == 2

    def test_an_error_leaves_no_call(self, team, series, monkeypatch, seen):
        def interrupted(me, call, team, *arguments):
            note_a_call(me, call, team, *arguments)
            if me == 0:
                raise KeyboardInterrupt
            return 0, 0.0

        monkeypatch.setattr(series, "function", interrupted)
        team.call = _team.NO_CALL
        with pytest.raises(KeyboardInterrupt):
            series.run(1, 2, 3)
        assert team.call is _team.NO_CALL
        assert series.call is None
        assert seen[LED] == 2

    def test_keeps_nobodys_data(self, team, series):
        assert team.call[2][2] is series.arguments[0]
        team.alone = 2e6
        series.run(1, 2, 3)  # alone
        series.__del__()
        assert team.call is _team.NO_CALL

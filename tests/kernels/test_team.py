"""What a leader does after the system has taken a helper off its core in the middle of a task."""

import threading
import time

import numpy as np
import pytest

from gdl.kernels._jit import njit
from gdl.kernels.cpu import _team
from gdl.kernels.cpu._atomics import add

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
def note_a_loss(me, call, team, number, seen):
    if me == 0:
        seen[:] = call[_team.CAUTION], call[_team.SHARED]
        call[_team.CAUTION], call[_team.SHARED] = _team.VERY_CAUTIOUS, 7
        call[_team.ALONE] = 10**9


@pytest.fixture
def call():
    call = _team._new_call(2)
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
    _team.run(note_a_loss, 1e8, seen, times=11)  # more than it has to do alone: in company from then on
    assert seen.tolist() == [_team.VERY_CAUTIOUS, 7]
    seen[:] = -1
    _team.run(note_a_loss, 1e8, seen, times=9)  # less: nobody is woken, and the words are those of a call alone
    assert seen.tolist() == [0, 0]
    assert team.alone == 10**8

"""What a leader does after the system has taken a helper off its core in the middle of a task."""

import threading
import time

import numba
import pytest

from gdl.kernels._jit import njit
from gdl.kernels.cpu import _team
from gdl.kernels.cpu._atomics import add

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="threads share compiled calls only")


@njit(cache=False)
def close(call):
    _team.close_phase(0, call, 1, True)


@njit(cache=False)
def opens_shared(call, work):
    return _team.open_phase(0, call, 1, 2, work)


@njit(cache=False)
def finish(call):
    add(call, _team.DONE, 1)


@pytest.fixture
def call():
    call = _team._new_call(2)
    call[_team.SPINS] = 1000
    finish(call)
    call[_team.DONE] = 0
    return call


def lose_a_helper(call):
    """Wait for a helper that finishes its task much later than the leader spins."""

    def helper():
        time.sleep(0.05)
        finish(call)

    call[_team.DONE] = 0
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

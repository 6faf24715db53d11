"""A team of threads that computes one call together: tasks handed out one by one, in phases.

A call runs the same compiled function in every thread of the team. Its leader, the thread that called,
opens a phase; everybody claims tasks from it; when all are done the leader goes on. The leader never
waits for a helper to arrive, only for tasks that a helper has claimed, so a helper that the system does
not run costs nothing. What a task computes does not depend on who runs it: the number of threads cannot
change a bit.

Why not Numba's own parallel loops: entering and leaving a phase takes about 0.4 us here and 1.1 us there
(OpenMP), and a training step has several; and none of Numba's threading layers survives all of a fork,
eight Python threads at once and a missing library. Here a second caller finds the team taken and computes
alone, as a forked child does at first.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import numpy as np
from numba import config, types

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._atomics import add, load, pause, store, swap_if_equal

# Words of a call, those written by different threads on different cache lines.
TICKET, DONE, NEXT, N_THREADS, SPINS, FAILED, ALONE, CAUTION, SHARED, N_WORDS = 0, 16, 32, 33, 34, 35, 48, 49, 50, 64
# Words of a team: the number of the call announced last, and the helpers that are in Python.
CALL, BUSY = 0, 16
# A ticket is the phase, the tasks claimed from the end, and the tasks claimed from the start.
TASK_BITS = 20
PHASE_SHIFT = 2 * TASK_BITS
FIRST = np.int64(1)  # NumPy's: for a constant of Python's Numba would compile each function again
QUIT = 1 << 22
# A phase of fewer floating-point operations is not worth sharing: 0.4 us at 200 GFLOP/s is 80 thousand.
SHARED_WORK = 150_000
# A step or product of fewer operations stays on one thread: two took 13 us for 9 at 0.6 million, 50 for 56 at
# 6 million (what one core has written, the other must fetch).
TEAM_WORK = 4_000_000
# How long a thread spins before it sleeps: longer than any task of a call takes, so that the leader sleeps
# only for a helper that the system has taken off its core. Then it looks again every 20 us or so.
SPIN_US = 400
# A call with longer tasks says how long they are; it computes at least this many operations a microsecond.
SLOWEST_PER_US = 10_000
SLEEP_US = 20
# After the leader had to sleep for a helper, the other core may be busy: it goes on alone for 4 times as long as it has
# lost, and for 40 times if it loses time again soon. At once for 40 times as long, as it has to beside a process that
# keeps the core busy, is too much for what a virtual machine loses now and then: 5 losses of half a millisecond in a
# second took the helper away for two thirds of it.
CAUTIOUS, VERY_CAUTIOUS = 4, 40
OPERATIONS_PER_US = 100_000  # that one thread is taken to compute
UNDISTURBED_WORK = 40_000 * OPERATIONS_PER_US  # shared since a loss, after which the next does not come soon
SLEPT_US = 100  # what a sleep of 20 us takes, and more
# A helper that waits for its next call spins this long, then parks in Python.
AWAIT_US = 200

if config.DISABLE_JIT:

    def _sleep(microseconds):
        pass

    def _yield():
        pass
elif os.name == "nt":
    _windows_sleep = types.ExternalFunction("Sleep", types.void(types.uint32))

    @njit
    def _sleep(microseconds):
        _windows_sleep((microseconds + 999) // 1000)

    _yield = types.ExternalFunction("SwitchToThread", types.int32())
else:
    _yield = types.ExternalFunction("sched_yield", types.int32())
    _sleep = types.ExternalFunction("usleep", types.int32(types.uint32))


@inner
def open_phase(me, call, phase, n_tasks, work):
    """Begin a phase; return whether this thread shares it with others.

    ``work`` is the phase's number of floating-point operations. The leader is thread 0.
    """
    shared = call[N_THREADS] > 1 and n_tasks > 1 and work >= SHARED_WORK
    if me > 0:
        return shared and _reach(call, phase)
    if shared and call[ALONE] > 0:
        call[ALONE] -= work
        shared = False
    if shared:
        call[SHARED] += work
        store(call, DONE, 0)
        store(call, TICKET, phase << PHASE_SHIFT)
    else:
        call[NEXT] = 0
    return shared


@inner
def _wait_a_little(spins):
    """Pause, and now and then let the leader have this core if the system has put both on one."""
    if spins % 64 == 63:
        _yield()
    else:
        pause()


@inner
def _reach(call, phase):
    """Wait, as a helper, for a phase to open; return False if it is over."""
    spins = 0
    ticket = load(call, TICKET)
    while ticket >> PHASE_SHIFT < phase:
        spins += 1
        if spins < call[SPINS]:
            _wait_a_little(spins)
        else:
            _sleep(SLEEP_US)
        ticket = load(call, TICKET)
    return ticket >> PHASE_SHIFT == phase


@inner
def claim(me, call, phase, n_tasks, shared):
    """Number of a task that is this thread's now, or -1 if there are none left.

    The leader takes them from the start and helpers from the end, so that in phase after phase a core
    computes about the same columns or rows, and finds them in its own cache.
    """
    if not shared:
        task = call[NEXT]
        if me > 0 or task >= n_tasks:
            return -1
        call[NEXT] = task + 1
        return task
    while True:
        ticket = load(call, TICKET)
        from_start = ticket & ((1 << TASK_BITS) - 1)
        from_end = (ticket >> TASK_BITS) & ((1 << TASK_BITS) - 1)
        if ticket >> PHASE_SHIFT != phase or from_start + from_end >= n_tasks:
            return -1
        if swap_if_equal(call, TICKET, ticket, ticket + (1 if me == 0 else 1 << TASK_BITS)):
            return from_start if me == 0 else n_tasks - 1 - from_end


@inner
def finish(call, shared):
    """Report a claimed task as done."""
    if shared:
        add(call, DONE, 1)


@inner
def close_phase(me, call, n_tasks, shared):
    """Wait, as the leader, until every task of the phase is done."""
    if me > 0 or not shared:
        return
    spins = 0
    while load(call, DONE) < n_tasks:
        spins += 1
        if spins < call[SPINS]:
            pause()
        else:
            if spins == call[SPINS]:
                be_cautious(call)
            call[ALONE] += (SPIN_US if spins == call[SPINS] else SLEPT_US) * OPERATIONS_PER_US * call[CAUTION]
            _sleep(SLEEP_US)


@inner
def be_cautious(call):
    """Decide for how long to go on alone, as a multiple of the time that is being lost."""
    call[CAUTION] = CAUTIOUS if call[SHARED] > UNDISTURBED_WORK or call[CAUTION] == 0 else VERY_CAUTIOUS
    call[SHARED] = 0


@inner
def announce(me, team, number):
    """Tell the helpers that a call has begun; the first thing that a shared function does.

    Here and not in Python, so that the leader has let go of the GIL when a helper wants it.
    """
    if me == 0:
        store(team, CALL, number)


@inner
def end_call(me, call, team):
    """Let every helper run to the end of its function, and back to where it waits for the next call.

    Two threads that want the GIL at once cost 50 us and more; a leader that stays in compiled code until
    its helpers have passed through Python costs 3.
    """
    if me == 0 and call[N_THREADS] > 1:
        store(call, TICKET, QUIT << PHASE_SHIFT)
        for _ in range(call[SPINS] // 16):
            if load(team, BUSY) == 0:
                break
            pause()


@njit
def _await_call(team, seen, busy, spins):
    """Spin until a call after number ``seen`` is announced; False if none came in a while."""
    if busy:
        add(team, BUSY, -1)
    for spin in range(spins):
        if load(team, CALL) != seen:
            add(team, BUSY, 1)
            return True
        _wait_a_little(spin)
    return False


@njit
def _spin(n):
    for _ in range(n):
        pause()


def _spins_per_us() -> float:
    """Measure how long the pause instruction takes: 1 to 50 ns, by processor."""
    _spin(1)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        _spin(1000)
        seconds.append(time.perf_counter() - start)
    return 1000 / (min(seconds) * 1e6)


class Team:
    """Helper threads of this process, and the call that they take part in."""

    def __init__(self) -> None:
        self.taken = threading.Lock()  # by the leader, for the length of a call
        self._lock = threading.Lock()
        self._wake = threading.Semaphore(0)
        self._words = np.zeros(32, np.int64)
        self._number = 0
        self._parked = 0
        self._n_helpers = 0
        self.alone = 0.0
        self._lost = np.zeros(2, np.int64)  # CAUTION and SHARED, from call to call
        self._spins_per_us = 0.0
        self._call: tuple[Any, ...] = ()

    def run(self, n_threads: int, function: Any, arguments: tuple[Any, ...], task_work: float) -> None:
        """Run ``function(me, call, team, number, *arguments)`` in this thread and the helpers."""
        self._spins_per_us = self._spins_per_us or _spins_per_us()
        while self._n_helpers < n_threads - 1:
            self._n_helpers += 1
            threading.Thread(target=self._help, args=(self._n_helpers,), name="gdl-helper", daemon=True).start()
        call = _new_call(n_threads)
        call[ALONE] = int(self.alone)
        call[CAUTION : SHARED + 1] = self._lost
        call[SPINS] = int(max(SPIN_US, task_work / SLOWEST_PER_US) * self._spins_per_us)
        with self._lock:
            self._number += 1
            number, parked = self._number, self._parked
            self._call = (n_threads, function, (call, self._words, number, *arguments))
            self._parked = 0
        for _ in range(parked):
            self._wake.release()
        function(0, call, self._words, number, *arguments)
        self.alone = float(call[ALONE])
        self._lost[:] = call[CAUTION : SHARED + 1]

    def _help(self, me: int) -> None:
        seen, busy, spins = 0, False, int(AWAIT_US * self._spins_per_us)
        while True:
            called = _await_call(self._words, seen, busy, spins)
            with self._lock:
                if not called and self._number == seen:
                    self._parked += 1
                    self._call = ()  # keep nobody's data alive
                seen, call, busy = self._number, self._call, called
            if not call:
                self._wake.acquire()
            elif me < call[0]:
                call[1](me, *call[2])


def _new_call(n_threads: int) -> Any:
    call = np.zeros(N_WORDS, np.int64)
    call[N_THREADS] = n_threads
    return call


def n_threads() -> int:
    """Threads that a call may use: what ``numba.set_num_threads`` or NUMBA_NUM_THREADS says, else the cores."""
    if config.DISABLE_JIT:
        return 1
    layer = sys.modules.get("numba.np.ufunc.parallel")
    if layer is not None and layer._is_initialized:  # else nobody has set a number, and asking starts the layer
        return int(layer.get_num_threads())
    return int(config.NUMBA_NUM_THREADS)


_team = Team()
_call_alone = _new_call(1)
_nobody = np.zeros(32, np.int64)


def _forget_team() -> None:
    global _team
    _team = Team()  # a child of fork has the object and not the threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)


def run(function: Any, work: float, *arguments: Any, task_work: float = 0.0, times: int = 1) -> None:
    """Run a compiled function ``(me, call, team, number, *arguments)``, shared if the work is worth it.

    ``work`` is what lies between two updates of what both threads read: of a step, not of an epoch, which has it so
    many ``times``. ``task_work`` is that of the longest task, if it may take longer than SPIN_US: else its leader would
    take a helper that computes for one that the system has put aside.
    """
    n = n_threads() if work >= TEAM_WORK else 1
    team = _team
    if n > 1 and team.alone >= work * times:  # not even woken: a helper would take the caller's core
        team.alone -= work * times
        n = 1
    if n > 1 and team.taken.acquire(blocking=False):
        try:
            team.run(n, function, arguments, task_work)
        finally:
            team.taken.release()
    else:
        function(0, _call_alone.copy(), _nobody, 0, *arguments)

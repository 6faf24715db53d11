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

import functools
import itertools
import os
import sys
import threading
import time
from typing import Any

import numpy as np
from numba import config, types

from gdl.kernels._jit import compiled_for, inner, njit
from gdl.kernels.cpu._atomics import add, load, pause, store, swap_if_equal

# Words of a call, those written by different threads on different cache lines.
TICKET, DONE, NEXT, N_THREADS, SPINS, FAILED, SERIAL, ALONE, CAUTION, SHARED = 0, 16, 32, 33, 34, 35, 36, 48, 49, 50
N_WORDS = 64
# Words of a team: the number of the call announced last; the helpers that have seen one and not come back to wait; and
# what a helper needs to take up a call without Python: its number, its function's key, the serial number of its words,
# and three numbers.
CALL, BUSY, OFFER, KEY, WORDS, START, STOP, STEP = 0, 16, 32, 33, 34, 35, 36, 37
TEAM_WORDS = 48
# What a call of a series comes to.
NOT_DONE, DONE_TOGETHER, DONE_ALONE = 0, 1, 2
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
# A helper that waits for its next call spins this long, then parks in Python. After a call of a series it first spins
# about as long inside the function.
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
def announce(me, call, team):
    """Tell the helpers that a call has begun: the first thing that a shared function does, but for an offer.

    Here and not in Python, so that the leader has let go of the GIL when a helper wants it.
    """
    if me == 0:
        call[FAILED] = 0
        store(call, TICKET, 0)  # the latest call, whose words these may have been, has left QUIT
        store(team, CALL, load(team, CALL) + 1)


@inner
def end_call(me, call, team):
    """Let every helper run to the end of the call, and back to where it waits for the next.

    Two threads that want the GIL at once cost 50 us and more; a leader that stays in compiled code until
    its helpers have passed through Python costs 3.
    """
    if me == 0 and call[N_THREADS] > 1:
        store(call, TICKET, QUIT << PHASE_SHIFT)
        for _ in range(call[SPINS] // 16):
            if load(team, BUSY) == 0:
                break
            pause()


@inner
def offer(call, team, key, start, stop, step):
    """Say what the next call is to helpers that wait for one in compiled code; return how many do not wait.

    Whoever is not among these finds what is said here.
    """
    store(team, OFFER, 0)
    store(team, KEY, key)
    store(team, WORDS, call[SERIAL])
    store(team, START, start)
    store(team, STOP, stop)
    store(team, STEP, step)
    store(team, OFFER, load(team, CALL) + 1)
    return add(team, BUSY, 0)


@inner
def outcome(call):
    """What a leader returns that has done its work: whether it is to go on alone."""
    return DONE_ALONE if call[ALONE] > 0 else DONE_TOGETHER


@inner
def take_offer(call, team, key, number):
    """Wait, as a helper, for a call after ``number`` with the same key; return its number, or 0 if none came.

    To leave a call by way of Python and come to the next costs 6 us, and keeps the leader waiting for as long.
    """
    add(team, BUSY, -1)
    for spin in range(call[SPINS] // 2):
        seen = load(team, CALL)
        if seen != number:
            add(team, BUSY, 1)
            same = load(team, KEY) == key and load(team, WORDS) == call[SERIAL]
            return seen if same and load(team, OFFER) == seen else 0
        _wait_a_little(spin)
    add(team, BUSY, 1)
    return 0


@njit
def _withdraw_offer(team):
    """Let no helper take up the next call but by way of Python; return how many do not wait for one."""
    store(team, OFFER, 0)
    return add(team, BUSY, 0)


@njit
def _await_call(team, seen, busy, spins):
    """Spin until a call after number ``seen`` is announced; return its number, or 0 if none came in a while."""
    if busy:
        add(team, BUSY, -1)
    for spin in range(spins):
        number = load(team, CALL)
        if number != seen:
            add(team, BUSY, 1)
            return number
        _wait_a_little(spin)
    return 0


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


# A call as helpers find it: its threads, function and arguments, and what owns the memory behind these.
Call = tuple[int, Any, tuple[Any, ...], Any]
_keys = itertools.count(1)
NO_CALL: Call = 0, None, (), None


class Team:
    """Helper threads of this process, and the call that they take part in."""

    def __init__(self) -> None:
        self.taken = threading.Lock()  # by the leader, for the length of a call
        self.alone = 0.0  # operations that the leader is to compute alone, see ``be_cautious``
        self.parked = 0  # helpers that sleep
        self.call: Call = NO_CALL  # one object, so that nobody sees half of it
        self.words = np.zeros(TEAM_WORDS, np.int64)
        self.call_words = new_call(0)
        self._lock = threading.Lock()
        self._wake = threading.Semaphore(0)
        self._begins_after = -1  #: the number of the call before the one that a leader is at
        self._n_helpers = 0
        self._spins_per_us = 0.0
        self._made_for = (0, 0.0)
        self._serial = 0

    def run(
        self, n_threads: int, function: Any, arguments: tuple[Any, ...], task_work: float, keep: Any
    ) -> tuple[Call, Any]:
        """Run ``function(me, call, team, *arguments)`` in this thread and the helpers.

        Returns the call, and what the function returned to this thread.
        """
        if self._made_for != (n_threads, task_work):
            self._make_words(n_threads, task_work)
        call = n_threads, function, (self.call_words, self.words, *arguments), keep
        self.call = call
        # A helper that is busy from here on finds the new call; one that is busy now may be on its way out of the
        # latest call, and look at its words once more.
        if _withdraw_offer(self.words):
            self._make_words(n_threads, task_work)
            call = n_threads, function, (self.call_words, self.words, *arguments), keep
            self.call = call
        try:
            self._unpark(self.words.item(CALL))
            if self.alone:
                self.call_words[ALONE] = int(self.alone)
            result = function(0, *call[2])
        except BaseException:
            self.call, self.call_words[TICKET] = NO_CALL, QUIT << PHASE_SHIFT  # no helper waits for what is not to come
            raise
        finally:
            self._begins_after = -1
        self.alone = self.call_words.item(ALONE)
        return call, result

    def _make_words(self, n_threads: int, task_work: float) -> None:
        self._spins_per_us = self._spins_per_us or _spins_per_us()
        while self._n_helpers < n_threads - 1:
            self._n_helpers += 1
            threading.Thread(target=self._help, args=(self._n_helpers,), name="gdl-helper", daemon=True).start()
        call = new_call(n_threads)
        call[ALONE : SHARED + 1] = self.call_words[ALONE : SHARED + 1]
        call[SPINS] = int(max(SPIN_US, task_work / SLOWEST_PER_US) * self._spins_per_us)
        call[TICKET] = QUIT << PHASE_SHIFT  # over, as long as no call has announced them: it may never do so
        self._serial += 1
        call[SERIAL] = self._serial
        self.call_words, self._made_for = call, (n_threads, task_work)

    def _unpark(self, number: int) -> None:
        """Wake those who sleep for the call after a number, and let nobody else sleep who has not seen it."""
        with self._lock:
            self._begins_after = number
            if self.parked:
                self._wake.release(self.parked)
                self.parked = 0

    def _parks(self, seen: int) -> bool:
        """Count a helper as parked, unless there is a call that it has not seen.

        It may have waited for the GIL until the leader let go of it: where such helpers slept through whole calls,
        k-means of 60,000 x 784 took 14 % longer.
        """
        with self._lock:
            if self._begins_after == seen or self.words.item(CALL) != seen:
                return False
            self.parked += 1
            return True

    def _help(self, me: int) -> None:
        seen, busy, spins = 0, False, int(AWAIT_US * self._spins_per_us)
        while True:
            number = _await_call(self.words, seen, busy, spins)
            busy = number > 0
            if busy:
                seen, (n_threads, function, arguments, keep) = number, self.call
                if me < n_threads:
                    function(me, *arguments)
                del function, arguments, keep
            elif self._parks(seen):
                self._wake.acquire()


def new_call(n_threads: int) -> Any:
    """Words of a call by so many threads."""
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


def threads_for(work: float) -> int:
    """Threads that are worth their while for so many operations between two updates of what all of them read."""
    return n_threads() if work >= TEAM_WORK else 1


_team = Team()
_call_alone = new_call(1)
NOBODY = np.zeros(TEAM_WORDS, np.int64)


def _forget_team() -> None:
    global _team
    _team.call = NO_CALL
    _team = Team()  # a child of fork has the object and not the threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)


def run(function: Any, work: float, *arguments: Any, task_work: float = 0.0, keep: Any = None) -> None:
    """Run a compiled function ``(me, call, team, *arguments)``, shared if the work is worth it.

    ``task_work`` is the work of the longest task, if it may take longer than SPIN_US: else its leader would take a
    helper that computes for one that the system has put aside. ``keep`` is what has to live as long as somebody runs
    the function, if the arguments hold no more than its address.
    """
    run_by(threads_for(work), function, work, arguments, task_work, keep)


def run_by(
    n: int, function: Any, work: float, arguments: tuple[Any, ...], task_work: float = 0.0, keep: Any = None
) -> None:
    """Run a compiled function on at most n threads."""
    team = _team
    if n > 1 and team.alone > work:  # not even woken: a helper would take the caller's core
        team.alone -= work
        n = 1
    if n > 1 and team.taken.acquire(blocking=False):
        try:
            team.run(n, function, arguments, task_work, keep)
        finally:
            team.call = NO_CALL  # keep nobody's data alive
            team.taken.release()
    else:
        function(0, _call_alone.copy(), NOBODY, *arguments)


def new_key() -> int:
    """A number by which helpers tell calls of the same arguments from others."""
    return next(_keys)


class Series:
    """Calls of one function that differ in their last three arguments, integers; helpers wait for the next inside it.

    Between two steps that a user looks at there is no more than this, and it is cold code there, where each
    microsecond becomes ten. The function is ``(me, call, team, *arguments, key, start, stop, step)``. As the leader it
    makes an ``offer`` and returns what ``outcome`` says and a number, the call's result; with a positive key it returns
    NOT_DONE, having done nothing, if a helper is busy, which may be on its way out of the call before. As a helper it
    takes offers until none comes. ``n`` threads run it, whatever number is set later.
    """

    call: Call | None = None  #: what the team's call is as long as its helpers wait inside the function

    def __init__(self, n: int, function: Any, work: float, arguments: tuple[Any, ...], keep: Any) -> None:
        self.n, self.function, self.work, self.arguments, self.keep = n, function, work, arguments, keep
        self.key = new_key()
        alone = 0, new_call(1), NOBODY, *arguments, -self.key
        self.compiled = compiled_for(function, *alone, 0, 0, 0)
        self.alone = functools.partial(self.compiled, *alone)
        self.together = self.alone
        self.team = _team
        self.thread = threading.get_ident()

    def run(self, start: int, stop: int, step: int) -> float:
        """Run the function, on several threads if there are some to be had; return its result."""
        if threading.get_ident() != self.thread:
            self.forget()
            self.move()
        if self.n == 1:
            result: float = self.alone(start, stop, step)[1]
            return result
        team = self.team
        came_to = NOT_DONE
        if team.taken.acquire(blocking=False):
            try:
                if team.call is self.call and not team.parked and team.alone <= 0:
                    came_to, result = self.together(start, stop, step)
                if came_to == DONE_ALONE:
                    team.alone = team.call_words.item(ALONE)
            finally:
                team.taken.release()
        return self._run_anew(start, stop, step) if came_to == NOT_DONE else result

    def _run_anew(self, start: int, stop: int, step: int) -> float:
        """Run the function as ``run_by`` does, and leave its call for those that follow."""
        work, numbers = self.work * (stop - start), (start, stop, step)
        self.team = team = _team  # another after a fork
        if team.alone > work or not team.taken.acquire(blocking=False):
            team.alone -= work if team.alone > work else 0
            result: float = self.alone(*numbers)[1]
            return result
        try:
            self.call = None
            call, outcome = team.run(self.n, self.function, (*self.arguments, -self.key, *numbers), 0.0, self.keep)
            self.together = functools.partial(self.compiled, 0, *call[2][:2], *self.arguments, self.key)
            self.call, result = call, outcome[1]
            return result
        except BaseException:
            team.call = NO_CALL
            raise
        finally:
            team.taken.release()

    def move(self) -> None:
        """Get ready to be run by another thread."""
        self.thread = threading.get_ident()

    def forget(self) -> None:
        """Keep nobody's data alive."""
        if self.call is not None and self.team.call is self.call:
            self.team.call = NO_CALL
        self.call = None

    __del__ = forget

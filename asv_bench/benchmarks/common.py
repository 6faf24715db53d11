"""What the benchmarks share: how time is taken, beside what, and what an older commit may lack.

``GDL_BENCH`` chooses how much is measured: ``full`` (the default), ``short`` (the first parameters only, for a long
history) or ``smoke`` (the first parameters, and no time spent on measuring them well: does everything run?).
"""

import abc
import importlib
import os
from time import perf_counter

import numba
import numpy as np

PROFILE = os.environ.get("GDL_BENCH", "full")
if PROFILE not in ("full", "short", "smoke"):
    raise ValueError(f"GDL_BENCH={PROFILE!r} must be 'full', 'short' or 'smoke'.")
THREADS = [1, 2]
DTYPES = ["float32", "float64"]
TOLERANCES = {"float32": 1e-4, "float64": 1e-10}


def few(values, n=1, smoke=None):
    """All values of a parameter, or the first ``n`` where GDL_BENCH asks for less; ``smoke`` if for smoke only."""
    most = {"full": None, "short": n, "smoke": n if smoke is None else smoke}[PROFILE]
    return list(values)[:most]


class Optional:
    """A module of gdl whose parts the measured commit may lack: to use one that it lacks skips the benchmark."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, part):
        try:
            value = getattr(importlib.import_module(self._name), part)
        except (ImportError, AttributeError):
            raise NotImplementedError(f"This commit has no {self._name}.{part}.") from None
        setattr(self, part, value)  # found at once from now on
        return value


def use_threads(n):
    """Compute with ``n`` threads from now on; skip where there are fewer cores.

    Only gdl does: a peer with one thread is the steadier yardstick. The peers at their best are in ``peers.py``.
    """
    if n > len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)):
        raise NotImplementedError(f"This machine has fewer than {n} cores.")
    use_gdl_threads(n)


def use_gdl_threads(n):
    """Tell gdl, in no time."""
    # What gdl asks; numba.set_num_threads would start the threads of a layer that gdl does not use.
    os.environ["NUMBA_NUM_THREADS"] = str(n)
    numba.config.NUMBA_NUM_THREADS = n


def best_of(*functions, seconds=0.25, rounds=5):
    """Shortest time of a call of each function in seconds; they take turns, so that all meet the same machine."""
    if PROFILE == "smoke":
        seconds, rounds = 0, 1
    loops = []
    for function in functions:
        function()  # compile or load: never timed
        n = 1
        while PROFILE != "smoke" and seconds_of(function, n) < 2e-3:
            n *= 4
        loops.append(n)
    best = [float("inf")] * len(functions)
    stop = perf_counter() + seconds * len(functions)
    done = 0
    while done < rounds or perf_counter() < stop:
        for i, (function, n) in enumerate(zip(functions, loops, strict=True)):
            best[i] = min(best[i], seconds_of(function, n) / n)
        done += 1
    return best


def seconds_of(function, n):
    """Seconds that ``n`` calls take."""
    start = perf_counter()
    for _ in range(n):
        function()
    return perf_counter() - start


class Measured(abc.ABC):  # abstract, so that asv does not take it for a benchmark
    """Three figures of one call: its time for the graphs, and two for decisions; smaller is better in all.

    A subclass's ``prepare`` makes ``ours``, the call, and ``theirs``, the same work by a peer; its ``check`` compares
    what they leave. So ``setup`` has compiled and warmed up what is timed, and asserted that the work is equal, before
    any figure is taken. ``loops`` calls make a sample long enough for the clock; they depend on the parameters only.
    """

    number, rounds, repeat, warmup_time = 1, 1, (3, 30, 0.5), 0
    timeout = 300
    loops = 1
    ready = None

    def setup(self, *parameters):
        if self.ready == parameters:  # asv asks before each sample
            return
        use_threads(self.threads(*parameters))
        self.prepare(*parameters)
        self.ours()
        self.check(*parameters)
        self.ours()
        self.ready = parameters

    @abc.abstractmethod
    def prepare(self, *parameters):
        """Make the data, ``ours`` and ``theirs``."""

    @abc.abstractmethod
    def check(self, *parameters):
        """Call ``theirs`` and compare what both have left."""

    def threads(self, *parameters):
        """Return the value of the parameter ``threads``, 1 if there is none."""
        return dict(zip(self.param_names, parameters, strict=True)).get("threads", 1)

    def time_calls(self, *parameters):
        for _ in range(self.loops):
            self.ours()

    def track_microseconds(self, *parameters):
        return best_of(self.ours)[0] * 1e6

    def track_over_peer(self, *parameters):
        ours, theirs = best_of(self.ours, self.theirs)
        return ours / theirs

    track_microseconds.unit = "us a call, shortest"
    track_over_peer.unit = "x the peer's time"


class MeasuredKernel(Measured):
    """A kernel, called with ``arguments``, beside its NumPy reference, called with a copy of them."""

    n_outputs = 1

    @abc.abstractmethod
    def call(self, *parameters):
        """Return the kernel, its reference and their arguments."""

    def prepare(self, *parameters):
        kernel, reference, arguments = self.call(*parameters)
        theirs = [value.copy() if isinstance(value, np.ndarray) else value for value in arguments]
        self.results = arguments[-self.n_outputs :], theirs[-self.n_outputs :]
        self.ours, self.theirs = lambda: kernel(*arguments), lambda: reference(*theirs)

    def check(self, *parameters):
        self.theirs()
        tolerance = TOLERANCES[dict(zip(self.param_names, parameters, strict=True))["dtype"]]
        for mine, other in zip(*self.results, strict=True):
            np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance * max(1e-30, np.abs(other).max()))

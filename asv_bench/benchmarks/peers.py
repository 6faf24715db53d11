"""Time over the best peer's, whole fits as a user calls them; smaller is better, below 1 gdl is ahead.

``asv_bench/peers.py`` holds the peers, runs each in a process of its own, and refuses a figure if the work was not
equal. A peer that is not installed is skipped.
"""

import contextlib
import os
import sys
from pathlib import Path

from .common import PROFILE, few

ROOT = str(Path(__file__).resolve().parents[2])
ROUNDS = 5
PEERS = {"sklearn": "scikit-learn", "sklearnex": "scikit-learn-intelex", "torch": "PyTorch", "jax": "JAX"}
PEERS |= {"faiss": "faiss", "onnxruntime": "onnxruntime"}


def peers():
    """Return the module that races gdl with its peers."""
    if ROOT not in sys.path:
        sys.path.append(ROOT)  # behind the installed gdl, which is what is measured
    from asv_bench import peers

    return peers


@contextlib.contextmanager
def as_users_start_it():
    """Let processes start with the threads that a user would get, and with this process's modules."""
    before = dict(os.environ)
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.pop(name, None)
    os.environ |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONSAFEPATH": "1"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def race(kind, cases):
    """Return seconds by case and library, those of equal work only."""
    module = peers()
    engines = [engine for engine in module.KINDS[kind][1] if module.installed(engine)]
    if PROFILE == "smoke":
        engines = [engine for engine in engines if engine in ("gdl", "sklearn")]
    seconds = {}
    with as_users_start_it():
        for case in cases:
            best = module.race(kind, case, engines, 0 if PROFILE == "smoke" else ROUNDS)
            mine, value = best.pop("gdl")
            try:
                equal = module.peers_of_equal_work(kind, case, value, best)
            except SystemExit as error:
                raise AssertionError(str(error)) from None
            seconds[case] = {"gdl": mine} | {engine: median for engine, (median, _) in equal.items()}
    return seconds


class _Race:
    param_names = ("case", "peer")
    timeout = 600

    def setup(self, seconds, case, peer):
        if not (seconds[case].keys() - {"gdl"} if peer == "best" else peer in seconds[case]):
            if peer == "best":
                raise NotImplementedError("No peer is installed that did equal work.")
            raise NotImplementedError(f"{PEERS[peer]} is not installed, or did not do equal work.")

    def track_over_peer(self, seconds, case, peer):
        mine = seconds[case]["gdl"]
        others = {name: s for name, s in seconds[case].items() if name != "gdl"}
        return mine / (min(others.values()) if peer == "best" else others[peer])

    track_over_peer.unit = "x the peer's time"


DENSE = few(["tiny-4-8-3", "digits-64-64-10", "mnist-784-100-10"])
KMEANS = few(["uniform-60k-784-10", "uniform-100k-16-256"])


class Dense(_Race):
    """Training: the same network, batches and number of steps."""

    params = (DENSE, ["best", "sklearn", "torch", "jax"])

    def setup_cache(self):
        return race("dense", DENSE)

    setup_cache.timeout = 600


class KMeans(_Race):
    """Whole fits, k-means++ included."""

    params = (KMEANS, ["best", "sklearn", "sklearnex"])

    def setup_cache(self):
        return race("kmeans", KMEANS)

    setup_cache.timeout = 600


class Lloyd(_Race):
    """Iterations from the same first centers."""

    params = (KMEANS, ["best", "sklearn", "sklearnex", "faiss"])

    def setup_cache(self):
        return race("lloyd", KMEANS)

    setup_cache.timeout = 600


class Predict(_Race):
    """One call of ``predict`` on a trained network."""

    params = ([1, 64], ["best", "sklearn", "torch", "onnxruntime"])
    param_names = ("rows", "peer")

    def setup_cache(self):
        module = peers()
        X, calls = module.predict_calls()
        return {n: module.predict_race(X, calls, n, ROUNDS) for n in (1, 64)}

"""How cost grows: the exponent p of ``time = c size^p``, fitted over four sizes, each twice the one before.

1 is growth in proportion; a step up says that something has begun to grow faster than its data.
"""

import numpy as np

from .common import PROFILE, Optional, best_of, few, use_gdl_threads, use_threads

gdl, cpu, layout = Optional("gdl"), Optional("gdl.kernels.cpu"), Optional("gdl.kernels.layout")
FACTORS = (1, 2, 4, 8)


def exponent(sizes, seconds):
    """Return the slope of log time over log size, by least squares.

    >>> round(exponent([1, 2, 4], [3.0, 12.0, 48.0]), 6)
    2.0
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def kmeans_iteration(sizes):
    """Return one pass over uniform samples, ready to be timed."""
    X = np.random.default_rng(0).random((sizes["samples"], sizes["features"]), dtype=np.float32)
    centers = X[: sizes["clusters"]].copy()
    labels, weights, shift = np.zeros(len(X), np.int32), np.empty(0, X.dtype), np.zeros(X.shape[1], X.dtype)
    sums, totals, count = np.empty(centers.shape), np.empty(len(centers)), np.empty(1)
    step = cpu.lloyd_step
    return lambda: step(X, weights, shift, centers, labels, sums, totals, count)


def epoch(sizes):
    """Return one epoch of a network with two hidden layers, ready to be timed."""
    rng = np.random.default_rng(0)
    n, width, batch_size = sizes["samples"], sizes["width"], 64
    X = rng.standard_normal((n, 64)).astype(np.float32)
    Y = rng.integers(10, size=(n, 1)).astype(np.float32)
    layers = layout.layer_table([64, width, width, 10], ["relu", "relu", "softmax"])
    parameters = (rng.standard_normal(layout.n_parameters(layers)) / 16).astype(np.float32)
    workspace = np.zeros((layout.n_workspace_rows(layers, 0.0), batch_size * layout.n_units(layers)), np.float32)
    state = layout.State(parameters, np.zeros_like(parameters), np.zeros((0, len(parameters)), np.float32), workspace)
    rule = layout.Rule(
        layout.LOSSES["log_loss"], 0.0, 0.0, 0.0, np.inf, layout.SOLVERS["sgd"], 0.9, 0.9, 0.999, 1e-8, 0
    )
    n_steps = n // batch_size
    rates, losses, order, weights = np.full(n_steps, 1e-5), np.empty(n_steps), np.arange(n), np.empty(0, np.float32)
    train = cpu.train_epoch
    return lambda: train(X, Y, weights, order, batch_size, layers, rule, rates, 0, state, losses)


# what grows: how to make the call, and the smallest sizes
GROWTH = {
    "k-means, samples": (kmeans_iteration, {"samples": 10_000, "clusters": 64, "features": 64}),
    "k-means, clusters": (kmeans_iteration, {"samples": 10_000, "clusters": 64, "features": 64}),
    "k-means, features": (kmeans_iteration, {"samples": 10_000, "clusters": 64, "features": 64}),
    "epoch, samples": (epoch, {"samples": 1024, "width": 128}),
    "epoch, width": (epoch, {"samples": 1024, "width": 128}),
}


class Growth:
    params = (few(GROWTH, None, smoke=1),)
    param_names = ("what grows",)
    timeout = 300

    def setup(self, grows):
        use_threads(1)
        make, smallest = GROWTH[grows]
        size = grows.partition(", ")[2]
        factors = FACTORS[:2] if PROFILE == "smoke" else FACTORS
        self.calls = [make(smallest | {size: smallest[size] * factor}) for factor in factors]
        self.factors = factors
        for call in self.calls:
            call()  # compiled before it is timed

    def track_exponent(self, grows):
        return exponent(self.factors, best_of(*self.calls, seconds=0.3, rounds=5))

    track_exponent.unit = "exponent of the cost"


class Threads:
    """The same for threads: -1 halves the time with twice the threads, 0 leaves it as it is."""

    params = (few(["k-means", "epoch"], None, smoke=1),)
    param_names = ("work",)

    def setup(self, work):
        use_threads(2)
        if work == "k-means":
            self.call = kmeans_iteration({"samples": 50_000, "clusters": 64, "features": 64})
        else:
            self.call = epoch({"samples": 1024, "width": 1024})
        self.call()

    def track_exponent(self, work):
        def with_threads(n):
            use_gdl_threads(n)
            self.call()

        return exponent([1, 2], best_of(lambda: with_threads(1), lambda: with_threads(2)))

    track_exponent.unit = "exponent of the time"

"""The kernels of a dense layer, and an epoch made of them.

``time_`` is for the graphs. ``track_`` is for decisions: the shortest time, in nanoseconds a floating-point
operation and beside NumPy's; smaller is better. What is timed is first compared with NumPy's result.
"""

import numpy as np

from gdl.kernels import cpu, reference
from gdl.kernels.layout import (
    ACTIVATIONS,
    LOSSES,
    N_MOMENTS,
    SOLVERS,
    Rule,
    State,
    layer_table,
    n_parameters,
    n_units,
    n_workspace_rows,
    weight_views,
)

from .common import best_of

TOLERANCES = {"float32": 1e-4, "float64": 1e-10}


class _Layer:
    """A kernel of one dense layer; subclasses name it, its arguments and NumPy's way."""

    params = (["32x64x64", "100x784x100", "128x784x512", "256x512x1024"], ["float32", "float64"])
    param_names = ("n_samples x n_in x n_out", "dtype")
    repeat = (5, 50, 1.0)

    def setup(self, shape, dtype):
        m, n_in, n_out = map(int, shape.split("x"))
        rng = np.random.default_rng(0)
        self.X, self.dZ, self.W, self.b = (
            rng.standard_normal(size).astype(dtype) for size in ((m, n_in), (m, n_out), (n_in, n_out), n_out)
        )
        self.W /= np.sqrt(n_in).astype(dtype)
        self.out = self.allocate(dtype)
        self.n_operations = 2 * m * n_in * n_out
        self.kernel()
        ours = self.out.copy()
        self.numpy()
        scale = np.abs(self.out).max()
        np.testing.assert_allclose(ours, self.out, rtol=0, atol=scale * TOLERANCES[dtype])
        self.loops = range(max(1, 20_000_000 // self.n_operations))

    def time_kernel(self, shape, dtype):
        for _ in self.loops:
            self.kernel()

    def track_nanoseconds_an_operation(self, shape, dtype):
        return best_of(self.kernel)[0] * 1e9 / self.n_operations

    def track_time_over_numpy(self, shape, dtype):
        ours, theirs = best_of(self.kernel, self.numpy)
        return ours / theirs

    track_nanoseconds_an_operation.unit = "ns/FLOP"
    track_time_over_numpy.unit = "x NumPy, smaller is better"


class Forward(_Layer):
    def allocate(self, dtype):
        return np.empty((len(self.X), len(self.b)), dtype)

    def kernel(self):
        cpu.dense_forward(self.X, self.W, self.b, ACTIVATIONS["relu"], self.out)

    def numpy(self):
        np.matmul(self.X, self.W, out=self.out)
        self.out += self.b
        np.maximum(self.out, 0, out=self.out)


class WeightGradient(_Layer):
    def allocate(self, dtype):
        return np.empty(self.W.shape, dtype)

    def kernel(self):
        cpu.dense_weight_gradient(self.X, self.dZ, self.out)

    def numpy(self):
        np.matmul(self.X.T, self.dZ, out=self.out)


class InputGradient(_Layer):
    def allocate(self, dtype):
        return np.empty(self.X.shape, dtype)

    def kernel(self):
        cpu.dense_input_gradient(self.dZ, self.W, self.out)

    def numpy(self):
        np.matmul(self.dZ, self.W.T, out=self.out)


class Epoch:
    """``train_epoch``: the whole of a training epoch, once through the data."""

    params = (
        ["4-8-3 by 32", "64-64-10 by 32", "784-100-10 by 100", "784-512-10 by 128"],
        ["sgd", "adam"],
        ["float32", "float64"],
    )
    param_names = ("network by batch size", "solver", "dtype")
    repeat = (5, 20, 2.0)
    n_steps = 32

    def setup(self, network, solver, dtype):
        shape, batch_size = network.split(" by ")
        widths, self.batch_size = [int(width) for width in shape.split("-")], int(batch_size)
        rng = np.random.default_rng(0)
        n_samples = self.n_steps * self.batch_size
        self.X = rng.standard_normal((n_samples, widths[0])).astype(dtype)
        self.Y = rng.integers(widths[-1], size=(n_samples, 1)).astype(dtype)
        self.order = rng.permutation(n_samples)
        self.layers = layer_table(widths, ["relu"] * (len(widths) - 2) + ["softmax"])
        parameters = np.zeros(n_parameters(self.layers), dtype)
        for W in weight_views(parameters, self.layers):
            W[:] = rng.standard_normal(W.shape) / np.sqrt(len(W))
        self.rule = Rule(
            LOSSES["log_loss"], 0.0, 1e-4, 0.0, np.inf, SOLVERS[solver], 0.9, 0.9, 0.999, 1e-8, 0
        )  # fmt: skip
        # Three products a layer, but no gradient of the network's input.
        sizes = [W.size for W in weight_views(parameters, self.layers)]
        self.n_operations = 2 * n_samples * (3 * sum(sizes) - sizes[0])
        ours, theirs = (self.state(parameters, solver) for _ in range(2))
        self.losses = np.empty(self.n_steps)
        self.train(cpu, ours)
        losses = self.losses.copy()
        self.train(reference, theirs)
        np.testing.assert_allclose(losses, self.losses, rtol=TOLERANCES[dtype])
        self.ours = ours

    def state(self, parameters, solver):
        n, dtype = len(parameters), parameters.dtype
        rows, items = n_workspace_rows(self.layers, 0.0), self.batch_size * n_units(self.layers)
        moments = np.zeros((N_MOMENTS[solver], n), dtype)
        return State(parameters.copy(), np.empty(n, dtype), moments, np.empty((rows, items), dtype))

    def train(self, kernels, state):
        kernels.train_epoch(
            self.X, self.Y, np.empty(0, self.X.dtype), self.order, self.batch_size,
            self.layers, self.rule, np.full(self.n_steps, 1e-3), 0, state, self.losses,
        )  # fmt: skip

    def time_epoch(self, network, solver, dtype):
        self.train(cpu, self.ours)

    def track_microseconds_a_step(self, network, solver, dtype):
        return best_of(lambda: self.train(cpu, self.ours))[0] * 1e6 / self.n_steps

    def track_nanoseconds_an_operation(self, network, solver, dtype):
        return best_of(lambda: self.train(cpu, self.ours))[0] * 1e9 / self.n_operations

    track_microseconds_a_step.unit = "us"
    track_nanoseconds_an_operation.unit = "ns/FLOP"

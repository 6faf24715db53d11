"""The kernels of dense networks, a step and an epoch made of them; the peer is NumPy.

What is timed is first compared with NumPy's result.
"""

import numpy as np

from .common import DTYPES, THREADS, TOLERANCES, Measured, MeasuredKernel, Optional, best_of, few

cpu, reference = Optional("gdl.kernels.cpu"), Optional("gdl.kernels.reference")
layout = Optional("gdl.kernels.layout")


class _Layer(Measured):
    """A kernel of one dense layer; subclasses name it, what it writes and NumPy's way."""

    params = (few(["128x784x512", "32x64x64", "256x512x1024"]), few(DTYPES), few(THREADS))
    param_names = ("n_samples x n_in x n_out", "dtype", "threads")

    def prepare(self, shape, dtype, threads):
        m, n_in, n_out = map(int, shape.split("x"))
        rng = np.random.default_rng(0)
        self.X, self.dZ, self.W, self.b = (
            rng.standard_normal(size).astype(dtype) for size in ((m, n_in), (m, n_out), (n_in, n_out), n_out)
        )
        self.W /= np.sqrt(n_in).astype(dtype)
        self.out, self.expected = self.room(), self.room()
        self.n_operations = 2 * m * n_in * n_out
        self.loops = max(1, 20_000_000 // self.n_operations)

    def check(self, shape, dtype, threads):
        self.theirs()
        scale = np.abs(self.expected).max()
        np.testing.assert_allclose(self.out, self.expected, rtol=0, atol=scale * TOLERANCES[dtype])


class Forward(_Layer):
    def room(self):
        return np.empty((len(self.X), len(self.b)), self.X.dtype)

    def prepare(self, *parameters):
        super().prepare(*parameters)
        self.kernel, self.relu = cpu.dense_forward, layout.ACTIVATIONS["relu"]

    def ours(self):
        self.kernel(self.X, self.W, self.b, self.relu, self.out)

    def theirs(self):
        np.matmul(self.X, self.W, out=self.expected)
        self.expected += self.b
        np.maximum(self.expected, 0, out=self.expected)


class InputGradient(_Layer):
    def room(self):
        return np.empty(self.X.shape, self.X.dtype)

    def prepare(self, *parameters):
        super().prepare(*parameters)
        self.kernel = cpu.dense_input_gradient

    def ours(self):
        self.kernel(self.dZ, self.W, self.out)

    def theirs(self):
        np.matmul(self.dZ, self.W.T, out=self.expected)


class WeightGradient(_Layer):
    def room(self):
        return np.empty(self.W.shape, self.X.dtype)

    def prepare(self, *parameters):
        super().prepare(*parameters)
        self.kernel = cpu.dense_weight_gradient

    def ours(self):
        self.kernel(self.X, self.dZ, self.out)

    def theirs(self):
        np.matmul(self.X.T, self.dZ, out=self.expected)


ACTIVATIONS = [
    f"activate {name}"
    for name in (
        "identity", "relu", "leaky_relu", "logistic", "tanh", "elu", "softplus", "gelu", "silu", "exp", "softmax",
    )
]  # fmt: skip
GRADIENTS = [f"activation_gradient {name}" for name in ("relu", "tanh", "gelu")]
LOSSES = ["log_loss", "binary_log_loss", "squared_error", "poisson", "absolute_error", "huber", "quantile"]
OPTIMIZERS = ["sgd_step", "momentum_step", "nesterov_step", "adam_step", "adamw_step", "rmsprop_step"]
OTHERS = ["softmax", "dense_bias_gradient", "dropout_mask", "all_finite"]


class Elementwise(MeasuredKernel):
    """What is done to each number: activations, losses, optimizers, masks and checks."""

    params = (few(ACTIVATIONS + GRADIENTS + LOSSES + OPTIMIZERS + OTHERS, None, smoke=1), few(DTYPES))
    param_names = ("kernel", "dtype")
    repeat = (3, 20, 0.2)
    loops = 20
    shape = 256, 64
    n_parameters = 100_000

    def call(self, name, dtype):
        kernel, _, activation = name.partition(" ")
        rng = np.random.default_rng(0)
        Z, A, dA, out = (rng.uniform(-3, 3, self.shape).astype(dtype) for _ in range(4))
        if kernel == "activate":
            return cpu.activate, reference.activate, (Z, layout.ACTIVATIONS[activation], out)
        if kernel == "activation_gradient":
            code = layout.ACTIVATIONS[activation]
            reference.activate(Z, code, A)
            return cpu.activation_gradient, reference.activation_gradient, (Z, A, dA, code, out)
        if kernel in LOSSES:
            return self.loss_call(kernel, rng, out)
        if kernel in OPTIMIZERS:
            return self.optimizer_call(kernel, rng, dtype)
        return {
            "softmax": lambda: (cpu.softmax, reference.softmax, (Z, out)),
            "dense_bias_gradient": lambda: (
                cpu.dense_bias_gradient,
                reference.dense_bias_gradient,
                (Z, np.empty(self.shape[1], dtype)),
            ),
            "dropout_mask": lambda: (cpu.dropout_mask, reference.dropout_mask, (42, 5, 0.4, out)),
            "all_finite": lambda: (cpu.all_finite, reference.all_finite, (Z, np.empty(1))),
        }[kernel]()

    def loss_call(self, name, rng, dZ):
        self.n_outputs = 2
        dtype = dZ.dtype
        P = rng.uniform(0.1, 0.9, self.shape).astype(dtype)
        Y = rng.integers(2, size=self.shape).astype(dtype)
        losses = np.empty(len(P))
        if name == "log_loss":
            Y = rng.integers(self.shape[1], size=(len(P), 1)).astype(dtype)
        ours, theirs = {
            "log_loss": lambda: (cpu.log_loss, reference.log_loss),
            "binary_log_loss": lambda: (cpu.binary_log_loss, reference.binary_log_loss),
            "squared_error": lambda: (cpu.squared_error, reference.squared_error),
            "poisson": lambda: (cpu.poisson, reference.poisson),
            "absolute_error": lambda: (cpu.absolute_error, reference.absolute_error),
            "huber": lambda: (cpu.huber, reference.huber),
            "quantile": lambda: (cpu.quantile, reference.quantile),
        }[name]()
        scalars = {"huber": (0.3,), "quantile": (0.3,)}.get(name, ())
        return ours, theirs, (P, Y, *scalars, losses, dZ)

    def optimizer_call(self, name, rng, dtype):
        gradients, parameters, velocity = (rng.uniform(-1, 1, self.n_parameters).astype(dtype) for _ in range(3))
        square = rng.uniform(0.1, 1, self.n_parameters).astype(dtype)
        # So small a rate that no number of calls moves the parameters anywhere: every call does the same work.
        rate = 1e-9
        self.n_outputs = {"sgd_step": 1, "adam_step": 3, "adamw_step": 3}.get(name, 2)
        return {
            "sgd_step": lambda: (cpu.sgd_step, reference.sgd_step, (gradients, rate, parameters)),
            "momentum_step": lambda: (
                cpu.momentum_step,
                reference.momentum_step,
                (gradients, rate, 0.9, parameters, velocity),
            ),
            "nesterov_step": lambda: (
                cpu.nesterov_step,
                reference.nesterov_step,
                (gradients, rate, 0.9, parameters, velocity),
            ),
            "adam_step": lambda: (
                cpu.adam_step,
                reference.adam_step,
                (gradients, rate, 0.9, 0.999, 1e-8, parameters, velocity, square),
            ),
            "adamw_step": lambda: (
                cpu.adamw_step,
                reference.adamw_step,
                (gradients, rate, rate, 0.9, 0.999, 1e-8, parameters, velocity, square),
            ),
            "rmsprop_step": lambda: (
                cpu.rmsprop_step,
                reference.rmsprop_step,
                (gradients, rate, 0.999, 1e-8, parameters, square),
            ),
        }[name]()


NETWORKS = ["784-100-10 by 100", "4-8-3 by 32", "784-512-10 by 128"]


class _Network(Measured):
    """A kernel that runs a whole network; subclasses name it."""

    params = (few(NETWORKS), few(DTYPES), few(THREADS))
    param_names = ("network by batch size", "dtype", "threads")
    n_steps = 1

    def prepare(self, network, dtype, threads, solver="sgd"):
        shape, batch_size = network.split(" by ")
        widths, self.batch_size = [int(width) for width in shape.split("-")], int(batch_size)
        rng = np.random.default_rng(0)
        n_samples = self.n_steps * self.batch_size
        self.X = rng.standard_normal((n_samples, widths[0])).astype(dtype)
        self.Y = rng.integers(widths[-1], size=(n_samples, 1)).astype(dtype)
        self.order, self.no_weights = rng.permutation(n_samples), np.empty(0, dtype)
        self.layers = layout.layer_table(widths, ["relu"] * (len(widths) - 2) + ["softmax"])
        parameters = np.zeros(layout.n_parameters(self.layers), dtype)
        weights = layout.weight_views(parameters, self.layers)
        for W in weights:
            W[:] = rng.standard_normal(W.shape) / np.sqrt(len(W))
        self.rule = layout.Rule(
            layout.LOSSES["log_loss"], 0.0, 1e-4, 0.0, np.inf, layout.SOLVERS[solver], 0.9, 0.9, 0.999, 1e-8, 0
        )
        # Three products a layer, but no gradient of the network's input.
        sizes = [W.size for W in weights]
        self.n_operations = 2 * n_samples * (3 * sum(sizes) - sizes[0])
        self.loops = max(1, 20_000_000 // self.n_operations)
        self.states = [self.state(parameters, solver) for _ in range(2)]
        self.results = [self.room() for _ in range(2)]

    def state(self, parameters, solver):
        n, dtype = len(parameters), parameters.dtype
        rows = layout.n_workspace_rows(self.layers, 0.0)
        items = self.batch_size * layout.n_units(self.layers)
        moments = np.zeros((layout.N_MOMENTS[solver], n), dtype)
        return layout.State(parameters.copy(), np.zeros(n, dtype), moments, np.zeros((rows, items), dtype))

    def ours(self):
        self.run(cpu, self.states[0], self.results[0])

    def theirs(self):
        self.run(reference, self.states[1], self.results[1])

    def check(self, network, dtype, *others):
        for mine, other in zip(*self.states, strict=True):
            other[:] = mine  # both go on from here
        self.ours()
        self.theirs()
        np.testing.assert_allclose(*self.results, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


class Predict(_Network):
    def room(self):
        return np.empty((len(self.X), self.layers[-1, 1]), self.X.dtype)

    def run(self, kernels, state, out):
        kernels.predict(self.X, self.layers, state.parameters, out)


class ForwardPass(_Network):
    """Outputs of all layers."""

    def room(self):
        return np.empty(len(self.X) * layout.n_units(self.layers), self.X.dtype)

    def run(self, kernels, state, out):
        kernels.forward(self.X, self.layers, state.parameters, out)


class Backward(_Network):
    """Loss and gradient: forward and backward without a step."""

    def room(self):
        return np.empty(2)  # the data's loss and the penalty's

    def run(self, kernels, state, loss):
        kernels.loss_and_gradient(self.X, self.Y, self.no_weights, self.layers, self.rule, state, loss)

    def check(self, network, dtype, *others):
        super().check(network, dtype, *others)
        ours, theirs = (state.gradients for state in self.states)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCES[dtype] * np.abs(theirs).max())


class Step(_Network):
    """A whole step of training."""

    def room(self):
        return np.empty(1)

    def run(self, kernels, state, loss):
        arguments = self.X, self.Y, self.no_weights, self.order, self.layers, self.rule, 1e-4, 0, state, loss
        kernels.train_step(*arguments)


class StepPart(_Network):
    """One of the three parts of a step."""

    params = (few(NETWORKS), few(DTYPES), [1], ["predict_batch", "compare_batch", "learn_batch"])
    param_names = ("network by batch size", "dtype", "threads", "part")

    def prepare(self, network, dtype, threads, part):
        super().prepare(network, dtype, threads)
        self.part = part
        for before in ("predict_batch", "compare_batch"):  # what a part goes on from
            self.call(before, cpu, self.states[0], self.results[0])

    def room(self):
        return np.zeros(1)

    def run(self, kernels, state, loss):
        self.call(self.part, kernels, state, loss)

    def call(self, part, kernels, state, loss):
        if part == "predict_batch":
            kernels.predict_batch(self.X, self.order, self.layers, self.rule, 0, state)
        elif part == "compare_batch":
            arguments = self.X, self.Y, self.no_weights, self.order, self.layers, self.rule, state, loss
            kernels.compare_batch(*arguments)
        else:
            kernels.learn_batch(self.layers, self.rule, 1e-9, 0, state)

    def check(self, network, dtype, *others):
        self.results[1][:] = self.results[0]
        super().check(network, dtype, *others)
        for mine, other in zip(*self.states, strict=True):
            scale = np.abs(other).max(initial=0)
            np.testing.assert_allclose(mine, other, rtol=0, atol=TOLERANCES[dtype] * scale)


class Epoch(_Network):
    """A whole epoch of training, once through the data."""

    params = (few(NETWORKS), few(DTYPES), few(THREADS), few(["sgd", "adam"]))
    param_names = ("network by batch size", "dtype", "threads", "solver")
    n_steps = 16

    def room(self):
        return np.empty(self.n_steps)

    def run(self, kernels, state, losses):
        kernels.train_epoch(
            self.X, self.Y, self.no_weights, self.order, self.batch_size,
            self.layers, self.rule, np.full(self.n_steps, 1e-4), 0, state, losses,
        )  # fmt: skip

    def track_nanoseconds_an_operation(self, *parameters):
        return best_of(self.ours)[0] * 1e9 / self.n_operations

    track_nanoseconds_an_operation.unit = "ns/FLOP"

"""Training: gradients by central differences, steps against naive ones, epochs against steps, bit for bit."""

import copy
import itertools
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import naive
import numba
import numpy as np
import pytest
from problems import LOSS_PARAMETERS, make_problem, make_state

from gdl.kernels.layout import (
    ACTIVATIONS,
    LOSSES,
    MASKS,
    SOLVERS,
    bias_views,
    n_units,
    unit_views,
    weight_views,
)

HIDDEN = [name for name in ACTIVATIONS if name not in ("softmax", "exp")]
# Losses reported as a mean over outputs whose gradient belongs to the sum.
AVERAGED = ["squared_error", "absolute_error", "huber", "quantile"]
EVERYTHING = {"weighted": True, "alpha": 0.3, "dropout": 0.4}
OPTIONS = {
    "plain": {},
    "weights": {"weighted": True},
    "penalty": {"alpha": 0.3},
    "dropout": {"dropout": 0.4},
    "no intercept": {"fit_intercept": False},
    "everything": EVERYTHING,
}
if numba.config.DISABLE_JIT:
    OPTIONS = {"everything": EVERYTHING}


def total_weight(problem):
    return float(problem.sample_weight.sum()) if len(problem.sample_weight) else len(problem.X)


def penalty(problem):
    """alpha / 2 times the sum of squared weights, over the total weight."""
    squares = sum(float(w) ** 2 for W in weight_views(problem.state.parameters, problem.layers) for w in W.ravel())
    return 0.5 * problem.rule.alpha * squares / total_weight(problem)


def numerical_gradient(problem, data_loss):
    """Central differences of what the gradient belongs to; ``data_loss`` is the reported loss without penalty."""
    loss = list(LOSSES)[problem.rule.loss]
    factor = problem.layers[-1, 1] if loss in AVERAGED else 1
    return naive.central_difference(lambda: factor * data_loss() + penalty(problem), problem.state.parameters)


def naive_outputs(problem, masks=None):
    """Every layer's outputs, row by row and sum by sum."""
    weights = weight_views(problem.state.parameters, problem.layers)
    biases = bias_views(problem.state.parameters, problem.layers) or [np.zeros(W.shape[1]) for W in weights]
    names = list(ACTIVATIONS)
    layers, A = [], problem.X.tolist()
    for layer, (W, b) in enumerate(zip(weights, biases, strict=True)):
        name = names[problem.layers[layer, 2]]
        W, b = W.tolist(), b.tolist()
        Z = [[b[k] + math.fsum(a[j] * W[j][k] for j in range(len(W))) for k in range(len(b))] for a in A]
        if name == "softmax":
            A = [naive.softmax(z) for z in Z]
        else:
            A = [[naive.ACTIVATIONS[name](value) for value in z] for z in Z]
        if masks and layer < len(weights) - 1:
            A = [[a * m for a, m in zip(*rows, strict=True)] for rows in zip(A, masks[layer], strict=True)]
        layers.append(A)
    return layers


def naive_losses(problem, P):
    loss = list(LOSSES)[problem.rule.loss]
    parameter = (LOSS_PARAMETERS[loss],) if loss in LOSS_PARAMETERS else ()
    return [naive.LOSSES[loss](p, y, *parameter) for p, y in zip(P, problem.Y.tolist(), strict=True)]


def assert_same_bits(one, other):
    for name in ("parameters", "gradients", "moments"):
        np.testing.assert_array_equal(getattr(one.state, name), getattr(other.state, name), err_msg=name)


class TestGradient:
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    @pytest.mark.parametrize("hidden", HIDDEN)
    @pytest.mark.parametrize("loss", LOSSES)
    def test_step(self, kernels, loss, hidden, options, rng):
        """The mask is the same for the same seed and step."""
        problem = make_problem(rng, loss, hidden, (2, 4, 3, 2), 5, **options)
        problem.step(kernels, learning_rate=0.0, step=3)
        gradient = problem.state.gradients.copy()
        unpenalized = replace(problem, rule=problem.rule._replace(alpha=0.0))
        expected = numerical_gradient(problem, lambda: unpenalized.step(kernels, learning_rate=0.0, step=3))
        np.testing.assert_allclose(gradient, expected, 1e-6, 1e-9)

    @pytest.mark.parametrize("n_out", [1, 3])
    @pytest.mark.parametrize("loss", LOSSES)
    def test_step_without_hidden_layer(self, kernels, loss, n_out, rng):
        if loss == "log_loss":
            n_out += 1
        problem = make_problem(rng, loss, widths=(3, n_out), weighted=True)
        problem.step(kernels)
        gradient = problem.state.gradients.copy()
        np.testing.assert_allclose(gradient, numerical_gradient(problem, lambda: problem.step(kernels)), 1e-6, 1e-9)

    @pytest.mark.parametrize("hidden", ["tanh", "gelu"])
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("capacity", [1, 2, 5, 9])
    def test_loss_and_gradient(self, kernels, loss, hidden, capacity, rng):
        """Whatever number of rows the workspace holds, all of them or one at a time."""
        problem = make_problem(rng, loss, hidden, (2, 4, 3, 2), 5, weighted=True, alpha=0.3)
        state = make_state(problem.layers, problem.state.parameters, capacity)
        losses = np.full(2, np.nan)

        def compute():
            arguments = problem.X, problem.Y, problem.sample_weight, problem.layers, problem.rule
            kernels.loss_and_gradient(*arguments, state, losses)
            return float(losses[0])

        data_loss = compute()
        gradient = state.gradients.copy()
        data_losses = naive_losses(problem, naive_outputs(problem)[-1])
        expected = np.dot(data_losses, problem.sample_weight) / problem.sample_weight.sum()
        np.testing.assert_allclose([data_loss, losses[1]], [expected, penalty(problem)], 1e-12)
        np.testing.assert_allclose(gradient, numerical_gradient(problem, compute), 1e-6, 1e-9)

    def test_loss_and_gradient_leaves_nobody_out(self, kernels, rng):
        """A rule's dropout is for training."""
        problem = make_problem(rng, "log_loss", dropout=0.5)
        without = replace(problem, rule=problem.rule._replace(dropout=0.0))
        results = []
        for one in (problem, without):
            losses = np.empty(2)
            kernels.loss_and_gradient(one.X, one.Y, one.sample_weight, one.layers, one.rule, one.state, losses)
            results.append([*losses, *one.state.gradients])
        assert results[0] == results[1]

    def test_loss_and_gradient_of_float32(self, kernels, rng):
        """Equal to the step's, to rounding, for all samples in one batch."""
        problem = make_problem(rng, "log_loss", "relu", (7, 9, 4), 33, dtype="float32", alpha=0.3)
        loss = problem.step(kernels)
        gradient, losses = problem.state.gradients.copy(), np.empty(2)
        arguments = problem.X, problem.Y, problem.sample_weight, problem.layers, problem.rule, problem.state
        kernels.loss_and_gradient(*arguments, losses)
        assert math.isclose(losses.sum(), loss, rel_tol=1e-6)
        np.testing.assert_allclose(problem.state.gradients, gradient, 1e-5, 1e-6)


class TestStep:
    @pytest.mark.parametrize("hidden", HIDDEN)
    @pytest.mark.parametrize("loss", LOSSES)
    def test_outputs_loss_and_deltas_against_naive(self, kernels, loss, hidden, dtype, tolerance, rng):
        problem = make_problem(rng, loss, hidden, (3, 7, 5, 2), 6, dtype=dtype, weighted=True, alpha=0.3)
        expected = naive_outputs(problem)
        weighted = np.dot(naive_losses(problem, expected[-1]), problem.sample_weight) / total_weight(problem)
        expected_loss = weighted + penalty(problem)
        np.testing.assert_allclose(problem.step(kernels), expected_loss, tolerance["rtol"])
        for A, wanted in zip(problem.outputs(6), expected, strict=True):
            np.testing.assert_allclose(A, wanted, **tolerance)
        inputs = [problem.X, *problem.outputs(6)]
        weights, gradients = (weight_views(v, problem.layers) for v in problem.state[:2])
        biases = bias_views(problem.state.gradients, problem.layers)
        for A, dZ, W, dW, db in zip(inputs, problem.deltas(6), weights, gradients, biases, strict=False):
            np.testing.assert_allclose(dW, A.T @ dZ + 0.3 / total_weight(problem) * W, **tolerance)
            np.testing.assert_allclose(db, dZ.sum(axis=0), **tolerance)

    def test_deltas_pass_relu_where_it_is_open(self, kernels, dtype, tolerance, rng):
        """In layers that end in a whole and a half vector, and in one that is narrower than a vector."""
        problem = make_problem(rng, "log_loss", "relu", (9, 7, 20, 36, 48, 20, 2), 19, dtype=dtype)
        problem.step(kernels)
        deltas, weights = problem.deltas(19), weight_views(problem.state.parameters, problem.layers)
        for A, dA, dZ, W in zip(problem.outputs(19), deltas, deltas[1:], weights[1:], strict=False):
            assert 0.1 < (A > 0).mean() < 0.9
            np.testing.assert_allclose(dA, (dZ @ W.T) * (A > 0), **tolerance)

    def test_dropout_masks_against_naive(self, kernels, dtype, tolerance, rng):
        """The stream of a mask is the step times the number of layers, plus the layer."""
        problem = make_problem(rng, "squared_error", "tanh", (3, 7, 5, 2), 6, dtype=dtype, dropout=0.4)
        problem.step(kernels, step=9)
        masks = [naive.dropout_mask(42, 9 * 3 + layer, 0.4, 6 * width) for layer, width in enumerate((7, 5))]
        masks = [np.reshape(mask, (6, -1)).tolist() for mask in masks]
        for A, wanted in zip(problem.outputs(6), naive_outputs(problem, masks), strict=True):
            np.testing.assert_allclose(A, wanted, **tolerance)
        views = unit_views(problem.state.workspace[MASKS], problem.layers, 6)
        for view, mask in zip(views[:-1], masks, strict=True):
            np.testing.assert_array_equal(view, np.array(mask, dtype))

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_solver_against_naive(self, kernels, solver, dtype, tolerance, rng):
        """Four steps with each step's own gradient; adamw decays weights, not biases."""
        problem = make_problem(rng, "log_loss", "relu", (3, 4, 2), solver=solver, dtype=dtype, alpha=0.2)
        parameters, rule = problem.state.parameters, problem.rule
        decays = np.zeros(len(parameters))
        for W in weight_views(decays, problem.layers):
            W[:] = 0.2
        settings = {name: getattr(rule, name) for name in ("momentum", "beta_1", "beta_2", "epsilon")}
        expected, memories = parameters.tolist(), [[0.0, 0.0] for _ in parameters]
        for step in range(4):
            problem.step(kernels, learning_rate=0.05, step=step)
            gradients = problem.state.gradients.tolist()
            for i, (w, g, memory) in enumerate(zip(expected, gradients, memories, strict=True)):
                options = settings | {"learning_rate": 0.05, "decay": float(decays[i])}
                expected[i] = naive.OPTIMIZERS[solver](w, g, memory, step + 1, **options)
        np.testing.assert_allclose(parameters, expected, **tolerance)
        for k, moment in enumerate(problem.state.moments):
            np.testing.assert_allclose(moment, [memory[k] for memory in memories], **tolerance)

    def test_adamw_has_no_penalty(self, kernels, rng):
        """Its loss and gradient are those of alpha 0."""
        problem = make_problem(rng, solver="adamw", alpha=0.3)
        without = replace(problem, rule=problem.rule._replace(alpha=0.0))
        loss, gradient = problem.step(kernels), problem.state.gradients.copy()
        assert without.step(kernels) == loss
        np.testing.assert_array_equal(problem.state.gradients, gradient)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_long_gradients_are_scaled_down(self, kernels, solver, dtype, tolerance, rng):
        """To the length asked for, before the solver sees them; short ones and the loss stay as they are."""
        free = make_problem(rng, "squared_error", solver=solver, dtype=dtype, alpha=0.1)
        short, long = copy.deepcopy(free), copy.deepcopy(free)
        loss = free.step(kernels, learning_rate=0.1)
        norm = math.sqrt(math.fsum(float(g) ** 2 for g in free.state.gradients))
        long.rule = long.rule._replace(max_grad_norm=norm / 4)
        short.rule = short.rule._replace(max_grad_norm=norm * 1.01)
        assert long.step(kernels, learning_rate=0.1) == loss
        assert short.step(kernels, learning_rate=0.1) == loss
        assert_same_bits(short, free)
        np.testing.assert_allclose(long.state.gradients, free.state.gradients / 4, **tolerance)
        if solver in ("momentum", "nesterov"):
            np.testing.assert_allclose(long.state.moments, free.state.moments / 4, **tolerance)

    def test_rows_are_the_batch(self, kernels, dtype, rng):
        """In any order and repeated, as if they had been copied out."""
        problem = make_problem(rng, "log_loss", "gelu", (3, 4, 2), 8, dtype=dtype, weighted=True, solver="adam")
        chosen = np.array([6, 1, 1, 7, 0])
        copied = copy.deepcopy(problem)
        copied.X, copied.Y, copied.sample_weight = problem.X[chosen], problem.Y[chosen], problem.sample_weight[chosen]
        assert problem.step(kernels, chosen, 0.1) == copied.step(kernels, np.arange(5), 0.1)
        assert_same_bits(problem, copied)

    def test_weights_count_as_repetition(self, kernels, tolerance, dtype, rng):
        """A row of weight 3 is the row three times, one of weight 0 is not there."""
        problem = make_problem(rng, "squared_error", n_samples=4, dtype=dtype, alpha=0.1)
        repeated = make_problem(rng, "squared_error", n_samples=6, dtype=dtype, alpha=0.1)
        repeated.state.parameters[:] = problem.state.parameters
        repeated.X, repeated.Y = problem.X, problem.Y
        problem.sample_weight = np.array([3, 0, 1, 2], dtype)
        one, other = problem.step(kernels), repeated.step(kernels, np.array([0, 0, 0, 2, 3, 3]))
        np.testing.assert_allclose(one, other, tolerance["rtol"])
        np.testing.assert_allclose(problem.state.gradients, repeated.state.gradients, **tolerance)

    def test_weights_of_one_are_none(self, kernels, dtype, rng):
        problem = make_problem(rng, "huber", dtype=dtype)
        weighted = replace(problem, sample_weight=np.ones(len(problem.X), dtype))
        loss, gradients = problem.step(kernels), problem.state.gradients.copy()
        assert weighted.step(kernels) == loss
        np.testing.assert_array_equal(problem.state.gradients, gradients)

    def test_scale_of_weights_does_not_matter(self, kernels, dtype, tolerance, rng):
        problem = make_problem(rng, "huber", dtype=dtype, weighted=True)
        scaled = replace(problem, sample_weight=problem.sample_weight * 1000)
        loss, gradients = problem.step(kernels), problem.state.gradients.copy()
        np.testing.assert_allclose(scaled.step(kernels), loss, tolerance["rtol"])
        np.testing.assert_allclose(problem.state.gradients, gradients, **tolerance)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_batch_without_weight_teaches_nothing(self, kernels, solver, dtype, rng):
        problem = make_problem(rng, solver=solver, dtype=dtype, alpha=0.5)
        problem.step(kernels, learning_rate=0.1)
        before = copy.deepcopy(problem)
        problem.sample_weight = np.zeros(len(problem.X), dtype)
        assert problem.step(kernels, learning_rate=0.1, step=1) == 0
        np.testing.assert_array_equal(problem.state.parameters, before.state.parameters)
        np.testing.assert_array_equal(problem.state.moments, before.state.moments)

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("max_grad_norm", [math.inf, 1.0])
    def test_a_gradient_that_is_not_finite_shows_in_the_loss(self, kernels, solver, max_grad_norm, rng):
        """1e25 squared is finite in the loss's float64 and not in the gradient's float32."""
        problem = make_problem(rng, widths=(3, 2), solver=solver, dtype="float32", max_grad_norm=max_grad_norm)
        problem.X[2] = 1e25
        with np.errstate(all="ignore"):
            loss = problem.step(kernels, learning_rate=0.1)
        assert not math.isfinite(loss)
        assert np.isfinite(problem.state.parameters).all()

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("loss", ["squared_error", "poisson", "huber"])
    @pytest.mark.parametrize("hidden", ["relu", "silu"])
    def test_a_loss_that_is_not_finite(self, kernels, loss, hidden, solver, dtype, rng):
        """Parameters keep their values."""
        problem = make_problem(rng, loss, hidden, (3, 4, 4, 2), solver=solver, dtype=dtype)
        problem.state.parameters[:] = np.finfo(dtype).max / 4
        before = problem.state.parameters.copy()
        problem.X[:] = 1000
        with np.errstate(all="ignore"):
            assert not math.isfinite(problem.step(kernels, learning_rate=0.1))
        np.testing.assert_array_equal(problem.state.parameters, before)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_an_infinite_loss_whose_gradient_is_finite(self, kernels, solver, rng):
        """1e200 off: its square is infinite, and no step is taken."""
        problem = make_problem(rng, solver=solver)
        problem.Y[2] = 1e200
        before = copy.deepcopy(problem)
        with np.errstate(all="ignore"):
            assert not math.isfinite(problem.step(kernels, learning_rate=1e-200))
        np.testing.assert_array_equal(problem.state.parameters, before.state.parameters)
        np.testing.assert_array_equal(problem.state.moments, before.state.moments)


def training(rng, solver="adam", dtype="float64", **options):
    """A problem with room for every kind of batch: 23 rows, two hidden layers, weights and dropout."""
    options = {"weighted": True, "dropout": 0.2, "alpha": 0.1} | options
    return make_problem(rng, "log_loss", "gelu", (5, 9, 6, 3), 23, solver=solver, dtype=dtype, **options)


class TestEpoch:
    @pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_is_its_steps(self, kernels, solver, batch_size, dtype, rng):
        """Bit for bit; the last batch is as short as what is left."""
        one = training(rng, solver, dtype)
        other = copy.deepcopy(one)
        order = rng.permutation(23)
        losses = one.epoch(kernels, order, batch_size, 0.01, step=7)
        starts = range(0, 23, batch_size)
        steps = [other.step(kernels, order[start : start + batch_size], 0.01, 7 + s) for s, start in enumerate(starts)]
        assert losses.tolist() == steps
        assert_same_bits(one, other)

    def test_samples_in_any_layout(self, kernels, dtype, rng):
        """By columns, and every other element of something longer."""
        one = training(rng, dtype=dtype)
        other = copy.deepcopy(one)
        order = rng.permutation(23)
        other.X, other.Y = np.asfortranarray(other.X), np.repeat(other.Y, 2, axis=0)[::2]
        other.sample_weight = np.repeat(other.sample_weight, 2)[::2]
        losses = one.epoch(kernels, order, 4, 0.01)
        assert losses.tolist() == other.epoch(kernels, np.repeat(order, 2)[::2], 4, 0.01).tolist()
        assert_same_bits(one, other)

    def test_goes_on_where_it_stopped(self, kernels, dtype, rng):
        one = training(rng, dtype=dtype)
        other = copy.deepcopy(one)
        order = rng.permutation(23)
        losses = one.epoch(kernels, order, 4, 0.01)
        parts = [other.epoch(kernels, order[:12], 4, 0.01), other.epoch(kernels, order[12:], 4, 0.01, step=3)]
        assert losses.tolist() == np.concatenate(parts).tolist()
        assert_same_bits(one, other)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_repeats(self, kernels, solver, dtype, rng):
        """The same arguments give the same bits, whatever the workspace held before."""
        one = training(rng, solver, dtype)
        other = copy.deepcopy(one)
        other.state.workspace[:] = 1e30
        other.state.gradients[:] = -1e30
        order = rng.permutation(23)
        assert one.epoch(kernels, order, 4, 0.01).tolist() == other.epoch(kernels, order, 4, 0.01).tolist()
        assert_same_bits(one, other)

    def test_learning_rates_are_each_step_s_own(self, kernels, dtype, rng):
        one = training(rng, "sgd", dtype)
        other = copy.deepcopy(one)
        order, rates = rng.permutation(23), [0.5, 0.0, 0.1, 0.01, 0.3]
        one.epoch(kernels, order, 5, rates)
        for s, rate in enumerate(rates):
            other.step(kernels, order[5 * s : 5 * s + 5], rate, s)
        assert_same_bits(one, other)

    def test_loss_falls(self, kernels, dtype, rng):
        problem = training(rng, dtype=dtype, dropout=0.0)
        losses = [problem.epoch(kernels, np.arange(23), 8, 0.02, 3 * epoch).mean() for epoch in range(60)]
        assert losses[-1] < 0.5 * losses[0]

    def test_a_batch_without_weight_is_passed_over(self, kernels, dtype, rng):
        """Its loss is 0; with plain gradient descent the others go on as if it had not been there."""
        one = training(rng, "sgd", dtype, dropout=0.0)
        one.sample_weight[8:12] = 0
        other = copy.deepcopy(one)
        losses = one.epoch(kernels, np.arange(23), 4, 0.1)
        rest = np.delete(np.arange(23), np.s_[8:12])
        others = other.epoch(kernels, rest, 4, 0.1)
        assert losses.tolist() == np.insert(others, 2, 0.0).tolist()
        np.testing.assert_array_equal(one.state.parameters, other.state.parameters)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_stops_where_it_diverges(self, kernels, solver, dtype, rng):
        """A row of 1e30 among the others: its batch's loss is not finite, later steps are not taken."""
        one = make_problem(rng, "squared_error", "relu", (5, 9, 3), 20, solver=solver, dtype=dtype)
        one.X[9] = np.finfo(dtype).max / 2
        other = copy.deepcopy(one)
        with np.errstate(all="ignore"):
            losses = one.epoch(kernels, np.arange(20), 4, 0.001)
            for s in range(3):
                loss = other.step(kernels, np.arange(4 * s, 4 * s + 4), 0.001, s)
        np.testing.assert_array_equal(np.isfinite(losses), [True, True, False, False, False])
        assert np.isnan(losses[3:]).all()
        np.testing.assert_array_equal(losses[2], loss)
        np.testing.assert_array_equal(one.state.parameters, other.state.parameters)
        assert np.isfinite(one.state.parameters).all()

    def test_too_high_a_learning_rate(self, kernels, dtype, rng):
        problem = make_problem(rng, "squared_error", "relu", (5, 9, 3), 20, dtype=dtype)
        with np.errstate(all="ignore"):
            losses = problem.epoch(kernels, np.tile(np.arange(20), 20), 4, 1e6)
        taken = int(np.isfinite(losses).sum())
        assert 1 <= taken < 100
        assert np.isfinite(losses[:taken]).all()
        assert np.isnan(losses[taken + 1 :]).all()
        assert np.isfinite(problem.state.parameters).all()


class TestPredict:
    @pytest.mark.parametrize("loss", ["log_loss", "binary_log_loss", "squared_error", "poisson"])
    @pytest.mark.parametrize("fit_intercept", [True, False])
    def test_against_naive(self, kernels, loss, fit_intercept, dtype, tolerance, rng):
        problem = make_problem(rng, loss, "elu", (3, 7, 5, 2), 6, dtype=dtype, fit_intercept=fit_intercept)
        expected = naive_outputs(problem)
        np.testing.assert_allclose(problem.predict(kernels), expected[-1], **tolerance)
        activations = np.full(6 * n_units(problem.layers), np.nan, dtype)
        kernels.forward(problem.X, problem.layers, problem.state.parameters, activations)
        for A, wanted in zip(unit_views(activations, problem.layers, 6), expected, strict=True):
            np.testing.assert_allclose(A, wanted, **tolerance)

    @pytest.mark.parametrize("n_samples", [0, 1, 2, 255, 256, 257, 600])
    def test_any_number_of_rows(self, kernels, n_samples, dtype, tolerance, rng):
        if numba.config.DISABLE_JIT:
            n_samples = min(n_samples, 260)
        problem = make_problem(rng, "log_loss", "relu", (3, 5, 2), 1, dtype=dtype)
        X = rng.standard_normal((n_samples, 3)).astype(dtype)
        activations = np.empty(n_samples * n_units(problem.layers), dtype)
        kernels.forward(X, problem.layers, problem.state.parameters, activations)
        expected = unit_views(activations, problem.layers, n_samples)[-1] if n_samples else np.empty((0, 2))
        np.testing.assert_allclose(problem.predict(kernels, X), expected, **tolerance)

    def test_one_row_alone_equals_the_row_in_a_batch(self, fast_kernels, dtype, rng):
        """Bit for bit, at widths and numbers of rows that end inside and between tiles."""
        widths, n_samples = ((37, 50, 17, 3), 600) if not numba.config.DISABLE_JIT else ((5, 9, 3), 20)
        problem = make_problem(rng, "log_loss", "tanh", widths, 1, dtype=dtype)
        X = rng.standard_normal((n_samples, widths[0])).astype(dtype)
        batch = problem.predict(fast_kernels, X)
        for size in (1, 2, 3, 7, 8, 9, 16):
            for start in range(0, n_samples - size + 1, 1 if size == 1 else 29):
                rows = problem.predict(fast_kernels, X[start : start + size])
                np.testing.assert_array_equal(rows, batch[start : start + size])

    def test_equals_the_step_s_own_outputs(self, fast_kernels, dtype, rng):
        """Bit for bit: what training predicts is what predict predicts."""
        problem = make_problem(rng, "log_loss", "tanh", (19, 35, 3), 21, dtype=dtype)
        problem.step(fast_kernels)
        np.testing.assert_array_equal(problem.outputs(21)[-1], problem.predict(fast_kernels))


class TestAllFinite:
    def finite(self, kernels, X):
        result = np.full(1, np.nan)
        kernels.all_finite(X, result)
        return result[0]

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_one_bad_number_anywhere(self, kernels, bad, dtype):
        for shape in ((1, 1), (3, 5), (7, 33)):
            X = np.zeros(shape, dtype)
            for place in range(X.size):
                X.flat[place] = bad
                assert self.finite(kernels, X) == 0
                X.flat[place] = 0

    def test_numbers_whose_sum_is_not_finite(self, kernels, dtype):
        assert self.finite(kernels, np.full((9, 31), np.finfo(dtype).max, dtype)) == 1
        assert self.finite(kernels, np.array([[np.inf, -np.inf]], dtype)) == 0

    def test_nothing(self, kernels, dtype):
        assert self.finite(kernels, np.empty((0, 3), dtype)) == 1


DIGESTS = """
import hashlib
import numba
import numpy as np
from gdl.kernels import load
from problems import make_problem

def digest(dtype, width):
    problem = make_problem(np.random.default_rng(0), "log_loss", "relu", (784, width, 10), 300, "adam", dtype=dtype)
    losses = problem.epoch(load("cpu"), np.random.default_rng(1).permutation(300), 128, 0.001)
    arrays = losses, *problem.state[:3], problem.predict(load("cpu"))
    return [hashlib.sha256(array.tobytes()).hexdigest()[:16] for array in arrays]

for n_threads in [numba.config.NUMBA_NUM_THREADS] * 3 + [1]:
    numba.set_num_threads(n_threads)
    # By layers and by rows; gradients of 100 units are packed, and those of a block of their rows would not be.
    print(*[digest(dtype, width) for dtype in ("float32", "float64") for width in (512, 100)])
"""


@pytest.mark.compiled
def test_any_number_of_threads_gives_the_same_bits():
    """Losses, parameters, gradients, moments and predictions of a network large enough to be shared out."""
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    printed = {}
    for n_threads in (1, 2, 3, 8):
        environment = os.environ | {"NUMBA_NUM_THREADS": str(n_threads), "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-c", DIGESTS]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        printed[n_threads] = result.stdout.splitlines()
    assert len(printed[1][0]) > 100
    assert set(itertools.chain(*printed.values())) == {printed[1][0]}, printed


@pytest.mark.compiled
def test_callers_do_not_disturb_each_other(fast_kernels, rng):
    """Four Python threads train four networks at once, and get what each gets alone."""
    together = [make_problem(rng, "log_loss", "relu", (200, 256, 10), 256, "adam") for _ in range(4)]
    alone = copy.deepcopy(together)

    def train(problem):
        return problem.epoch(fast_kernels, np.tile(np.arange(256), 5), 64, 0.001).tolist()

    with ThreadPoolExecutor(4) as pool:
        losses = list(pool.map(train, together))
    assert losses == [train(problem) for problem in alone]
    for one, other in zip(together, alone, strict=True):
        assert_same_bits(one, other)


def test_a_prepared_epoch_moves_to_the_thread_that_calls_it(fast_kernels, rng):
    """Or two threads would pack into the same scratch memory."""
    problem = make_problem(rng, "log_loss", "relu", (20, 30, 10), 64, "adam")
    arguments = problem.X, problem.Y, problem.sample_weight, np.arange(64), 32, problem.layers, problem.rule
    epoch = fast_kernels.PreparedEpoch(*arguments, np.full(2, 0.01), problem.state, np.empty(2))
    epoch.train_steps(0, 1, 0)
    here = epoch.keep.arrays["panel"]
    epoch.train_steps(1, 2, 1)
    assert epoch.keep.arrays["panel"] is here
    with ThreadPoolExecutor(1) as pool:
        pool.submit(epoch.train_steps, 0, 1, 2).result()
    assert not np.shares_memory(epoch.keep.arrays["panel"], here)


def step_digest(problem, kernels, step):
    problem.step(kernels, learning_rate=0.01, step=step)
    return [array.copy() for array in problem.state]


def test_what_a_state_has_prepared_is_its_own(kernels, rng):
    """Bit for bit the same numbers when scratch memory moves, in another thread, in a copy, and with other options."""

    def new():
        return make_problem(np.random.default_rng(0), "log_loss", "tanh", (9, 20, 3), 12, "adam")

    wide = make_problem(rng, "log_loss", "relu", (40, 300, 3), 12, "adam")
    plain, expected = new(), []
    for step in range(5):
        expected.append(step_digest(plain, kernels, step))

    def check():
        problem = new()

        def compare(step, problem=problem):
            for actual, wanted in zip(step_digest(problem, kernels, step), expected[step], strict=True):
                np.testing.assert_array_equal(actual, wanted)

        compare(0)
        wide.step(kernels)  # needs more scratch memory than this new thread has
        compare(1)
        with ThreadPoolExecutor(1) as another:
            another.submit(compare, 2).result()
        twin = copy.deepcopy(problem)
        compare(3)
        twin.step(kernels, learning_rate=0.01, step=3)
        compare(4)
        for actual, wanted in zip(twin.state, expected[3], strict=True):
            np.testing.assert_array_equal(actual, wanted)

    with ThreadPoolExecutor(1) as new_thread:
        new_thread.submit(check).result()


def test_scratch_memory_is_that_of_the_thread_that_computes(fast_kernels, rng):
    """Two threads that take turns at one state, each with another call of its own in between, would share it."""
    problem = make_problem(rng, "log_loss", "tanh", (9, 20, 3), 12)
    nets = []

    def step():
        problem.step(fast_kernels)
        nets.append(problem.state.prepared)

    step()
    step()
    with ThreadPoolExecutor(1) as another:
        another.submit(step).result()
    one, same, other = nets
    assert same is one
    assert np.shares_memory(other.arrays["parameters"], one.arrays["parameters"])
    for name in ("panel", "panels", "strips", "losses", "partial", "offsets"):
        assert not np.shares_memory(other.arrays[name], one.arrays[name]), name


def test_another_rule_or_table_is_noticed(kernels, rng):
    one, other = (make_problem(np.random.default_rng(0), "log_loss", "tanh", (9, 20, 3), 12, "sgd") for _ in range(2))
    one.step(kernels, learning_rate=0.01)
    changed = replace(one, rule=one.rule._replace(alpha=0.5), layers=other.layers.copy())
    changed.layers[0, 2] = ACTIVATIONS["relu"]
    changed.step(kernels, learning_rate=0.01, step=1)
    other.step(kernels, learning_rate=0.01)
    other.state.prepared = None
    again = replace(other, rule=changed.rule, layers=changed.layers)
    again.step(kernels, learning_rate=0.01, step=1)
    np.testing.assert_array_equal(changed.state.parameters, again.state.parameters)
    unchanged = make_problem(np.random.default_rng(0), "log_loss", "tanh", (9, 20, 3), 12, "sgd")
    for step in range(2):
        unchanged.step(kernels, learning_rate=0.01, step=step)
    assert not np.array_equal(changed.state.parameters, unchanged.state.parameters)

"""Losses: numbers worked by hand, the naive formulas, overflow, and gradients by central differences."""

import math

import naive
import numpy as np
import pytest
from problems import LOSS_PARAMETERS, OUTPUT_ACTIVATIONS, make_targets

from gdl.kernels.layout import ACTIVATIONS, LOSSES

AVERAGED = ["squared_error", "absolute_error", "huber", "quantile"]


def compute(kernels, loss, P, Y, *parameter):
    """Losses and dZ of outputs P."""
    losses, dZ = np.full(len(P), np.nan), np.full_like(P, np.nan)
    if loss in LOSS_PARAMETERS and not parameter:
        parameter = (LOSS_PARAMETERS[loss],)
    getattr(kernels, loss)(P, Y.astype(P.dtype), *parameter, losses, dZ)
    return losses, dZ


def outputs_of(kernels, loss, Z):
    P = np.empty_like(Z)
    kernels.activate(Z, ACTIVATIONS[OUTPUT_ACTIVATIONS[loss]], P)
    return P


# Outputs, truth, parameter, the loss and dZ of one sample, worked by hand.
BY_HAND = [
    # Class 1 was given 1/4: -log(1/4); the true class's share less 1.
    ("log_loss", [0.5, 0.25, 0.25], [1], (), math.log(4), [0.5, -0.75, 0.25]),
    # -log(3/4) - log(1 - 1/2)
    ("binary_log_loss", [0.75, 0.5], [1, 0], (), math.log(4 / 3) + math.log(2), [-0.25, 0.5]),
    # (2^2 + 1^2) / 2 outputs / 2
    ("squared_error", [3, -1], [1, 0], (), 1.25, [2, -1]),
    # 2 log(2 / 1) - 2 + 1, and y = 0 leaves p = 3
    ("poisson", [1, 3], [2, 0], (), 2 * math.log(2) + 2, [-1, 3]),
    # (2 + 1 + 0) / 3
    ("absolute_error", [3, -1, 4], [1, 0, 4], (), 1, [1, -1, 0]),
    # delta 1.5: beyond it 1.5 (2 - 0.75) = 1.875, within it 1/2, at it 1.125; their mean is 3.5 / 3
    ("huber", [3, -1, 1.5], [1, 0, 0], (1.5,), 3.5 / 3, [1.5, -1, 1.5]),
    # level 0.75: 2 too high costs 0.25 * 2, 1 too low costs 0.75 * 1
    ("quantile", [3, -1, 4], [1, 0, 4], (0.75,), 1.25 / 3, [0.25, -0.75, 0]),
]


@pytest.mark.parametrize(("loss", "p", "y", "parameter", "expected", "dz"), BY_HAND)
def test_one_sample_by_hand(kernels, loss, p, y, parameter, expected, dz, dtype, rtol):
    losses, dZ = compute(kernels, loss, np.array([p], dtype), np.array([y]), *parameter)
    np.testing.assert_allclose(losses, [expected], rtol)
    np.testing.assert_allclose(dZ, [dz], rtol)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_out", [1, 2, 3, 17])
def test_batch_against_naive(kernels, loss, n_out, dtype, tolerance, rng):
    Z = rng.standard_normal((6, n_out)).astype(dtype)
    P, Y = outputs_of(kernels, loss, Z), make_targets(rng, loss, 6, n_out, dtype)
    parameter = (LOSS_PARAMETERS[loss],) if loss in LOSS_PARAMETERS else ()
    expected = [naive.LOSSES[loss](p, y, *parameter) for p, y in zip(P.tolist(), Y.tolist(), strict=True)]
    losses, _ = compute(kernels, loss, P, Y)
    np.testing.assert_allclose(losses, expected, **tolerance)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_out", [1, 3])
def test_gradient_against_central_differences(kernels, loss, n_out, rng):
    """dZ belongs to the loss by z, through the output's activation; for error losses to n_out times the mean."""
    if loss == "log_loss":
        n_out += 1
    Z, Y = rng.standard_normal((5, n_out)), make_targets(rng, loss, 5, n_out, "float64")
    factor = n_out if loss in AVERAGED else 1

    def total():
        return factor * float(compute(kernels, loss, outputs_of(kernels, loss, Z), Y)[0].sum())

    _, dZ = compute(kernels, loss, outputs_of(kernels, loss, Z), Y)
    np.testing.assert_allclose(dZ.ravel(), naive.central_difference(total, Z.reshape(-1)), 1e-6, 1e-9)


@pytest.mark.parametrize("wrong", [0.0, 1e-30])
def test_log_losses_are_clipped(kernels, wrong, dtype, rtol):
    """A share of nothing costs -log(eps), not infinity, and the gradient is not clipped."""
    P = np.array([[wrong, 1.0]], dtype)
    most = -math.log(np.finfo(dtype).eps)
    losses, dZ = compute(kernels, "log_loss", P, np.array([[0]]))
    np.testing.assert_allclose(losses, [most], rtol)
    np.testing.assert_array_equal(dZ, [[P[0, 0] - 1, 1]])
    losses, dZ = compute(kernels, "binary_log_loss", P, np.array([[1, 0]]))
    np.testing.assert_allclose(losses, [2 * most], 10 * rtol)
    np.testing.assert_array_equal(dZ, [[P[0, 0] - 1, 1]])


@pytest.mark.parametrize("loss", ["log_loss", "binary_log_loss"])
def test_right_and_sure_costs_nothing(kernels, loss, dtype):
    """Up to the clip, which is the same from above: -log(1 - eps) is eps."""
    Y = np.array([[1]]) if loss == "log_loss" else np.array([[0, 1]])
    losses, dZ = compute(kernels, loss, np.array([[0.0, 1.0]], dtype), Y)
    assert 0 <= losses[0] <= 2.1 * np.finfo(dtype).eps
    assert (dZ == 0).all()


def test_losses_are_taken_in_float64(kernels):
    """1e30 squared is infinite in float32."""
    P, Y = np.array([[1e30, 0]], np.float32), np.zeros((1, 2))
    large = float(np.float32(1e30))
    for loss, expected in (("squared_error", large**2 / 4), ("absolute_error", large / 2), ("huber", large / 4)):
        losses, dZ = compute(kernels, loss, P, Y)
        np.testing.assert_allclose(losses, [expected], 1e-12)
        assert np.isfinite(dZ).all()


def test_squared_error_may_overflow_float64(kernels):
    with np.errstate(over="ignore"):
        losses, dZ = compute(kernels, "squared_error", np.array([[1e200]]), np.zeros((1, 1)))
    assert losses[0] == np.inf
    assert dZ[0, 0] == 1e200


def test_poisson_at_its_edges(kernels, dtype, rtol):
    """A mean of 1e-30 where 3 came, and where nothing came."""
    losses, dZ = compute(kernels, "poisson", np.array([[1e-30], [1e-30]], dtype), np.array([[3], [0]]))
    np.testing.assert_allclose(losses, [3 * math.log(3e30) - 3, 1e-30], rtol)
    np.testing.assert_allclose(dZ, [[-3], [1e-30]], rtol)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_nan_output_gives_a_nan_loss(kernels, loss, dtype, rng):
    """In its own sample only."""
    P = np.full((3, 2), 0.5, dtype)
    P[1] = np.nan
    losses, _ = compute(kernels, loss, P, make_targets(rng, loss, 3, 2, dtype))
    np.testing.assert_array_equal(np.isfinite(losses), [True, False, True])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_sample_does_not_depend_on_its_batch(kernels, loss, dtype, rng):
    P = outputs_of(kernels, loss, rng.standard_normal((9, 5)).astype(dtype))
    Y = make_targets(rng, loss, 9, 5, dtype)
    losses, dZ = compute(kernels, loss, P, Y)
    for i in range(9):
        alone, dz = compute(kernels, loss, P[i : i + 1], Y[i : i + 1])
        np.testing.assert_array_equal(alone, losses[i : i + 1])
        np.testing.assert_array_equal(dz, dZ[i : i + 1])

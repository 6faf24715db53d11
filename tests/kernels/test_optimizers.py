"""Optimizers against a twin of one weight in plain Python, a first step by hand, and the guard of the weights."""

import math

import naive
import numba
import numpy as np
import pytest

from gdl.kernels.layout import N_MOMENTS, SOLVERS

SETTINGS = {"learning_rate": 0.1, "momentum": 0.8, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3, "decay": 0.5}
SIZES = (1, 2, 3, 7, 16, 33, 65) if numba.config.DISABLE_JIT else (1, 2, 3, 7, 16, 33, 65, 1000, 30_000)


def take_step(kernels, solver, gradients, parameters, moments, t=1, **changes):
    """One step of an optimizer's kernel at time t = 1, 2, ..."""
    s = SETTINGS | changes
    arguments = {
        "sgd": (s["learning_rate"],),
        "momentum": (s["learning_rate"], s["momentum"]),
        "nesterov": (s["learning_rate"], s["momentum"]),
        "rmsprop": (s["learning_rate"], s["beta_2"], s["epsilon"]),
    }.get(solver)
    if arguments is None:
        step_size = s["learning_rate"] * math.sqrt(1 - s["beta_2"] ** t) / (1 - s["beta_1"] ** t)
        decay = (s["learning_rate"] * s["decay"],) if solver == "adamw" else ()
        arguments = (step_size, *decay, s["beta_1"], s["beta_2"], s["epsilon"])
    getattr(kernels, f"{solver}_step")(gradients, *arguments, parameters, *moments)


# After one step from w = 1 with g = 2 and SETTINGS: the weight, then the memory.
FIRST_STEP = {
    "sgd": (0.8, []),  # 1 - 0.1 * 2
    "momentum": (0.8, [-0.2]),  # v = 0.8 * 0 - 0.1 * 2
    "nesterov": (0.64, [-0.2]),  # 1 + 0.8 v - 0.2
    # m = 0.1 * 2 and v = 0.01 * 4, corrected to 2 and 4: all but epsilon, a step of the learning rate's length.
    "adam": (1 - 0.1 * 2 / (2 + 1e-3 / math.sqrt(0.01)), [0.2, 0.04]),
    "adamw": (1 - 0.1 * 2 / (2 + 1e-3 / math.sqrt(0.01)) - 0.1 * 0.5, [0.2, 0.04]),
    "rmsprop": (1 - 0.1 * 2 / (0.2 + 1e-3), [0.04]),  # v = 0.01 * 4, its root 0.2
}


@pytest.mark.parametrize("solver", SOLVERS)
def test_first_step_by_hand(kernels, solver, dtype, rtol):
    parameters, gradients = np.ones(1, dtype), np.full(1, 2, dtype)
    moments = np.zeros((N_MOMENTS[solver], 1), dtype)
    take_step(kernels, solver, gradients, parameters, moments)
    weight, memory = FIRST_STEP[solver]
    np.testing.assert_allclose(parameters, [weight], rtol)
    np.testing.assert_allclose(moments.ravel(), memory, rtol)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", SIZES)
def test_steps_against_naive(kernels, solver, size, dtype, tolerance, rtol, rng):
    parameters = rng.standard_normal(size).astype(dtype)
    moments = np.zeros((N_MOMENTS[solver], size), dtype)
    watched = range(0, size, max(1, size // 50))
    weights, memories = {i: float(parameters[i]) for i in watched}, {i: [0.0, 0.0] for i in watched}
    for t in range(1, 6):
        gradients = rng.standard_normal(size).astype(dtype)
        take_step(kernels, solver, gradients, parameters, moments, t)
        for i in watched:
            weights[i] = naive.OPTIMIZERS[solver](weights[i], float(gradients[i]), memories[i], t, **SETTINGS)
    # A short gradient divided by its own root amplifies rounding.
    np.testing.assert_allclose(parameters[watched], list(weights.values()), 10 * rtol, 10 * rtol)
    for k, moment in enumerate(moments):
        expected = [memory[k] for memory in memories.values()]
        np.testing.assert_allclose(moment[watched], expected, **tolerance)


@pytest.mark.parametrize("solver", SOLVERS)
def test_elements_do_not_depend_on_their_place(kernels, solver, dtype, rng):
    """Bit for bit: what a vector's end does equals what its middle does."""
    gradients, parameters = rng.standard_normal((2, 67)).astype(dtype)
    moments = rng.uniform(0, 1, (N_MOMENTS[solver], 67)).astype(dtype)
    alone_parameters, alone_moments = parameters.copy(), moments.copy()
    take_step(kernels, solver, gradients, parameters, moments)
    for i in range(67):
        take_step(
            kernels, solver, gradients[i : i + 1], alone_parameters[i : i + 1], [m[i : i + 1] for m in alone_moments]
        )
    np.testing.assert_array_equal(parameters, alone_parameters)
    np.testing.assert_array_equal(moments, alone_moments)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_parameter_that_would_not_be_finite_keeps_its_value(kernels, solver, bad, dtype):
    """Wherever it lies, and its neighbours move."""
    size = 40
    for place in (0, 17, 39):
        gradients, parameters = np.ones(size, dtype), np.full(size, 3, dtype)
        gradients[place] = bad
        moments = np.zeros((N_MOMENTS[solver], size), dtype)
        with np.errstate(all="ignore"):
            take_step(kernels, solver, gradients, parameters, moments)
        assert np.isfinite(parameters).all()
        assert (np.delete(parameters, place) < 3).all()
        # Adam, adamw and rmsprop may divide infinity by infinity, or a finite number by it: both leave a finite weight.
        if solver in ("sgd", "momentum", "nesterov"):
            assert parameters[place] == 3


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_step_too_long_for_the_dtype_is_not_taken(kernels, solver, dtype):
    """Finite gradients whose step is infinite: 10 * 1e308 or 10 * 3e38."""
    largest = np.finfo(dtype).max
    gradients, parameters = np.array([largest, 1], dtype), np.array([-largest / 2, 1], dtype)
    before = parameters.copy()
    moments = np.zeros((N_MOMENTS[solver], 2), dtype)
    with np.errstate(all="ignore"):
        take_step(kernels, solver, gradients, parameters, moments, learning_rate=10.0)
    assert np.isfinite(parameters).all()
    if solver in ("sgd", "momentum", "nesterov"):
        assert parameters[0] == before[0]
    assert parameters[1] != before[1]

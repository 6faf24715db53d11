"""Activations against Python's own mathematics, far out, at infinity and NaN; slopes against differences."""

import math

import naive
import numba
import numpy as np
import pytest

from gdl.kernels.layout import ACTIVATIONS

TRANSCENDENTAL = ["logistic", "tanh", "elu", "softplus", "gelu", "silu", "exp"]
HIDDEN = [name for name in ACTIVATIONS if name not in ("softmax", "exp")]
N_POINTS = 300 if numba.config.DISABLE_JIT else 20_000


def activate(kernels, name, Z):
    Z = np.atleast_2d(Z)
    A = np.full_like(Z, np.nan)
    kernels.activate(Z, ACTIVATIONS[name], A)
    return A


def elementwise(name, Z):
    return np.array([naive.ACTIVATIONS[name](z) for z in np.ravel(Z).tolist()]).reshape(np.shape(Z))


def points(rng, dtype):
    """Numbers of every size for which exp(z) is a normal number, and of both signs."""
    largest = 87.0 if dtype == np.float32 else 700.0
    small = 10.0 ** rng.uniform(-30, 1, N_POINTS // 4)
    wide, middle = rng.uniform(-largest, largest, N_POINTS // 4), rng.uniform(-6, 6, N_POINTS // 4)
    return np.concatenate([[0.0], small, -small, wide, middle]).astype(dtype)


@pytest.mark.parametrize("name", list(naive.ACTIVATIONS))
def test_values(kernels, name, dtype, rtol, rng):
    Z = points(rng, dtype)
    if name == "gelu":
        Z = Z[Z > -12]  # below, Phi(z) is among float32's subnormal numbers
    np.testing.assert_allclose(activate(kernels, name, Z)[0], elementwise(name, Z), rtol)


@pytest.mark.parametrize("name", TRANSCENDENTAL)
def test_float32_is_within_4_ulp(kernels, name, rng):
    """Or less than the smallest normal number away, as gelu's tail may end before the subnormal numbers do."""
    Z = points(rng, np.float32)
    expected = elementwise(name, Z)
    allowed = np.maximum(4 * np.spacing(np.abs(expected).astype(np.float32)), np.finfo(np.float32).tiny)
    error = np.abs(activate(kernels, name, Z)[0] - expected) / allowed
    assert error.max() <= 1, f"{4 * error.max()} ulp at z={Z[error.argmax()]}"


@pytest.mark.parametrize("name", TRANSCENDENTAL[:-1])
def test_large_inputs_neither_overflow_nor_warn(kernels, name, dtype):
    """At +-1000 exp(z) is 0 or infinite; the activation has reached its limit."""
    high = {"logistic": 1, "tanh": 1}.get(name, 1000)
    low = {"tanh": -1, "elu": -1}.get(name, 0)
    assert activate(kernels, name, np.array([1000, -1000], dtype)).tolist() == [[high, low]]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_nan_stays_nan(kernels, name, dtype, rng):
    """And stays where it is; through softmax it takes its whole row."""
    Z = rng.standard_normal((5, 19)).astype(dtype)
    Z[1, [0, 7, 18]] = np.nan
    expected = np.isnan(Z)
    if name == "softmax":
        expected[1] = True
    np.testing.assert_array_equal(np.isnan(activate(kernels, name, Z)), expected)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("identity", -np.inf, np.inf),
        ("relu", 0, np.inf),
        ("leaky_relu", -np.inf, np.inf),
        ("logistic", 0, 1),
        ("tanh", -1, 1),
        ("elu", -1, np.inf),
        ("softplus", 0, np.inf),
        ("exp", 0, np.inf),
    ],
)
def test_infinity(kernels, name, low, high, dtype):
    """gelu and silu are left out: their -inf times 0 is NaN, which training reports as not finite."""
    assert activate(kernels, name, np.array([-np.inf, np.inf], dtype)).tolist() == [[low, high]]


@pytest.mark.parametrize("n_out", [1, 2, 3, 10, 16, 17, 33])
def test_softmax(kernels, n_out, dtype, tolerance, rng):
    Z = (5 * rng.standard_normal((6, n_out))).astype(dtype)
    A = np.full_like(Z, np.nan)
    kernels.softmax(Z, A)
    np.testing.assert_allclose(A, [naive.softmax(row) for row in Z.tolist()], **tolerance)
    np.testing.assert_array_equal(activate(kernels, "softmax", Z), A)


def test_softmax_by_hand(kernels, dtype, rtol):
    """exp(log 1), exp(log 2), exp(log 5) are 1, 2, 5 of 8; an added constant changes nothing."""
    Z = np.log(np.array([[1, 2, 5]], dtype))
    for shift in (0, 80):
        np.testing.assert_allclose(activate(kernels, "softmax", Z + shift), [[1 / 8, 2 / 8, 5 / 8]], 4 * rtol)


def test_softmax_of_large_inputs(kernels, dtype, rtol):
    Z = np.array([[1000, 0, -1000], [-1000, -1000, -2000], [1e30, 1e30, -1e30]], dtype)
    np.testing.assert_allclose(activate(kernels, "softmax", Z), [[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]], rtol)


@pytest.mark.parametrize("name", HIDDEN)
def test_slope_against_central_differences(kernels, name, rng):
    Z = rng.uniform(-4, 4, (4, 25))
    dA = rng.standard_normal(Z.shape)
    dZ = np.full_like(Z, np.nan)
    A = elementwise(name, Z)
    kernels.activation_gradient(Z, A, dA, ACTIVATIONS[name], dZ)
    slopes = [naive.central_difference(lambda z=z: naive.ACTIVATIONS[name](z[0]), z)[0] for z in Z.reshape(-1, 1)]
    np.testing.assert_allclose(dZ, dA * np.reshape(slopes, Z.shape), 1e-6, 1e-9)


@pytest.mark.parametrize("name", HIDDEN)
def test_slope_in_float32(kernels, name, rng):
    """Agrees with float64's from the same outputs."""
    Z = rng.uniform(-4, 4, (4, 25)).astype(np.float32)
    dA = rng.standard_normal(Z.shape).astype(np.float32)
    A = elementwise(name, Z).astype(np.float32)
    narrow, wide = np.full_like(dA, np.nan), np.full(dA.shape, np.nan)
    kernels.activation_gradient(Z, A, dA, ACTIVATIONS[name], narrow)
    kernels.activation_gradient(*(array.astype(float) for array in (Z, A, dA)), ACTIVATIONS[name], wide)
    np.testing.assert_allclose(narrow, wide, 1e-5, 1e-5)


@pytest.mark.parametrize("name", HIDDEN)
def test_slope_far_out(kernels, name, dtype, rtol):
    """At z = +-1000 the slope is that of the limit, and nothing overflows."""
    Z = np.array([[1000, -1000]], dtype)
    A, dZ = activate(kernels, name, Z), np.full_like(Z, np.nan)
    kernels.activation_gradient(Z, A, np.ones_like(Z), ACTIVATIONS[name], dZ)
    low, high = {"identity": (1, 1), "leaky_relu": (0.01, 1), "logistic": (0, 0), "tanh": (0, 0)}.get(name, (0, 1))
    np.testing.assert_allclose(dZ, [[high, low]], rtol)


def test_slopes_at_zero(kernels, dtype, rtol):
    """The two kinks count as not yet switched on, as in scikit-learn; elu's halves meet with slope 1."""
    for name, slope in (("relu", 0), ("leaky_relu", 0.01), ("elu", 1)):
        Z, dZ = np.zeros((1, 1), dtype), np.full((1, 1), np.nan, dtype)
        kernels.activation_gradient(Z, Z, np.ones_like(Z), ACTIVATIONS[name], dZ)
        assert math.isclose(dZ[0, 0], slope, rel_tol=rtol)

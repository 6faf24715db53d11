"""The dense layer's products against higher precision, at every shape that a tile can end in."""

import itertools

import naive
import numba
import numpy as np
import pytest

from gdl.kernels._jit import njit
from gdl.kernels.cpu import _tile
from gdl.kernels.layout import ACTIVATIONS

COMPILED = not numba.config.DISABLE_JIT
SIZES = (
    [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 25, 31, 33, 40, 47, 48, 49, 64, 65, 100]
    if COMPILED
    else [1, 2, 3, 5, 8, 9, 17]
)
# Every size in every place beside small, middling and odd ones; then any three.
SHAPES = sorted(
    {
        shape
        for size in SIZES
        for others in ((1, 1), (8, 17), (17, 3))
        for shape in itertools.permutations((size, *others))
    }
    | {tuple(shape) for shape in np.random.default_rng(1).choice(SIZES, (60 if COMPILED else 5, 3)).tolist()}
)
if COMPILED:
    # Packed panels with each kind of last vector; products in two blocks of k, the second shorter than a vector; and
    # enough work for two threads.
    LONG = _tile.PANEL_ROWS + 5
    SHAPES += [(20, 53, LONG), (20, 100, LONG), (1000, 40, 100)]
    SHAPES += [shape for w in (27, 53, 100) for shape in ((20, LONG, w), (LONG, 20, w))]
MARGIN = 64


def fenced(array, fill=np.nan):
    """A copy in the middle of memory full of ``fill``, one number off any alignment; and that memory."""
    memory = np.full(array.size + 2 * MARGIN, fill, array.dtype)
    view = memory[MARGIN + 1 : MARGIN + 1 + array.size].reshape(array.shape)
    view[...] = array
    return view, memory


def random(rng, shape, dtype):
    return fenced(rng.standard_normal(shape).astype(dtype))[0]


def call(kernel, arguments, shape, dtype):
    """The output of a kernel that must write all of it and nothing beside it."""
    out, memory = fenced(np.full(shape, np.nan, dtype), fill=-7.0)
    kernel(*arguments, out)
    assert (memory[: MARGIN + 1] == -7).all()
    assert (memory[MARGIN + 1 + out.size :] == -7).all()
    return out


def assert_product(actual, left, right, added=0.0):
    """Whether ``actual`` is ``left @ right + added``, up to the rounding of a sum of that length.

    The bound is that of n + 1 additions and n products in any order (Higham 2002, section 3.1).
    """
    wide = np.longdouble if actual.dtype == np.float64 else np.float64
    left, right, added = (np.asarray(array, wide) for array in (left, right, added))
    bound = (left.shape[1] + 2) * np.finfo(actual.dtype).eps * (np.abs(left) @ np.abs(right) + np.abs(added))
    assert (np.abs(actual - (left @ right + added)) <= bound).all()


def test_bound_is_tight_enough_to_see_a_missing_term(rng):
    X, W = rng.standard_normal((3, 100)), rng.standard_normal((100, 4))
    assert_product(X @ W, X, W)
    with pytest.raises(AssertionError):
        assert_product(X[:, 1:] @ W[1:], X, W)


def test_forward_at_every_shape(kernels, dtype, rng):
    for n_samples, n_in, n_out in SHAPES:
        X, W, b = (random(rng, shape, dtype) for shape in ((n_samples, n_in), (n_in, n_out), (n_out,)))
        arguments = X, W, b, ACTIVATIONS["identity"]
        out = call(kernels.dense_forward, arguments, (n_samples, n_out), dtype)
        assert_product(out, X, W, b)


def test_weight_gradient_at_every_shape(kernels, dtype, rng):
    for n_samples, n_in, n_out in SHAPES:
        X, dZ = random(rng, (n_samples, n_in), dtype), random(rng, (n_samples, n_out), dtype)
        assert_product(call(kernels.dense_weight_gradient, (X, dZ), (n_in, n_out), dtype), X.T, dZ)


def test_input_gradient_at_every_shape(kernels, dtype, rng):
    for n_samples, n_in, n_out in SHAPES:
        dZ, W = random(rng, (n_samples, n_out), dtype), random(rng, (n_in, n_out), dtype)
        assert_product(call(kernels.dense_input_gradient, (dZ, W), (n_samples, n_in), dtype), dZ, W.T)


def test_bias_gradient_at_every_shape(kernels, dtype, rng):
    for n_samples, n_out in itertools.product(SIZES, SIZES):
        dZ = random(rng, (n_samples, n_out), dtype)
        db = call(kernels.dense_bias_gradient, (dZ,), (n_out,), dtype)
        ones = np.ones((1, n_samples))
        assert_product(db[None], ones, dZ)


def test_bias_gradient_sums_in_float64(kernels):
    """2^24 + 1 - 2^24 is 0 in float32, where 2^24 + 1 is 2^24."""
    dZ = np.array([[2.0**24], [1.0], [-(2.0**24)]], np.float32)
    db = np.empty(1, np.float32)
    kernels.dense_bias_gradient(dZ, db)
    assert db[0] == 1


def test_products_against_loops(kernels, dtype, tolerance, rng):
    """Which index is summed over, said in three loops."""
    n_samples, n_in, n_out = 3, 5, 2
    X, W, dZ, b = (random(rng, s, dtype) for s in ((n_samples, n_in), (n_in, n_out), (n_samples, n_out), n_out))
    out, dW, dX = np.tile(b, (n_samples, 1)).tolist(), np.zeros(W.shape).tolist(), np.zeros(X.shape).tolist()
    for i, j, k in itertools.product(range(n_samples), range(n_in), range(n_out)):
        out[i][k] += float(X[i, j]) * float(W[j, k])
        dW[j][k] += float(X[i, j]) * float(dZ[i, k])
        dX[i][j] += float(dZ[i, k]) * float(W[j, k])
    for kernel, arguments, expected in (
        (kernels.dense_forward, (X, W, b, ACTIVATIONS["identity"]), out),
        (kernels.dense_weight_gradient, (X, dZ), dW),
        (kernels.dense_input_gradient, (dZ, W), dX),
    ):
        actual = call(kernel, arguments, np.shape(expected), dtype)
        np.testing.assert_allclose(actual, expected, **tolerance)


@njit(cache=False)
def task_parts(n_rows, panels, threads):
    """Panel, first row and the row after the last of each task of a product."""
    n = _tile.n_tasks(n_rows, panels, threads)
    parts = np.empty((n, 3), np.int64)
    for task in range(n):
        panel, first, stop = _tile.task_part(task, n_rows, panels, threads)
        parts[task, 0], parts[task, 1], parts[task, 2] = panel, first, stop
    return parts


def test_tasks_cover_a_product_once_and_evenly():
    """Each row of each panel belongs to one task; what is cut lies between the whole panels of leader and helpers."""
    for n_rows, panels, threads in itertools.product((1, 15, 16, 33, 100, 256), range(12), (1, 2, 3, 5)):
        covered = np.zeros((panels, n_rows), int)
        parts = task_parts(n_rows, panels, threads)
        for panel, first, stop in parts:
            covered[panel, first:stop] += 1
        assert (covered == 1).all()
        assert (parts[:, 1] < parts[:, 2]).all()
        if threads == 1:
            assert len(parts) == panels
        elif n_rows == 256 and panels > 0:
            whole = np.flatnonzero(parts[:, 2] - parts[:, 1] == 256)
            blocks = np.setdiff1d(np.arange(len(parts)), whole)
            before, after = (whole < blocks[0]).sum(), (whole > blocks[-1]).sum()
            assert len(whole) % threads == 0
            assert before + after == len(whole)
            assert before * (threads - 1) == after


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_applies_bias_and_activation(kernels, activation, dtype, tolerance, rng):
    for n_samples, n_in, n_out in ((1, 1, 1), (3, 4, 2), (5, 8, 17), (17, 3, 33), (9, 20, 49)):
        X, W, b = (random(rng, shape, dtype) for shape in ((n_samples, n_in), (n_in, n_out), (n_out,)))
        W /= np.sqrt(n_in)
        Z = (X.astype(float) @ W.astype(float) + b).tolist()
        if activation == "softmax":
            expected = [naive.softmax(row) for row in Z]
        else:
            expected = [[naive.ACTIVATIONS[activation](z) for z in row] for row in Z]
        actual = call(kernels.dense_forward, (X, W, b, ACTIVATIONS[activation]), (n_samples, n_out), dtype)
        np.testing.assert_allclose(actual, expected, **tolerance)


def test_no_rows(kernels, dtype):
    X, dZ, W, b = (np.ones(shape, dtype) for shape in ((0, 3), (0, 20), (3, 20), 20))
    assert call(kernels.dense_forward, (X, W, b, ACTIVATIONS["softmax"]), (0, 20), dtype).size == 0
    assert call(kernels.dense_input_gradient, (dZ, W), (0, 3), dtype).size == 0
    assert (call(kernels.dense_weight_gradient, (X, dZ), (3, 20), dtype) == 0).all()
    assert (call(kernels.dense_bias_gradient, (dZ,), (20,), dtype) == 0).all()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_nan_and_infinity_reach_the_output(kernels, dtype):
    X, W, b = np.ones((20, 9), dtype), np.ones((9, 18), dtype), np.zeros(18, dtype)
    X[3, 4], X[5, 6] = np.nan, np.inf
    out = call(kernels.dense_forward, (X, W, b, ACTIVATIONS["identity"]), (20, 18), dtype)
    assert np.isnan(out[3]).all()
    assert (out[5] == np.inf).all()
    assert (np.delete(out, [3, 5], axis=0) == 9).all()


@pytest.mark.parametrize("activation", ["identity", "tanh", "softmax"])
@pytest.mark.parametrize("n_out", [1, 3, 16, 50] if COMPILED else [3])
def test_one_row_alone_equals_the_row_in_a_batch(fast_kernels, activation, n_out, dtype, rng):
    """Bit for bit; the reference's products are NumPy's, which do not promise it."""
    n_samples, n_in = (150, 37) if COMPILED else (9, 5)
    X, W, b = (random(rng, shape, dtype) for shape in ((n_samples, n_in), (n_in, n_out), (n_out,)))
    arguments = W, b, ACTIVATIONS[activation]
    batch = call(fast_kernels.dense_forward, (X, *arguments), (n_samples, n_out), dtype)
    for size in (1, 2, 3, 5, 8, 11):
        for start in range(0, n_samples - size + 1, 1 if size == 1 else 13):
            rows = call(fast_kernels.dense_forward, (X[start : start + size], *arguments), (size, n_out), dtype)
            np.testing.assert_array_equal(rows, batch[start : start + size])

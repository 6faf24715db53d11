"""Activation functions, and the gradient through each; loops over flat arrays that LLVM vectorises."""

import math

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._math import exp, expm1, logistic, normal_cdf, softplus, tanh
from gdl.kernels.cpu._simd import part
from gdl.kernels.layout import ACTIVATIONS, LEAKY_SLOPE

IDENTITY = ACTIVATIONS["identity"]
RELU = ACTIVATIONS["relu"]
LEAKY_RELU = ACTIVATIONS["leaky_relu"]
LOGISTIC = ACTIVATIONS["logistic"]
TANH = ACTIVATIONS["tanh"]
ELU = ACTIVATIONS["elu"]
SOFTPLUS = ACTIVATIONS["softplus"]
GELU = ACTIVATIONS["gelu"]
SILU = ACTIVATIONS["silu"]
EXP = ACTIVATIONS["exp"]
SOFTMAX = ACTIVATIONS["softmax"]
INVERSE_ROOT_TWO_PI = 1 / math.sqrt(2 * math.pi)


@inner
def activate_range(Z, z, activation, A, a, n):
    """Apply an elementwise activation to n elements."""
    Z, A = part(Z, z, n), part(A, a, n)
    zero = Z.dtype.type(0)
    if activation == IDENTITY:
        for i in range(n):
            A[i] = Z[i]
    elif activation == RELU:
        for i in range(n):
            x = Z[i]
            A[i] = zero if x < zero else x
    elif activation == LEAKY_RELU:
        slope = Z.dtype.type(LEAKY_SLOPE)
        for i in range(n):
            x = Z[i]
            A[i] = slope * x if x < zero else x
    elif activation == LOGISTIC:
        for i in range(n):
            A[i] = logistic(Z[i])
    elif activation == TANH:
        for i in range(n):
            A[i] = tanh(Z[i])
    elif activation == ELU:
        for i in range(n):
            x = Z[i]
            below = expm1(x if x < zero else zero)
            A[i] = below if x < zero else x
    elif activation == SOFTPLUS:
        for i in range(n):
            A[i] = softplus(Z[i])
    elif activation == GELU:
        for i in range(n):
            x = Z[i]
            A[i] = x * normal_cdf(x)
    elif activation == SILU:
        for i in range(n):
            x = Z[i]
            A[i] = x * logistic(x)
    elif activation == EXP:
        for i in range(n):
            A[i] = exp(Z[i])


@inner
def slope_range(Z, z, A, a, scale, dA, d, activation, dZ, e, n):
    """Gradient through an elementwise activation, n elements; the output is ``scale A``."""
    Z, A, dA, dZ = part(Z, z, n), part(A, a, n), part(dA, d, n), part(dZ, e, n)
    one = A.dtype.type(1)
    zero = A.dtype.type(0)
    if activation == IDENTITY:
        for i in range(n):
            dZ[i] = dA[i]
    elif activation == RELU:
        for i in range(n):
            dZ[i] = dA[i] if A[i] > zero else zero
    elif activation == LEAKY_RELU:
        slope = A.dtype.type(LEAKY_SLOPE)
        for i in range(n):
            dZ[i] = dA[i] if A[i] > zero else slope * dA[i]
    elif activation == LOGISTIC:
        for i in range(n):
            y = scale * A[i]
            dZ[i] = dA[i] * y * (one - y)
    elif activation == TANH:
        for i in range(n):
            y = scale * A[i]
            dZ[i] = dA[i] * (one - y * y)
    elif activation == ELU:
        for i in range(n):
            y = scale * A[i]
            dZ[i] = dA[i] if y > zero else dA[i] * (y + one)
    elif activation == SOFTPLUS:
        for i in range(n):
            dZ[i] = dA[i] * -expm1(-scale * A[i])
    elif activation == GELU:
        height = A.dtype.type(INVERSE_ROOT_TWO_PI)
        half = A.dtype.type(0.5)
        for i in range(n):
            x = Z[i]
            dZ[i] = dA[i] * (normal_cdf(x) + x * height * exp(-half * x * x))
    elif activation == SILU:
        for i in range(n):
            x = Z[i]
            share = logistic(x)
            dZ[i] = dA[i] * share * (one + x * (one - share))


@inner
def softmax_rows(Z, z, A, a, n_rows, n_out):
    """Softmax of each of n_rows rows; A may be Z. The exponentials are one loop over all rows."""
    for i in range(n_rows):
        x, y = part(Z, z + i * n_out, n_out), part(A, a + i * n_out, n_out)
        largest = x[0]
        for k in range(1, n_out):
            largest = x[k] if x[k] > largest else largest
        for k in range(n_out):
            y[k] = x[k] - largest
    block = part(A, a, n_rows * n_out)
    for i in range(n_rows * n_out):
        block[i] = exp(block[i])
    for i in range(n_rows):
        y = part(A, a + i * n_out, n_out)
        total = y[0]
        for k in range(1, n_out):
            total += y[k]
        share = A.dtype.type(1) / total
        for k in range(n_out):
            y[k] *= share


@njit
def activate(Z, activation, A):
    """Apply an activation function; elements are independent, of softmax rows are."""
    n_rows, n_out = Z.shape
    if activation == SOFTMAX:
        softmax_rows(Z.ravel(), 0, A.ravel(), 0, n_rows, n_out)
    else:
        activate_range(Z.ravel(), 0, activation, A.ravel(), 0, n_rows * n_out)


@njit
def softmax(Z, A):
    """Shares of a whole; rows are independent."""
    softmax_rows(Z.ravel(), 0, A.ravel(), 0, Z.shape[0], Z.shape[1])


@njit
def activation_gradient(Z, A, dA, activation, dZ):
    """Gradient through an activation; elements are independent."""
    slope_range(Z.ravel(), 0, A.ravel(), 0, A.dtype.type(1), dA.ravel(), 0, activation, dZ.ravel(), 0, Z.size)

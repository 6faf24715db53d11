"""Activation functions, and the gradient through each; loops over flat arrays that LLVM vectorises."""

import math

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._math import exp, expm1, logistic, normal_cdf, softplus, tanh
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
    one = Z.dtype.type(1)
    zero = Z.dtype.type(0)
    if activation == IDENTITY:
        for i in range(n):
            A[a + i] = Z[z + i]
    elif activation == RELU:
        for i in range(n):
            x = Z[z + i]
            A[a + i] = zero if x < zero else x
    elif activation == LEAKY_RELU:
        slope = Z.dtype.type(LEAKY_SLOPE)
        for i in range(n):
            x = Z[z + i]
            A[a + i] = slope * x if x < zero else x
    elif activation == LOGISTIC:
        for i in range(n):
            A[a + i] = logistic(Z[z + i])
    elif activation == TANH:
        for i in range(n):
            A[a + i] = tanh(Z[z + i])
    elif activation == ELU:
        for i in range(n):
            x = Z[z + i]
            below = expm1(x if x < zero else zero)
            A[a + i] = below if x < zero else x
    elif activation == SOFTPLUS:
        for i in range(n):
            A[a + i] = softplus(Z[z + i])
    elif activation == GELU:
        for i in range(n):
            x = Z[z + i]
            A[a + i] = x * normal_cdf(x)
    elif activation == SILU:
        for i in range(n):
            x = Z[z + i]
            A[a + i] = x * logistic(x)
    elif activation == EXP:
        for i in range(n):
            A[a + i] = exp(Z[z + i])
    else:
        for i in range(n):
            A[a + i] = one


@inner
def slope_range(Z, z, A, a, scale, dA, d, activation, dZ, e, n):
    """Gradient through an elementwise activation, n elements; the output is ``scale A``."""
    one = A.dtype.type(1)
    zero = A.dtype.type(0)
    if activation == IDENTITY:
        for i in range(n):
            dZ[e + i] = dA[d + i]
    elif activation == RELU:
        for i in range(n):
            dZ[e + i] = dA[d + i] if A[a + i] > zero else zero
    elif activation == LEAKY_RELU:
        slope = A.dtype.type(LEAKY_SLOPE)
        for i in range(n):
            dZ[e + i] = dA[d + i] if A[a + i] > zero else slope * dA[d + i]
    elif activation == LOGISTIC:
        for i in range(n):
            y = scale * A[a + i]
            dZ[e + i] = dA[d + i] * y * (one - y)
    elif activation == TANH:
        for i in range(n):
            y = scale * A[a + i]
            dZ[e + i] = dA[d + i] * (one - y * y)
    elif activation == ELU:
        for i in range(n):
            y = scale * A[a + i]
            dZ[e + i] = dA[d + i] if y > zero else dA[d + i] * (y + one)
    elif activation == SOFTPLUS:
        for i in range(n):
            dZ[e + i] = dA[d + i] * -expm1(-scale * A[a + i])
    elif activation == GELU:
        height = A.dtype.type(INVERSE_ROOT_TWO_PI)
        half = A.dtype.type(0.5)
        for i in range(n):
            x = Z[z + i]
            dZ[e + i] = dA[d + i] * (normal_cdf(x) + x * height * exp(-half * x * x))
    elif activation == SILU:
        for i in range(n):
            x = Z[z + i]
            share = logistic(x)
            dZ[e + i] = dA[d + i] * share * (one + x * (one - share))


@inner
def softmax_rows(Z, z, A, a, n_rows, n_out):
    """Softmax of each of n_rows rows; A may be Z. The exponentials are one loop over all rows."""
    for i in range(n_rows):
        largest = Z[z + i * n_out]
        for k in range(1, n_out):
            x = Z[z + i * n_out + k]
            largest = x if x > largest else largest
        for k in range(n_out):
            A[a + i * n_out + k] = Z[z + i * n_out + k] - largest
    for i in range(n_rows * n_out):
        A[a + i] = exp(A[a + i])
    for i in range(n_rows):
        total = A.dtype.type(0)
        for k in range(n_out):
            total += A[a + i * n_out + k]
        share = A.dtype.type(1) / total
        for k in range(n_out):
            A[a + i * n_out + k] *= share


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

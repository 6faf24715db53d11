"""Losses: of each sample, and the gradient by the output layer's input. Rows are independent."""

import numpy as np

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._math import log, log1p
from gdl.kernels.cpu._simd import part
from gdl.kernels.layout import LOSSES

LOG_LOSS = LOSSES["log_loss"]
BINARY_LOG_LOSS = LOSSES["binary_log_loss"]
SQUARED_ERROR = LOSSES["squared_error"]
POISSON = LOSSES["poisson"]
ABSOLUTE_ERROR = LOSSES["absolute_error"]
HUBER = LOSSES["huber"]


@inner
def log_loss_rows(P, p, Y, order, first, n_rows, n_out, losses, i0, dZ, d):
    """Log loss of rows of softmax outputs; row i's class is ``Y[order[first + i]]``.

    The copy and the logarithms are loops over all rows, which vectorise.
    """
    eps = np.float64(np.finfo(P.dtype).eps)
    losses, P, dZ = part(losses, i0, n_rows), part(P, p, n_rows * n_out), part(dZ, d, n_rows * n_out)
    for k in range(n_rows * n_out):
        dZ[k] = P[k]
    for i in range(n_rows):
        k = i * n_out + np.int64(Y[order[first + i]])
        losses[i] = P[k]
        dZ[k] -= P.dtype.type(1)
    for i in range(n_rows):
        losses[i] = min(max(losses[i], eps), 1 - eps)
    for i in range(n_rows):
        losses[i] = -log(losses[i])


@inner
def binary_log_loss_row(P, p, Y, y, n_out, dZ, d):
    """Log loss of one row of logistic outputs."""
    P, Y, dZ = part(P, p, n_out), part(Y, y, n_out), part(dZ, d, n_out)
    eps = np.float64(np.finfo(P.dtype).eps)
    total = 0.0
    for k in range(n_out):
        share = min(max(np.float64(P[k]), eps), 1 - eps)
        total -= log(share) if Y[k] > 0.5 else log1p(-share)
        dZ[k] = P[k] - Y[k]
    return total


@inner
def squared_error_row(P, p, Y, y, n_out, dZ, d):
    """Half the squared error of one row."""
    P, Y, dZ = part(P, p, n_out), part(Y, y, n_out), part(dZ, d, n_out)
    total = 0.0
    for k in range(n_out):
        r = np.float64(P[k]) - np.float64(Y[k])
        total += r * r
        dZ[k] = P[k] - Y[k]
    return 0.5 * total / n_out


@inner
def poisson_row(P, p, Y, y, n_out, dZ, d):
    """Half the Poisson deviance of one row."""
    P, Y, dZ = part(P, p, n_out), part(Y, y, n_out), part(dZ, d, n_out)
    total = 0.0
    for k in range(n_out):
        rate = np.float64(P[k])
        count = np.float64(Y[k])
        if count > 0:
            total += count * log(count / rate)
        total += rate - count
        dZ[k] = P[k] - Y[k]
    return total


@inner
def absolute_error_row(P, p, Y, y, n_out, dZ, d):
    """Absolute error of one row."""
    P, Y, dZ = part(P, p, n_out), part(Y, y, n_out), part(dZ, d, n_out)
    total = 0.0
    for k in range(n_out):
        total += abs(np.float64(P[k]) - np.float64(Y[k]))
        dZ[k] = np.sign(P[k] - Y[k])
    return total / n_out


@inner
def huber_row(P, p, Y, y, n_out, delta, dZ, d):
    """Huber's loss of one row."""
    P, Y, dZ = part(P, p, n_out), part(Y, y, n_out), part(dZ, d, n_out)
    limit = P.dtype.type(delta)
    total = 0.0
    for k in range(n_out):
        r = abs(np.float64(P[k]) - np.float64(Y[k]))
        total += 0.5 * r * r if r <= delta else delta * (r - 0.5 * delta)
        slope = P[k] - Y[k]
        slope = limit if slope > limit else slope
        dZ[k] = -limit if slope < -limit else slope
    return total / n_out


@inner
def quantile_row(P, p, Y, y, n_out, level, dZ, d):
    """Quantile loss of one row."""
    P, Y, dZ = part(P, p, n_out), part(Y, y, n_out), part(dZ, d, n_out)
    total = 0.0
    for k in range(n_out):
        r = np.float64(P[k]) - np.float64(Y[k])
        total += -level * r if r < 0 else (1 - level) * r
        dZ[k] = P.dtype.type(-level if r < 0 else (1 - level if r > 0 else 0.0))
    return total / n_out


@inner
def loss_row(loss, parameter, P, p, Y, y, n_out, dZ, d):
    """Loss of one row and its gradient, the loss given by its code; not the log loss of softmax outputs."""
    if loss == BINARY_LOG_LOSS:
        return binary_log_loss_row(P, p, Y, y, n_out, dZ, d)
    if loss == SQUARED_ERROR:
        return squared_error_row(P, p, Y, y, n_out, dZ, d)
    if loss == POISSON:
        return poisson_row(P, p, Y, y, n_out, dZ, d)
    if loss == ABSOLUTE_ERROR:
        return absolute_error_row(P, p, Y, y, n_out, dZ, d)
    if loss == HUBER:
        return huber_row(P, p, Y, y, n_out, parameter, dZ, d)
    return quantile_row(P, p, Y, y, n_out, parameter, dZ, d)


@njit
def log_loss(P, Y, losses, dZ):
    """Log loss of softmax outputs, row by row."""
    n_rows, n_out = P.shape
    log_loss_rows(P.ravel(), 0, Y.ravel(), np.arange(n_rows), 0, n_rows, n_out, losses, 0, dZ.ravel(), 0)


@njit
def binary_log_loss(P, Y, losses, dZ):
    """Log loss of logistic outputs, row by row."""
    n_rows, n_out = P.shape
    for i in range(n_rows):
        losses[i] = binary_log_loss_row(P.ravel(), i * n_out, Y.ravel(), i * n_out, n_out, dZ.ravel(), i * n_out)


@njit
def squared_error(P, Y, losses, dZ):
    """Half the squared error, row by row."""
    n_rows, n_out = P.shape
    for i in range(n_rows):
        losses[i] = squared_error_row(P.ravel(), i * n_out, Y.ravel(), i * n_out, n_out, dZ.ravel(), i * n_out)


@njit
def poisson(P, Y, losses, dZ):
    """Half the Poisson deviance, row by row."""
    n_rows, n_out = P.shape
    for i in range(n_rows):
        losses[i] = poisson_row(P.ravel(), i * n_out, Y.ravel(), i * n_out, n_out, dZ.ravel(), i * n_out)


@njit
def absolute_error(P, Y, losses, dZ):
    """Absolute error, row by row."""
    n_rows, n_out = P.shape
    for i in range(n_rows):
        losses[i] = absolute_error_row(P.ravel(), i * n_out, Y.ravel(), i * n_out, n_out, dZ.ravel(), i * n_out)


@njit
def huber(P, Y, delta, losses, dZ):
    """Huber's loss, row by row."""
    n_rows, n_out = P.shape
    for i in range(n_rows):
        losses[i] = huber_row(P.ravel(), i * n_out, Y.ravel(), i * n_out, n_out, delta, dZ.ravel(), i * n_out)


@njit
def quantile(P, Y, level, losses, dZ):
    """Quantile loss, row by row."""
    n_rows, n_out = P.shape
    for i in range(n_rows):
        losses[i] = quantile_row(P.ravel(), i * n_out, Y.ravel(), i * n_out, n_out, level, dZ.ravel(), i * n_out)

"""Losses: of each sample, and the gradient by the output layer's input.

Every kernel takes the network's output P and the truth Y and writes one float64 loss a sample and dZ,
the gradient of the sample's loss by z, the output before its activation (softmax, logistic, exp or
identity). As in scikit-learn, the error losses are *averaged* over outputs while dZ belongs to their
*sum*, so that a step does not depend on the number of outputs.
"""

import numpy as np
import scipy.special


def log_loss(P, Y, losses, dZ):
    """Log loss of softmax outputs, ``-log P[i, c]`` with c the true class; ``dZ = P - onehot(c)``.

    P is clipped to [eps, 1 - eps], eps of its dtype, so that the loss is finite.

    Parameters
    ----------
    P : float array of shape (n_samples, n_out)
    Y : float array of shape (n_samples, 1)
        The class, a whole number below n_out.
    losses : float64 array of shape (n_samples,)
    dZ : float array of shape (n_samples, n_out)
        May be P itself.
    """
    eps = np.finfo(P.dtype).eps
    i, c = np.arange(len(P)), Y[:, 0].astype(np.int64)
    losses[:] = -np.log(np.clip(P[i, c].astype(np.float64), eps, 1 - eps))
    dZ[:] = P
    dZ[i, c] -= 1


def binary_log_loss(P, Y, losses, dZ):
    """Log loss of logistic outputs, ``sum_k -y log p - (1 - y) log(1 - p)``; ``dZ = P - Y``.

    P is clipped to [eps, 1 - eps], eps of its dtype, so that the loss is finite.

    Parameters
    ----------
    P : float array of shape (n_samples, n_out)
    Y : float array of shape (n_samples, n_out)
        0 or 1, one label a column.
    losses : float64 array of shape (n_samples,)
    dZ : float array of shape (n_samples, n_out)
    """
    eps = np.finfo(P.dtype).eps
    clipped = np.clip(P.astype(np.float64), eps, 1 - eps)
    losses[:] = -np.sum(np.where(Y > 0.5, np.log(clipped), np.log1p(-clipped)), axis=1)
    dZ[:] = P - Y


def squared_error(P, Y, losses, dZ):
    """Half the squared error, ``mean_k (p - y)^2 / 2``; ``dZ = P - Y``.

    Parameters
    ----------
    P : float array of shape (n_samples, n_out)
    Y : float array of shape (n_samples, n_out)
    losses : float64 array of shape (n_samples,)
    dZ : float array of shape (n_samples, n_out)
    """
    losses[:] = 0.5 * np.mean((P.astype(np.float64) - Y) ** 2, axis=1)
    dZ[:] = P - Y


def poisson(P, Y, losses, dZ):
    """Half the Poisson deviance, ``sum_k y log(y / p) - y + p`` of outputs p = exp(z); ``dZ = P - Y``.

    Parameters
    ----------
    P : float array of shape (n_samples, n_out)
        Positive.
    Y : float array of shape (n_samples, n_out)
        Not negative.
    losses : float64 array of shape (n_samples,)
    dZ : float array of shape (n_samples, n_out)
    """
    p, y = P.astype(np.float64), Y.astype(np.float64)
    losses[:] = np.sum(scipy.special.xlogy(y, y / p) - y + p, axis=1)
    dZ[:] = P - Y


def absolute_error(P, Y, losses, dZ):
    """Absolute error, ``mean_k |p - y|``; dZ is the sign of p - y, 0 where they are equal.

    Parameters
    ----------
    P : float array of shape (n_samples, n_out)
    Y : float array of shape (n_samples, n_out)
    losses : float64 array of shape (n_samples,)
    dZ : float array of shape (n_samples, n_out)
    """
    losses[:] = np.mean(np.abs(P.astype(np.float64) - Y), axis=1)
    dZ[:] = np.sign(P - Y)


def huber(P, Y, delta, losses, dZ):
    """Huber's loss: half the squared error up to ``delta``, linear beyond (Huber 1964).

    With r = p - y: ``r^2 / 2`` if ``|r| <= delta`` else ``delta (|r| - delta / 2)``, averaged over
    outputs; dZ is r limited to [-delta, delta].

    Parameters
    ----------
    P : float array of shape (n_samples, n_out)
    Y : float array of shape (n_samples, n_out)
    delta : float, above 0
    losses : float64 array of shape (n_samples,)
    dZ : float array of shape (n_samples, n_out)
    """
    r = np.abs(P.astype(np.float64) - Y)
    losses[:] = np.mean(np.where(r <= delta, 0.5 * r * r, delta * (r - 0.5 * delta)), axis=1)
    dZ[:] = np.clip(P - Y, -delta, delta)


def quantile(P, Y, level, losses, dZ):
    """Quantile (pinball) loss: ``level (y - p)`` where y > p, else ``(1 - level) (p - y)``.

    Averaged over outputs; dZ is -level, 1 - level, or 0 where p equals y.

    Parameters
    ----------
    P : float array of shape (n_samples, n_out)
    Y : float array of shape (n_samples, n_out)
    level : float, between 0 and 1
    losses : float64 array of shape (n_samples,)
    dZ : float array of shape (n_samples, n_out)
    """
    r = P.astype(np.float64) - Y
    losses[:] = np.mean(np.where(r < 0, -level * r, (1 - level) * r), axis=1)
    dZ[:] = np.where(r < 0, -level, np.where(r > 0, 1 - level, 0))

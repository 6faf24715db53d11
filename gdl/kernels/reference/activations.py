"""Activation functions, and the gradient through each."""

import numpy as np
import scipy.special

from gdl.kernels.layout import ACTIVATIONS, LEAKY_SLOPE

NAMES = {code: name for name, code in ACTIVATIONS.items()}


def activate(Z, activation, A):
    """Apply an activation function, ``A = f(Z)``.

    ========== ==================================================
    identity   z
    relu       max(z, 0)
    leaky_relu z if z > 0 else 0.01 z
    logistic   1 / (1 + exp(-z))
    tanh       tanh(z)
    elu        z if z > 0 else exp(z) - 1
    softplus   log(1 + exp(z))
    gelu       z Phi(z), Phi the normal distribution function (Hendrycks & Gimpel 2016)
    silu       z logistic(z)
    exp        exp(z), for a positive output
    softmax    exp(z_k) / sum_l exp(z_l), over each row
    ========== ==================================================

    Parameters
    ----------
    Z : float array of shape (n_samples, n_out)
    activation : int, a code of ``layout.ACTIVATIONS``
    A : float array of shape (n_samples, n_out)
        May be Z itself.
    """
    name = NAMES[activation]
    if name == "softmax":
        softmax(Z, A)
    elif name == "identity":
        A[:] = Z
    elif name == "relu":
        A[:] = np.where(Z < 0, 0, Z)  # keeps NaN
    elif name == "leaky_relu":
        A[:] = np.where(Z < 0, LEAKY_SLOPE * Z, Z)
    elif name == "logistic":
        A[:] = scipy.special.expit(Z)
    elif name == "tanh":
        A[:] = np.tanh(Z)
    elif name == "elu":
        A[:] = np.where(Z < 0, np.expm1(np.minimum(Z, 0)), Z)
    elif name == "softplus":
        A[:] = np.logaddexp(Z, 0)
    elif name == "gelu":
        A[:] = Z * scipy.special.ndtr(Z)
    elif name == "silu":
        A[:] = Z * scipy.special.expit(Z)
    elif name == "exp":
        A[:] = np.exp(Z)


def softmax(Z, A):
    """Shares of a whole, ``A_ik = exp(Z_ik) / sum_l exp(Z_il)``, safe for large Z.

    Parameters
    ----------
    Z : float array of shape (n_samples, n_out)
    A : float array of shape (n_samples, n_out)
        May be Z itself.
    """
    A[:] = np.exp(Z - Z.max(axis=1, keepdims=True))
    A /= A.sum(axis=1, keepdims=True)


def activation_gradient(Z, A, dA, activation, dZ):
    """Gradient through an activation, ``dZ = dA f'(z)``; for hidden layers, so softmax and exp are not here.

    Only gelu and silu read Z; for the others the slope is a function of the output A.

    Parameters
    ----------
    Z : float array of shape (n_samples, n_out)
    A : float array of shape (n_samples, n_out)
    dA : float array of shape (n_samples, n_out)
    activation : int, a code of ``layout.ACTIVATIONS``
    dZ : float array of shape (n_samples, n_out)
        May be dA itself.
    """
    name = NAMES[activation]
    if name == "identity":
        dZ[:] = dA
    elif name == "relu":
        dZ[:] = np.where(A > 0, dA, 0)
    elif name == "leaky_relu":
        dZ[:] = np.where(A > 0, dA, LEAKY_SLOPE * dA)
    elif name == "logistic":
        dZ[:] = dA * A * (1 - A)
    elif name == "tanh":
        dZ[:] = dA * (1 - A * A)
    elif name == "elu":
        dZ[:] = np.where(A > 0, dA, dA * (A + 1))
    elif name == "softplus":
        dZ[:] = dA * -np.expm1(-A)  # 1 - exp(-a) is logistic(z)
    elif name == "gelu":
        density = np.exp(-0.5 * Z * Z) / np.sqrt(2 * np.pi)
        dZ[:] = dA * (scipy.special.ndtr(Z) + Z * density)
    elif name == "silu":
        share = scipy.special.expit(Z)
        dZ[:] = dA * share * (1 + Z * (1 - share))

"""The dense layer: its output, and the gradients of its input, weights and bias."""

import numpy as np

from gdl.kernels.reference.activations import activate


def dense_forward(X, W, b, activation, out):
    """Output of a dense layer, ``out = f(X W + b)``.

    Parameters
    ----------
    X : float array of shape (n_samples, n_in)
    W : float array of shape (n_in, n_out)
    b : float array of shape (n_out,)
    activation : int, a code of ``layout.ACTIVATIONS``
    out : float array of shape (n_samples, n_out)
    """
    activate(X @ W + b, activation, out)


def dense_input_gradient(dZ, W, dX):
    """Gradient of the loss by a layer's input, ``dX = dZ W^T``.

    Parameters
    ----------
    dZ : float array of shape (n_samples, n_out)
    W : float array of shape (n_in, n_out)
    dX : float array of shape (n_samples, n_in)
    """
    np.matmul(dZ, W.T, out=dX)


def dense_weight_gradient(X, dZ, dW):
    """Gradient of the loss by a layer's weights, ``dW = X^T dZ``.

    Parameters
    ----------
    X : float array of shape (n_samples, n_in)
    dZ : float array of shape (n_samples, n_out)
    dW : float array of shape (n_in, n_out)
    """
    np.matmul(X.T, dZ, out=dW)


def dense_bias_gradient(dZ, db):
    """Gradient of the loss by a layer's bias: the sum of ``dZ`` over samples, taken in float64.

    Parameters
    ----------
    dZ : float array of shape (n_samples, n_out)
    db : float array of shape (n_out,)
    """
    db[:] = dZ.sum(axis=0, dtype=np.float64)

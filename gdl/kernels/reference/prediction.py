"""Predict: samples through all layers."""

import numpy as np

from gdl.kernels.layout import ACTIVATION, bias_views, unit_views, weight_views
from gdl.kernels.reference.activations import activate


def all_finite(X, finite):
    """Whether X holds neither NaN nor infinity: ``finite[0]`` is 1.0 or 0.0.

    Parameters
    ----------
    X : float array of shape (n_samples, n_in)
    finite : float64 array of shape (1,)
    """
    finite[0] = np.isfinite(X).all()


def forward(X, layers, parameters, activations):
    """Outputs of every layer.

    Parameters
    ----------
    X : float array of shape (n_samples, n_in)
    layers : int64 array, a layer table
    parameters : float array of shape (n_parameters,)
    activations : float array of shape (n_samples * n_units,)
        Layer after layer, each (n_samples, n_out).
    """
    A = X
    views = unit_views(activations, layers, len(X))
    for layer, (W, b) in enumerate(_weights_and_biases(parameters, layers)):
        activate(A @ W + b, layers[layer, ACTIVATION], views[layer])
        A = views[layer]


def predict(X, layers, parameters, out):
    """Output of the last layer; memory beyond ``out`` does not grow with the number of samples.

    Parameters
    ----------
    X : float array of shape (n_samples, n_in)
    layers : int64 array, a layer table
    parameters : float array of shape (n_parameters,)
    out : float array of shape (n_samples, n_out)
    """
    for start in range(0, len(X), 256):
        A = X[start : start + 256]
        for layer, (W, b) in enumerate(_weights_and_biases(parameters, layers)):
            Z = A @ W + b
            A = np.empty_like(Z)
            activate(Z, layers[layer, ACTIVATION], A)
        out[start : start + 256] = A


def _weights_and_biases(parameters, layers):
    weights, biases = weight_views(parameters, layers), bias_views(parameters, layers)
    return zip(weights, biases or [np.zeros(1, parameters.dtype)] * len(weights), strict=True)

"""First parameters of a network, drawn on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdl.kernels import layout

INITIALIZERS = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal")


def draw_parameters(
    init: str,
    layers: NDArray[np.int64],
    activations: list[str],
    dtype: np.dtype[Any],
    random_state: np.random.RandomState,
) -> NDArray[Any]:
    """Return a new parameter vector.

    ``"glorot_uniform"`` makes scikit-learn's draws in scikit-learn's order: for each layer W and then b,
    both uniform between plus and minus ``sqrt(f / (n_in + n_out))``, f = 2 where ``activations`` says
    logistic, else 6 (Glorot & Bengio 2010, equation 16). The others start with b = 0:
    ``"glorot_normal"`` has the standard deviation ``sqrt(2 / (n_in + n_out))``, ``"he_normal"``
    ``sqrt(2 / n_in)`` and ``"he_uniform"`` the bound ``sqrt(6 / n_in)`` (He et al. 2015, equation 10).

    ``activations`` has one name a layer. The output layer is drawn as scikit-learn does it, for the
    hidden layers' activation and not for its own.

    >>> layers = layout.layer_table([2, 1], ["identity"])
    >>> draw_parameters("he_normal", layers, ["relu"], np.dtype("float32"), np.random.RandomState(0))
    array([1.7640524, 0.4001572, 0.       ], dtype=float32)
    """
    parameters = np.zeros(layout.n_parameters(layers), dtype)
    weights, biases = layout.weight_views(parameters, layers), layout.bias_views(parameters, layers)
    for layer, (W, activation) in enumerate(zip(weights, activations, strict=True)):
        n_in, n_out = W.shape
        if init == "glorot_uniform":
            bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (n_in + n_out))
            W[:] = random_state.uniform(-bound, bound, W.shape)
            if biases:
                biases[layer][:] = random_state.uniform(-bound, bound, n_out)
        elif init == "he_uniform":
            bound = np.sqrt(6.0 / n_in)
            W[:] = random_state.uniform(-bound, bound, W.shape)
        else:
            deviation = np.sqrt(2.0 / (n_in + n_out if init == "glorot_normal" else n_in))
            W[:] = random_state.normal(0.0, deviation, W.shape)
    return parameters

"""How a network lies in memory, and the codes that kernels know it by.

All knobs are one vector: ``W0, b0, W1, b1, ...``, each W in C order as (n_in, n_out). The layer table
says where each piece is, so that one compiled function serves every depth and width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Columns of the layer table, one row a layer.
N_IN, N_OUT, ACTIVATION, W_START, B_START, UNIT_START = range(6)

ACTIVATIONS = {
    "identity": 0,
    "relu": 1,
    "leaky_relu": 2,
    "logistic": 3,
    "tanh": 4,
    "elu": 5,
    "softplus": 6,
    "gelu": 7,
    "silu": 8,
    "exp": 9,
    "softmax": 10,
}
# From this code on (softmax apart, which is an output only) the slope is not a function of the output alone.
KEEPS_INPUT = (ACTIVATIONS["gelu"], ACTIVATIONS["silu"])
LEAKY_SLOPE = 0.01

LOSSES = {
    "log_loss": 0,  # softmax; Y holds the class number in its one column
    "binary_log_loss": 1,  # logistic; one output a label
    "squared_error": 2,
    "poisson": 3,
    "absolute_error": 4,
    "huber": 5,
    "quantile": 6,
}
SOLVERS = {"sgd": 0, "momentum": 1, "nesterov": 2, "adam": 3, "adamw": 4, "rmsprop": 5}
N_MOMENTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "adamw": 2, "rmsprop": 1}

# Rows of the workspace, each with room for one batch of every unit.
OUTPUTS, DELTAS, INPUTS, MASKS = range(4)


class Rule(NamedTuple):
    """What training does with a batch: the loss, its penalty and the optimizer (scalars only)."""

    loss: int  #: a code of LOSSES
    loss_parameter: float  #: Huber's delta, the quantile's level, else unused
    alpha: float  #: weight of the L2 penalty; for "adamw" the decoupled decay
    dropout: float  #: probability that a hidden unit is left out of a step
    max_grad_norm: float  #: gradients longer than this are scaled down to it; inf for never
    solver: int  #: a code of SOLVERS
    momentum: float
    beta_1: float
    beta_2: float
    epsilon: float
    seed: int  #: of the dropout masks, below 2**63


class _StateArrays(NamedTuple):
    parameters: NDArray[Any]  #: (n_parameters,)
    #: (n_parameters,); or (0,) for a step at once whose gradients nobody is to see, if none are to be clipped
    gradients: NDArray[Any]
    moments: NDArray[Any]  #: (n_moments, n_parameters)
    workspace: NDArray[Any]  #: (2 to 4, capacity * n_units)


class State(_StateArrays):
    """The arrays that a step works in; all of the data's dtype.

    And what a set of kernels has made ready for them, which it may keep in ``prepared`` from call to call.
    """

    prepared: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies prepare for themselves: what is prepared may hold addresses."""
        return State, tuple(self)


def layer_table(widths: list[int], activations: list[str], fit_intercept: bool = True) -> NDArray[np.int64]:
    """Return the int64 layer table of a network, one row a layer.

    ``widths`` runs from inputs to outputs, one more than there are ``activations``. Columns: inputs,
    outputs, activation code, where W starts in the parameter vector, where b starts (-1: no bias), and
    the number of units in the layers before.

    >>> layer_table([4, 8, 3], ["relu", "softmax"]).tolist()
    [[4, 8, 1, 0, 32, 0], [8, 3, 10, 40, 64, 8]]
    """
    table = np.empty((len(activations), 6), np.int64)
    start = unit = 0
    for row, n_in, n_out, name in zip(table, widths[:-1], widths[1:], activations, strict=True):
        b_start = start + n_in * n_out
        row[:] = n_in, n_out, ACTIVATIONS[name], start, b_start if fit_intercept else -1, unit
        start = b_start + (n_out if fit_intercept else 0)
        unit += n_out
    return table


def n_parameters(layers: NDArray[np.int64]) -> int:
    """Length of the parameter vector of a network."""
    n_in, n_out, _, w_start, b_start, _ = (int(value) for value in layers[-1])
    return w_start + n_in * n_out + (n_out if b_start >= 0 else 0)


def n_units(layers: NDArray[np.int64]) -> int:
    """Number of units of all layers together."""
    return int(layers[-1, UNIT_START] + layers[-1, N_OUT])


def n_workspace_rows(layers: NDArray[np.int64], dropout: float) -> int:
    """Rows that a workspace needs: activations, deltas, then inputs and masks if they are used."""
    if dropout > 0:
        return 4
    return 3 if any(code in KEEPS_INPUT for code in layers[:, ACTIVATION].tolist()) else 2


def weight_views(vector: NDArray[Any], layers: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Views of every W of a vector laid out like the parameters."""
    return [
        vector[w_start : w_start + n_in * n_out].reshape(n_in, n_out)
        for n_in, n_out, _, w_start, _, _ in layers.tolist()
    ]


def bias_views(vector: NDArray[Any], layers: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Views of every b of a vector laid out like the parameters; empty without intercepts."""
    return [vector[b_start : b_start + n_out] for _, n_out, _, _, b_start, _ in layers.tolist() if b_start >= 0]


def unit_views(row: NDArray[Any], layers: NDArray[np.int64], n_rows: int) -> list[NDArray[Any]]:
    """Views (n_rows, n_out) of every layer in one row of a workspace."""
    capacity = row.shape[0] // n_units(layers)
    return [
        row[unit * capacity : unit * capacity + n_rows * n_out].reshape(n_rows, n_out)
        for _, n_out, _, _, _, unit in layers.tolist()
    ]

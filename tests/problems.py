"""Small problems to train on: data, layer table, rule and state, ready for the kernels."""

import math
from dataclasses import dataclass

import numpy as np

from gdl.kernels.layout import (
    DELTAS,
    LOSSES,
    N_MOMENTS,
    OUTPUTS,
    SOLVERS,
    Rule,
    State,
    layer_table,
    n_parameters,
    n_units,
    n_workspace_rows,
    unit_views,
)

OUTPUT_ACTIVATIONS = {
    "log_loss": "softmax",
    "binary_log_loss": "logistic",
    "squared_error": "identity",
    "poisson": "exp",
    "absolute_error": "identity",
    "huber": "identity",
    "quantile": "identity",
}
LOSS_PARAMETERS = {"huber": 0.5, "quantile": 0.3}


@dataclass
class Problem:
    X: np.ndarray
    Y: np.ndarray
    sample_weight: np.ndarray
    layers: np.ndarray
    rule: Rule
    state: State

    def step(self, kernels, rows=None, learning_rate=0.0, step=0):
        """``train_step``; returns the loss."""
        loss = np.full(1, np.nan)
        rows = np.arange(len(self.X)) if rows is None else rows
        arguments = self.X, self.Y, self.sample_weight, rows, self.layers, self.rule, learning_rate, step
        kernels.train_step(*arguments, self.state, loss)
        return float(loss[0])

    def epoch(self, kernels, order, batch_size, learning_rate, step=0):
        """``train_epoch``; returns the losses of its steps."""
        rates = np.full(math.ceil(len(order) / batch_size), learning_rate, np.float64)
        losses = np.empty(len(rates))
        arguments = self.X, self.Y, self.sample_weight, order, batch_size, self.layers, self.rule, rates, step
        kernels.train_epoch(*arguments, self.state, losses)
        return losses

    def predict(self, kernels, X=None):
        X = self.X if X is None else X
        out = np.full((len(X), self.layers[-1, 1]), np.nan, X.dtype)
        kernels.predict(X, self.layers, self.state.parameters, out)
        return out

    def outputs(self, n_rows):
        """What the last batch of ``n_rows`` left in the workspace: every layer's outputs."""
        return unit_views(self.state.workspace[OUTPUTS], self.layers, n_rows)

    def deltas(self, n_rows):
        return unit_views(self.state.workspace[DELTAS], self.layers, n_rows)


def make_state(layers, parameters, capacity, solver="sgd", dropout=0.0):
    """A state with given parameters; all that a step must overwrite is NaN."""
    moments = np.zeros((N_MOMENTS[solver], len(parameters)), parameters.dtype)
    shape = n_workspace_rows(layers, dropout), capacity * n_units(layers)
    workspace = np.full(shape, np.nan, parameters.dtype)
    return State(parameters, np.full_like(parameters, np.nan), moments, workspace)


def make_rule(loss="squared_error", solver="sgd", **changes):
    rule = Rule(
        loss=LOSSES[loss],
        loss_parameter=LOSS_PARAMETERS.get(loss, 0.0),
        alpha=0.0,
        dropout=0.0,
        max_grad_norm=math.inf,
        solver=SOLVERS[solver],
        momentum=0.9,
        beta_1=0.9,
        beta_2=0.99,
        epsilon=1e-3,
        seed=42,
    )
    return rule._replace(**changes)


def make_targets(rng, loss, n_samples, n_outputs, dtype):
    shape = n_samples, 1 if loss == "log_loss" else n_outputs
    if loss == "log_loss":
        Y = rng.integers(n_outputs, size=shape)
    elif loss == "binary_log_loss":
        Y = rng.integers(2, size=shape)
    elif loss == "poisson":
        Y = rng.poisson(1.5, shape)
    else:
        Y = rng.standard_normal(shape)
    return Y.astype(dtype)


def make_problem(
    rng,
    loss="squared_error",
    hidden="tanh",
    widths=(3, 4, 2),
    n_samples=6,
    solver="sgd",
    *,
    dtype="float64",
    weighted=False,
    fit_intercept=True,
    **rule,
):
    """A random problem; further keywords are fields of the rule."""
    activations = [hidden] * (len(widths) - 2) + [OUTPUT_ACTIVATIONS[loss]]
    layers = layer_table(list(widths), activations, fit_intercept)
    parameters = (rng.standard_normal(n_parameters(layers)) / math.sqrt(max(widths))).astype(dtype)
    return Problem(
        X=rng.standard_normal((n_samples, widths[0])).astype(dtype),
        Y=make_targets(rng, loss, n_samples, widths[-1], dtype),
        sample_weight=rng.uniform(0.5, 2.0, n_samples if weighted else 0).astype(dtype),
        layers=layers,
        rule=make_rule(loss, solver, **rule),
        state=make_state(layers, parameters, n_samples, solver, rule.get("dropout", 0.0)),
    )

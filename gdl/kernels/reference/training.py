"""The three steps of learning: predict a batch, compare with the truth, learn; and a whole epoch of them."""

import math

import numpy as np

from gdl.kernels.layout import (
    ACTIVATION,
    DELTAS,
    INPUTS,
    KEEPS_INPUT,
    LOSSES,
    MASKS,
    N_OUT,
    OUTPUTS,
    SOLVERS,
    bias_views,
    unit_views,
    weight_views,
)
from gdl.kernels.reference import losses as loss_kernels
from gdl.kernels.reference.activations import activate, activation_gradient
from gdl.kernels.reference.dense import (
    dense_bias_gradient,
    dense_input_gradient,
    dense_weight_gradient,
)
from gdl.kernels.reference.optimizers import (
    adam_step,
    adamw_step,
    momentum_step,
    nesterov_step,
    rmsprop_step,
    sgd_step,
)
from gdl.kernels.reference.prediction import _weights_and_biases
from gdl.kernels.reference.random import dropout_mask

LOSS_NAMES = {code: name for name, code in LOSSES.items()}
SOLVER_NAMES = {code: name for name, code in SOLVERS.items()}


def train_step(X, Y, sample_weight, rows, layers, rule, learning_rate, step, state, loss):
    """Predict a batch, compare it with the truth and learn from it.

    ``predict_batch``, ``compare_batch`` and ``learn_batch`` one after the other.

    Every intermediate stays in ``state``: the layers' outputs, deltas (gradients of the batch's mean loss
    by each layer's z), dropout masks and, for gelu and silu, inputs z in the workspace; ``gradients``;
    the optimizer's ``moments``. The loss is the weighted mean of the samples' losses plus the penalty
    ``alpha / 2 sum W^2``, which is divided by the batch's total weight too. A batch whose weights are all
    0 teaches nothing.

    If the loss or a gradient is not finite, neither is ``loss[0]``; parameters always are.

    Parameters
    ----------
    X : float array of shape (n_samples, n_in)
    Y : float array of shape (n_samples, n_targets)
        One column an output; for ``log_loss`` one column with the class number.
    sample_weight : float array of shape (n_samples,)
        Of shape (0,) for weights of 1.
    rows : int64 array of shape (n_rows,)
        The batch: rows of X and Y.
    layers : int64 array, a layer table
    rule : ``layout.Rule``
    learning_rate : float
    step : int
        Steps taken before this one: Adam's time, and the stream of the dropout masks.
    state : ``layout.State``
        Updated in place.
    loss : float64 array of shape (1,)
        The batch's loss before the update, penalty included.
    """
    if len(state.gradients) == 0:
        state = state._replace(gradients=np.empty_like(state.parameters))
    predict_batch(X, rows, layers, rule, step, state)
    compare_batch(X, Y, sample_weight, rows, layers, rule, state, loss)
    if len(sample_weight) == 0 or sample_weight[rows].any():
        learn_batch(layers, rule, learning_rate, step, state)


def predict_batch(X, rows, layers, rule, step, state):
    """Outputs of every layer for a batch, dropout applied: the first part of a step.

    Leaves outputs, dropout masks and, for gelu and silu, inputs z in the workspace.

    Parameters
    ----------
    X, rows, layers, rule, step, state : as in ``train_step``
    """
    _predict_rows(X[rows], layers, rule, step, state)


def compare_batch(X, Y, sample_weight, rows, layers, rule, state, loss):
    """Loss of the outputs that ``predict_batch`` left, and its gradients: the second part of a step.

    Leaves the deltas in the workspace and the gradients, not clipped yet, in ``gradients``; NaN if the loss is
    not finite.

    Parameters
    ----------
    X, Y, sample_weight, rows, layers, rule, state, loss : as in ``train_step``
    """
    weight = sample_weight[rows] if len(sample_weight) else np.ones(len(rows), X.dtype)
    total_weight = weight.sum(dtype=np.float64)
    data_loss = _compare_rows(Y[rows], weight, total_weight or 1.0, layers, rule, state)
    penalty = 0.0 if rule.solver == SOLVERS["adamw"] else rule.alpha
    _gradients(X[rows], layers, penalty / (total_weight or np.inf), state)
    if total_weight == 0:
        loss[0] = 0.0
        return
    if not math.isfinite(data_loss):
        loss[0] = data_loss
        state.gradients[:] = np.nan
        return
    squares = sum(float(np.sum(W.astype(np.float64) ** 2)) for W in weight_views(state.parameters, layers))
    loss[0] = (data_loss + 0.5 * penalty * squares) / total_weight
    if math.isfinite(loss[0]) and not np.isfinite(state.gradients).all():
        loss[0] = np.inf


def learn_batch(layers, rule, learning_rate, step, state):
    """Clip the gradients and update the parameters by them: the last part of a step.

    Nothing is learned from gradients that are not finite: nothing at all if they are to be clipped, else at
    least not by them.

    Parameters
    ----------
    layers, rule, learning_rate, step, state : as in ``train_step``
    """
    if math.isfinite(rule.max_grad_norm):
        if not np.isfinite(state.gradients).all():
            return
        norm = math.sqrt(float(np.sum(state.gradients.astype(np.float64) ** 2)))
        if norm > rule.max_grad_norm:
            np.multiply(state.gradients, rule.max_grad_norm / norm, out=state.gradients)
    useless = ~np.isfinite(state.gradients)
    before = state.parameters[useless], state.moments[:, useless]
    _learn(layers, rule, learning_rate, step, state)
    state.parameters[useless], state.moments[:, useless] = before


def train_epoch(X, Y, sample_weight, order, batch_size, layers, rule, learning_rates, step, state, step_losses):
    """``train_step`` for each batch of a given order; stops after a step whose loss is not finite.

    Parameters
    ----------
    X, Y, sample_weight : as in ``train_step``
    order : int64 array of shape (n_rows,)
        Row numbers; batch s is ``order[s * batch_size : (s + 1) * batch_size]``.
    batch_size : int
    layers, rule : as in ``train_step``
    learning_rates : float64 array of shape (n_steps,)
    step : int
        Steps taken before the first.
    state : as in ``train_step``
    step_losses : float64 array of shape (n_steps,)
        NaN for steps not taken.
    """
    epoch = PreparedEpoch(X, Y, sample_weight, order, batch_size, layers, rule, learning_rates, state, step_losses)
    epoch.train_steps(0, len(step_losses), step)


class PreparedEpoch:
    """The arrays of an epoch, to take its steps one by one or many at once; arguments as in ``train_epoch``."""

    def __init__(self, X, Y, sample_weight, order, batch_size, layers, rule, learning_rates, state, step_losses):
        self.samples, self.order, self.batch_size = (X, Y, sample_weight), order, batch_size
        self.layers, self.rule, self.learning_rates = layers, rule, learning_rates
        self.state, self.step_losses = state, step_losses
        self.step = -1  #: steps taken when the latest call ended, those not taken counted; -1 before any has

    def train_steps(self, start, stop, step):
        """Take steps ``start`` to ``stop``; ``step`` were taken before the first. Return the loss of the last.

        Their losses are written; NaN for those not taken, after a loss that is not finite.
        """
        self.step_losses[start:stop] = np.nan
        for s in range(start, stop):
            rows = self.order[s * self.batch_size : (s + 1) * self.batch_size]
            rate = float(self.learning_rates[s])  # a NumPy scalar would turn a float32 step into a float64 one
            loss = self.step_losses[s : s + 1]
            train_step(*self.samples, rows, self.layers, self.rule, rate, step + s - start, self.state, loss)
            if not math.isfinite(loss[0]):
                break
        self.step = step + stop - start
        return float(self.step_losses[stop - 1])


def loss_and_gradient(X, Y, sample_weight, layers, rule, state, loss):
    """Loss and gradient of all samples at the current parameters, in batches of what the workspace holds.

    Parameters
    ----------
    X, Y, sample_weight, layers, rule : as in ``train_step``
        Without dropout.
    state : ``layout.State``
        ``gradients`` is overwritten.
    loss : float64 array of shape (2,)
        The mean loss of the samples, and the penalty.
    """
    rule = rule._replace(dropout=0.0)
    capacity = state.workspace.shape[1] // int(layers[:, N_OUT].sum())
    weight = sample_weight if len(sample_weight) else np.ones(len(X), X.dtype)
    total_weight = weight.sum(dtype=np.float64)
    total = np.zeros(len(state.gradients), np.float64)
    data_loss = 0.0
    for start in range(0, len(X), capacity):
        rows = slice(start, start + capacity)
        _predict_rows(X[rows], layers, rule, 0, state)
        data_loss += _compare_rows(Y[rows], weight[rows], total_weight, layers, rule, state)
        _gradients(X[rows], layers, 0.0, state)
        total += state.gradients
    squares = 0.0
    for W, dW in zip(weight_views(state.parameters, layers), weight_views(total, layers), strict=True):
        dW += rule.alpha / total_weight * W
        squares += float(np.sum(W.astype(np.float64) ** 2))
    state.gradients[:] = total
    loss[:] = data_loss / total_weight, 0.5 * rule.alpha * squares / total_weight


def _predict_rows(X, layers, rule, step, state):
    outputs = unit_views(state.workspace[OUTPUTS], layers, len(X))
    A = X
    for layer, (W, b) in enumerate(_weights_and_biases(state.parameters, layers)):
        Z = A @ W + b
        if layers[layer, ACTIVATION] in KEEPS_INPUT:
            unit_views(state.workspace[INPUTS], layers, len(X))[layer][:] = Z
        A = outputs[layer]
        activate(Z, layers[layer, ACTIVATION], A)
        if rule.dropout > 0 and layer < len(layers) - 1:
            mask = unit_views(state.workspace[MASKS], layers, len(X))[layer]
            dropout_mask(rule.seed, step * len(layers) + layer, rule.dropout, mask)
            A *= mask


def _compare_rows(Y, weight, total_weight, layers, rule, state):
    outputs = unit_views(state.workspace[OUTPUTS], layers, len(Y))
    deltas = unit_views(state.workspace[DELTAS], layers, len(Y))
    losses = np.empty(len(Y))
    name = LOSS_NAMES[rule.loss]
    kernel = getattr(loss_kernels, name)
    scalars = (rule.loss_parameter,) if name in ("huber", "quantile") else ()
    kernel(outputs[-1], Y, *scalars, losses, deltas[-1])
    deltas[-1] *= (weight / total_weight)[:, None]
    for layer in range(len(layers) - 1, 0, -1):
        W = weight_views(state.parameters, layers)[layer]
        dense_input_gradient(deltas[layer], W, deltas[layer - 1])
        A = outputs[layer - 1]
        if rule.dropout > 0:
            mask = unit_views(state.workspace[MASKS], layers, len(Y))[layer - 1]
            deltas[layer - 1] *= mask
            A = np.where(mask > 0, A / np.maximum(mask, 1), 0)
        inputs = state.workspace[INPUTS if layers[layer - 1, ACTIVATION] in KEEPS_INPUT else OUTPUTS]
        Z = unit_views(inputs, layers, len(Y))[layer - 1]
        activation_gradient(Z, A, deltas[layer - 1], layers[layer - 1, ACTIVATION], deltas[layer - 1])
    return float(np.sum(weight * losses, dtype=np.float64))


def _gradients(X, layers, pull, state):
    outputs = unit_views(state.workspace[OUTPUTS], layers, len(X))
    deltas = unit_views(state.workspace[DELTAS], layers, len(X))
    biases = bias_views(state.gradients, layers)
    for layer, (W, dW) in enumerate(
        zip(weight_views(state.parameters, layers), weight_views(state.gradients, layers), strict=True)
    ):
        dense_weight_gradient(outputs[layer - 1] if layer else X, deltas[layer], dW)
        dW += pull * W
        if biases:
            dense_bias_gradient(deltas[layer], biases[layer])


def _learn(layers, rule, learning_rate, step, state):
    name = SOLVER_NAMES[rule.solver]
    parameters, gradients, moments = state.parameters, state.gradients, state.moments
    if name == "sgd":
        sgd_step(gradients, learning_rate, parameters)
    elif name == "momentum":
        momentum_step(gradients, learning_rate, rule.momentum, parameters, moments[0])
    elif name == "nesterov":
        nesterov_step(gradients, learning_rate, rule.momentum, parameters, moments[0])
    elif name == "rmsprop":
        rmsprop_step(gradients, learning_rate, rule.beta_2, rule.epsilon, parameters, moments[0])
    else:
        t = step + 1
        step_size = learning_rate * math.sqrt(1 - rule.beta_2**t) / (1 - rule.beta_1**t)
        betas = rule.beta_1, rule.beta_2, rule.epsilon
        if name == "adam":
            adam_step(gradients, step_size, *betas, parameters, *moments)
        else:
            decayed = np.zeros(len(parameters), bool)
            for W in weight_views(decayed, layers):
                W[:] = True
            for part, decay in ((decayed, learning_rate * rule.alpha), (~decayed, 0.0)):
                arrays = [array[part] for array in (gradients, parameters, *moments)]
                adamw_step(arrays[0], step_size, decay, *betas, *arrays[1:])
                for array, new in zip((parameters, *moments), arrays[1:], strict=True):
                    array[part] = new

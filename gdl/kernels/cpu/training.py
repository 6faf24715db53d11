"""Predict, compare, learn: steps and their parts as kernels, and an epoch in one call."""

import math

import numpy as np

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu import _simd
from gdl.kernels.cpu._arrays import contiguous
from gdl.kernels.cpu._atomics import load
from gdl.kernels.cpu._net import Net, net_behind, prepared
from gdl.kernels.cpu._simd import borrow, sum_of_squares
from gdl.kernels.cpu._step import (
    batch_weight,
    by_layers,
    clip_and_update,
    find_rows,
    learn,
    one_step,
    predict_and_compare,
    strip_span,
)
from gdl.kernels.cpu._team import (
    FAILED,
    FIRST,
    NOT_DONE,
    OFFER,
    START,
    STEP,
    STOP,
    Series,
    announce,
    end_call,
    new_key,
    offer,
    outcome,
    run,
    run_by,
    take_offer,
    threads_for,
)
from gdl.kernels.cpu.dense import (
    n_strips,
)
from gdl.kernels.cpu.optimizers import ADAMW, update_range
from gdl.kernels.cpu.prediction import n_operations
from gdl.kernels.layout import (
    N_IN,
    N_OUT,
    W_START,
)


@njit
def _train_steps(me, call, team, code, key, start, stop, step):
    call, net = borrow(call), net_behind(code)
    if me == 0:
        if offer(call, team, abs(key), start, stop, step) > 0 and key > 0:
            return NOT_DONE, 0.0
        announce(me, call, team)
    number = 0
    while True:
        if me > 0:
            number = take_offer(call, team, abs(key), number)
            start, stop, step = load(team, START), load(team, STOP), load(team, STEP)
            if number == 0 or load(team, OFFER) != number:
                return NOT_DONE, 0.0
        take_steps(me, call, net, start, stop, step)
        end_call(me, call, team)
        if me == 0:
            net.progress[0] = step + stop - start
            return outcome(call), net.step_losses[stop - 1] if stop > start else 0.0


@inner
def take_steps(me, call, net, start, stop, step):
    """Take steps ``start`` to ``stop`` of an epoch, ``step`` of all before the first."""
    rule, order, losses = net.rule, net.order, net.step_losses
    phase = FIRST
    going = True
    for s in range(start, stop):
        if going:
            first = s * net.batch_size
            m = min(net.batch_size, order.size - first)
            phase, going = one_step(
                me, call, phase, net, rule, net.learning_rates[s], step + s - start, net.X, net.Y, net.n_targets,
                net.sample_weight, order, first, m, s == stop - 1 and net.gradients.size > 0, losses, s,
            )  # fmt: skip
        elif me == 0:
            losses[s] = np.nan


@njit
def _predict_batch(me, call, team, X, rows, step, code):
    announce(me, call, team)
    net = net_behind(code)
    rule = net.rule
    call, X, rows = borrow(call), borrow(X), borrow(rows)
    m = rows.size
    find_rows(me, net, rows, 0, m)
    by_layers(me, call, FIRST, net, rule, step, X, X, 1, X, rows, 0, 1.0, m, m > 0, m < 0)
    end_call(me, call, team)


@njit
def _compare_batch(me, call, team, X, Y, sample_weight, rows, code, loss):
    announce(me, call, team)
    net = net_behind(code)
    rule, n_targets = net.rule, Y.shape[1]
    call, X, Y = borrow(call), borrow(X), borrow(Y)
    sample_weight, rows, loss = borrow(sample_weight), borrow(rows), borrow(loss)
    m = rows.size
    total = batch_weight(sample_weight, rows, 0, m)
    divisor = total if total > 0 else 1.0
    find_rows(me, net, rows, 0, m)
    phase = by_layers(me, call, FIRST, net, rule, 0, X, Y, n_targets, sample_weight, rows, 0, divisor, m, m < 0, m > 0)
    squares = learn(me, call, phase, net, rule, 0.0, 0, X, m, divisor, m > 0, m < 0)
    end_call(me, call, team)
    if me == 0:
        data_loss = 0.0
        for i in range(m):
            data_loss += net.losses[i]
        loss[0] = (data_loss + 0.5 * rule.alpha * squares) / divisor
        if total == 0 or not math.isfinite(data_loss):
            loss[0] = 0.0 if total == 0 else data_loss
            for k in range(net.gradients.size):
                net.gradients[k] = 0.0 if total == 0 else np.nan
        elif call[FAILED]:
            loss[0] = np.inf


@njit
def _learn_batch(learning_rate, step, code):
    net = net_behind(code)
    rule = net.rule
    if math.isfinite(rule.max_grad_norm):
        if _simd.all_finite(net.gradients, 0, net.gradients.size):
            clip_and_update(net, rule, learning_rate, step)
        return
    for layer in range(net.layers.shape[0]):
        strips = n_strips(net.layers[layer, N_IN], net.layers[layer, N_OUT])
        for strip in range(strips + 1):
            start, n = strip_span(net, layer, strip)
            if n > 0 and _simd.all_finite(net.gradients, start, start + n):
                decay = learning_rate * rule.alpha if strip < strips and rule.solver == ADAMW else 0.0
                update_range(
                    rule, learning_rate, step, decay, net.gradients, start, net.parameters, net.mean, net.square,
                    start, n,
                )  # fmt: skip


@njit
def _loss_and_gradient(me, call, team, X, Y, sample_weight, rows, alpha, code, totals, loss):
    """Sums over batches of what the workspace holds; the gradient's in ``totals``, float64."""
    announce(me, call, team)
    net = net_behind(code)
    rule, n_targets = net.rule, Y.shape[1]
    call, X, Y = borrow(call), borrow(X), borrow(Y)
    sample_weight, rows, totals = borrow(sample_weight), borrow(rows), borrow(totals)
    phase = FIRST
    n = rows.size
    total = batch_weight(sample_weight, rows, 0, n)
    data_loss = 0.0
    for first in range(0, n, net.capacity):
        m = min(net.capacity, n - first)
        phase = predict_and_compare(
            me, call, phase, net, rule, 0, X, Y, n_targets, sample_weight, rows, first, m, total
        )
        learn(me, call, phase, net, rule, 0.0, 0, X, m, total, m > 0, m < 0)
        phase += 1
        if me == 0:
            for i in range(m):
                data_loss += net.losses[i]
            for k in range(totals.size):
                totals[k] = np.float64(net.gradients[k]) + (totals[k] if first > 0 else 0.0)
    end_call(me, call, team)
    if me == 0:
        finish_gradient(net, alpha, data_loss, total, totals, loss)


@inner
def finish_gradient(net, alpha, data_loss, total, totals, loss):
    """Add the penalty to the gradient of the data."""
    squares = 0.0
    for layer in range(net.layers.shape[0]):
        w = net.layers[layer, W_START]
        stop = w + net.layers[layer, N_IN] * net.layers[layer, N_OUT]
        squares += sum_of_squares(net.parameters, w, stop)
        for k in range(w, stop):
            totals[k] += alpha / total * np.float64(net.parameters[k])
    for k in range(totals.size):
        net.gradients[k] = totals[k]
    loss[0] = data_loss / total
    loss[1] = 0.5 * alpha * squares / total


class PreparedEpoch(Series):
    """The arrays of an epoch, made ready: any of its steps is then one call with three numbers.

    ``train_steps(start, stop, step)`` takes steps ``start`` to ``stop`` and returns the loss of the last; ``step`` were
    taken before the first.
    """

    train_steps = Series.run  # itself, as each more frame of Python takes 1 us where caches are cold

    def __init__(self, X, Y, sample_weight, order, batch_size, layers, rule, learning_rates, state, step_losses):
        self.given = X, Y, sample_weight, order, batch_size, learning_rates, step_losses
        self.network = layers, rule, state
        self.move()

    def move(self):
        """Take the scratch memory of the thread that is to run the steps."""
        net = Net(*self.network)
        net.give(*self.given)
        self.progress = net.arrays["progress"]
        super().__init__(threads_for(net.step_work), _train_steps, net.step_work, (net.code,), net)

    @property
    def step(self):
        """Steps taken when the latest call ended; -1 before any has."""
        return self.progress.item()


def train_epoch(X, Y, sample_weight, order, batch_size, layers, rule, learning_rates, step, state, step_losses):
    """``train_step`` for each batch of a given order, in one compiled call."""
    net = prepared(layers, rule, state)
    net.give(X, Y, sample_weight, order, batch_size, learning_rates, step_losses)
    n = threads_for(net.step_work)
    # A helper may still look at what it was given when the next call has given the net other arrays.
    code, keep = (net.code, net) if n == 1 else (net.code.copy(), (net, *net.arrays.values()))
    arguments = code, -new_key(), 0, len(step_losses), step
    run_by(n, _train_steps, len(step_losses) * net.step_work, arguments, keep=keep)


def train_step(X, Y, sample_weight, rows, layers, rule, learning_rate, step, state, loss):
    """Predict a batch, compare it with the truth and learn from it: an epoch of one step."""
    rates = np.array([learning_rate])
    train_epoch(X, Y, sample_weight, rows, len(rows), layers, rule, rates, step, state, loss)


def predict_batch(X, rows, layers, rule, step, state):
    """Outputs of every layer for a batch: the first part of a step, layer by layer."""
    net = prepared(layers, rule, state)
    run(_predict_batch, net.work / 3 * len(rows), contiguous(X), contiguous(rows), step, net.code, keep=net)


def compare_batch(X, Y, sample_weight, rows, layers, rule, state, loss):
    """Loss and gradients of a batch's outputs: the second part of a step."""
    net = prepared(layers, rule, state)
    arguments = contiguous(X), contiguous(Y), contiguous(sample_weight), contiguous(rows), net.code, loss
    run(_compare_batch, net.work * len(rows), *arguments, keep=net)


def learn_batch(layers, rule, learning_rate, step, state):
    """Clip the gradients and update the parameters: the last part of a step."""
    _learn_batch(learning_rate, step, prepared(layers, rule, state).code)


def loss_and_gradient(X, Y, sample_weight, layers, rule, state, loss):
    """Loss and gradient of all samples at the current parameters, batch after batch."""
    net = prepared(layers, rule._replace(alpha=0.0, dropout=0.0), state)  # the penalty is added once, at the end
    arguments = (
        contiguous(X), contiguous(Y), contiguous(sample_weight), np.arange(len(X)), rule.alpha, net.code,
        np.empty(len(state.parameters)), loss,
    )  # fmt: skip
    run(_loss_and_gradient, n_operations(layers, min(len(X), net.capacity)), *arguments, keep=net)

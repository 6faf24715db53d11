"""Predict: rows through all layers, with nothing kept that training would need.

Arrays are flat here, as in training, and every number is the same chain of operations.
"""

import numpy as np

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu import _simd
from gdl.kernels.cpu._arrays import flat, scratch, writable
from gdl.kernels.cpu._team import (
    FIRST,
    SHARED_WORK,
    announce,
    claim,
    close_phase,
    end_call,
    finish,
    n_threads,
    open_phase,
    run,
)
from gdl.kernels.cpu._tile import PACKED_ROWS, n_panels, panel_columns, panel_start
from gdl.kernels.cpu.activations import SOFTMAX, softmax_rows
from gdl.kernels.cpu.dense import activate_block, forward_product, panel_items, panel_room
from gdl.kernels.layout import ACTIVATION, B_START, N_IN, N_OUT, UNIT_START, W_START

# Samples that ``predict`` takes through all layers at a time: their activations stay in cache.
PREDICT_ROWS = 256
# Operations (as ``n_operations`` counts) below which one thread predicts: 1 ms is not worth compiling the other way.
PREDICT_WORK = 3e8


def n_operations(layers, n_rows):
    """Floating-point operations of a training step on so many rows; three times those of a prediction."""
    return 6.0 * n_rows * float((layers[:, N_IN] * layers[:, N_OUT]).sum())


@njit
def all_finite(X, finite):
    """Whether X holds neither NaN nor infinity, a vector at a time."""
    finite[0] = 1.0 if _simd.all_finite(X.ravel(), 0, X.size) else 0.0


@inner
def rows_through(X, x, m, layers, parameters, buffer, starts, out, out_start, offsets, panel, at):
    """Take m rows of X through all layers; ``starts`` says where in ``buffer`` each layer's outputs go.

    The last layer's go to ``out`` from ``out_start`` on.
    """
    last = layers.shape[0] - 1
    A, a = X, x
    for layer in range(last + 1):
        n_in, n_out, activation = layers[layer, N_IN], layers[layer, N_OUT], layers[layer, ACTIVATION]
        for i in range(m):
            offsets[i] = a + i * n_in
        C, c = (out, out_start) if layer == last else (buffer, starts[layer])
        for panel_number in range(n_panels(parameters, n_out)):
            j = panel_start(parameters, n_out, panel_number)
            w = panel_start(parameters, n_out, panel_number + 1) - j
            forward_product(
                A, offsets, 0, 0, m, parameters, layers[layer, W_START], parameters, layers[layer, B_START],
                n_in, n_out, activation, C, c, j, w, panel, at,
            )  # fmt: skip
            activate_block(activation, C, c, C, c, 0, m, j, w, n_out)
        if activation == SOFTMAX:
            softmax_rows(C, c, C, c, m, n_out)
        A, a = C, c


@inner(_nrt=True)
def two_buffers(layers, m):
    """Where each layer's outputs go if two buffers of the widest layer take turns, and their size."""
    widest = layers[:, N_OUT].max()
    starts = np.empty(layers.shape[0], np.int64)
    for layer in range(layers.shape[0]):
        starts[layer] = layer % 2 * m * widest
    return starts, 2 * m * widest


@njit
def _predict_alone(X, layers, parameters, out):
    m = X.shape[0]
    starts, size = two_buffers(layers, m)
    buffer = np.empty(size, X.dtype)
    # Few rows are multiplied without packing; a panel has as many rows as the widest input.
    room = min(panel_items(parameters), layers[:, N_IN].max() * panel_columns(parameters))
    panel = np.empty(room if m >= PACKED_ROWS else 0, X.dtype)
    offsets = np.empty(m, np.int64)
    rows_through(X.ravel(), 0, m, layers, parameters, buffer, starts, out.ravel(), 0, offsets, panel, 0)


@njit
def _predict(me, call, team, X, n, layers, parameters, out, buffers, offsets, panel):
    announce(me, call, team)
    starts, size = two_buffers(layers, PREDICT_ROWS)
    starts += me * size
    n_in, n_out = layers[0, N_IN], layers[layers.shape[0] - 1, N_OUT]
    tasks = (n + PREDICT_ROWS - 1) // PREDICT_ROWS
    shared = open_phase(me, call, FIRST, tasks, SHARED_WORK)
    task = claim(me, call, FIRST, tasks, shared)
    while task >= 0:
        first = task * PREDICT_ROWS
        rows_through(
            X, first * n_in, min(PREDICT_ROWS, n - first), layers, parameters, buffers, starts, out, first * n_out,
            offsets[me], panel, me * panel_items(panel),
        )  # fmt: skip
        finish(call, shared)
        task = claim(me, call, FIRST, tasks, shared)
    close_phase(me, call, tasks, shared)
    end_call(me, call, team)


@njit
def _forward(me, call, team, X, n, layers, parameters, activations, offsets, panel):
    announce(me, call, team)
    last = layers.shape[0] - 1
    tasks = (n + PREDICT_ROWS - 1) // PREDICT_ROWS
    shared = open_phase(me, call, FIRST, tasks, SHARED_WORK)
    task = claim(me, call, FIRST, tasks, shared)
    while task >= 0:
        first = task * PREDICT_ROWS
        starts = layers[:, UNIT_START] * n + first * layers[:, N_OUT]
        rows_through(
            X, first * layers[0, N_IN], min(PREDICT_ROWS, n - first), layers, parameters, activations, starts,
            activations, starts[last], offsets[me], panel, me * panel_items(panel),
        )  # fmt: skip
        finish(call, shared)
        task = claim(me, call, FIRST, tasks, shared)
    close_phase(me, call, tasks, shared)
    end_call(me, call, team)


def predict(X, layers, parameters, out):
    """Output of the last layer; a task is a block of rows through all layers."""
    if len(X) <= PREDICT_ROWS:
        _predict_alone(writable(X), layers, parameters, out)
        return
    if n_operations(layers, len(X)) < PREDICT_WORK:
        for start in range(0, len(X), PREDICT_ROWS):
            rows = slice(start, start + PREDICT_ROWS)
            _predict_alone(writable(X)[rows], layers, parameters, out[rows])
        return
    threads = n_threads()
    size = 2 * PREDICT_ROWS * int(layers[:, N_OUT].max())
    arguments = (
        flat(X), len(X), layers, parameters, flat(out), scratch("buffers", threads * size, X.dtype),
        np.empty((threads, PREDICT_ROWS), np.int64), panel_room(parameters),
    )  # fmt: skip
    run(_predict, n_operations(layers, len(X)) / 3, *arguments)


def forward(X, layers, parameters, activations):
    """Outputs of every layer; a task is a block of rows through all layers."""
    arguments = (
        flat(X), len(X), layers, parameters, activations, np.empty((n_threads(), PREDICT_ROWS), np.int64),
        panel_room(parameters),
    )  # fmt: skip
    run(_forward, n_operations(layers, len(X)) / 3, *arguments)

"""The dense layer: its output, and the gradients of its input, weights and bias, on register tiles."""

import numpy as np

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._arrays import flat, scratch
from gdl.kernels.cpu._panels import STORE, STORE_GATED, STORE_RELU
from gdl.kernels.cpu._simd import TILE_ROWS, VECTOR_BYTES, sum_rows
from gdl.kernels.cpu._team import (
    FIRST,
    N_THREADS,
    announce,
    claim,
    close_phase,
    end_call,
    finish,
    n_threads,
    open_phase,
    run,
)
from gdl.kernels.cpu._tile import (
    AS_IS,
    NO_BIAS,
    PACKED,
    PANEL_BYTES,
    PANEL_ROWS,
    TRANSPOSED,
    ZERO,
    n_packs,
    n_panels,
    n_tasks,
    pack_panel,
    panel_columns,
    panel_start,
    product_panel,
    round_up,
    task_part,
    transposed_product_rows,
)
from gdl.kernels.cpu.activations import IDENTITY, RELU, SOFTMAX, activate_range, slope_range, softmax_rows

# Elements of a strip of weights: its gradient is still in the first-level cache when it is used. But it has at least
# STRIP_ROWS, for each of which all panels of dZ are read once, as long as it stays in the second-level cache.
STRIP_ITEMS = 4 * 1024
STRIP_ROWS = 32
MAX_STRIP_ITEMS = 32 * 1024


@inner
def is_one_strip(n_in, n_out):
    """Whether W is small enough for one strip; to find out by division takes a tenth of the step of a small network."""
    return round_up(n_in, TILE_ROWS) * n_out <= STRIP_ITEMS


@inner
def strip_rows(n_in, n_out):
    """Rows of W in one strip of its gradient, a whole number of tiles."""
    if is_one_strip(n_in, n_out):
        return round_up(n_in, TILE_ROWS)
    rows = max(STRIP_ITEMS // n_out, min(STRIP_ROWS, MAX_STRIP_ITEMS // n_out))
    return max(TILE_ROWS, min(round_up(n_in, TILE_ROWS), rows // TILE_ROWS * TILE_ROWS))


@inner
def strip_room(width):
    """Elements that hold any strip of layers up to this width, a whole number of cache lines."""
    return round_up(MAX_STRIP_ITEMS + TILE_ROWS * width, 64)


@inner
def task_block(task, threads, m, values, n_columns):
    """Rows, first column and columns of a task: a block of rows by a panel of columns."""
    panel, m0, m1 = task_part(task, m, n_panels(values, n_columns), threads)
    j = panel_start(values, n_columns, panel)
    w = panel_start(values, n_columns, panel + 1) - j
    return m0, m1, j, w


@inner(forceinline=True)
def forward_product(A, offsets, o, m0, m1, W, w, bias, b, n_in, n_out, activation, C, c, j, n_columns, panel, at):
    """A block of a layer's output, from column j on; what the tile does not is left to ``activate_block``."""
    product_panel(
        A, offsets, o, m0, m1, W, w + j, n_out, AS_IS, n_in, C, c + j, n_out, n_columns,
        bias, b + j if b >= 0 else NO_BIAS, STORE_RELU if activation == RELU else STORE, C, c + j, panel, at,
    )  # fmt: skip


@inner
def activate_block(activation, Z, z, C, c, m0, m1, j, n_columns, n_out):
    """Apply what the tile does not to a block that a task has just computed; Z and C may be the same."""
    if activation in (IDENTITY, RELU, SOFTMAX):
        return
    if n_columns == n_out:
        activate_range(Z, z + m0 * n_out, activation, C, c + m0 * n_out, (m1 - m0) * n_out)
    else:
        for i in range(m0, m1):
            activate_range(Z, z + i * n_out + j, activation, C, c + i * n_out + j, n_columns)


@inner(forceinline=True)
def input_gradient_product(dZ, offsets, o, m0, m1, W, w, n_in, n_out, gated, A, a, dX, d, j, n_columns, panel, at):
    """A block of ``dZ W^T``, from column j on; 0 where ``gated`` and A is not above 0."""
    product_panel(
        dZ, offsets, o, m0, m1, W, w + j * n_out, n_out, TRANSPOSED, n_out, dX, d + j, n_in, n_columns,
        W, NO_BIAS, STORE_GATED if gated else STORE, A, a + j, panel, at,
    )  # fmt: skip


@inner
def slope_block(activation, Z, z, A, a, scale, dX, d, m0, m1, j, n_columns, n_in):
    """Take a block of ``dZ W^T`` through the slope of the activation below, in place."""
    if activation in (IDENTITY, RELU):
        return
    if n_columns == n_in:
        s = m0 * n_in
        slope_range(Z, z + s, A, a + s, scale, dX, d + s, activation, dX, d + s, (m1 - m0) * n_in)
    else:
        for i in range(m0, m1):
            s = i * n_in + j
            slope_range(Z, z + s, A, a + s, scale, dX, d + s, activation, dX, d + s, n_columns)


@inner(forceinline=True)
def weight_gradient_strip(strip, A, offsets, o, m, dZ, z, panels, at, n_in, n_out, dW, w):
    """One strip of rows of ``A^T dZ``; dZ is read from its packed panels if it has any.

    A is read in place. Packed by strips, a loop over one batch in the order of its rows ran 10 to 30 % faster (Zen 3),
    but training, whose rows lie here and there, no faster: 0.97 to 1.04 of the time of six networks.
    """
    rows = strip_rows(n_in, n_out)
    i0, i1 = strip * rows, min(n_in, (strip + 1) * rows)
    if n_packs(dZ, m, n_out) == 0:
        transposed_product_rows(A, offsets, o, i0, i1, dZ, z, AS_IS, m, dW, w, n_out)
    else:
        transposed_product_rows(A, offsets, o, i0, i1, panels, at, PACKED, m, dW, w, n_out)


@inner
def n_strips(n_in, n_out):
    """Strips that the rows of W are cut into; fixed by the shape alone, since sums are kept by strip."""
    if is_one_strip(n_in, n_out):
        return 1
    rows = strip_rows(n_in, n_out)
    return (n_in + rows - 1) // rows


@inner(_nrt=True)
def row_offsets(n_rows, n_columns):
    """Where each row of a whole array starts."""
    offsets = np.empty(n_rows, np.int64)
    for i in range(n_rows):
        offsets[i] = i * n_columns
    return offsets


@inner
def panel_items(values):
    """Elements of one thread's room for a packed panel, a whole number of cache lines."""
    return PANEL_ROWS * panel_columns(values)


@njit
def _forward(me, call, team, X, m, W, b, n_in, n_out, activation, out, panel):
    announce(me, call, team)
    offsets = row_offsets(m, n_in)
    tasks = n_tasks(m, n_panels(W, n_out), call[N_THREADS])
    shared = open_phase(me, call, FIRST, tasks, 2 * m * n_in * n_out)
    task = claim(me, call, FIRST, tasks, shared)
    while task >= 0:
        m0, m1, j, w = task_block(task, call[N_THREADS], m, W, n_out)
        forward_product(
            X, offsets, 0, m0, m1, W, 0, b, 0, n_in, n_out, activation, out, 0, j, w, panel, me * panel_items(W)
        )
        activate_block(activation, out, 0, out, 0, m0, m1, j, w, n_out)
        finish(call, shared)
        task = claim(me, call, FIRST, tasks, shared)
    close_phase(me, call, tasks, shared)
    end_call(me, call, team)
    if me == 0 and activation == SOFTMAX:
        softmax_rows(out, 0, out, 0, m, n_out)


@njit
def _input_gradient(me, call, team, dZ, m, W, n_in, n_out, dX, panel):
    announce(me, call, team)
    offsets = row_offsets(m, n_out)
    tasks = n_tasks(m, n_panels(W, n_in), call[N_THREADS])
    shared = open_phase(me, call, FIRST, tasks, 2 * m * n_in * n_out)
    task = claim(me, call, FIRST, tasks, shared)
    while task >= 0:
        m0, m1, j, w = task_block(task, call[N_THREADS], m, W, n_in)
        input_gradient_product(
            dZ, offsets, 0, m0, m1, W, 0, n_in, n_out, False, dX, 0, dX, 0, j, w, panel, me * panel_items(W)
        )
        finish(call, shared)
        task = claim(me, call, FIRST, tasks, shared)
    close_phase(me, call, tasks, shared)
    end_call(me, call, team)


@njit
def _weight_gradient(me, call, team, X, dZ, m, n_in, n_out, dW, panels):
    announce(me, call, team)
    offsets = row_offsets(m, n_in)
    packs = n_packs(dZ, m, n_out)
    shared = open_phase(me, call, FIRST, packs, m * n_out)
    task = claim(me, call, FIRST, packs, shared)
    while task >= 0:
        pack_panel(dZ, 0, m, n_out, 0, m, task, panels, ZERO)
        finish(call, shared)
        task = claim(me, call, FIRST, packs, shared)
    close_phase(me, call, packs, shared)
    strips = n_strips(n_in, n_out)
    shared = open_phase(me, call, FIRST + 1, strips, 2 * m * n_in * n_out)
    task = claim(me, call, FIRST + 1, strips, shared)
    while task >= 0:
        weight_gradient_strip(task, X, offsets, 0, m, dZ, 0, panels, ZERO, n_in, n_out, dW, 0)
        finish(call, shared)
        task = claim(me, call, FIRST + 1, strips, shared)
    close_phase(me, call, strips, shared)
    end_call(me, call, team)


def panel_size(threads, dtype):
    """Elements of one packed panel for every thread."""
    return threads * (PANEL_BYTES // np.dtype(dtype).itemsize)


def packed_size(n_rows, n_columns):
    """Elements of all packed panels of (n_rows, n_columns)."""
    return n_rows * (n_columns + VECTOR_BYTES)


def panel_room(values):
    """Scratch memory for one packed panel for every thread."""
    return scratch("panel", panel_size(n_threads(), values.dtype), values.dtype)


def dense_forward(X, W, b, activation, out):
    """Output of a dense layer; a task is a block of rows by a panel of columns."""
    (m, n_in), n_out = X.shape, W.shape[1]
    arrays = flat(X), m, flat(W), flat(b), n_in, n_out, activation, flat(out), panel_room(W)
    run(_forward, 2.0 * m * n_in * n_out, *arrays)


def dense_input_gradient(dZ, W, dX):
    """Gradient of the loss by a layer's input; a task is a block of rows by a panel of columns."""
    (n_in, n_out), m = W.shape, len(dZ)
    run(_input_gradient, 2.0 * m * n_in * n_out, flat(dZ), m, flat(W), n_in, n_out, flat(dX), panel_room(W))


def dense_weight_gradient(X, dZ, dW):
    """Gradient of the loss by a layer's weights; a task is a strip of rows of dW."""
    (m, n_in), n_out = X.shape, dZ.shape[1]
    panels = scratch("panels", packed_size(m, n_out), dZ.dtype)
    run(_weight_gradient, 2.0 * m * n_in * n_out, flat(X), flat(dZ), m, n_in, n_out, flat(dW), panels)


@njit
def dense_bias_gradient(dZ, db):
    """Gradient of the loss by a layer's bias; row after row."""
    m, n_out = dZ.shape
    sum_rows(dZ.ravel(), 0, m, n_out, db, 0)

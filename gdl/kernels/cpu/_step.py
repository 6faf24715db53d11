"""One training step: predict, compare and learn in phases that a team of threads shares.

Arrays are flat here. Work is cut by the data's shape wherever a sum is kept, and every number is the
same chain of operations whoever computes it.
"""

import math

import numpy as np

from gdl.kernels._jit import inner
from gdl.kernels.cpu import _simd
from gdl.kernels.cpu._simd import TILE_ROWS, part, sum_of_squares, sum_rows
from gdl.kernels.cpu._team import (
    FAILED,
    N_THREADS,
    claim,
    close_phase,
    finish,
    open_phase,
)
from gdl.kernels.cpu._tile import (
    block_start,
    n_packs,
    n_panels,
    n_tasks,
    pack_panel,
    panel_start,
    round_up,
    task_part,
)
from gdl.kernels.cpu.activations import SOFTMAX, softmax_rows
from gdl.kernels.cpu.dense import (
    activate_block,
    forward_product,
    input_gradient_product,
    n_strips,
    panel_items,
    slope_block,
    strip_room,
    strip_rows,
    weight_gradient_strip,
)
from gdl.kernels.cpu.losses import LOG_LOSS, log_loss_rows, loss_row
from gdl.kernels.cpu.optimizers import ADAMW, update_range
from gdl.kernels.cpu.random import mask_range, stream_start
from gdl.kernels.layout import (
    ACTIVATION,
    ACTIVATIONS,
    B_START,
    KEEPS_INPUT,
    N_IN,
    N_OUT,
    UNIT_START,
    W_START,
)

RELU = ACTIVATIONS["relu"]
GELU, SILU = KEEPS_INPUT
# Layers up to this width are computed by blocks of rows, see ``predict_and_compare``.
WIDE = 128


@inner
def widest(layers):
    """Width of the widest layer."""
    width = 0
    for layer in range(layers.shape[0]):
        width = max(width, layers[layer, N_OUT])
    return width


@inner
def multiply_range(values, factors, start, n):
    """Multiply n values in place, each by its factor."""
    values, factors = part(values, start, n), part(factors, start, n)
    for k in range(n):
        values[k] *= factors[k]


@inner
def scale_range(values, factor, start, n):
    """Multiply n values in place by one factor."""
    values = part(values, start, n)
    for k in range(n):
        values[k] *= factor


@inner
def add_range(values, more, factor, start, n):
    """Add ``factor`` times another array's elements to n values in place."""
    values, more = part(values, 0, n), part(more, start, n)
    for k in range(n):
        values[k] += factor * more[k]


@inner
def forward_part(net, rule, step, layer, A, m0, m1, j, w, at):
    """Rows m0 to m1 and w columns from j of a layer's outputs; all but softmax."""
    n_in, n_out, activation = net.layers[layer, N_IN], net.layers[layer, N_OUT], net.layers[layer, ACTIVATION]
    c = net.layers[layer, UNIT_START] * net.capacity
    target = net.inputs if activation in (GELU, SILU) else net.outputs
    forward_product(
        A, net.offsets, layer * net.capacity, m0, m1, net.parameters, net.layers[layer, W_START],
        net.parameters, net.layers[layer, B_START], n_in, n_out, activation, target, c, j, w, net.panel, at,
    )  # fmt: skip
    activate_block(activation, target, c, net.outputs, c, m0, m1, j, w, n_out)
    if rule.dropout > 0 and layer < net.layers.shape[0] - 1:
        start = stream_start(rule.seed, step * net.layers.shape[0] + layer)
        for i in range(m0, m1):
            mask_range(start, i * n_out + j, rule.dropout, net.masks, c + i * n_out + j, w)
            multiply_range(net.outputs, net.masks, c + i * n_out + j, w)


@inner
def backward_part(net, rule, layer, m0, m1, j, w, at):
    """Rows m0 to m1 and w columns from j of the deltas of the layer below."""
    n_in, n_out = net.layers[layer, N_IN], net.layers[layer, N_OUT]
    below = net.layers[layer - 1, ACTIVATION]
    c = net.layers[layer - 1, UNIT_START] * net.capacity
    input_gradient_product(
        net.deltas, net.offsets, (layer + 1) * net.capacity, m0, m1, net.parameters, net.layers[layer, W_START],
        n_in, n_out, below == RELU, net.outputs, c, net.deltas, c, j, w, net.panel, at,
    )  # fmt: skip
    kept = net.outputs.dtype.type(1 - rule.dropout)  # outputs are divided by this
    slope_block(below, net.inputs, c, net.outputs, c, kept, net.deltas, c, m0, m1, j, w, n_in)
    if rule.dropout > 0:
        for i in range(m0, m1):
            multiply_range(net.deltas, net.masks, c + i * n_in + j, w)


@inner
def pack_deltas(net, layer, m, m0, m1, panel):
    """Pack rows m0 to m1 of one panel of a layer's deltas, for the product with its input."""
    n_out = net.layers[layer, N_OUT]
    z = net.layers[layer, UNIT_START] * net.capacity
    pack_panel(net.deltas, z, m, n_out, m0, m1, panel, net.panels, panels_start(net, layer))


@inner
def panels_start(net, layer):
    """Where a layer's packed deltas start, on a cache line."""
    return round_up(net.capacity, 16) * (net.layers[layer, UNIT_START] + 16 * layer)


@inner
def finish_outputs(net, m0, m1):
    """Softmax of rows m0 to m1 of the last layer, which needs them whole."""
    last = net.layers.shape[0] - 1
    n_out = net.layers[last, N_OUT]
    at = net.layers[last, UNIT_START] * net.capacity + m0 * n_out
    if net.layers[last, ACTIVATION] == SOFTMAX:
        softmax_rows(net.outputs, at, net.outputs, at, m1 - m0, n_out)


@inner
def compare_rows(net, rule, Y, n_targets, sample_weight, order, first, total_weight, m0, m1):
    """Losses and output deltas of rows m0 to m1 of the batch: deltas of its mean loss."""
    last = net.layers.shape[0] - 1
    n_out = net.layers[last, N_OUT]
    c = net.layers[last, UNIT_START] * net.capacity
    if rule.loss == LOG_LOSS:
        at = c + m0 * n_out
        log_loss_rows(net.outputs, at, Y, order, first + m0, m1 - m0, n_out, net.losses, m0, net.deltas, at)
    else:
        for i in range(m0, m1):
            at = c + i * n_out
            y = order[first + i] * n_targets
            net.losses[i] = loss_row(rule.loss, rule.loss_parameter, net.outputs, at, Y, y, n_out, net.deltas, at)
    if sample_weight.size == 0:
        scale_range(net.deltas, net.deltas.dtype.type(1 / total_weight), c + m0 * n_out, (m1 - m0) * n_out)
    else:
        for i in range(m0, m1):
            weight = np.float64(sample_weight[order[first + i]])
            net.losses[i] *= weight
            scale_range(net.deltas, net.deltas.dtype.type(weight / total_weight), c + i * n_out, n_out)


@inner
def block_of_rows(me, net, rule, step, X, Y, n_targets, sample_weight, order, first, total_weight, m, m0, m1):
    """Rows m0 to m1 of the batch through everything that comes before the weights' gradients."""
    last = net.layers.shape[0] - 1
    at = me * panel_items(net.panel)
    for layer in range(last + 1):
        n_out = net.layers[layer, N_OUT]
        A = X if layer == 0 else net.outputs
        for panel in range(n_panels(A, n_out)):
            j = panel_start(A, n_out, panel)
            forward_part(net, rule, step, layer, A, m0, m1, j, panel_start(A, n_out, panel + 1) - j, at)
    finish_outputs(net, m0, m1)
    compare_rows(net, rule, Y, n_targets, sample_weight, order, first, total_weight, m0, m1)
    for layer in range(last, -1, -1):
        n_in, n_out = net.layers[layer, N_IN], net.layers[layer, N_OUT]
        for panel in range(n_panels(X, n_in) if layer > 0 else 0):
            j = panel_start(X, n_in, panel)
            backward_part(net, rule, layer, m0, m1, j, panel_start(X, n_in, panel + 1) - j, at)
        for panel in range(n_packs(X, m, n_out)):
            pack_deltas(net, layer, m, m0, m1, panel)


@inner
def by_rows(me, call, phase, net, rule, step, X, Y, n_targets, sample_weight, order, first, total_weight, m):
    """Predict and compare in one phase: a task is a block of rows. Returns the next phase."""
    threads = call[N_THREADS]
    blocks = 1 if threads == 1 else max(1, min(threads, m // (2 * TILE_ROWS)))
    shared = open_phase(me, call, phase, blocks, 4 * m * net.parameters.size)
    task = claim(me, call, phase, blocks, shared)
    while task >= 0:
        m0, m1 = block_start(task, blocks, m), block_start(task + 1, blocks, m)
        block_of_rows(me, net, rule, step, X, Y, n_targets, sample_weight, order, first, total_weight, m, m0, m1)
        finish(call, shared)
        task = claim(me, call, phase, blocks, shared)
    close_phase(me, call, blocks, shared)
    return phase + 1


@inner
def by_layers(
    me, call, phase, net, rule, step, X, Y, n_targets, sample_weight, order, first, total_weight, m, predicts, compares
):
    """Predict, compare or both, layer by layer: a task is a panel of columns, so that most of W is packed only once.

    Returns the next phase.
    """
    threads = call[N_THREADS]
    last = net.layers.shape[0] - 1
    at = me * panel_items(net.panel)
    # One phase a layer forward, one for the loss, one a layer backward.
    for k in range(0 if predicts else last + 1, 2 * last + 3 if compares else last + 2):
        forward, is_loss = k <= last, k == last + 1
        layer = min(k, last) if k <= last + 1 else 2 * last + 2 - k
        n_in, n_out = net.layers[layer, N_IN], net.layers[layer, N_OUT]
        columns = n_out if forward else (n_in if layer > 0 else 0)
        panels = 1 if is_loss else n_panels(X, columns)
        tasks = n_tasks(m, panels, threads)
        packs = 0 if forward or is_loss else n_packs(X, m, n_out)
        work = 2 * m * n_out * (n_in if panels > 0 and not is_loss else 25)
        shared = open_phase(me, call, phase, tasks + packs, work)
        task = claim(me, call, phase, tasks + packs, shared)
        while task >= 0:
            if task >= tasks:
                pack_deltas(net, layer, m, 0, m, task - tasks)
            else:
                panel, m0, m1 = task_part(task, m, panels, threads)
                j = 0 if is_loss else panel_start(X, columns, panel)
                w = 0 if is_loss else panel_start(X, columns, panel + 1) - j
                if is_loss:
                    if predicts:
                        finish_outputs(net, m0, m1)
                    if compares:
                        compare_rows(net, rule, Y, n_targets, sample_weight, order, first, total_weight, m0, m1)
                elif forward:
                    forward_part(net, rule, step, layer, X if layer == 0 else net.outputs, m0, m1, j, w, at)
                else:
                    backward_part(net, rule, layer, m0, m1, j, w, at)
            finish(call, shared)
            task = claim(me, call, phase, tasks + packs, shared)
        close_phase(me, call, tasks + packs, shared)
        phase += 1
    return phase


@inner
def strip_span(net, layer, strip):
    """Where a strip of W starts in the parameters, and its length; the strip after the last is b."""
    n_in, n_out, b = net.layers[layer, N_IN], net.layers[layer, N_OUT], net.layers[layer, B_START]
    if strip == n_strips(n_in, n_out):
        return b, n_out if b >= 0 else 0
    rows = strip_rows(n_in, n_out)
    i0 = strip * rows
    return net.layers[layer, W_START] + i0 * n_out, (min(n_in, i0 + rows) - i0) * n_out


@inner
def learn_strip(me, net, rule, learning_rate, step, layer, strip, task, A, m, total_weight, keeps, updates):
    """Gradient of one strip of W, then its update; or, for the strip after the last, of b.

    The gradient goes into ``gradients`` if it is to be kept, else into this thread's ``strips``, where it
    stays in cache. Leaves the strip's sum of squares of W before the update in ``partial[task]``, if there is
    a penalty. Returns False if the gradient is not finite; then nothing is updated.
    """
    n_in, n_out = net.layers[layer, N_IN], net.layers[layer, N_OUT]
    z = net.layers[layer, UNIT_START] * net.capacity
    is_weights = strip < n_strips(n_in, n_out)
    net.partial[task] = 0.0
    start, n = strip_span(net, layer, strip)
    if n == 0:
        return True
    i0 = strip * strip_rows(n_in, n_out)
    target = net.gradients if keeps else net.strips
    g = start if keeps else me * strip_room(widest(net.layers))
    if is_weights:
        weight_gradient_strip(
            strip, A, net.offsets, layer * net.capacity, m, net.deltas, z, net.panels, panels_start(net, layer),
            n_in, n_out, target, g - i0 * n_out,
        )  # fmt: skip
        if rule.alpha > 0 and rule.solver != ADAMW:
            net.partial[task] = sum_of_squares(net.parameters, start, start + n)
            pull = net.parameters.dtype.type(rule.alpha / total_weight)
            add_range(part(target, g, n), net.parameters, pull, start, n)
    else:
        sum_rows(net.deltas, z, m, n_out, target, g)
    if not _simd.all_finite(target, g, g + n):
        return False
    if updates:
        decay = learning_rate * rule.alpha if is_weights and rule.solver == ADAMW else 0.0
        update_range(rule, learning_rate, step, decay, target, g, net.parameters, net.mean, net.square, start, n)
    return True


@inner
def learn(me, call, phase, net, rule, learning_rate, step, X, m, total_weight, keeps, updates):
    """Gradients of all layers and their update, in one phase; a task is a strip of W, or one b.

    Returns the sum of squares of all W before it, if there is a penalty.
    """
    n_layers = net.layers.shape[0]
    tasks = 0
    for layer in range(n_layers):
        tasks += n_strips(net.layers[layer, N_IN], net.layers[layer, N_OUT]) + 1
    shared = open_phase(me, call, phase, tasks, 2 * m * net.parameters.size)
    task = claim(me, call, phase, tasks, shared)
    while task >= 0:
        layer, strip = 0, task
        while strip > n_strips(net.layers[layer, N_IN], net.layers[layer, N_OUT]):
            strip -= n_strips(net.layers[layer, N_IN], net.layers[layer, N_OUT]) + 1
            layer += 1
        A = X if layer == 0 else net.outputs
        if not learn_strip(me, net, rule, learning_rate, step, layer, strip, task, A, m, total_weight, keeps, updates):
            call[FAILED] = 1
        finish(call, shared)
        task = claim(me, call, phase, tasks, shared)
    close_phase(me, call, tasks, shared)
    squares = 0.0
    if me == 0 and rule.alpha > 0 and rule.solver != ADAMW:
        for k in range(tasks):
            squares += net.partial[k]
    return squares


@inner
def clip_and_update(net, rule, learning_rate, step):
    """Scale the gradients down to the norm that the rule allows, and update every piece of the vector."""
    norm = math.sqrt(sum_of_squares(net.gradients, 0, net.gradients.size))
    if norm > rule.max_grad_norm:
        factor = net.gradients.dtype.type(rule.max_grad_norm / norm)
        scale_range(net.gradients, factor, 0, net.gradients.size)
    for layer in range(net.layers.shape[0]):
        for column in (W_START, B_START):
            start = net.layers[layer, column]
            n_rows = net.layers[layer, N_IN] if column == W_START else 1
            decay = learning_rate * rule.alpha if column == W_START and rule.solver == ADAMW else 0.0
            if start >= 0:
                update_range(
                    rule, learning_rate, step, decay, net.gradients, start, net.parameters, net.mean, net.square,
                    start, n_rows * net.layers[layer, N_OUT],
                )  # fmt: skip


@inner
def batch_weight(sample_weight, order, first, m):
    """Total weight of a batch, row after row."""
    if sample_weight.size == 0:
        return np.float64(m)
    total = 0.0
    for i in range(first, first + m):
        total += np.float64(sample_weight[order[i]])
    return total


@inner
def find_rows(me, net, order, first, m):
    """Note where each row of the batch is in X."""
    if me == 0:
        for i in range(m):
            net.offsets[i] = order[first + i] * net.layers[0, N_IN]


@inner
def predict_and_compare(me, call, phase, net, rule, step, X, Y, n_targets, sample_weight, order, first, m, total):
    """The first two parts of a step: outputs, losses and the deltas of every layer; returns the next phase.

    By rows there is one phase and every block packs every W; by layers there are many phases and most of W is packed
    once, which pays for wide layers.
    """
    find_rows(me, net, order, first, m)
    if call[N_THREADS] == 1 or widest(net.layers) <= WIDE:
        return by_rows(me, call, phase, net, rule, step, X, Y, n_targets, sample_weight, order, first, total, m)
    return by_layers(
        me, call, phase, net, rule, step, X, Y, n_targets, sample_weight, order, first, total, m, m > 0, m > 0
    )


@inner
def one_step(
    me, call, phase, net, rule, learning_rate, step, X, Y, n_targets, sample_weight, order, first, m, keeps, loss,
    at,
):  # fmt: skip
    """One whole step, ``loss[at]`` its loss; returns the next phase, and whether to go on."""
    total = batch_weight(sample_weight, order, first, m)
    phase = predict_and_compare(
        me, call, phase, net, rule, step, X, Y, n_targets, sample_weight, order, first, m, max(total, 1e-300)
    )
    data_loss = 0.0
    if me == 0:
        for i in range(m):
            data_loss += net.losses[i]
        if total == 0:
            loss[at] = 0.0
        elif not math.isfinite(data_loss):
            loss[at] = data_loss
            return phase, False
    if total == 0:
        return phase, True
    updates = not math.isfinite(rule.max_grad_norm)
    keeps = keeps or not updates
    squares = learn(me, call, phase, net, rule, learning_rate, step, X, m, total, keeps, updates)
    if me == 0:
        loss[at] = (data_loss + 0.5 * rule.alpha * squares) / total
        if call[FAILED]:
            loss[at] = np.inf
        elif not updates:
            clip_and_update(net, rule, learning_rate, step)
    return phase + 1, not call[FAILED]

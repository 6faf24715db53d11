"""k-means on vectors and a team of threads: nearest centers, and sums by cluster, in one pass over the samples.

Samples are cut into chunks by the data's shape alone. A chunk is one task, with sums of its own that are added up in
the order of the chunks, and is gone through block by block: a block is compared with all centers, then its rows,
still in cache, are added to their clusters.
"""

import math

import numpy as np

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._arrays import flat, scratch, writable
from gdl.kernels.cpu._bounds import bounded_block, center_bounds
from gdl.kernels.cpu._comparison import (
    block_rows,
    is_shifted,
    label_block,
    pack_centers,
    room_for_block,
    shift_block,
    uses_lanes,
)
from gdl.kernels.cpu._nearest import squared_distance
from gdl.kernels.cpu._simd import part
from gdl.kernels.cpu._sums import add_rows, inner_sum_width, sum_width
from gdl.kernels.cpu._team import FIRST, announce, claim, close_phase, end_call, finish, open_phase, run

# Chunks: enough for many threads, few enough that their sums are soon added up and fit in memory.
MOST_CHUNKS = 32
CHUNK_ROWS = 512
SUMS_BYTES = 64 * 1024 * 1024
# Elements that rows are taken together up to, for their moments.
LONG_ROW = 64
# Fewer multiplications than this are done at once, without the team.
ALONE_WORK = 200_000


def n_chunks(n_samples, items):
    """Chunks that the samples are cut into; each has ``items`` sums of its own."""
    return max(1, min(MOST_CHUNKS, n_samples // CHUNK_ROWS, max(2, SUMS_BYTES // (8 * items))))


@inner
def chunk_start(chunk, chunks, n_samples):
    """First row of a chunk."""
    return n_samples * chunk // chunks


@inner
def add_up_chunks(me, call, phase, chunks, k, n, partial, sums, weights):
    """Sums over all chunks, in their order; a task is one cluster in 16."""
    tasks, width = min(k, 16), inner_sum_width(n)
    shared = open_phase(me, call, phase, tasks, chunks * k * n)
    task = claim(me, call, phase, tasks, shared)
    while task >= 0:
        for c in range(k * task // tasks, k * (task + 1) // tasks):
            total, weight = part(sums, c * n, n), 0.0
            total[:] = 0
            for chunk in range(chunks):
                added = part(partial, (chunk * k + c) * width, width)
                for j in range(n):
                    total[j] += added[j]
                weight += added[n]
            weights[c] = weight
        finish(call, shared)
        task = claim(me, call, phase, tasks, shared)
    close_phase(me, call, tasks, shared)


@njit
def _assign_alone(X, shift, centers, labels):
    (n_samples, n), k = X.shape, centers.shape[0]
    packed, halves = pack_centers(centers, shift)
    rows = block_rows(X, n)
    room = room_for_block(X, n)
    for start in range(0, n_samples, rows):
        m = min(rows, n_samples - start)
        label_block(X.ravel(), n, start, m, shift, is_shifted(shift), packed, halves, k, labels, room)


@njit
def _lloyd_step(
    me, call, team, X, n_samples, n, sample_weight, shift, packed, halves, k, chunks, labels,
    partial_sums, partial_changes, sums, weights, n_reassigned,
):  # fmt: skip
    """Label all samples and, where there is room for sums, add them up: two functions would compile for 3 s more."""
    adds = sums.size > 0
    announce(me, call, team)
    shifted = is_shifted(shift)
    room = room_for_block(X, n)
    order, ends = np.empty_like(room[0]), np.empty_like(room[0])
    rows, items = block_rows(X, n), k * inner_sum_width(n)
    shared = open_phase(me, call, FIRST, chunks, 2 * n_samples * n * k)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        if adds:
            partial_sums[task * items : (task + 1) * items] = 0
        changed = 0
        stop = chunk_start(task + 1, chunks, n_samples)
        for start in range(chunk_start(task, chunks, n_samples), stop, rows):
            m = min(rows, stop - start)
            changed += label_block(X, n, start, m, shift, shifted, packed, halves, k, labels, room)
            if adds:
                A, a = X, start * n
                if shifted:
                    A, a = room[2], 0
                add_rows(A, a, m, n, sample_weight, labels, start, k, partial_sums, task * items, order, ends)
        partial_changes[task] = changed
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    if adds:
        add_up_chunks(me, call, FIRST + 1, chunks, k, n, partial_sums, sums, weights)
    end_call(me, call, team)
    if me == 0:
        n_reassigned[0] = partial_changes[:chunks].sum()


@njit
def _bounded_step(
    me, call, team, X, n_samples, n, sample_weight, shift, centers, moves, most, second_most, gaps, farthest,
    packed, halves, k, chunks, labels, upper, lower, partial_sums, partial_changes, sums, weights, n_reassigned,
    n_exact,
):  # fmt: skip
    announce(me, call, team)
    shifted = is_shifted(shift)
    room = room_for_block(X, n)
    second, seconds = np.empty_like(room[4]), np.empty_like(room[6])
    order, ends = np.empty_like(room[0]), np.empty_like(room[0])
    rows, items = block_rows(X, n), k * inner_sum_width(n)
    shared = open_phase(me, call, FIRST, chunks, 2 * n_samples * n * k)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        partial_sums[task * items : (task + 1) * items] = 0
        changed, exact = 0, 0
        stop = chunk_start(task + 1, chunks, n_samples)
        for start in range(chunk_start(task, chunks, n_samples), stop, rows):
            m = min(rows, stop - start)
            more, compared = bounded_block(
                X, n, start, m, shift, shifted, centers, moves, most, second_most, gaps, farthest, packed, halves, k,
                labels, upper, lower, room, second, seconds,
            )  # fmt: skip
            changed += more
            exact += compared
            A, a = X, start * n
            if shifted:
                shift_block(X, n, start, m, shift, room)
                A, a = room[2], 0
            add_rows(A, a, m, n, sample_weight, labels, start, k, partial_sums, task * items, order, ends)
        partial_changes[task] = changed
        partial_changes[chunks + task] = exact
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    add_up_chunks(me, call, FIRST + 1, chunks, k, n, partial_sums, sums, weights)
    end_call(me, call, team)
    if me == 0:
        n_reassigned[0] = partial_changes[:chunks].sum()
        n_exact[0] = partial_changes[chunks : 2 * chunks].sum()


def assign_labels(X, shift, centers, labels):
    """Nearest center of each sample; a task is a chunk of samples."""
    (n_samples, n), k = X.shape, len(centers)
    if n_samples * n * k < ALONE_WORK:
        _assign_alone(writable(X), writable(shift), writable(centers), labels)
        return
    packed, halves = pack_centers(writable(centers), writable(shift))
    chunks, none = n_chunks(n_samples, 1), np.empty(0)
    arguments = (
        flat(X), n_samples, n, np.empty(0, X.dtype), writable(shift), packed, halves, k, chunks, labels,
        none, np.empty(chunks), none, none, np.empty(1),
    )  # fmt: skip
    run(_lloyd_step, 2.0 * n_samples * n * k, *arguments, task_work=2.0 * n_samples * n * k / chunks)


def _sums_room(chunks, items):
    """Room for the sums of all chunks."""
    return scratch("sums", chunks * items, np.float64)


def lloyd_step(X, sample_weight, shift, centers, labels, sums, weights, n_reassigned):
    """Labels, and sums by label, in one pass; a task is a chunk of samples."""
    (n_samples, n), k = X.shape, len(centers)
    packed, halves = pack_centers(writable(centers), writable(shift))
    items = k * sum_width(n)
    chunks = n_chunks(n_samples, items)
    arguments = (
        flat(X), n_samples, n, writable(sample_weight), writable(shift), packed, halves, k, chunks, labels,
        _sums_room(chunks, items), np.empty(chunks), flat(sums), weights, n_reassigned,
    )  # fmt: skip
    run(_lloyd_step, 2.0 * n_samples * n * k, *arguments, task_work=2.0 * n_samples * n * k / chunks)


def bounded_step(X, sample_weight, shift, centers, moves, labels, upper, lower, sums, weights, n_reassigned, n_exact):
    """``lloyd_step``, comparing only samples whose bounds leave their label open; a task is a chunk of samples."""
    (n_samples, n), k = X.shape, len(centers)
    packed, halves = pack_centers(writable(centers), writable(shift))
    gaps, farthest = center_bounds(writable(centers), writable(shift), packed, halves)
    second_most, most = np.sort(moves)[-2:].tolist() if k > 1 else (0.0, float(moves[0]))
    items = k * sum_width(n)
    chunks = n_chunks(n_samples, items)
    arguments = (
        flat(X), n_samples, n, writable(sample_weight), writable(shift), flat(centers), writable(moves), most,
        second_most, gaps, farthest, packed, halves, k, chunks, labels, upper, lower, _sums_room(chunks, items),
        np.empty(2 * chunks), flat(sums), weights, n_reassigned, n_exact,
    )  # fmt: skip
    run(_bounded_step, 2.0 * n_samples * n * k, *arguments, task_work=2.0 * n_samples * n * k / chunks)


@njit
def _column_moments(me, call, team, X, n_samples, n, chunks, partial):
    announce(me, call, team)
    # Short rows are taken as one long row: 1,000,000 of 2 take 1.1 ms so and 4.2 one by one (one core, Zen 3).
    together = max(1, LONG_ROW // n)
    first = np.empty(together * n)
    for i in range(together * n):
        first[i] = X[i % n]
    sums, squares = np.empty_like(first), np.empty_like(first)
    shared = open_phase(me, call, FIRST, chunks, 10 * n_samples * n)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        sums[:] = 0
        squares[:] = 0
        stop = chunk_start(task + 1, chunks, n_samples)
        for i in range(chunk_start(task, chunks, n_samples), stop, together):
            row = part(X, i * n, min(together, stop - i) * n)
            for j in range(row.size):
                deviation = np.float64(row[j]) - first[j]
                sums[j] += deviation
                squares[j] += deviation * deviation
        total_sums, total_squares = part(partial, task * 2 * n, n), part(partial, (task * 2 + 1) * n, n)
        total_sums[:] = 0
        total_squares[:] = 0
        for i in range(together * n):
            total_sums[i % n] += sums[i]
            total_squares[i % n] += squares[i]
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    end_call(me, call, team)


def column_moments(X, mean, variance):
    """Mean and variance of each feature, in one pass; a task is a chunk of samples."""
    n_samples, n = X.shape
    chunks = n_chunks(n_samples, 2 * n)
    partial = np.empty((chunks, 2, n))
    work, arguments = 10.0 * n_samples * n, (flat(X), n_samples, n, chunks, partial.reshape(-1))
    run(_column_moments, work, *arguments, task_work=work / chunks)
    mean[:], squares = partial.sum(axis=0) / n_samples
    variance[:] = np.maximum(squares - mean**2, 0)
    mean += X[0]


@inner
def center_square(X, i, centers, c, n):
    """Squared distance of a sample to a center, in float64; few features are no work for vectors."""
    if not uses_lanes(n):
        return squared_distance(X, i * n, centers, c * n, n)
    total = 0.0
    for j in range(n):
        difference = np.float64(X[np.uintp(i * n + j)]) - np.float64(centers[np.uintp(c * n + j)])
        total += difference * difference
    return total


@njit
def _label_distances(me, call, team, X, n_samples, n, sample_weight, centers, labels, chunks, out, partial):
    announce(me, call, team)
    shared = open_phase(me, call, FIRST, chunks, 10 * n_samples * n)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        total = 0.0
        for i in range(chunk_start(task, chunks, n_samples), chunk_start(task + 1, chunks, n_samples)):
            square = center_square(X, i, centers, np.int64(labels[i]), n)
            if out.size > 0:
                out[i] = square
            total += square if sample_weight.size == 0 else np.float64(sample_weight[i]) * square
        partial[task] = total
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    end_call(me, call, team)


def _distances_and_sum(X, sample_weight, centers, labels, out):
    n_samples, n = X.shape
    chunks = n_chunks(n_samples, 1)
    partial = np.empty(chunks)
    arguments = flat(X), n_samples, n, writable(sample_weight), flat(centers), writable(labels), chunks, out, partial
    run(_label_distances, 10.0 * n_samples * n, *arguments, task_work=10.0 * n_samples * n / chunks)
    return partial.sum()


def label_distances(X, centers, labels, out):
    """Squared distance of each sample to the center of its label; a task is a chunk of samples."""
    _distances_and_sum(X, np.empty(0, X.dtype), centers, labels, out)


def label_inertia(X, sample_weight, centers, labels, inertia):
    """Weighted sum of the squared distances, chunk by chunk in a fixed order."""
    inertia[0] = _distances_and_sum(X, sample_weight, centers, labels, np.empty(0))


@njit
def average_centers(sums, weights, shift, centers):
    """Mean of each cluster; clusters are independent."""
    heaviest = weights.argmax()
    for k in range(centers.shape[0]):
        filled = k if weights[k] > 0 else heaviest
        for j in range(centers.shape[1]):
            centers[k, j] = sums[filled, j] / weights[filled] + np.float64(shift[j])


@njit
def sums_inertia(scatter, sums, weights, shift, centers, inertia):
    """Inertia from sums, cluster by cluster: 5 us in the cold caches behind a pass over many samples, in NumPy 80."""
    total = scatter
    for k in range(centers.shape[0]):
        for j in range(centers.shape[1]):
            relative = np.float64(centers[k, j]) - np.float64(shift[j])
            total += relative * (weights[k] * relative - 2 * sums[k, j])
    inertia[0] = 0.0 if total < 0 else total  # NaN passes


@njit
def normalize_rows(X, out):
    """Rows of length 1; rows are independent."""
    for i in range(X.shape[0]):
        largest, length = 0.0, 0.0
        for j in range(X.shape[1]):
            largest = max(largest, abs(np.float64(X[i, j])))
        largest = largest if largest > 0 else 1.0
        for j in range(X.shape[1]):
            length += (np.float64(X[i, j]) / largest) ** 2
        length = math.sqrt(length) if length > 0 else 1.0
        for j in range(X.shape[1]):
            out[i, j] = np.float64(X[i, j]) / largest / length


@njit
def center_moves(centers, new_centers, moves):
    """How far each center is moved; centers are independent."""
    n = centers.shape[1]
    for k in range(centers.shape[0]):
        moves[k] = math.sqrt(squared_distance(centers.ravel(), k * n, new_centers.ravel(), k * n, n))


@njit
def _center_distances(me, call, team, X, n_samples, n, centers, k, chunks, out):
    announce(me, call, team)
    shared = open_phase(me, call, FIRST, chunks, 4 * n_samples * n * k)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        for i in range(chunk_start(task, chunks, n_samples), chunk_start(task + 1, chunks, n_samples)):
            for c in range(k):
                out[i * k + c] = math.sqrt(center_square(X, i, centers, c, n))
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    end_call(me, call, team)


def center_distances(X, centers, out):
    """Distance of each sample to each center, from differences; a task is a chunk of samples."""
    (n_samples, n), k = X.shape, len(centers)
    chunks, work = n_chunks(n_samples, 1), 4.0 * n_samples * n * k
    arguments = flat(X), n_samples, n, flat(centers), k, chunks, flat(out)
    run(_center_distances, work, *arguments, task_work=work / chunks)


@njit
def mini_batch_update(X, sample_weight, labels, centers, counts):
    """Move each center to the mean of all that it has seen; sample after sample."""
    (n_samples, n), k = X.shape, centers.shape[0]
    width = inner_sum_width(n)
    sums, order, ends = np.zeros(k * width), np.empty(n_samples, np.int64), np.empty(n_samples, np.int64)
    add_rows(X.ravel(), 0, n_samples, n, sample_weight, labels, 0, k, sums, 0, order, ends)
    for c in range(k):
        weight = sums[c * width + n]
        total = counts[c] + weight
        if weight > 0:
            for j in range(n):
                centers[c, j] = (np.float64(centers[c, j]) * counts[c] + sums[c * width + j]) / total
        counts[c] = total

"""k-means on vectors and a team of threads: nearest centers, and sums by cluster, in one pass over the samples.

Samples are cut into chunks by the data's shape alone. A chunk is one task, with sums of its own that are added up in
the order of the chunks, and is gone through block by block: a block is compared with all centers, then its rows,
still in cache, are added to their clusters.
"""

import math

import numpy as np

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._arrays import flat, scratch, writable
from gdl.kernels.cpu._nearest import (
    ROWS_1,
    ROWS_2,
    ROWS_3,
    SAMPLE_VECTORS,
    best_lane,
    best_two_lane,
    nearest_lanes,
    nearest_tile_1,
    nearest_tile_2,
    nearest_tile_3,
    nearest_two_lanes,
    nearest_two_tile_1,
    nearest_two_tile_2,
    nearest_two_tile_3,
    squared_distance,
)
from gdl.kernels.cpu._simd import VECTOR_BYTES, part, sum_of_squares
from gdl.kernels.cpu._team import FIRST, announce, claim, close_phase, end_call, finish, open_phase, run
from gdl.kernels.cpu._tile import pack_transposed

# Up to this many features lanes run over samples, else over centers.
LANES_FEATURES = 8
# A block of samples stays in the second-level cache while it is compared and added up.
BLOCK_BYTES = 96 * 1024
MOST_ROWS = 256
# A tile may read rows beyond the last: they are the last again.
PADDING = max(ROWS_1, ROWS_2, ROWS_3, SAMPLE_VECTORS * VECTOR_BYTES // 4)
# Chunks: enough for many threads, few enough that their sums are soon added up and fit in memory.
MOST_CHUNKS = 32
CHUNK_ROWS = 512
SUMS_BYTES = 64 * 1024 * 1024
# Fewer multiplications than this are done at once, without the team.
ALONE_WORK = 200_000


def n_chunks(n_samples, items):
    """Chunks that the samples are cut into; each has ``items`` sums of its own."""
    return max(1, min(MOST_CHUNKS, n_samples // CHUNK_ROWS, max(2, SUMS_BYTES // (8 * items))))


@inner
def block_rows(values, n_features):
    """Rows of a block, for the array's dtype."""
    rows = BLOCK_BYTES // (n_features * values.itemsize) // 48 * 48
    return max(48, min(MOST_ROWS, rows))


@inner
def uses_lanes(n_features):
    """Whether lanes run over samples."""
    return n_features <= LANES_FEATURES


@inner
def is_shifted(shift):
    """Whether samples have to be shifted."""
    for j in range(shift.shape[0]):
        if shift[j] != 0:
            return True
    return False


@inner
def n_center_panels(values, n_centers):
    """Panels of up to three vectors of centers."""
    lanes = VECTOR_BYTES // values.itemsize
    return ((n_centers + lanes - 1) // lanes + 2) // 3


@inner
def center_panel(values, n_centers, panel):
    """First vector of a panel of centers; all panels have the same number of vectors, or one less."""
    lanes = VECTOR_BYTES // values.itemsize
    return (n_centers + lanes - 1) // lanes * panel // n_center_panels(values, n_centers)


@njit
def pack_centers(centers, shift):
    """Return shifted centers as a comparison reads them, and minus half of their squared norms.

    For lanes over samples they stay rows. For tiles they lie panel by panel and feature by feature; what pads the last
    vector has a score that is never the best.
    """
    k, n = centers.shape
    lanes = VECTOR_BYTES // centers.itemsize
    if uses_lanes(n):
        packed, halves = np.empty(k * n, centers.dtype), np.empty(0, centers.dtype)
        for c in range(k):
            for j in range(n):
                packed[c * n + j] = centers[c, j] - shift[j]
        return packed, halves
    width = (k + lanes - 1) // lanes * lanes
    packed, halves = np.empty(width * n, centers.dtype), np.full(width, -np.inf, centers.dtype)
    rows = np.zeros(width * n, centers.dtype)
    for c in range(k):
        row, center = part(rows, c * n, n), part(centers.ravel(), c * n, n)
        for j in range(n):
            row[j] = center[j] - shift[j]
        halves[c] = -0.5 * sum_of_squares(rows, c * n, (c + 1) * n)
    for panel in range(n_center_panels(centers, k)):
        first, stop = center_panel(centers, k, panel) * lanes, center_panel(centers, k, panel + 1) * lanes
        pack_transposed(rows, first * n, n, n, stop - first, packed, first * n)
    return packed, halves


@inner
def shift_rows(X, n, rows, m, shift, copy, offsets):
    """Copy the rows of X with these numbers, less ``shift``; leave where they start in ``offsets``."""
    shift = part(shift, 0, n)
    for i in range(m):
        row, target = part(X, rows[i] * n, n), part(copy, i * n, n)
        for j in range(n):
            target[j] = row[j] - shift[j]
        offsets[i] = i * n


@inner
def pad_offsets(offsets, m):
    """Repeat the last row where a tile reads beyond it."""
    for i in range(m, m + PADDING):
        offsets[i] = offsets[m - 1]


@inner
def transpose_rows(A, offsets, s, n, T):
    """Write one load of rows, from number s on, feature by feature."""
    width = SAMPLE_VECTORS * (VECTOR_BYTES // A.itemsize)
    starts = part(offsets, s, width)
    for j in range(n):
        feature = part(T, j * width, width)
        for i in range(width):
            feature[i] = A[np.uintp(starts[i] + j)]


@inner
def nearest(A, offsets, m, n, packed, halves, k, T, best, number, scores, numbers):
    """Score and number of the nearest center of m rows."""
    pad_offsets(offsets, m)
    lanes = VECTOR_BYTES // A.itemsize
    if uses_lanes(n):
        for s in range(0, m, SAMPLE_VECTORS * lanes):
            transpose_rows(A, offsets, s, n, T)
            nearest_lanes(T, packed, k, n, scores, scores, numbers, s)
        return
    best[: (m + PADDING) * lanes] = -np.inf
    number[: (m + PADDING) * lanes] = 0
    for panel in range(n_center_panels(A, k)):
        first, stop = center_panel(A, k, panel), center_panel(A, k, panel + 1)
        c, h = first * lanes * n, first * lanes
        if stop - first == 3:
            for i in range(0, m, ROWS_3):
                nearest_tile_3(A, offsets, i, packed, c, n, halves, h, h, best, number, best, i * lanes)
        elif stop - first == 2:
            for i in range(0, m, ROWS_2):
                nearest_tile_2(A, offsets, i, packed, c, n, halves, h, h, best, number, best, i * lanes)
        else:
            for i in range(0, m, ROWS_1):
                nearest_tile_1(A, offsets, i, packed, c, n, halves, h, h, best, number, best, i * lanes)
    for i in range(m):
        best_lane(best, number, best, i * lanes, scores, scores, numbers, i)


@inner
def nearest_two(A, offsets, m, n, packed, halves, k, T, best, number, second, scores, seconds, numbers):
    """``nearest`` and the score of the second nearest."""
    pad_offsets(offsets, m)
    lanes = VECTOR_BYTES // A.itemsize
    if uses_lanes(n):
        for s in range(0, m, SAMPLE_VECTORS * lanes):
            transpose_rows(A, offsets, s, n, T)
            nearest_two_lanes(T, packed, k, n, scores, seconds, numbers, s)
        return
    best[: (m + PADDING) * lanes] = -np.inf
    second[: (m + PADDING) * lanes] = -np.inf
    number[: (m + PADDING) * lanes] = 0
    for panel in range(n_center_panels(A, k)):
        first, stop = center_panel(A, k, panel), center_panel(A, k, panel + 1)
        c, h = first * lanes * n, first * lanes
        if stop - first == 3:
            for i in range(0, m, ROWS_3):
                nearest_two_tile_3(A, offsets, i, packed, c, n, halves, h, h, best, number, second, i * lanes)
        elif stop - first == 2:
            for i in range(0, m, ROWS_2):
                nearest_two_tile_2(A, offsets, i, packed, c, n, halves, h, h, best, number, second, i * lanes)
        else:
            for i in range(0, m, ROWS_1):
                nearest_two_tile_1(A, offsets, i, packed, c, n, halves, h, h, best, number, second, i * lanes)
    for i in range(m):
        best_two_lane(best, number, second, i * lanes, scores, seconds, numbers, i)


@inner
def add_rows(A, offsets, m, n, sample_weight, labels, start, sums, s, weights, w):
    """Add m rows, weighted, to the sums of their labels."""
    labels = part(labels, start, m)
    for i in range(m):
        label = np.int64(labels[i])
        weight = 1.0 if sample_weight.size == 0 else np.float64(sample_weight[start + i])
        weights[np.uintp(w + label)] += weight
        if uses_lanes(n):  # so few features that a vector loop would spend its time on its beginning and end
            at = s + label * n
            for j in range(n):
                sums[np.uintp(at + j)] += weight * np.float64(A[np.uintp(offsets[i] + j)])
        else:
            row, total = part(A, offsets[i], n), part(sums, s + label * n, n)
            if sample_weight.size == 0:
                for j in range(n):
                    total[j] += np.float64(row[j])
            else:
                for j in range(n):
                    total[j] += weight * np.float64(row[j])


@inner(_nrt=True)
def room_for_block(A, n):
    """Arrays that a thread needs to compare a block: rows, offsets, copy, T, best, number, scores, numbers."""
    m = block_rows(A, n) + PADDING
    lanes = VECTOR_BYTES // A.itemsize
    in_tiles = 1 if uses_lanes(n) else m * lanes
    rows, offsets = np.empty(m, np.int64), np.empty(m, np.int64)
    copy, T = np.empty(m * n, A.dtype), np.empty(SAMPLE_VECTORS * lanes * LANES_FEATURES, A.dtype)
    best, number = np.empty(in_tiles, A.dtype), np.empty(in_tiles, A.dtype)
    return rows, offsets, copy, T, best, number, np.empty(m, A.dtype), np.empty(m, A.dtype)


@inner
def label_block(X, n, start, m, shift, shifted, packed, halves, k, labels, room):
    """Label the m rows from ``start`` on; return how many labels changed.

    ``room``'s offsets then say where the rows are: in its copy if they are ``shifted``, else in X.
    """
    rows, offsets, copy, T, best, number, scores, numbers = room
    for i in range(m):
        rows[i] = start + i
        offsets[i] = (start + i) * n
    A = X
    if shifted:
        shift_rows(X, n, rows, m, shift, copy, offsets)
        A = copy
    nearest(A, offsets, m, n, packed, halves, k, T, best, number, scores, numbers)
    changed = 0
    labels = part(labels, start, m)
    for i in range(m):
        label = np.int32(numbers[i])
        changed += label != labels[i]
        labels[i] = label
    return changed


@inner
def chunk_start(chunk, chunks, n_samples):
    """First row of a chunk."""
    return n_samples * chunk // chunks


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
    me, call, team, number, X, n_samples, n, sample_weight, shift, packed, halves, k, chunks, labels,
    partial_sums, partial_weights, partial_changes, sums, weights, n_reassigned,
):  # fmt: skip
    """Label all samples and, where there is room for sums, add them up: two functions would compile for 3 s more."""
    adds = sums.size > 0
    announce(me, team, number)
    shifted = is_shifted(shift)
    room = room_for_block(X, n)
    rows = block_rows(X, n)
    shared = open_phase(me, call, FIRST, chunks, 2 * n_samples * n * k)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        if adds:
            partial_sums[task * k * n : (task + 1) * k * n] = 0
            partial_weights[task * k : (task + 1) * k] = 0
        changed = 0
        stop = chunk_start(task + 1, chunks, n_samples)
        for start in range(chunk_start(task, chunks, n_samples), stop, rows):
            m = min(rows, stop - start)
            changed += label_block(X, n, start, m, shift, shifted, packed, halves, k, labels, room)
            if adds:
                add_rows(
                    room[2] if shifted else X, room[1], m, n, sample_weight, labels, start, partial_sums, task * k * n,
                    partial_weights, task * k,
                )  # fmt: skip
        partial_changes[task] = changed
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    if adds:
        add_up_chunks(me, call, FIRST + 1, chunks, k, n, partial_sums, partial_weights, sums, weights)
    end_call(me, call, team)
    if me == 0:
        n_reassigned[0] = partial_changes[:chunks].sum()


@inner
def add_up_chunks(me, call, phase, chunks, k, n, partial_sums, partial_weights, sums, weights):
    """Sums over all chunks, in their order; a task is one cluster in 16."""
    tasks = min(k, 16)
    shared = open_phase(me, call, phase, tasks, chunks * k * n)
    task = claim(me, call, phase, tasks, shared)
    while task >= 0:
        first, stop = k * task // tasks, k * (task + 1) // tasks
        total = part(sums, first * n, (stop - first) * n)
        total[:] = 0
        for chunk in range(chunks):
            added = part(partial_sums, (chunk * k + first) * n, (stop - first) * n)
            for j in range((stop - first) * n):
                total[j] += added[j]
        for c in range(first, stop):
            weights[c] = 0
            for chunk in range(chunks):
                weights[c] += partial_weights[chunk * k + c]
        finish(call, shared)
        task = claim(me, call, phase, tasks, shared)
    close_phase(me, call, tasks, shared)


@inner
def rounding(values, n, farthest):
    """Bound of the rounding error in the difference of two squared distances, at distances up to ``farthest``.

    A product of n terms is off by at most ``(n + 2) / 2`` epsilons of its largest value (Higham 2002, section 3.1).
    """
    epsilon = 1.1920929e-07 if values.itemsize == 4 else 2.220446049250313e-16
    return 4.0 * (n + 4) * epsilon * farthest * farthest


@njit
def center_bounds(centers, shift, packed, halves):
    """For each center half of the distance to the nearest other, or less; and the largest distance to ``shift``."""
    k, n = centers.shape
    gaps = np.empty(k)
    rows, offsets, copy, T, best, number, scores, numbers = room_for_block(centers, n)
    second, seconds = np.empty_like(best), np.empty_like(scores)
    step = block_rows(centers, n)
    farthest = 0.0
    norms = np.empty(k)
    for c in range(k):
        total = 0.0
        for j in range(n):
            total += np.float64(centers[c, j] - shift[j]) ** 2
        norms[c] = total
        farthest = max(farthest, math.sqrt(total))
    for start in range(0, k, step):
        m = min(step, k - start)
        for i in range(m):
            rows[i] = start + i
        shift_rows(centers.ravel(), n, rows, m, shift, copy, offsets)
        nearest_two(copy, offsets, m, n, packed, halves, k, T, best, number, second, scores, seconds, numbers)
        for i in range(m):
            square = -np.float64(seconds[i])
            if not uses_lanes(n):
                square = norms[start + i] + 2 * square
            gaps[start + i] = 0.5 * math.sqrt(max(0.0, square - rounding(centers, n, 2 * farthest)))
    return gaps, farthest


@inner
def bounds_hold(upper, lower, gap, farthest, values, n):
    """Whether a sample keeps its label, whatever rounding does to the comparison."""
    other = max(lower, 2 * gap - upper)
    return other > upper and other * other - upper * upper > rounding(values, n, upper + farthest)


@inner
def bounded_block(
    X, n, start, m, shift, shifted, centers, moves, most, second_most, gaps, farthest, packed, halves, k,
    labels, upper, lower, room, second, seconds,
):  # fmt: skip
    """Label m rows where bounds do not tell; return how many labels changed, and how many rows were compared."""
    rows, offsets, copy, T, best, number, scores, numbers = room
    n_open = 0
    for i in range(start, start + m):
        label = np.int64(labels[i])
        if upper[i] < np.inf:
            # Rounded up and down: what is kept is of the data's type.
            above = (np.float64(upper[i]) + moves[label]) * (1 + 2e-7)
            below = (np.float64(lower[i]) - (second_most if moves[label] == most else most)) * (1 - 2e-7)
            if not bounds_hold(above, below, gaps[label], farthest, X, n):
                above = math.sqrt(shifted_square(X, i, shift, shifted, centers, label, n)) * (1 + 4e-7)
            if bounds_hold(above, below, gaps[label], farthest, X, n):
                upper[i], lower[i] = above, max(below, 0.0)
                continue
        rows[n_open] = i
        offsets[n_open] = i * n
        n_open += 1
    changed = 0
    if n_open > 0:
        A = X
        if shifted:
            shift_rows(X, n, rows, n_open, shift, copy, offsets)
            A = copy
        nearest_two(A, offsets, n_open, n, packed, halves, k, T, best, number, second, scores, seconds, numbers)
        for i in range(n_open):
            row = rows[i]
            nearer = np.int32(numbers[i])
            changed += nearer != labels[row]
            labels[row] = nearer
            norm = 0.0 if uses_lanes(n) else sum_of_squares(A, offsets[i], offsets[i] + n)
            factor = 1.0 if uses_lanes(n) else 2.0
            square = norm - factor * np.float64(scores[i])
            error = rounding(X, n, math.sqrt(max(square, 0.0)) + 2 * farthest)
            upper[row] = math.sqrt(max(square, 0.0) + error) * (1 + 2e-7)
            lower[row] = math.sqrt(max(norm - factor * np.float64(seconds[i]) - error, 0.0)) * (1 - 2e-7)
    return changed, n_open


@inner
def shifted_square(X, row, shift, shifted, centers, label, n):
    """Squared distance of a sample to a center as kernels see both: each shifted, and rounded."""
    if not shifted:
        return squared_distance(X, row * n, centers, label * n, n)
    total = 0.0
    for j in range(n):
        difference = np.float64(X[row * n + j] - shift[j]) - np.float64(centers[label * n + j] - shift[j])
        total += difference * difference
    return total


@njit
def _bounded_step(
    me, call, team, number, X, n_samples, n, sample_weight, shift, centers, moves, most, second_most, gaps, farthest,
    packed, halves, k, chunks, labels, upper, lower, partial_sums, partial_weights, partial_changes, sums, weights,
    n_reassigned, n_exact,
):  # fmt: skip
    announce(me, team, number)
    shifted = is_shifted(shift)
    room = room_for_block(X, n)
    second, seconds = np.empty_like(room[4]), np.empty_like(room[6])
    own = np.empty_like(room[1])
    rows = block_rows(X, n)
    shared = open_phase(me, call, FIRST, chunks, 2 * n_samples * n * k)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        partial_sums[task * k * n : (task + 1) * k * n] = 0
        partial_weights[task * k : (task + 1) * k] = 0
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
            A = X
            for i in range(m):
                room[0][i] = start + i
                own[i] = (start + i) * n
            if shifted:
                shift_rows(X, n, room[0], m, shift, room[2], own)
                A = room[2]
            add_rows(A, own, m, n, sample_weight, labels, start, partial_sums, task * k * n, partial_weights, task * k)
        partial_changes[task] = changed
        partial_changes[chunks + task] = exact
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    add_up_chunks(me, call, FIRST + 1, chunks, k, n, partial_sums, partial_weights, sums, weights)
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
        none, none, np.empty(chunks), none, none, np.empty(1),
    )  # fmt: skip
    run(_lloyd_step, 2.0 * n_samples * n * k, *arguments)


def _sums_room(chunks, items):
    """Room for the sums of all chunks."""
    return scratch("sums", chunks * items, np.float64)


def lloyd_step(X, sample_weight, shift, centers, labels, sums, weights, n_reassigned):
    """Labels, and sums by label, in one pass; a task is a chunk of samples."""
    (n_samples, n), k = X.shape, len(centers)
    packed, halves = pack_centers(writable(centers), writable(shift))
    chunks = n_chunks(n_samples, k * n)
    arguments = (
        flat(X), n_samples, n, writable(sample_weight), writable(shift), packed, halves, k, chunks, labels,
        _sums_room(chunks, k * n), np.empty(chunks * k), np.empty(chunks), flat(sums), weights, n_reassigned,
    )  # fmt: skip
    run(_lloyd_step, 2.0 * n_samples * n * k, *arguments)


def bounded_step(X, sample_weight, shift, centers, moves, labels, upper, lower, sums, weights, n_reassigned, n_exact):
    """``lloyd_step``, comparing only samples whose bounds leave their label open; a task is a chunk of samples."""
    (n_samples, n), k = X.shape, len(centers)
    packed, halves = pack_centers(writable(centers), writable(shift))
    gaps, farthest = center_bounds(writable(centers), writable(shift), packed, halves)
    second_most, most = np.sort(moves)[-2:].tolist() if k > 1 else (0.0, float(moves[0]))
    chunks = n_chunks(n_samples, k * n)
    arguments = (
        flat(X), n_samples, n, writable(sample_weight), writable(shift), flat(centers), writable(moves), most,
        second_most, gaps, farthest, packed, halves, k, chunks, labels, upper, lower, _sums_room(chunks, k * n),
        np.empty(chunks * k), np.empty(2 * chunks), flat(sums), weights, n_reassigned, n_exact,
    )  # fmt: skip
    run(_bounded_step, 2.0 * n_samples * n * k, *arguments)


@njit
def _column_moments(me, call, team, number, X, n_samples, n, chunks, partial):
    announce(me, team, number)
    first = part(X, 0, n)
    shared = open_phase(me, call, FIRST, chunks, 10 * n_samples * n)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        sums, squares = part(partial, task * 2 * n, n), part(partial, (task * 2 + 1) * n, n)
        sums[:] = 0
        squares[:] = 0
        for i in range(chunk_start(task, chunks, n_samples), chunk_start(task + 1, chunks, n_samples)):
            row = part(X, i * n, n)
            for j in range(n):
                deviation = np.float64(row[j]) - np.float64(first[j])
                sums[j] += deviation
                squares[j] += deviation * deviation
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    end_call(me, call, team)


def column_moments(X, mean, variance):
    """Mean and variance of each feature, in one pass; a task is a chunk of samples."""
    n_samples, n = X.shape
    chunks = n_chunks(n_samples, 2 * n)
    partial = np.empty((chunks, 2, n))
    run(_column_moments, 10.0 * n_samples * n, flat(X), n_samples, n, chunks, partial.reshape(-1))
    mean[:], squares = partial.sum(axis=0) / n_samples
    variance[:] = np.maximum(squares - mean**2, 0)
    mean += X[0]


@njit
def _label_distances(me, call, team, number, X, n_samples, n, sample_weight, centers, labels, chunks, out, partial):
    announce(me, team, number)
    shared = open_phase(me, call, FIRST, chunks, 10 * n_samples * n)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        total = 0.0
        for i in range(chunk_start(task, chunks, n_samples), chunk_start(task + 1, chunks, n_samples)):
            square = squared_distance(X, i * n, centers, np.int64(labels[i]) * n, n)
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
    run(_label_distances, 10.0 * n_samples * n, *arguments)
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
def normalize_rows(X, out):
    """Rows of length 1; rows are independent."""
    for i in range(X.shape[0]):
        length = 0.0
        for j in range(X.shape[1]):
            length += np.float64(X[i, j]) ** 2
        length = math.sqrt(length) if length > 0 else 1.0
        for j in range(X.shape[1]):
            out[i, j] = X[i, j] / length


@njit
def center_moves(centers, new_centers, moves):
    """How far each center is moved; centers are independent."""
    n = centers.shape[1]
    for k in range(centers.shape[0]):
        moves[k] = math.sqrt(squared_distance(centers.ravel(), k * n, new_centers.ravel(), k * n, n))


@njit
def _center_distances(me, call, team, number, X, n_samples, n, centers, k, chunks, out):
    announce(me, team, number)
    shared = open_phase(me, call, FIRST, chunks, 4 * n_samples * n * k)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        for i in range(chunk_start(task, chunks, n_samples), chunk_start(task + 1, chunks, n_samples)):
            for c in range(k):
                out[i * k + c] = math.sqrt(squared_distance(X, i * n, centers, c * n, n))
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    end_call(me, call, team)


def center_distances(X, centers, out):
    """Distance of each sample to each center, from differences; a task is a chunk of samples."""
    (n_samples, n), k = X.shape, len(centers)
    arguments = flat(X), n_samples, n, flat(centers), k, n_chunks(n_samples, 1), flat(out)
    run(_center_distances, 4.0 * n_samples * n * k, *arguments)


@njit
def mini_batch_update(X, sample_weight, labels, centers, counts):
    """Move each center to the mean of all that it has seen; sample after sample."""
    (n_samples, n), k = X.shape, centers.shape[0]
    sums, weights = np.zeros(k * n), np.zeros(k)
    offsets = np.arange(n_samples) * n
    add_rows(X.ravel(), offsets, n_samples, n, sample_weight, labels, 0, sums, 0, weights, 0)
    for c in range(k):
        total = counts[c] + weights[c]
        if weights[c] > 0:
            for j in range(n):
                centers[c, j] = (np.float64(centers[c, j]) * counts[c] + sums[c * n + j]) / total
        counts[c] = total

"""Comparing a block of samples with all centers: which of two ways, in what order memory is read, on what room.

For few features lanes run over samples, for many over centers in register tiles; see ``_nearest``.
"""

import numpy as np

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._nearest import (
    MOST_TURNED,
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
    turn_load,
)
from gdl.kernels.cpu._simd import VECTOR_BYTES, part, sum_of_squares
from gdl.kernels.cpu._tile import pack_transposed

# Up to this many features lanes run over samples, else over centers.
LANES_FEATURES = 8
# A block of samples stays in the second-level cache while it is compared and added up.
BLOCK_BYTES = 96 * 1024
MOST_ROWS = 256
# A tile may read rows beyond the last: they are the last again.
PADDING = max(ROWS_1, ROWS_2, ROWS_3, SAMPLE_VECTORS * VECTOR_BYTES // 4)


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
def turn_rows(A, a, m, n, T):
    """Write m rows that follow each other from ``a`` on feature by feature, the last again until a load is full."""
    width = SAMPLE_VECTORS * (VECTOR_BYTES // A.itemsize)
    if m == width and n <= MOST_TURNED:
        turn_load(A, a, n, T)
        return
    samples = part(A, a, m * n)
    for j in range(n):
        feature = part(T, j * width, width)
        for i in range(m):
            feature[i] = samples[i * n + j]
        for i in range(m, width):
            feature[i] = feature[m - 1]


@inner
def nearest_by_tiles(A, offsets, m, n, packed, halves, k, best, number, scores, numbers):
    """Score and number of the nearest center of m rows, lanes over centers."""
    pad_offsets(offsets, m)
    lanes = VECTOR_BYTES // A.itemsize
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
    """Score and number of the nearest center of m rows, and the score of the second nearest."""
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
def shift_block(X, n, start, m, shift, room):
    """Copy the m rows from ``start`` on, less ``shift``."""
    for i in range(m):
        room[0][i] = start + i
    shift_rows(X, n, room[0], m, shift, room[2], room[1])


@inner
def label_block(X, n, start, m, shift, shifted, packed, halves, k, labels, room):
    """Label the m rows from ``start`` on; return how many labels changed."""
    _, offsets, copy, T, best, number, scores, numbers = room
    A, a = X, start * n
    if shifted:
        shift_block(X, n, start, m, shift, room)
        A, a = copy, 0
    if uses_lanes(n):
        load = SAMPLE_VECTORS * (VECTOR_BYTES // X.itemsize)
        for s in range(0, m, load):
            turn_rows(A, a + s * n, min(load, m - s), n, T)
            nearest_lanes(T, packed, k, n, scores, scores, numbers, s)
    else:
        for i in range(m):
            offsets[i] = a + i * n
        nearest_by_tiles(A, offsets, m, n, packed, halves, k, best, number, scores, numbers)
    changed = 0
    labels = part(labels, start, m)
    for i in range(m):
        label = np.int32(numbers[i])
        changed += label != labels[i]
        labels[i] = label
    return changed

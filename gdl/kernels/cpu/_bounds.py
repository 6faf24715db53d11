"""Bounds of distances: which samples need not be compared, whatever rounding does (Hamerly 2010)."""

import math

import numpy as np

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._comparison import block_rows, nearest_two, room_for_block, shift_rows, uses_lanes
from gdl.kernels.cpu._nearest import squared_distance
from gdl.kernels.cpu._simd import sum_of_squares


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

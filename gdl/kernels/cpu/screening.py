"""Screening by rounded samples, on vectors and a team of threads: a task is a chunk of groups of samples."""

import math

import numpy as np

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._arrays import flat, writable
from gdl.kernels.cpu._codes import CODE_CANDIDATES, CODE_LANES, QUAD, ZERO_CODE, code_tile
from gdl.kernels.cpu._simd import part
from gdl.kernels.cpu._team import FIRST, announce, claim, close_phase, end_call, finish, open_phase, run
from gdl.kernels.cpu.clustering import chunk_start, n_chunks

# Groups of samples that are screened one after another.
BLOCK_GROUPS = 32
# Far above what squares lose to underflow.
TINY = 1e-30
# Squares of distances between codes are cut here, above those of 2**16 features, so that 32 bits hold their sums.
HUGE = 2.0**30
# What no product reaches, for lanes without a sample.
NEVER = 2**31 - 1


@njit
def _quantize_samples(me, call, team, X, n_samples, n, center, scale, codes, n_quads, norms, chunks, errors):
    announce(me, call, team)
    groups = (n_samples + CODE_LANES - 1) // CODE_LANES
    shared = open_phase(me, call, FIRST, chunks, 16 * n_samples * n)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        most = 0.0
        stop = min(n_samples, CODE_LANES * chunk_start(task + 1, chunks, groups))
        for i in range(CODE_LANES * chunk_start(task, chunks, groups), stop):
            sample = part(X, i * n, n)
            group, lane = i // CODE_LANES * n_quads, i % CODE_LANES
            squares, norm = 0.0, 0.0
            for j in range(n):
                difference = np.float64(sample[j]) - center[j]
                rounded = np.rint(difference / scale)
                squares += (difference - scale * rounded) ** 2
                norm += rounded * rounded
                codes[((group + j // QUAD) * CODE_LANES + lane) * QUAD + j % QUAD] = np.uint8(ZERO_CODE + rounded)
            norms[i] = np.int32(norm)
            most = max(most, squares)
        errors[task] = math.sqrt(most)
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    end_call(me, call, team)


def quantize_samples(X, center, scale, codes, norms, error):
    """Round samples to multiples of ``scale`` around a center; a task is a chunk of groups of samples."""
    n_samples, n = X.shape
    codes.fill(ZERO_CODE)
    chunks = n_chunks(n_samples, 1)
    errors = np.empty(chunks)
    arguments = flat(X), n_samples, n, writable(center), scale, flat(codes), codes.shape[1], norms, chunks, errors
    run(_quantize_samples, 16.0 * n_samples * n, *arguments, task_work=16.0 * n_samples * n / chunks)
    error[0] = errors.max()


@njit
def pack_candidates(codes, n_quads, norms, candidates, packed, starts):
    """Write candidates' codes quad by quad, in groups of CODE_CANDIDATES, and what their products start at.

    That is less their norms; and as a sample's codes are ZERO_CODE too large, so are its products with a candidate's.
    """
    for k in range(starts.size):
        row = candidates[min(k, candidates.size - 1)]
        group, lane = k // CODE_CANDIDATES * n_quads, k % CODE_CANDIDATES
        total = np.int64(0)
        for j in range(n_quads * QUAD):
            place = (row // CODE_LANES * n_quads + j // QUAD) * CODE_LANES + row % CODE_LANES
            code = np.int64(codes[place * QUAD + j % QUAD]) - ZERO_CODE
            packed[((group + j // QUAD) * CODE_CANDIDATES + lane) * QUAD + j % QUAD] = code
            total += code
        starts[k] = -norms[row] - 2 * ZERO_CODE * total


@inner
def least_products(norms, closest, start, m, reaches, least):
    """Smallest ``2 x.c - ||c||^2``, in codes, with which ``||x - c||^2 <= reach^2``, for m samples from ``start`` on.

    That is ``||x||^2 - reach^2``, where ``reach`` is what the distance to the closest seed is at most in codes.
    """
    norms, closest = part(norms, start, m), part(closest, start, m)
    relative, absolute, tiny, huge = reaches[0], reaches[1], reaches[2], reaches[3]
    for i in range(m):
        reach = math.sqrt(closest[i] + tiny) * relative + absolute
        least[i] = norms[i] - np.int32(min(reach * reach, huge))


@njit
def _screen_samples(
    me, call, team, codes, n_samples, n_quads, norms, reaches, closest, candidates, starts, chunks, may_improve,
):  # fmt: skip
    announce(me, call, team)
    size = n_quads * QUAD * CODE_LANES
    groups = (n_samples + CODE_LANES - 1) // CODE_LANES
    least = np.zeros(BLOCK_GROUPS * CODE_LANES, np.int32)
    shared = open_phase(me, call, FIRST, chunks, n_samples * n_quads * starts.size)
    task = claim(me, call, FIRST, chunks, shared)
    while task >= 0:
        stop = chunk_start(task + 1, chunks, groups)
        for first in range(chunk_start(task, chunks, groups), stop, BLOCK_GROUPS):
            start = first * CODE_LANES
            m = min(BLOCK_GROUPS * CODE_LANES, min(n_samples, stop * CODE_LANES) - start)
            least_products(norms, closest, start, m, reaches, least)
            for i in range(m, (m + CODE_LANES - 1) // CODE_LANES * CODE_LANES):
                least[i] = NEVER
            for i in range(0, m, CODE_LANES):
                bits = 0
                for k in range(0, starts.size, CODE_CANDIDATES):
                    at, c = (first + i // CODE_LANES) * size, k * n_quads * QUAD
                    bits |= code_tile(codes, at, n_quads, candidates, c, starts, k, least, i)
                may_improve[first + i // CODE_LANES] = bits
        finish(call, shared)
        task = claim(me, call, FIRST, chunks, shared)
    close_phase(me, call, chunks, shared)
    end_call(me, call, team)


def screen_samples(codes, norms, scale, error, closest, candidates, may_improve):
    """Whether a candidate may be closer to a sample than its closest seed is; a task is a chunk of groups of samples.

    The last tile is filled up with the last candidate.
    """
    n_quads, n_samples, k = codes.shape[1], len(closest), -(-len(candidates) // CODE_CANDIDATES) * CODE_CANDIDATES
    packed, starts = np.empty(k * n_quads * QUAD, np.int8), np.empty(k, np.int32)
    pack_candidates(flat(codes), n_quads, writable(norms), writable(candidates), packed, starts)
    # What rounding may do to a sum of squares and, in the same type, to the reach and its square.
    limits = np.finfo(closest.dtype)
    epsilon = float(limits.eps)
    relative = min((1 + (n_quads * QUAD + 12) * epsilon) / scale, float(limits.max))  # more makes no difference
    reaches = np.array([relative, (1 + 8 * epsilon) * 2 * error / scale, TINY, HUGE], closest.dtype)
    chunks = n_chunks(n_samples, 1)
    arguments = (
        flat(codes), n_samples, n_quads, writable(norms), reaches, writable(closest), packed, starts, chunks,
        may_improve,
    )  # fmt: skip
    work = 2.0 * n_samples * n_quads * k
    run(_screen_samples, work, *arguments, task_work=work / chunks)

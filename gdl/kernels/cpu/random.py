"""Random numbers by position, so that neither threads nor the order of work can change them."""

import numpy as np
from numba import config

from gdl.kernels._jit import inner, njit
from gdl.kernels.cpu._simd import part

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


@inner
def mix(z):
    """The finalizer of SplitMix64."""
    z = (z ^ (z >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return z ^ (z >> np.uint64(31))


@inner
def stream_start(seed, stream):
    """Where the stream of a seed begins."""
    return mix(np.uint64(seed) + np.uint64(stream) * GOLDEN)


@inner
def mask_range(start, index, rate, mask, at, n):
    """Part of a dropout mask: n elements, from element ``index`` of the stream on."""
    mask = part(mask, at, n)
    kept = mask.dtype.type(1 / (1 - rate))
    zero = mask.dtype.type(0)
    for i in range(n):
        z = mix(start + np.uint64(index + i + 1) * GOLDEN)
        mask[i] = kept if np.float64(np.int64(z >> np.uint64(11))) * 2.0**-53 >= rate else zero


if config.DISABLE_JIT:  # NumPy's scalars warn where the products wrap around, as they should
    stream_start = np.errstate(over="ignore")(stream_start)
    mask_range = np.errstate(over="ignore")(mask_range)


@njit
def dropout_mask(seed, stream, rate, mask):
    """Inverted dropout; elements are independent."""
    mask_range(stream_start(seed, stream), 0, rate, mask.ravel(), 0, mask.size)

"""Random numbers by position: a counter in, a number out, so that no order of work can change them."""

import numpy as np


def _mix(z):
    """The finalizer of SplitMix64 (Steele, Lea & Flood 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def dropout_mask(seed, stream, rate, mask):
    """Inverted dropout: 0 with probability ``rate``, else ``1 / (1 - rate)`` (Srivastava et al. 2014).

    Element i is kept if the i-th number of a SplitMix64 stream is at least ``rate``; the stream starts
    from ``seed`` mixed with ``stream``.

    Parameters
    ----------
    seed : int
    stream : int
    rate : float
    mask : float array of shape (n_samples, n_out)
    """
    with np.errstate(over="ignore"):
        golden = np.uint64(0x9E3779B97F4A7C15)
        start = _mix(np.uint64(seed) + np.uint64(stream) * golden)
        index = np.arange(1, mask.size + 1, dtype=np.uint64)
        uniform = (_mix(start + index * golden) >> np.uint64(11)) * 2.0**-53
    mask[:] = np.where(uniform >= rate, 1 / (1 - rate), 0).reshape(mask.shape)

"""Dropout masks: the published stream, the naive one bit for bit, and the probability."""

import itertools
import math

import naive
import numba
import numpy as np
import pytest

N_NUMBERS = 2_000 if numba.config.DISABLE_JIT else 100_000


def mask_of(kernels, seed, stream, rate, shape, dtype="float64"):
    mask = np.full(shape, np.nan, dtype)
    kernels.dropout_mask(seed, stream, rate, mask)
    return mask


def test_naive_stream_is_the_published_one():
    """The first numbers of SplitMix64 from 1234567, as on rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64."""
    numbers = list(itertools.islice(naive.splitmix64(1234567), 5))
    assert numbers == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("seed", [0, 1, 1234567, 2**63 - 1])
@pytest.mark.parametrize("stream", [0, 1, 7, 10**12])
def test_mask_against_naive(kernels, seed, stream, dtype):
    for rate, shape in ((0.25, (1, 1)), (0.5, (3, 7)), (0.9, (5, 33))):
        expected = np.array(naive.dropout_mask(seed, stream, rate, shape[0] * shape[1])).reshape(shape)
        np.testing.assert_array_equal(mask_of(kernels, seed, stream, rate, shape, dtype), expected.astype(dtype))


def test_position_alone_decides(kernels):
    """A longer mask begins as the shorter one, whatever its width."""
    long = mask_of(kernels, 3, 5, 0.4, (20, 10)).ravel()
    np.testing.assert_array_equal(mask_of(kernels, 3, 5, 0.4, (9, 7)).ravel(), long[:63])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_keep_probability_and_scale(kernels, rate, dtype):
    """Within four standard deviations; what is kept is scaled so that the mean stays 1."""
    mask = mask_of(kernels, 42, 0, rate, (N_NUMBERS // 10, 10), dtype)
    assert set(np.unique(mask)) == {0, np.dtype(dtype).type(1 / (1 - rate))}
    deviation = math.sqrt(rate * (1 - rate) / N_NUMBERS)
    assert abs((mask > 0).mean() - (1 - rate)) < 4 * deviation
    assert abs(mask.mean() - 1) < 4 * deviation / (1 - rate)


def test_rate_zero_keeps_all(kernels, dtype):
    assert (mask_of(kernels, 42, 0, 0.0, (30, 10), dtype) == 1).all()


def test_seeds_and_streams_are_unrelated(kernels):
    """Half of the elements of two masks agree, within four standard deviations."""
    masks = [mask_of(kernels, seed, stream, 0.5, (N_NUMBERS // 10, 10)) for seed in (1, 2) for stream in (0, 1)]
    for one, other in itertools.combinations(masks, 2):
        assert abs((one == other).mean() - 0.5) < 4 * 0.5 / math.sqrt(N_NUMBERS)

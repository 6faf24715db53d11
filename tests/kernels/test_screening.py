"""Screening kernels: against naive loops, and against every sample that a candidate does improve."""

import math

import naive
import numba
import numpy as np
import pytest

from gdl.kernels._jit import njit
from gdl.kernels.cpu import _codes
from gdl.seeding import Screen

SHAPES = [(1, 1), (7, 3), (8, 8), (9, 7), (37, 33), (300, 20), (70, 130)]
N_MANY = 400 if numba.config.DISABLE_JIT else 3001  # samples of several chunks
SETTINGS = [(0, 1), (1e3, 1), (1e6, 1), (0, 1e-6), (0, 1e6)]


def quantized(kernels, X):
    """Codes, norms, scale and error, as seeding keeps them."""
    screen = Screen(kernels, X, len(X))
    assert screen.quantize()
    return screen.codes, screen.norms, screen.scale, screen.error


def screened(kernels, found, closest, candidates):
    flags = np.full(len(found[0]), 9, np.uint8)
    kernels.screen_samples(*found, closest, np.array(candidates), flags)
    bits = np.unpackbits(flags, bitorder="little") == 1
    assert not bits[len(closest) :].any()
    return bits[: len(closest)]


class TestQuantizeSamples:
    @pytest.mark.parametrize(("n_samples", "n_features"), SHAPES)
    def test_against_naive(self, kernels, dtype, rng, n_samples, n_features):
        X = rng.uniform(-3, 5, (n_samples, n_features)).astype(dtype)
        center, scale = [1.0 + 0.01 * j for j in range(n_features)], 0.11
        codes = np.full((-(-n_samples // 8), -(-n_features // 8) * 2, 8, 4), 255, np.uint8)
        norms, error = np.full(n_samples, -1, np.int32), np.full(1, np.nan)
        kernels.quantize_samples(X, np.array(center), scale, codes, norms, error)
        rest, errors = np.full(codes.shape, 63), []
        for i, row in enumerate(X.tolist()):
            whole = [round((x - c) / scale) for x, c in zip(row, center, strict=True)]
            for j, number in enumerate(whole):
                rest[i // 8, j // 4, i % 8, j % 4] = 63 + number
            assert norms[i] == sum(number**2 for number in whole)
            values = [c + scale * number for c, number in zip(center, whole, strict=True)]
            errors.append(math.sqrt(naive.squared_distance(row, values)))
        np.testing.assert_array_equal(codes, rest)
        np.testing.assert_allclose(error[0], max(errors), rtol=1e-9)

    @pytest.mark.parametrize(("offset", "scale"), SETTINGS)
    def test_ends_of_the_range_are_the_ends_of_the_codes(self, kernels, dtype, rng, offset, scale):
        X = (offset + scale * rng.uniform(-1, 1, (50, 9))).astype(dtype)
        codes, _, step, error = quantized(kernels, X)
        used = codes.swapaxes(1, 2).reshape(8 * len(codes), -1)[:50, :9]
        assert used.min() == 0
        assert used.max() == 126
        assert error <= step / 2 * 3 * (1 + 1e-6) + 1e-9 * abs(offset)


class TestScreenSamples:
    @pytest.mark.parametrize(("n_samples", "n_features"), SHAPES[1:])
    @pytest.mark.parametrize("n_candidates", [1, 8, 13])
    def test_against_naive(self, kernels, dtype, rng, n_samples, n_features, n_candidates):
        """Where rounding does not decide: what codes say of the distance, less both errors."""
        X = rng.standard_normal((n_samples, n_features)).astype(dtype)
        found = quantized(kernels, X)
        codes, _, scale, error = found
        rows = (codes.swapaxes(1, 2).reshape(8 * len(codes), -1)[:n_samples].astype(int) - 63).tolist()
        closest = (rng.uniform(0.2, 1.5, n_samples) * n_features).astype(dtype)
        candidates = rng.integers(n_samples, size=n_candidates)
        flags = screened(kernels, found, closest, candidates)
        for i in range(n_samples):
            least = min(math.sqrt(naive.squared_distance(rows[i], rows[c])) for c in candidates)
            bound, radius = scale * least - 2 * error, math.sqrt(closest[i])
            if abs(bound - radius) > 1e-3 * radius + scale * 1e-3:
                assert flags[i] == (bound < radius)

    @pytest.mark.parametrize(("offset", "scale"), SETTINGS)
    @pytest.mark.parametrize("n_features", [5, 32, 130])
    def test_no_sample_that_is_improved_is_left_out(self, kernels, dtype, rng, offset, scale, n_features):
        """By the distances that decide, as the kernels of seeding compute them."""
        X = (offset + scale * rng.standard_normal((N_MANY, n_features))).astype(dtype)
        found, owners, block_sums = quantized(kernels, X), np.zeros(N_MANY, np.int32), np.empty(-(-N_MANY // 256))
        closest = np.full(N_MANY, np.inf, dtype)
        kernels.add_seed(X, X[:0, 0], X[3], np.ones(N_MANY, np.uint16), 0, 0, closest, owners, block_sums)
        for number in range(1, 40, 8):
            candidates = rng.integers(N_MANY, size=8)
            improves, potentials = np.empty(N_MANY, np.uint16), np.empty(8)
            known = X[:0, 0], X[candidates], closest, owners, np.full(1 + number, -1, dtype)
            kernels.candidate_potentials(X, *known, np.empty(0, np.uint8), block_sums.sum(), potentials, improves)
            flags = screened(kernels, found, closest, candidates)
            assert (improves > 0).any()
            assert flags[improves > 0].all()
            expected, expected_improves = potentials.copy(), improves.copy()
            screen = np.packbits(flags, bitorder="little")
            kernels.candidate_potentials(X, *known, screen, block_sums.sum(), potentials, improves)
            np.testing.assert_array_equal(improves, expected_improves)
            np.testing.assert_allclose(potentials, expected, rtol=1e-5 if dtype == "float32" else 1e-12)
            kernels.add_seed(X, X[:0, 0], X[candidates[0]], improves, 0, number, closest, owners, block_sums)

    @pytest.mark.parametrize("units", [1, 2, 3, 7, 31, 126, 127])
    def test_units_in_the_last_place(self, kernels, dtype, rng, units):
        """Which have no middle that their type can hold, so that one end is further from it than the other."""
        unit = np.spacing(np.array(1e6, dtype))
        X = (1e6 + unit * rng.integers(0, units + 1, (300, 40))).astype(dtype)
        X[0], X[1] = 1e6, 1e6 + units * unit
        found = quantized(kernels, X)
        used = found[0].swapaxes(1, 2).reshape(8 * len(found[0]), -1)[:300, :40]
        assert used.min() >= 0
        assert used.max() <= 126
        candidates = rng.integers(300, size=8)
        distances = ((X[:, None] - X[candidates]) ** 2).sum(axis=2, dtype=np.float64)
        closest = np.sort(((X[:, None] - X[:30]) ** 2).sum(axis=2), axis=1)[:, 3]
        flags = screened(kernels, found, closest, candidates)
        assert flags[(distances < closest[:, None]).any(axis=1)].all()

    def test_rounding_of_distances_is_allowed_for(self, fast_kernels, dtype, rng):
        """A long sum of squares may be rounded down so far that it is smaller than it should be, as ``closest`` is."""
        X = rng.integers(0, 127, (200, 4000)).astype(dtype)
        X[0], X[1] = 0, 126  # each sample is its own code
        found, all_rows = quantized(fast_kernels, X), np.ones(200, np.uint16)
        for candidate in range(5, 7 if numba.config.DISABLE_JIT else 25):
            closest, owners, sums = np.full(200, np.inf, dtype), np.zeros(200, np.int32), np.empty(1)
            fast_kernels.add_seed(X, X[:0, 0], X[candidate], all_rows, 0, 0, closest, owners, sums)
            closest = np.nextafter(closest, np.array(np.inf, dtype))  # a little further than the candidate
            assert screened(fast_kernels, found, closest, [candidate]).all()

    @pytest.mark.compiled
    def test_hosts_without_the_instruction(self, rng, monkeypatch):
        """Products of bytes are then written down, and come out the same."""
        monkeypatch.setattr(_codes, "_AVX2", False)
        tile = _codes._code_tile

        @njit(cache=False)
        def call(codes, candidates, starts, least):
            return tile(codes, 0, 6, candidates, 0, starts, 0, least, 0)

        for _ in range(20):
            codes, candidates = rng.integers(0, 127, 6 * 32, np.uint8), rng.integers(-63, 64, 6 * 32, np.int8)
            starts, least = rng.integers(-9000, 9000, 8, np.int32), rng.integers(0, 60_000, 8, np.int32)
            arguments = codes, candidates, starts, least
            assert call(*arguments) == _codes._plain_code_tile(codes, 0, 6, candidates, 0, *arguments[2:3], 0, least, 0)

    def test_codes_at_their_ends(self, kernels, dtype):
        """Corners of a cube: products of 8 bits are at their largest, 4,000 features long."""
        X = np.ones((9, 4000), dtype)
        X[1::2] = -1
        X[8, ::2] = -1
        found = quantized(kernels, X)
        closest = np.full(9, 3900, dtype)  # opposite corners are 16,000 apart, squared, and half-way ones 8,000
        assert screened(kernels, found, closest, [0]).tolist() == [True, False] * 4 + [False]
        assert screened(kernels, found, closest, [1]).tolist() == [False, True] * 4 + [False]
        assert screened(kernels, found, closest, [8]).tolist() == [False] * 8 + [True]
        assert screened(kernels, found, np.full(9, 8100, dtype), [8]).all()

    def test_what_is_endlessly_far_may_be_improved(self, kernels, dtype, rng):
        X = rng.standard_normal((20, 3)).astype(dtype)
        assert screened(kernels, quantized(kernels, X), np.full(20, np.inf, dtype), [4]).all()

    def test_by_hand(self, kernels, dtype):
        """Samples 0, 2, 3 and 126 are their own codes; candidate 3 improves what is further than itself."""
        X = np.array([[0], [2], [3], [126]], dtype)
        found = quantized(kernels, X)
        assert found[3] < 1e-9
        closest = np.array([8.9, 1.1, 0.1, 123**2 - 10], dtype)
        assert screened(kernels, found, closest, [2]).tolist() == [False, True, True, False]

"""Greedy k-means++ kernels: against naive loops, with samples left out or not, and at the ends of sums."""

import itertools

import naive
import numba
import numpy as np
import pytest

NO_SCREEN = np.empty(0, np.uint8)
BLOCK = 256  # samples whose potentials are kept as one sum
SHAPES = [(1, 1, 1), (37, 1, 3), (50, 3, 16), (41, 8, 5), (33, 9, 7), (29, 17, 16), (23, 70, 2), (300, 2, 4)]
shapes = pytest.mark.parametrize(("n_samples", "n_features", "n_candidates"), SHAPES)
weighted = pytest.mark.parametrize("weighted", [False, True])
N_MANY = 600 if numba.config.DISABLE_JIT else 20_000


def make_data(rng, dtype, n_samples, n_features, offset=0.0):
    return (offset + rng.standard_normal((n_samples, n_features))).astype(dtype)


def make_weights(rng, dtype, n_samples, weighted=True):
    """Weights as kernels take them, some of them zero, and as the naive loops do."""
    if not weighted:
        return np.empty(0, dtype), [1.0] * n_samples
    weights = np.where(rng.random(n_samples) < 0.2, 0, rng.uniform(0.1, 3, n_samples)).astype(dtype)
    return weights, weights.tolist()


def blocks(n_samples):
    return [slice(start, min(n_samples, start + BLOCK)) for start in range(0, n_samples, BLOCK)]


class Seeding:
    """A seeding under way: what is known of each sample's closest seed."""

    def __init__(self, kernels, X, weights, rows):
        self.kernels, self.X, self.weights, self.seeds = kernels, X, weights, X[:0]
        self.closest, self.owners = np.full(len(X), np.inf, X.dtype), np.full(len(X), -1, np.int32)
        self.block_sums = np.full(len(blocks(len(X))), np.nan)
        for row in rows:
            self.add(X[row], np.ones(len(X), np.uint16), 0)

    def add(self, seed, improves, bit):
        """Make a point a seed; where the first seeds claim to improve all, keep what was better before."""
        old_closest, old_owners = self.closest.copy(), self.owners.copy()
        arguments = self.X, self.weights, seed, improves, bit, len(self.seeds)
        self.kernels.add_seed(*arguments, self.closest, self.owners, self.block_sums)
        better = old_closest <= self.closest
        self.closest[better], self.owners[better] = old_closest[better], old_owners[better]
        self.seeds = np.concatenate([self.seeds, seed[None]])

    def judge(self, candidates, limits=None, may_improve=NO_SCREEN):
        """Potentials and improvements of candidates, with the true limits unless others are given."""
        if limits is None:
            limits = np.full(len(self.seeds), np.nan, self.X.dtype)
            self.kernels.seed_limits(self.seeds, candidates, limits)
        potentials, improves = np.full(len(candidates), np.nan), np.full(len(self.X), 2**16 - 1, np.uint16)
        arguments = self.X, self.weights, candidates, self.closest, self.owners, limits, may_improve
        weights = self.weights.astype(np.float64) if self.weights.size else np.ones(len(self.X))
        self.kernels.candidate_potentials(*arguments, float(weights @ self.closest), potentials, improves)
        return potentials, improves

    def judge_all(self, candidates):
        """``judge`` with limits that leave no sample out."""
        return self.judge(candidates, np.full(len(self.seeds), -1, self.X.dtype))


class TestCandidatePotentials:
    @shapes
    @pytest.mark.parametrize(("weighted", "offset"), [(False, 0.0), (True, 100.0)])
    def test_against_naive(self, kernels, dtype, rtol, rng, n_samples, n_features, n_candidates, weighted, offset):
        X = make_data(rng, dtype, n_samples, n_features, offset)
        weights, plain_weights = make_weights(rng, dtype, n_samples, weighted)
        seeding = Seeding(kernels, X, weights, [0, n_samples // 2])
        candidates = X[rng.integers(n_samples, size=n_candidates)]
        rows, closest = X.tolist(), seeding.closest.tolist()
        expected = [naive.potential(rows, plain_weights, closest, c) for c in candidates.tolist()]
        for judge in (seeding.judge, seeding.judge_all):
            potentials, improves = judge(candidates)
            np.testing.assert_allclose(potentials, expected, rtol=rtol, atol=rtol * n_samples)
            for k, i in itertools.product(range(n_candidates), range(n_samples)):
                distance = naive.squared_distance(rows[i], candidates[k].tolist())
                if abs(distance - closest[i]) > rtol * (distance + closest[i]):
                    assert improves[i] >> k & 1 == (distance < closest[i])

    @pytest.mark.parametrize("n_features", [1, 2, 8, 9, 40])
    @pytest.mark.parametrize("n_candidates", [3, 16])
    def test_leaving_samples_out_changes_nothing(self, kernels, dtype, rtol, rng, n_features, n_candidates):
        """In clusters that limits set apart; no bit is lost, and potentials differ by the order of additions."""
        X = make_data(rng, dtype, N_MANY, n_features) + (8 * rng.integers(0, 6, (N_MANY, 1))).astype(dtype)
        weights, _ = make_weights(rng, dtype, N_MANY)
        seeding = Seeding(kernels, X, weights, rng.integers(N_MANY, size=12))
        for _ in range(3):
            candidates = X[rng.integers(N_MANY, size=n_candidates)]
            potentials, improves = seeding.judge(candidates)
            all_potentials, all_improves = seeding.judge_all(candidates)
            np.testing.assert_array_equal(improves, all_improves)
            np.testing.assert_allclose(potentials, all_potentials, rtol=rtol)
            seeding.add(candidates[0], improves, 0)

    @pytest.mark.parametrize("n_features", [3, 20])
    def test_what_memory_held_before_does_not_matter(self, kernels, dtype, rng, n_features):
        """Rows fill no whole vector, and what fills it up is not NaN by chance."""
        X = make_data(rng, dtype, 37, n_features)
        seeding = Seeding(kernels, X, make_weights(rng, dtype, 37)[0], [0])
        expected, _ = seeding.judge_all(X[5:8])
        for size in 2 * [2**k for k in range(4, 12)]:
            filled = [np.full(size, np.nan) for _ in range(20)]
            del filled
            np.testing.assert_array_equal(seeding.judge_all(X[5:8])[0], expected)
        assert np.isfinite(expected).all()

    @pytest.mark.parametrize("n_features", [1, 3, 20])
    def test_without_owners_no_limit_counts(self, kernels, dtype, rng, n_features):
        X = make_data(rng, dtype, 300, n_features)
        seeding = Seeding(kernels, X, make_weights(rng, dtype, 300)[0], [0, 7])
        expected = seeding.judge_all(X[4:9])
        seeding.owners = seeding.owners[:0]
        for values, others in zip(seeding.judge(X[4:9], np.full(2, np.inf, dtype)), expected, strict=True):
            np.testing.assert_array_equal(values, others)

    def test_limits_are_made_use_of(self, kernels, dtype, rng):
        """Limits that set all samples apart leave all of them out, but for narrow rows, which cost less than that."""
        X = make_data(rng, dtype, 300, 20)
        seeding = Seeding(kernels, X, X[:0, 0], [0])
        potentials, improves = seeding.judge(X[7:9], np.full(1, np.inf, dtype))
        np.testing.assert_allclose(potentials, seeding.closest.sum(dtype=np.float64), rtol=1e-12)
        assert not improves.any()

    @weighted
    def test_samples_that_did_not_pass_the_screen_are_left_out(self, kernels, dtype, rng, weighted):
        """They add what they are from their own seeds; others are judged as without a screen."""
        X = make_data(rng, dtype, 600, 20)
        weights, _ = make_weights(rng, dtype, 600, weighted)
        seeding = Seeding(kernels, X, weights, [0])
        may_improve = rng.random(600) < 0.1
        potentials, improves = seeding.judge_all(X[7:9])
        left, left_improves = seeding.judge(X[7:9], np.full(1, -1, dtype), np.packbits(may_improve, bitorder="little"))
        np.testing.assert_array_equal(left_improves, np.where(may_improve, improves, 0))
        masses = seeding.closest.astype(np.float64) * (weights.astype(np.float64) if weighted else 1.0)
        for k in range(2):
            distances = ((X.astype(np.float64) - X[7 + k]) ** 2).sum(axis=1)
            better = may_improve & (left_improves >> k & 1 == 1)
            scale = masses / np.where(seeding.closest > 0, seeding.closest, 1)
            np.testing.assert_allclose(left[k], np.where(better, scale * distances, masses).sum(), rtol=1e-5)
        assert (left > potentials).all()

    def test_copies_of_a_seed_improve_nothing_and_are_at_distance_zero(self, kernels, dtype, rng):
        X = make_data(rng, dtype, 20, 5, 1e4)
        seeding = Seeding(kernels, X, X[:0, 0], [3, 4])
        _, improves = seeding.judge_all(X[[3, 4, 3]])
        assert not improves.any()
        potentials, improves = seeding.judge_all(X[[9]])
        assert improves[9] == 1
        seeding.add(X[9], improves, 0)
        assert [seeding.closest[i] for i in (3, 4, 9)] == [0, 0, 0]
        np.testing.assert_allclose(potentials[0], seeding.block_sums.sum(), rtol=1e-12)

    def test_by_hand(self, kernels, dtype):
        """Seed 0 and samples 0, 2, 3, 10 with weights 1, 2, 1, 3; candidates 3 and 10.

        Candidate 3 leaves 0 + 2 * 1 + 0 + 3 * 49 = 149, candidate 10 leaves 0 + 2 * 4 + 9 + 0 = 17.
        """
        X = np.array([[0], [2], [3], [10]], dtype)
        seeding = Seeding(kernels, X, np.array([1, 2, 1, 3], dtype), [0])
        assert seeding.closest.tolist() == [0, 4, 9, 100]
        assert seeding.block_sums.tolist() == [317]
        for judge in (seeding.judge, seeding.judge_all):
            potentials, improves = judge(X[2:])
            assert potentials.tolist() == [149, 17]
            assert improves.tolist() == [0, 0b01, 0b01, 0b11]


class TestAddSeed:
    @pytest.mark.parametrize(("n_samples", "n_features"), [(1, 1), (255, 3), (256, 8), (257, 9), (600, 20)])
    @weighted
    def test_against_naive(self, kernels, dtype, rtol, rng, n_samples, n_features, weighted):
        X = make_data(rng, dtype, n_samples, n_features)
        weights, plain_weights = make_weights(rng, dtype, n_samples, weighted)
        improves = rng.integers(2**16, size=n_samples, dtype=np.uint16)
        before = rng.uniform(0.1, 2, n_samples).astype(dtype)
        for bit in (0, 3, 15):
            closest, owners = before.copy(), np.full(n_samples, 4, np.int32)
            block_sums = np.full(len(blocks(n_samples)), np.nan)
            kernels.add_seed(X, weights, X[0], improves, bit, 9, closest, owners, block_sums)
            improved = [bool(bits >> bit & 1) for bits in improves.tolist()]
            assert owners.tolist() == [9 if yes else 4 for yes in improved]
            seed = X[0].tolist()
            expected = [
                naive.squared_distance(x, seed) if yes else old
                for x, yes, old in zip(X.tolist(), improved, before.tolist(), strict=True)
            ]
            np.testing.assert_allclose(closest, expected, rtol=rtol)
            unowned = before.copy()
            kernels.add_seed(X, weights, X[0], improves, bit, 9, unowned, owners[:0], block_sums)
            np.testing.assert_array_equal(unowned, closest)
            masses = np.array(plain_weights) * closest.astype(np.float64)
            np.testing.assert_allclose(block_sums, [masses[rows].sum() for rows in blocks(n_samples)], rtol=1e-12)

    @pytest.mark.parametrize(
        ("n_samples", "n_features"),
        [(70, 1), (515, 2), (300, 3), (257, 5), (96, 7), (5, 8), (256, 9), (270, 16), (515, 33), (300, 130)],
    )
    @pytest.mark.parametrize(("offset", "scale"), [(0, 1), (1e3, 1), (1e6, 1), (0, 1e-6), (0, 1e6)])
    def test_a_distance_is_the_same_wherever_its_row_stands(
        self, fast_kernels, dtype, rng, n_samples, n_features, offset, scale
    ):
        """Bit for bit, among neighbors or among few rows that lie apart, first or last of a tile."""
        X = (offset + scale * rng.standard_normal((n_samples, n_features))).astype(dtype)
        X[n_samples // 2] = X[1]

        def distances(improves):
            closest, owners = np.full(n_samples, np.inf, dtype), np.zeros(n_samples, np.int32)
            block_sums = np.empty(len(blocks(n_samples)))
            fast_kernels.add_seed(X, X[:0, 0], X[1], improves, 0, 0, closest, owners, block_sums)
            return closest

        together = distances(np.ones(n_samples, np.uint16))
        assert np.isfinite(together).all()
        assert together[1] == together[n_samples // 2] == 0
        for share in (0.02, 0.3, 0.9):
            improves = (rng.random(n_samples) < share).astype(np.uint16)
            expected = np.where(improves == 1, together, np.inf)
            np.testing.assert_array_equal(distances(improves), expected)

    def test_the_potential_is_the_one_that_was_promised(self, fast_kernels, dtype, rng):
        X = make_data(rng, dtype, N_MANY, 6)
        seeding = Seeding(fast_kernels, X, make_weights(rng, dtype, N_MANY)[0], [0])
        for _ in range(10):
            candidates = X[rng.integers(N_MANY, size=5)]
            potentials, improves = seeding.judge(candidates)
            best = int(potentials.argmin())
            seeding.add(candidates[best], improves, best)
            np.testing.assert_allclose(seeding.block_sums.sum(), potentials[best], rtol=1e-12)


def drawn(kernels, weights, closest, targets, block_sums=None):
    if block_sums is None:
        masses = closest.astype(np.float64) * (weights.astype(np.float64) if weights.size else 1)
        block_sums = np.array([masses[rows].sum() for rows in blocks(len(closest))])
    rows = np.full(len(targets), -9, np.int64)
    kernels.draw_samples(weights, closest, block_sums, np.array(targets, np.float64), rows)
    return rows.tolist()


class TestDrawSamples:
    @pytest.mark.parametrize("n_samples", [1, 2, 255, 256, 257, 700])
    @weighted
    def test_against_naive(self, kernels, dtype, rng, n_samples, weighted):
        """Between the running sums, where no rounding can decide."""
        weights, plain_weights = make_weights(rng, dtype, n_samples, weighted)
        closest = np.where(rng.random(n_samples) < 0.2, 0, rng.uniform(0.1, 2, n_samples)).astype(dtype)
        closest[-1] = 1
        if weighted:
            weights[-1] = plain_weights[-1] = 1
        masses = [w * c for w, c in zip(plain_weights, closest.tolist(), strict=True)]
        ends = np.cumsum([mass for mass in masses if mass > 0])
        starts = np.append(0, ends[:-1])
        chosen = rng.permutation(len(ends))[:20]
        targets = (starts + rng.uniform(0.1, 0.9, len(ends)) * (ends - starts))[chosen].tolist()
        assert drawn(kernels, weights, closest, targets) == [naive.draw(masses, target) for target in targets]

    def test_ends_of_the_running_sum(self, kernels, dtype):
        """Sums 1, 3, 6, 10 of whole numbers: a sum that is the target is reached."""
        closest = np.array([1, 2, 3, 4], dtype)
        targets = [0, 0.5, 1, 1.5, 3, 3.5, 6, 9, 10]
        assert drawn(kernels, closest[:0], closest, targets) == [0, 0, 0, 1, 1, 2, 2, 3, 3]

    def test_samples_that_add_nothing_are_not_drawn(self, kernels, dtype):
        """Not at the ends, where scikit-learn's search can find them, and not where rounding leaves a sum short."""
        weights, closest = np.array([0, 1, 1, 1, 0, 1, 0], dtype), np.array([5, 0, 2, 0, 7, 3, 9], dtype)
        assert drawn(kernels, weights, closest, [0, 1, 2, 2.5, 5, 5.0001, 100]) == [2, 2, 2, 5, 5, 5, 5]

    def test_blocks_that_add_nothing(self, kernels, dtype):
        closest = np.zeros(5 * BLOCK, dtype)
        closest[BLOCK + 7], closest[3 * BLOCK + 9] = 2, 3
        targets = [0, 2, 2.1, 5, 6]
        assert drawn(kernels, closest[:0], closest, targets) == [BLOCK + 7] * 2 + [3 * BLOCK + 9] * 3

    def test_sums_of_blocks_may_be_rounded_otherwise(self, kernels, dtype):
        """A block's own running sum may stay below its stored sum: the last sample of it is drawn."""
        closest = np.ones(2 * BLOCK, dtype)
        sums = np.array([BLOCK + 1e-9, BLOCK + 1e-9])
        targets = [BLOCK + 5e-10, 2 * BLOCK + 2e-9, 3 * BLOCK]
        assert drawn(kernels, closest[:0], closest, targets, sums) == [BLOCK - 1, 2 * BLOCK - 1, 2 * BLOCK - 1]

    def test_no_sample_adds_anything(self, kernels, dtype):
        nothing = np.zeros(300, dtype)
        weights = np.zeros(300, dtype)
        weights[[270, 280]] = 1
        assert drawn(kernels, nothing[:0], nothing, [0.0, 0.0]) == [0, 0]
        assert drawn(kernels, weights, nothing, [0.0]) == [270]

    def test_no_target(self, kernels, dtype):
        assert drawn(kernels, np.empty(0, dtype), np.ones(3, dtype), []) == []


class TestSeedLimits:
    @pytest.mark.parametrize(("n_seeds", "n_features", "n_candidates"), [(1, 1, 1), (5, 3, 4), (9, 8, 16), (3, 70, 2)])
    def test_against_naive(self, kernels, dtype, rtol, rng, n_seeds, n_features, n_candidates):
        seeds, candidates = make_data(rng, dtype, n_seeds, n_features), make_data(rng, dtype, n_candidates, n_features)
        limits = np.full(n_seeds, np.nan, dtype)
        kernels.seed_limits(seeds, candidates, limits)
        rows = candidates.tolist()
        expected = [min(naive.squared_distance(s, c) for c in rows) / 4 for s in seeds.tolist()]
        np.testing.assert_allclose(limits, expected, rtol=20 * rtol)
        assert (limits <= np.array(expected) * (1 + 4 * np.finfo(dtype).eps)).all()

    def test_a_copy_is_at_distance_zero(self, kernels, dtype, rng):
        points, limits = make_data(rng, dtype, 3, 9, 1e3), np.full(3, np.nan, dtype)
        kernels.seed_limits(points, points[[0, 2]], limits)
        assert [limits[0], limits[2]] == [0, 0]
        assert limits[1] > 0

    @pytest.mark.parametrize("n_features", [3, 9, 70])
    @pytest.mark.parametrize("n_candidates", [1, 7, 16])
    @pytest.mark.parametrize(
        ("offset", "scale"), [(0, 1), (1e3, 1), (1e6, 1), (0, 1e-6), (0, 1e6), (0, 1e-21), (0, 1e18)]
    )
    def test_the_closest_of_nearly_equal_candidates(
        self, fast_kernels, dtype, rng, n_features, n_candidates, offset, scale
    ):
        """The limit is that of exact sums, though the data's type cannot tell the candidates' distances apart."""
        seeds = (offset + scale * rng.standard_normal((300, n_features))).astype(dtype)
        candidates = np.repeat(seeds[:1] + seeds[1:2] - seeds[2:3], n_candidates, axis=0)
        candidates *= (1 + 2 * np.finfo(dtype).eps * rng.integers(-2, 3, candidates.shape)).astype(dtype)
        limits = np.full(len(seeds), np.nan, dtype)
        with np.errstate(over="ignore"):  # where it is NumPy that computes
            fast_kernels.seed_limits(seeds, candidates, limits)
        rows, eps = candidates.tolist(), np.finfo(dtype).eps
        exact = np.array([min(naive.squared_distance(s, c) for c in rows) / 4 for s in seeds.tolist()])
        expected = exact * (1 - 4 * (n_features + 4) * eps)
        np.testing.assert_allclose(limits, expected, rtol=4 * eps, atol=np.finfo(dtype).smallest_subnormal)

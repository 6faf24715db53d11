"""k-means kernels: against naive loops, exact ties, bounds that hold, and the same bits whatever is left out."""

import itertools
import math

import naive
import numba
import numpy as np
import pytest

# One feature, few and many; each number of samples, features and clusters ends elsewhere between tiles.
SHAPES = [
    (1, 1, 1),
    (37, 1, 3),
    (50, 2, 4),
    (41, 3, 17),
    (60, 8, 7),
    (33, 9, 6),
    (29, 16, 9),
    (40, 17, 1),
    (23, 70, 12),
]
shapes = pytest.mark.parametrize(("n_samples", "n_features", "n_clusters"), SHAPES)
N_MANY = 120 if numba.config.DISABLE_JIT else 20_000


def make_data(rng, dtype, n_samples, n_features, n_clusters, offset=0.0):
    """Samples, and centers among them."""
    X = (offset + rng.standard_normal((n_samples, n_features))).astype(dtype)
    return X, (offset + rng.standard_normal((n_clusters, n_features))).astype(dtype)


def make_weights(rng, dtype, n_samples, weighted=True):
    """Weights as kernels take them, some of them zero, and as the naive loops do."""
    if not weighted:
        return np.empty(0, dtype), [1.0] * n_samples
    weights = np.where(rng.random(n_samples) < 0.2, 0, rng.uniform(0.1, 3, n_samples)).astype(dtype)
    return weights, weights.tolist()


def no_shift(X):
    return np.zeros(X.shape[1], X.dtype)


def unweighted(X):
    return np.empty(0, X.dtype)


def random_labels(rng, n_samples, n_clusters):
    return rng.integers(n_clusters, size=n_samples, dtype=np.int32)


def assigned(kernels, X, centers, shift=None):
    labels = np.full(len(X), -9, np.int32)
    kernels.assign_labels(X, no_shift(X) if shift is None else shift, centers, labels)
    return labels


def true_distances(X, centers):
    """Distances in float64, from differences."""
    return np.sqrt(((X[:, None].astype(np.float64) - centers) ** 2).sum(axis=2))


def assert_nearest(labels, X, centers, rtol):
    """Each label is that of the nearest center, up to rounding of the squared distance."""
    assert labels.dtype == np.int32
    rows = centers.tolist()
    for x, label in zip(X.tolist(), labels.tolist(), strict=True):
        best = naive.nearest(x, rows)
        if label != best:
            scale = max(naive.squared_distance(c, [0.0] * len(c)) for c in (x, rows[label], rows[best]))
            excess = naive.squared_distance(x, rows[label]) - naive.squared_distance(x, rows[best])
            assert excess <= rtol * scale, (label, best)


class TestAssignLabels:
    @shapes
    def test_against_naive(self, kernels, dtype, tolerance, rng, n_samples, n_features, n_clusters):
        X, centers = make_data(rng, dtype, n_samples, n_features, n_clusters)
        assert_nearest(assigned(kernels, X, centers), X, centers, tolerance["rtol"])

    @shapes
    def test_far_from_zero(self, kernels, dtype, tolerance, rng, n_samples, n_features, n_clusters):
        """With a shift near the data no digit is lost that the data have."""
        offset = 1e3 if dtype == np.float32 else 1e8
        X, centers = make_data(rng, dtype, n_samples, n_features, n_clusters, offset)
        shift = np.full(n_features, offset, dtype)
        labels = assigned(kernels, X, centers, shift)
        assert_nearest(labels, X - shift, centers - shift, tolerance["rtol"])

    def test_lowest_of_equal_centers(self, kernels, dtype):
        """At any place of any number of samples: whole numbers, so that the ties are exact."""
        for n_samples, n_features in itertools.product((1, 2, 3, 7, 8, 9, 15, 16, 17, 40), (1, 2, 5, 8, 9, 33)):
            X = np.zeros((n_samples, n_features), dtype)
            X[:, 0] = np.arange(n_samples) % 3  # 0, 1, 2: on a center, between two, on another
            centers = np.zeros((7, n_features), dtype)
            centers[:, 0] = [9, 0, 2, 0, 2, 9, 0]
            assert assigned(kernels, X, centers).tolist() == [[1, 1, 2][i % 3] for i in range(n_samples)]

    @pytest.mark.parametrize("n_clusters", [1, 2, 4, 7, 8, 9, 16, 17, 31, 40])
    def test_the_one_near_center_is_found_wherever_it_is(self, kernels, dtype, n_clusters):
        for n_features, near in itertools.product((1, 3, 8, 9, 20), range(n_clusters)):
            centers = np.full((n_clusters, n_features), 5, dtype)
            centers[near] = 1
            X = np.zeros((3, n_features), dtype)
            assert assigned(kernels, X, centers).tolist() == [near] * 3

    @pytest.mark.parametrize("n_features", [1, 2, 5, 8, 9, 16, 40])
    def test_a_row_alone_is_a_row_of_a_batch(self, fast_kernels, dtype, rng, n_features):
        """Among centers so close that rounding decides."""
        X = rng.standard_normal((43, n_features)).astype(dtype)
        near = 1 + np.finfo(dtype).eps * rng.integers(-2, 3, (9, n_features))
        centers = (rng.standard_normal(n_features) * near).astype(dtype)
        batch = assigned(fast_kernels, X, centers)
        for size in (1, 2, 7, 8, 9, 16):
            for start in range(0, len(X) - size + 1, size):
                part = assigned(fast_kernels, X[start : start + size], centers)
                np.testing.assert_array_equal(part, batch[start : start + size])

    def test_nothing(self, kernels, dtype):
        assert len(assigned(kernels, np.empty((0, 3), dtype), np.ones((2, 3), dtype))) == 0


def lloyd_step(kernels, X, weights, shift, centers, labels):
    """One step: sums, weights and number of new labels; ``labels`` is updated."""
    sums, totals = np.full(centers.shape, np.nan), np.full(len(centers), np.nan)
    n_reassigned = np.full(1, np.nan)
    kernels.lloyd_step(X, weights, shift, centers, labels, sums, totals, n_reassigned)
    return sums, totals, n_reassigned[0]


class TestLloydStep:
    @shapes
    @pytest.mark.parametrize(("weighted", "offset"), [(False, 0.0), (True, 100.0)])
    def test_against_naive(self, kernels, dtype, tolerance, rng, n_samples, n_features, n_clusters, weighted, offset):
        X, centers = make_data(rng, dtype, n_samples, n_features, n_clusters, offset)
        weights, plain_weights = make_weights(rng, dtype, n_samples, weighted)
        shift = np.full(n_features, offset, dtype)
        before = random_labels(rng, n_samples, n_clusters)
        labels = before.copy()
        sums, totals, n_reassigned = lloyd_step(kernels, X, weights, shift, centers, labels)
        np.testing.assert_array_equal(labels, assigned(kernels, X, centers, shift))
        assert n_reassigned == np.sum(labels != before)
        naive_sums, naive_totals = naive.cluster_sums(
            X.tolist(), plain_weights, shift.tolist(), labels.tolist(), n_clusters
        )
        np.testing.assert_allclose(sums, naive_sums, **tolerance)
        np.testing.assert_allclose(totals, naive_totals, rtol=1e-14)

    @pytest.mark.parametrize("n_features", range(1, 10))
    @pytest.mark.parametrize("n_samples", [1, 2, 15, 16, 17, 32, 33, 300])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_whole_numbers_add_up_exactly(self, kernels, dtype, rng, n_features, n_samples, weighted):
        """Loads of narrow rows that are full and that are not; what stands behind the last row is not added."""
        values = rng.integers(-9, 9, (n_samples + 9, n_features)).astype(dtype)
        values[n_samples:] = np.nan
        X, centers = values[:n_samples], np.arange(-9, 9, 3)[:, None] * np.ones((1, n_features), dtype)
        weights = rng.integers(0, 5, n_samples).astype(dtype) if weighted else unweighted(X)
        shift = np.full(n_features, 2, dtype)
        labels = np.zeros(n_samples, np.int32)
        sums, totals, _ = lloyd_step(kernels, X, weights, shift, centers.astype(dtype), labels)
        distances = ((X[:, None] - centers) ** 2).sum(axis=2)
        np.testing.assert_array_equal(labels, distances.argmin(axis=1))
        for label in range(len(centers)):
            counted = weights[labels == label] if weighted else np.ones(np.sum(labels == label))
            np.testing.assert_array_equal(sums[label], counted @ (X[labels == label] - 2.0))
            assert totals[label] == counted.sum()

    def test_sums_are_added_up_in_float64(self, kernels):
        """Ones beside a million: in float32 they would add up to less."""
        X = np.ones((1000, 3), np.float32)
        X[0] = 2**24
        sums, totals, _ = lloyd_step(kernels, X, unweighted(X), no_shift(X), X[:1], np.zeros(1000, np.int32))
        assert sums.tolist() == [[2**24 + 999.0] * 3]
        assert totals.tolist() == [1000.0]

    def test_all_labels_at_first_are_new(self, kernels, dtype, rng):
        X, centers = make_data(rng, dtype, 30, 4, 3)
        labels = np.full(30, -1, np.int32)
        assert lloyd_step(kernels, X, unweighted(X), no_shift(X), centers, labels)[2] == 30
        assert lloyd_step(kernels, X, unweighted(X), no_shift(X), centers, labels)[2] == 0

    def test_empty_clusters_and_weights_of_zero(self, kernels, dtype):
        X = np.array([[0], [1], [10]], dtype)
        centers = np.array([[0], [50], [10]], dtype)
        labels = np.zeros(3, np.int32)
        sums, totals, _ = lloyd_step(kernels, X, np.array([1, 2, 0], dtype), no_shift(X), centers, labels)
        assert labels.tolist() == [0, 0, 2]
        assert sums.tolist() == [[2], [0], [0]]
        assert totals.tolist() == [3, 0, 0]


class Bounds:
    """What ``bounded_step`` keeps from step to step."""

    def __init__(self, X, centers):
        self.X, self.moves = X, np.zeros(len(centers))
        self.labels = np.full(len(X), -1, np.int32)
        self.upper, self.lower = np.full(len(X), np.inf, X.dtype), np.zeros(len(X), X.dtype)

    def step(self, kernels, weights, shift, centers):
        sums, totals = np.full(centers.shape, np.nan), np.full(len(centers), np.nan)
        n_reassigned, n_exact = np.full(1, np.nan), np.full(1, np.nan)
        kernels.bounded_step(
            self.X, weights, shift, centers, self.moves, self.labels, self.upper, self.lower,
            sums, totals, n_reassigned, n_exact,
        )  # fmt: skip
        return (sums, totals, n_reassigned[0]), n_exact[0]

    def move(self, kernels, centers, new_centers):
        kernels.center_moves(centers, new_centers, self.moves)


def clustered(rng, n_samples, n_features, n_clusters):
    means = 3 * rng.standard_normal((n_clusters, n_features))
    return means[rng.integers(n_clusters, size=n_samples)] + rng.standard_normal((n_samples, n_features))


def uniform(rng, n_samples, n_features, n_clusters):
    return rng.random((n_samples, n_features))


def assert_same_step(bounded, plain):
    """Bit for bit."""
    for one, other in zip(bounded, plain, strict=True):
        np.testing.assert_array_equal(one, other)


class TestBoundedStep:
    @pytest.mark.parametrize("make", [clustered, uniform])
    @pytest.mark.parametrize(("n_features", "n_clusters"), [(1, 5), (2, 8), (5, 12), (8, 3), (9, 12), (40, 10)])
    @pytest.mark.parametrize("offset", [0.0, 100.0])
    def test_is_lloyd_s_step(self, fast_kernels, dtype, rng, make, n_features, n_clusters, offset):
        """On every step of a run: labels, sums, weights, bit for bit."""
        n_samples = N_MANY if n_features <= 8 else N_MANY // 4
        X = (offset + make(rng, n_samples, n_features, n_clusters)).astype(dtype)
        weights, _ = make_weights(rng, dtype, n_samples)
        shift, centers = np.full(n_features, offset, dtype), X[:n_clusters].copy()
        bounds, labels = Bounds(X, centers), np.full(n_samples, -1, np.int32)
        for _ in range(12):
            bounded, _ = bounds.step(fast_kernels, weights, shift, centers)
            plain = lloyd_step(fast_kernels, X, weights, shift, centers, labels)
            np.testing.assert_array_equal(bounds.labels, labels)
            assert_same_step(bounded, plain)
            new_centers = np.empty_like(centers)
            fast_kernels.average_centers(*plain[:2], shift, new_centers)
            bounds.move(fast_kernels, centers, new_centers)
            centers = new_centers

    @pytest.mark.parametrize("make", [clustered, uniform])
    @pytest.mark.parametrize(("n_features", "n_clusters"), [(2, 8), (9, 6), (24, 5)])
    def test_bounds_leave_samples_out(self, fast_kernels, dtype, rng, make, n_features, n_clusters):
        """Else the comparison above would say nothing: all at first, fewer once the centers move little."""
        X = make(rng, N_MANY, n_features, n_clusters).astype(dtype)
        weights, centers = unweighted(X), X[:n_clusters].copy()
        bounds, n_compared = Bounds(X, centers), []
        for _ in range(25):
            (sums, totals, _), n_exact = bounds.step(fast_kernels, weights, no_shift(X), centers)
            n_compared.append(n_exact)
            new_centers = np.empty_like(centers)
            fast_kernels.average_centers(sums, totals, no_shift(X), new_centers)
            bounds.move(fast_kernels, centers, new_centers)
            centers = new_centers
        assert n_compared[0] == N_MANY
        assert min(n_compared) < 0.8 * N_MANY

    @pytest.mark.parametrize("n_features", [1, 3, 8, 9, 20])
    @pytest.mark.parametrize("scale", [1e-5, 1e-2, 1.0])
    def test_whatever_the_centers_do(self, kernels, dtype, rng, n_features, scale):
        """Random moves of all, one or none, exchanged and doubled centers: the labels are the nearest ones."""
        X, centers = make_data(rng, dtype, min(N_MANY, 500), n_features, 7)
        weights, shift, bounds = unweighted(X), no_shift(X), Bounds(X, centers)
        for round_ in range(20):
            bounds.step(kernels, weights, shift, centers)
            np.testing.assert_array_equal(bounds.labels, assigned(kernels, X, centers, shift))
            new_centers, k = centers.copy(), rng.integers(7)
            moved = [slice(None), k, slice(0, 0)][round_ % 3]
            new_centers[moved] += (scale * rng.standard_normal(centers[moved].shape)).astype(dtype)
            if round_ % 7 == 5:
                new_centers[[k, k - 1]] = new_centers[[k - 1, k]]
            if round_ % 7 == 6:
                new_centers[k] = new_centers[k - 1]
            bounds.move(kernels, centers, new_centers)
            centers = new_centers

    def test_bounds_hold(self, kernels, dtype, rng):
        """Upper bounds are at least, lower bounds at most what they bound, but for rounding."""
        X, centers = make_data(rng, dtype, min(N_MANY, 1000), 6, 9)
        weights, shift, bounds = unweighted(X), no_shift(X), Bounds(X, centers)
        slack = 8 * float(np.finfo(dtype).eps)
        for _ in range(10):
            bounds.step(kernels, weights, shift, centers)
            distances = true_distances(X, centers)
            own = distances[np.arange(len(X)), bounds.labels]
            distances[np.arange(len(X)), bounds.labels] = np.inf
            assert (bounds.upper >= own * (1 - slack) - slack).all()
            assert (bounds.lower <= distances.min(axis=1) * (1 + slack) + slack).all()
            new_centers = centers + (0.02 * rng.standard_normal(centers.shape)).astype(dtype)
            bounds.move(kernels, centers, new_centers)
            centers = new_centers

    def test_one_cluster(self, kernels, dtype, rng):
        X, centers = make_data(rng, dtype, 20, 3, 1)
        bounds = Bounds(X, centers)
        for _ in range(3):
            (_, totals, _), _ = bounds.step(kernels, unweighted(X), no_shift(X), centers)
            assert totals.tolist() == [20]
            assert bounds.labels.tolist() == [0] * 20

    def test_ties_go_to_the_lowest_center(self, kernels, dtype):
        """Also when a bound is met exactly, and when a lower center comes to lie on the sample's own."""
        X = np.array([[0], [1], [2], [3], [4]], dtype)
        centers = np.array([[9], [0], [2], [4]], dtype)
        bounds = Bounds(X, centers)
        expected = {9: [1, 1, 2, 2, 3], 4: [1, 1, 2, 0, 0], 0: [0, 0, 2, 2, 3]}
        for first in (9, 9, 4, 4, 0, 0, 9, 0, 4):
            new_centers = centers.copy()
            new_centers[0] = first
            bounds.move(kernels, centers, new_centers)
            centers = new_centers
            bounds.step(kernels, unweighted(X), no_shift(X), centers)
            assert bounds.labels.tolist() == expected[first]


class TestAverageCenters:
    @shapes
    def test_against_naive(self, kernels, dtype, tolerance, rng, n_samples, n_features, n_clusters):
        sums = rng.standard_normal((n_clusters, n_features))
        weights, shift = rng.uniform(0.1, 5, n_clusters), rng.standard_normal(n_features).astype(dtype)
        empty = rng.random(n_clusters) < 0.3
        empty[weights.argmax()] = False
        weights[empty] = 0
        centers = np.full((n_clusters, n_features), np.nan, dtype)
        kernels.average_centers(sums, weights, shift, centers)
        filled = [int(weights.argmax()) if none else k for k, none in enumerate(empty)]
        expected = [[s / weights[k] + c for s, c in zip(sums[k], shift.tolist(), strict=True)] for k in filled]
        np.testing.assert_allclose(centers, expected, **tolerance)

    def test_by_hand(self, kernels, dtype):
        """(6, 8) / 2 + (1, 2) = (4, 6); the second is empty and takes the place of the heaviest, the third."""
        centers = np.full((3, 2), np.nan, dtype)
        sums, weights = np.array([[6.0, 8.0], [0.0, 0.0], [3.0, -9.0]]), np.array([2.0, 0.0, 3.0])
        kernels.average_centers(sums, weights, np.array([1, 2], dtype), centers)
        assert centers.tolist() == [[4, 6], [2, -1], [2, -1]]

    def test_first_of_equally_heavy(self, kernels, dtype):
        centers = np.full((3, 1), np.nan, dtype)
        kernels.average_centers(np.array([[0.0], [4], [6]]), np.array([0.0, 2, 2]), np.zeros(1, dtype), centers)
        assert centers.tolist() == [[2], [2], [3]]

    def test_is_rounded_once(self, kernels):
        """The quotient and the sum are float64, whatever the centers are."""
        sums, weights, shift = np.array([[1.0]]), np.array([3.0]), np.array([1000], np.float32)
        centers = np.empty((1, 1), np.float32)
        kernels.average_centers(sums, weights, shift, centers)
        assert centers[0, 0] == np.float32(1000 + 1 / 3)


class TestNormalizeRows:
    @shapes
    def test_against_naive(self, kernels, dtype, tolerance, rng, n_samples, n_features, n_clusters):
        X = rng.standard_normal((n_samples, n_features)).astype(dtype)
        out = np.full_like(X, np.nan)
        kernels.normalize_rows(X, out)
        np.testing.assert_allclose(out, [naive.unit(x) for x in X.tolist()], **tolerance)

    def test_by_hand(self, kernels, dtype):
        X = np.array([[3, 4], [0, 0], [0, -2], [1e-15, 0], [1e15, 0]], dtype)
        kernels.normalize_rows(X, X)
        np.testing.assert_allclose(X, [[0.6, 0.8], [0, 0], [0, -1], [1, 0], [1, 0]], rtol=np.finfo(dtype).eps)


class TestDistances:
    """From differences, so that an offset costs no digit and a copy is at distance 0 exactly."""

    @shapes
    @pytest.mark.parametrize("offset", [0.0, 1e3])
    def test_label_distances(self, kernels, dtype, rng, n_samples, n_features, n_clusters, offset):
        X, centers = make_data(rng, dtype, n_samples, n_features, n_clusters, offset)
        labels, out = random_labels(rng, n_samples, n_clusters), np.full(n_samples, np.nan)
        kernels.label_distances(X, centers, labels, out)
        rows = centers.tolist()
        expected = [naive.squared_distance(x, rows[k]) for x, k in zip(X.tolist(), labels.tolist(), strict=True)]
        np.testing.assert_allclose(out, expected, rtol=1e-13)

    @shapes
    @pytest.mark.parametrize(("weighted", "offset"), [(True, 0.0), (False, 1e3), (True, 1e8)])
    def test_label_inertia(self, kernels, dtype, rng, n_samples, n_features, n_clusters, weighted, offset):
        X, centers = make_data(rng, dtype, n_samples, n_features, n_clusters, offset)
        weights, plain_weights = make_weights(rng, dtype, n_samples, weighted)
        labels, inertia = random_labels(rng, n_samples, n_clusters), np.full(1, np.nan)
        kernels.label_inertia(X, weights, centers, labels, inertia)
        expected = naive.inertia(X.tolist(), plain_weights, centers.tolist(), labels.tolist())
        np.testing.assert_allclose(inertia[0], expected, rtol=1e-13)

    @shapes
    @pytest.mark.parametrize(("weighted", "offset"), [(True, 0.0), (False, 100.0)])
    def test_sums_inertia(self, kernels, dtype, rng, n_samples, n_features, n_clusters, weighted, offset):
        X, centers = make_data(rng, dtype, n_samples, n_features, n_clusters, offset)
        weights, plain_weights = make_weights(rng, dtype, n_samples, weighted)
        shift, labels = np.full(n_features, offset, dtype), np.zeros(n_samples, np.int32)
        scatter = naive.inertia(X.tolist(), plain_weights, [shift.tolist()], [0] * n_samples)
        sums, totals, _ = lloyd_step(kernels, X, weights, shift, centers, labels)
        inertia = np.full(1, np.nan)
        kernels.sums_inertia(scatter, sums, totals, shift, centers, inertia)
        expected = naive.inertia(X.tolist(), plain_weights, centers.tolist(), labels.tolist())
        np.testing.assert_allclose(inertia[0], expected, rtol=1e-5 if offset and dtype == np.float32 else 1e-12)

    def test_sums_inertia_by_hand(self, kernels, dtype):
        """Samples 3, 5 and 9 relative to 1: scatter 4 + 16 + 64. Centers 4 and 10: inertia 1 + 1 + 1, never below 0."""
        inertia, sums, centers = np.full(1, np.nan), np.array([[6.0], [8.0]]), np.array([[4], [10]], dtype)
        arguments = sums, np.array([2.0, 1.0]), np.ones(1, dtype), centers, inertia
        kernels.sums_inertia(84.0, *arguments)
        assert inertia[0] == 3
        kernels.sums_inertia(80.0, *arguments)
        assert inertia[0] == 0
        kernels.sums_inertia(math.nan, *arguments)
        assert math.isnan(inertia[0])

    @shapes
    @pytest.mark.parametrize("offset", [0.0, 1e3])
    def test_center_distances(self, kernels, dtype, tolerance, rng, n_samples, n_features, n_clusters, offset):
        X, centers = make_data(rng, dtype, n_samples, n_features, n_clusters, offset)
        out = np.full((n_samples, n_clusters), np.nan, dtype)
        kernels.center_distances(X, centers, out)
        rows = centers.tolist()
        expected = [[math.sqrt(naive.squared_distance(x, c)) for c in rows] for x in X.tolist()]
        np.testing.assert_allclose(out, expected, **tolerance)

    @shapes
    def test_center_moves(self, kernels, dtype, rng, n_samples, n_features, n_clusters):
        centers, moved = (make_data(rng, dtype, 1, n_features, n_clusters, 100.0)[1] for _ in range(2))
        moves = np.full(n_clusters, np.nan)
        kernels.center_moves(centers, moved, moves)
        pairs = zip(centers.tolist(), moved.tolist(), strict=True)
        np.testing.assert_allclose(moves, [math.sqrt(naive.squared_distance(*pair)) for pair in pairs], rtol=1e-13)

    @pytest.mark.parametrize("n_features", [1, 3, 8, 9, 40])
    def test_copies_are_at_distance_zero(self, kernels, dtype, rng, n_features):
        X = make_data(rng, dtype, 9, n_features, 1, 1e4)[0]
        labels, out = np.arange(9, dtype=np.int32), np.full((9, 9), np.nan, dtype)
        distances, inertia, moves = np.full(9, np.nan), np.full(1, np.nan), np.full(9, np.nan)
        kernels.label_distances(X, X, labels, distances)
        kernels.label_inertia(X, unweighted(X), X, labels, inertia)
        kernels.center_distances(X, X, out)
        kernels.center_moves(X, X, moves)
        assert not np.any(distances)
        assert inertia[0] == 0
        assert not np.any(np.diag(out))
        assert not np.any(moves)

    def test_weight_zero_weighs_nothing_however_far(self, kernels, dtype):
        X, inertia = np.array([[1], [1e18]], dtype), np.full(1, np.nan)
        kernels.label_inertia(X, np.array([2, 0], dtype), np.zeros((1, 1), dtype), np.zeros(2, np.int32), inertia)
        assert inertia[0] == 2


class TestColumnMoments:
    @pytest.mark.parametrize(
        ("n_samples", "n_features"), [(1, 1), (2, 3), (50, 1), (33, 8), (40, 9), (97, 31), (20, 63), (9, 64), (20, 70)]
    )
    @pytest.mark.parametrize("offset", [0.0, 1.0, 1e8])
    def test_against_naive(self, kernels, dtype, rng, n_samples, n_features, offset):
        X = (offset + rng.standard_normal((n_samples, n_features))).astype(dtype)
        mean, variance = np.full(n_features, np.nan), np.full(n_features, np.nan)
        kernels.column_moments(X, mean, variance)
        expected = [naive.mean_and_variance(column) for column in X.T.tolist()]
        np.testing.assert_allclose(mean, [m for m, _ in expected], rtol=1e-14, atol=1e-14)
        # Relative to the first sample the variance loses the digits of its distance to the mean, three at most here.
        np.testing.assert_allclose(variance, [v for _, v in expected], rtol=1e-11, atol=1e-11)

    def test_constant_columns(self, kernels, dtype, rng):
        X = np.repeat(rng.standard_normal((1, 5)).astype(dtype) * 1e6, 300, axis=0)
        mean, variance = np.full(5, np.nan), np.full(5, np.nan)
        kernels.column_moments(X, mean, variance)
        np.testing.assert_array_equal(mean, X[0])
        assert not np.any(variance)

    def test_many_samples(self, kernels, dtype, rng):
        X = (7 + rng.standard_normal((N_MANY, 5))).astype(dtype)
        mean, variance = np.full(5, np.nan), np.full(5, np.nan)
        kernels.column_moments(X, mean, variance)
        np.testing.assert_allclose(mean, X.mean(axis=0, dtype=np.float64), rtol=1e-13)
        np.testing.assert_allclose(variance, X.var(axis=0, dtype=np.float64), rtol=1e-11)


class TestMiniBatchUpdate:
    @shapes
    @pytest.mark.parametrize(("weighted", "offset"), [(False, 0.0), (True, 100.0)])
    def test_against_naive(self, kernels, dtype, tolerance, rng, n_samples, n_features, n_clusters, weighted, offset):
        """One sample after another, as in the paper's algorithm 1, which gives the same mean."""
        X, centers = make_data(rng, dtype, n_samples, n_features, n_clusters, offset)
        weights, plain_weights = make_weights(rng, dtype, n_samples, weighted)
        labels = random_labels(rng, n_samples, n_clusters)
        counts = np.where(rng.random(n_clusters) < 0.3, 0, rng.uniform(1, 50, n_clusters))
        arguments = X.tolist(), plain_weights, labels.tolist(), centers.tolist(), counts.tolist()
        expected_centers, expected_counts = naive.mini_batch_update(*arguments)
        kernels.mini_batch_update(X, weights, labels, centers, counts)
        np.testing.assert_allclose(centers, expected_centers, **tolerance)
        np.testing.assert_allclose(counts, expected_counts, rtol=1e-13)

    def test_by_hand(self, kernels, dtype):
        """(2 * 4 + 1 * 10) / 3 = 6; what has no sample, or none of weight, stays, were it not representable."""
        X, labels = np.array([[10], [7], [3]], dtype), np.array([0, 2, 2], np.int32)
        centers, counts = np.array([[4], [0.1], [0.3]], dtype), np.array([2.0, 3.0, 0.0])
        before = centers.copy()
        kernels.mini_batch_update(X, np.array([1, 0, 0], dtype), labels, centers, counts)
        assert centers[0, 0] == 6
        np.testing.assert_array_equal(centers[1:], before[1:])
        assert counts.tolist() == [3, 3, 0]

    def test_weights_are_added_up_in_float64(self, kernels):
        X, centers, counts = np.ones((3, 1), np.float32), np.zeros((1, 1), np.float32), np.array([2.0**24])
        kernels.mini_batch_update(X, unweighted(X), np.zeros(3, np.int32), centers, counts)
        assert counts[0] == 2**24 + 3

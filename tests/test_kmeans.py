"""KMeans: what is promised of every fit, worked examples, and the same bits whatever computes them."""

import copy
import itertools
import math
import os
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import naive
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from gdl import KMeans, k_means, kernels, kmeans_plusplus, seeding
from gdl.lloyd import n_filled

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ALGORITHMS = ["auto", "lloyd", "elkan", "hamerly"]


def overlapping(rng, n_samples, n_features, n_clusters):
    means = 1.5 * rng.standard_normal((n_clusters, n_features))
    return means[rng.integers(n_clusters, size=n_samples)] + rng.standard_normal((n_samples, n_features))


def clustered(rng, n_samples, n_features, n_clusters):
    means = 4 * rng.standard_normal((n_clusters, n_features))
    return means[rng.integers(n_clusters, size=n_samples)] + rng.standard_normal((n_samples, n_features))


def uniform(rng, n_samples, n_features, n_clusters):
    return rng.random((n_samples, n_features))


def make_weights(rng, n_samples):
    return np.where(rng.random(n_samples) < 0.2, 0, rng.uniform(0.1, 3, n_samples))


def assert_same(one, other):
    """All that two fits found, bit for bit."""
    for name in ("cluster_centers_", "labels_", "inertia_", "n_iter_", "converged_", "inertia_curve_", "n_reassigned_"):
        assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.cluster_centers_.dtype == other.cluster_centers_.dtype


def assert_consistent(model, X, sample_weight=None):
    """What is true of every fit, whatever ended it."""
    n_clusters, dtype = len(model.cluster_centers_), model.cluster_centers_.dtype
    assert np.isfinite(model.cluster_centers_).all()
    assert_array_equal(model.labels_, model.predict(X))
    assert model.labels_.dtype == np.int32
    assert model.inertia_ == -model.score(X, sample_weight=sample_weight)
    assert isinstance(model.inertia_, float)
    assert np.isfinite(model.inertia_)
    assert len(model.inertia_curve_) == len(model.n_reassigned_) == model.n_iter_ >= 1
    assert model.labels_.min() >= 0
    assert model.labels_.max() < n_clusters
    # Centers are means, which lie among the samples, and centers rounded to the data's type make the curve uneven.
    X, resolution = np.asarray(X, np.float64), float(np.finfo(dtype).eps)
    slack = 8 * resolution * np.abs(X).max()
    assert (model.cluster_centers_ >= X.min(axis=0) - slack).all()
    assert (model.cluster_centers_ <= X.max(axis=0) + slack).all()
    weights = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    scatter = weights @ ((X - X.mean(axis=0)) ** 2).sum(axis=1)
    rise = 16 * resolution * scatter + weights.sum() * X.shape[1] * slack**2
    assert (np.diff(model.inertia_curve_) <= rise).all()
    assert model.inertia_ <= model.inertia_curve_[-1] + rise


class Spy:
    """Notes how many samples ``bounded_step`` compared with all centers, in each step."""

    def __init__(self, monkeypatch):
        self.n_exact, kernel_set = [], kernels.load("cpu")
        self.bounded_step = kernel_set.bounded_step
        monkeypatch.setattr(kernel_set, "bounded_step", self)

    def __call__(self, *arguments):
        self.bounded_step(*arguments)
        self.n_exact.append(arguments[-1][0])


class TestAlgorithms:
    """All give the same bits: bounds only leave out what cannot change."""

    @pytest.mark.parametrize("make", [clustered, uniform])
    @pytest.mark.parametrize(
        ("n_samples", "n_features", "n_clusters"), [(20_000, 5, 12), (20_000, 1, 6), (5_000, 40, 16), (5_000, 12, 8)]
    )
    @pytest.mark.parametrize("offset", [0.0, 50.0])
    def test_same_bits(self, dtype, rng, monkeypatch, make, n_samples, n_features, n_clusters, offset):
        n_samples = 160 if INTERPRETED else n_samples
        X = (offset + make(rng, n_samples, n_features, n_clusters)).astype(dtype)
        weights = make_weights(rng, n_samples)
        spy = Spy(monkeypatch)
        models = {}
        for algorithm in ALGORITHMS:
            spy.n_exact.clear()
            model = KMeans(n_clusters, init=X[:n_clusters], max_iter=30, tol=1e-6, algorithm=algorithm)
            models[algorithm] = model.fit(X, sample_weight=weights)
            if algorithm in ("elkan", "hamerly"):
                assert len(spy.n_exact) == model.n_iter_
                assert spy.n_exact[0] == n_samples
                assert min(spy.n_exact) < 0.9 * n_samples  # else the bounds were never put to the test
            if algorithm == "lloyd":
                assert spy.n_exact == []
        for model in models.values():
            assert_same(model, models["lloyd"])
        assert models["lloyd"].n_iter_ >= 3

    @pytest.mark.parametrize("worth", [None, -1.0, 1.0])
    def test_auto_tries_bounds_where_a_comparison_is_long(self, rng, monkeypatch, worth):
        """And goes on without where they do not pay, with the same result."""
        monkeypatch.setattr("gdl.lloyd.BOUNDED_WORK", (20, 3000))
        if worth is not None:
            monkeypatch.setattr("gdl.lloyd.WORTH_BOUNDS", (worth,) * 3)
        X = overlapping(rng, 150, 5, 4)  # 20 multiplications a sample, 3000 in all
        parameters = {"n_clusters": 4, "init": X[:4], "tol": 0}
        spy, model = Spy(monkeypatch), KMeans(**parameters).fit(X)
        assert model.n_iter_ > 2
        if worth is not None:
            assert len(spy.n_exact) == (2 if worth < 0 else model.n_iter_)
        assert_same(model, KMeans(**parameters, algorithm="lloyd").fit(X))
        spy.n_exact.clear()
        KMeans(3, init=X[:3]).fit(X)
        KMeans(4, init=X[:4]).fit(X[:149])
        assert spy.n_exact == []

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_relocation(self, dtype, rng, algorithm):
        """An empty cluster makes a center jump, which the bounds must take into account."""
        X = overlapping(rng, 200, 3, 6).astype(dtype)
        init = X[:6].copy()
        init[[2, 4]] = 1000
        model = KMeans(6, init=init, algorithm=algorithm, tol=0).fit(X)
        assert_same(model, KMeans(6, init=init, algorithm="lloyd", tol=0).fit(X))
        assert len(np.unique(model.labels_)) == 6
        assert_consistent(model, X)


class Stop:
    """Asks to stop after some iterations."""

    def __init__(self, after):
        self.after = after

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        return context.task_name == "iteration" and context.task_id + 1 >= self.after


class TestEveryWayOut:
    """Labels and inertia belong to the centers, whatever ended the fit, and the inertia never rises."""

    @pytest.mark.parametrize(("offset", "scale"), [(0, 1), (1e3, 1), (1e6, 1), (0, 1e-6), (0, 1e6)])
    @pytest.mark.parametrize("way", ["labels", "tol", "max_iter", "relocation", "relocation at the end", "callback"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_consistent(self, dtype, rng, way, offset, scale, weighted):
        X = (scale * (offset + overlapping(rng, 90, 3, 5))).astype(dtype)
        weights = make_weights(rng, 90) if weighted else None
        init, parameters = X[:5].copy(), {"tol": 0}
        if way == "tol":
            parameters = {"tol": 1e3}
        elif way in ("max_iter", "relocation at the end"):
            parameters |= {"max_iter": 2 if way == "max_iter" else 1}
        if "relocation" in way:
            init[3] += dtype.type(1e4 * scale)
        model = KMeans(5, init=init, **parameters)
        if way == "callback":
            model.set_callbacks(Stop(2))
        model.fit(X, sample_weight=weights)
        assert_consistent(model, X, weights)
        if way == "labels":
            assert model.converged_
            # Samples of no weight do not move centers, and centers of coarse numbers may not move at all.
            assert model.n_reassigned_[-1] == 0 or weighted or offset
        elif way == "tol":
            assert model.converged_
            assert model.n_reassigned_.tolist() == [90]
        elif way == "relocation":
            assert len(np.unique(model.labels_)) == 5
        elif not offset:
            assert not model.converged_
            assert model.n_iter_ == (1 if way == "relocation at the end" else 2)

    @pytest.mark.parametrize(("offset", "scale"), [(0, 1), (1e3, 1), (1e6, 1), (0, 1e-6), (0, 1e6)])
    @pytest.mark.parametrize("algorithm", ["lloyd", "hamerly"])
    @pytest.mark.parametrize("n_features", [2, 12])
    def test_labels_are_nearest_and_inertia_is_theirs(self, dtype, rng, offset, scale, algorithm, n_features):
        """Judged in float64 from differences: far from zero nothing is lost but digits that X does not have."""
        X = (scale * (offset + clustered(rng, 100, n_features, 4))).astype(dtype)
        model = KMeans(4, random_state=0, algorithm=algorithm).fit(X)
        assert_consistent(model, X)
        squares = ((X[:, None].astype(np.float64) - model.cluster_centers_) ** 2).sum(axis=2)
        own = squares[np.arange(100), model.labels_]
        spread = ((X - X.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=1).max()
        assert (own - squares.min(axis=1) <= 16 * np.finfo(dtype).eps * spread).all()
        labels = model.labels_.tolist()
        expected = naive.inertia(X.tolist(), [1.0] * 100, model.cluster_centers_.tolist(), labels)
        assert_allclose(model.inertia_, expected, rtol=1e-12)

    @pytest.mark.parametrize("fitted", ["float32", "float64"])
    @pytest.mark.parametrize("given", ["float32", "float64"])
    @pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
    def test_mixed_types(self, rng, fitted, given, offset):
        X = (offset + overlapping(rng, 60, 3, 3)).astype(np.float32)
        model = KMeans(3, random_state=0).fit(X.astype(fitted))
        assert model.cluster_centers_.dtype == model.transform(X.astype(given)).dtype == fitted
        for _ in range(2):  # the short way of predicting, too
            assert_array_equal(model.predict(X.astype(given)), model.labels_)
        assert model.score(X.astype(given)) == -model.inertia_
        assert_array_equal(model.transform(X.astype(given)), model.transform(X.astype(fitted)))

    @pytest.mark.parametrize("n_samples", [1, 2, 17, 1024, 1025, 3000])
    def test_rows_alone_are_rows_of_a_batch(self, dtype, rng, n_samples):
        n_samples = min(n_samples, 40) if INTERPRETED else n_samples
        X = uniform(rng, max(n_samples, 9), 4, 0).astype(dtype)
        model = KMeans(9, random_state=0, max_iter=3).fit(X)
        for size in (1, 7, n_samples):
            parts = [model.predict(X[start : start + size]) for start in range(0, len(X), size)[:300]]
            assert_array_equal(np.concatenate(parts), model.labels_[: sum(map(len, parts))])


@pytest.mark.parametrize("seed_of_case", range(8))
def test_small_hard_problems(rng, seed_of_case):
    """Copies, ties, empty clusters, zero weights, far and odd numbers: what is promised holds, and the fit ends."""
    rng = np.random.default_rng([seed_of_case, int(rng.integers(2**32))])
    for _ in range(25 if INTERPRETED else 100):
        n_samples, n_features = int(rng.integers(2, 9)), int(rng.integers(1, 3))
        n_clusters = int(rng.integers(1, n_samples + 1))
        offset, scale = rng.choice([0, 0.1, 1e3 + 0.1, 1e6 + 0.3]), rng.choice([1, 0.1])
        dtype = rng.choice(["float32", "float64"])
        X = (rng.integers(0, 4, (n_samples, n_features)) * scale + offset).astype(dtype)
        init = rng.integers(-3, 8, (n_clusters, n_features)) * scale + offset
        if rng.random() < 0.3:
            init = X[rng.integers(n_samples, size=n_clusters)]
        weights = rng.integers(0, 3, n_samples) * rng.choice([1, 0.1, 0.3])
        if rng.random() < 0.5:
            weights = None
        elif not weights.any():
            weights[0] = 1
        parameters = {"init": init, "tol": rng.choice([0, 1e-4]), "max_iter": 60, "algorithm": rng.choice(ALGORITHMS)}
        model = KMeans(n_clusters, **parameters).fit(X, sample_weight=weights)
        assert_consistent(model, X, weights)
        assert model.converged_
        if dtype == "float64":  # in float32 neighbours may be too close to tell apart
            kept = np.ones(n_samples, bool) if weights is None else weights > 0
            n_distinct = len(np.unique(X[kept], axis=0))
            assert len(np.unique(model.labels_[kept])) >= min(n_distinct, n_clusters)


class TestWeights:
    @pytest.mark.parametrize("init", ["given", "far"])
    @pytest.mark.parametrize("n_features", [2, 10])
    def test_a_weight_is_a_number_of_copies(self, rng, init, n_features):
        """And 0 is none: of a sample far from all others, too, which an empty cluster would be given first.

        What an empty cluster is given is one sample, whatever its weight, so there the copies are one at most.
        """
        X, weights = overlapping(rng, 60, n_features, 4), rng.integers(0, 2 if init == "far" else 4, 60)
        X[7], weights[7], weights[:4] = 50, 0, 1
        centers = X[:4].copy()
        if init == "far":
            centers[2] = 1000
        copies = np.repeat(X, weights, axis=0)
        model = KMeans(4, init=centers, tol=0).fit(X, sample_weight=weights)
        repeated = KMeans(4, init=centers, tol=0).fit(copies)
        assert model.n_iter_ == repeated.n_iter_
        assert_array_equal(np.repeat(model.labels_, weights), repeated.labels_)
        assert_allclose(model.cluster_centers_, repeated.cluster_centers_, rtol=1e-10, atol=1e-12)
        assert_allclose(model.inertia_, repeated.inertia_, rtol=1e-10)
        assert_allclose(model.score(X, sample_weight=weights), model.score(copies), rtol=1e-10)
        assert_allclose(model.inertia_curve_, repeated.inertia_curve_, rtol=1e-9)

    @pytest.mark.parametrize("constant", [4.0, 0.1, 1e6])
    def test_a_constant_factor_changes_the_inertia_alone(self, dtype, rng, constant):
        X = overlapping(rng, 80, 3, 4).astype(dtype)
        weights = rng.uniform(0.5, 2, 80).astype(dtype).astype(np.float64)
        one, other = (KMeans(4, random_state=3).fit(X, sample_weight=weights * c) for c in (1, constant))
        assert_array_equal(one.labels_, other.labels_)
        assert one.n_iter_ == other.n_iter_
        resolution = float(np.finfo(dtype).eps)
        compare = (
            assert_array_equal if constant == 4 else lambda a, b: assert_allclose(a, b, rtol=0, atol=resolution * 9)
        )
        compare(one.cluster_centers_, other.cluster_centers_)
        assert_allclose(other.inertia_, constant * one.inertia_, rtol=16 * resolution)

    def test_weights_of_one_are_none(self, dtype, rng):
        X = overlapping(rng, 80, 3, 4).astype(dtype)
        one, other = (KMeans(4, init=X[:4]).fit(X, sample_weight=weights) for weights in (None, np.ones(80)))
        assert_array_equal(one.labels_, other.labels_)
        assert_array_equal(one.cluster_centers_, other.cluster_centers_)
        assert one.inertia_ == other.inertia_

    def test_weights_far_apart(self, dtype, rng):
        X = overlapping(rng, 40, 2, 3).astype(dtype)
        weights = np.logspace(-15, 15, 40)
        assert_consistent(KMeans(6, random_state=0).fit(X, sample_weight=weights), X, weights)


def fit_by_hand(X, init, sample_weight=None, **parameters):
    X = np.array(X, float)
    model = KMeans(len(init), init=init, **parameters).fit(X, sample_weight=sample_weight)
    assert_consistent(model, X, sample_weight)
    return model


class TestByHand:
    def test_weighted_means(self):
        """(3 * 0 + 1 * 0.5) / 4 = 0.125, and 2 (3 * 0.125^2 + 1 * 0.375^2) = 0.375; the second round moves nothing."""
        X = [[0, 0], [0.5, 0], [0.5, 1], [1, 1]]
        model = fit_by_hand(X, [[0, 0], [1, 1]], [3, 1, 1, 3])
        assert model.labels_.tolist() == [0, 0, 1, 1]
        assert model.cluster_centers_.tolist() == [[0.125, 0], [0.875, 1]]
        assert model.inertia_ == 0.375
        assert model.n_iter_ == 2
        assert model.inertia_curve_.tolist() == [0.5, 0.375]
        assert model.n_reassigned_.tolist() == [4, 0]

    def test_empty_from_the_start(self):
        """x = 1, 2 go to the last center, 3 to the first, so the second is empty.

        Of 2 and 3, both at distance 1, the first is given to it: from a cluster of two, never from one of one. In
        scikit-learn 1.9 this start ends with labels that are not what it predicts, and another inertia.
        """
        model = fit_by_hand([[1], [2], [3]], [[4], [0], [1]])
        assert model.labels_.tolist() == [2, 1, 0]
        assert model.cluster_centers_.tolist() == [[3], [2], [1]]
        assert model.inertia_ == 0
        assert model.inertia_curve_.tolist() == [2, 0]
        assert model.converged_

    def test_the_last_sample_of_a_cluster_is_not_given_away(self):
        """10 is the farthest, but alone: of 0 and 1, next at 0.5, the first is given to the center at 100."""
        model = fit_by_hand([[0], [1], [10]], [[0.5], [6], [100]])
        assert model.cluster_centers_.tolist() == [[1], [10], [0]]
        assert model.labels_.tolist() == [2, 0, 1]

    def test_a_cluster_is_not_given_away_sample_by_sample(self):
        """The first cluster has two of the farthest samples and gives one; the next comes from the second cluster."""
        X = [[-1], [1], [9.5], [10.5]]
        model = fit_by_hand(X, [[0], [10], [100], [100]], tol=0, max_iter=1)
        assert sorted(model.cluster_centers_.ravel().tolist()) == [-1, 1, 9.5, 10.5]
        assert model.cluster_centers_.ravel().tolist() == [1, 10.5, -1, 9.5]

    def test_empty_in_the_middle(self):
        """First -2 | 4 | -1, -1, 2 with means -2, 4, 0; then -1, -1 tie and go to the first, 2 ties and goes to 4.

        The third cluster is empty; 2 is the farthest (2 from 4), and its center. Means -4/3, 4, 2, inertia 6/9.
        """
        for algorithm in ALGORITHMS:
            model = fit_by_hand([[-2], [-1], [-1], [2], [4]], [[-5], [6], [2]], algorithm=algorithm)
            assert model.labels_.tolist() == [0, 0, 0, 2, 1]
            assert_allclose(model.cluster_centers_.ravel(), [-4 / 3, 4, 2], rtol=1e-15)
            assert_allclose(model.inertia_, 6 / 9, rtol=1e-14)
            assert_allclose(model.inertia_curve_, [31, 6, 6 / 9], rtol=1e-13)
            assert model.n_reassigned_.tolist() == [5, 3, 1]

    def test_weights_of_the_sample_that_moves(self):
        """The cluster of 0 and 3 (weights 2 and 1) gives 3, which is farther; of 3's cluster the weight is its own."""
        model = fit_by_hand([[0], [3], [9]], [[0], [9], [50]], [2, 1, 1])
        assert model.cluster_centers_.tolist() == [[0], [9], [3]]
        assert model.inertia_ == 0

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_a_tie_goes_to_the_lowest(self, algorithm):
        model = fit_by_hand([[-1], [0], [1]], [[-1], [1]], algorithm=algorithm)
        assert model.labels_.tolist() == [0, 0, 1]
        model = fit_by_hand([[-1], [0], [1]], [[1], [-1]], algorithm=algorithm)
        assert model.labels_.tolist() == [1, 0, 0]
        assert model.predict([[1 / 4]]).tolist() == [0]

    def test_one_cluster(self, rng):
        X, weights = rng.standard_normal((50, 3)) + 7, make_weights(rng, 50)
        model = KMeans(1, random_state=0).fit(X, sample_weight=weights)
        assert_consistent(model, X, weights)
        assert_allclose(model.cluster_centers_[0], np.average(X, axis=0, weights=weights), rtol=1e-12)
        assert model.labels_.tolist() == [0] * 50
        assert model.n_iter_ <= 2

    @pytest.mark.parametrize("offset", [0, 0.1, 1e6 + 0.3])
    def test_as_many_clusters_as_samples(self, dtype, rng, offset):
        X = (offset + rng.standard_normal((9, 3))).astype(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = KMeans(9, random_state=0).fit(X)
        assert_consistent(model, X)
        assert sorted(model.labels_.tolist()) == list(range(9))
        assert_allclose(model.cluster_centers_[model.labels_], X, rtol=4 * np.finfo(dtype).eps)

    @pytest.mark.parametrize("value", [0.0, 0.1, -1e6 - 0.3, 1e-30])
    @pytest.mark.parametrize("init", ["k-means++", "random", "given"])
    def test_all_points_equal(self, dtype, value, init):
        X = np.full((7, 2), value, dtype)
        message = "Only 1 of n_clusters=3 clusters have samples: X may have fewer distinct points; choose fewer"
        with pytest.warns(ConvergenceWarning, match=message) as record:
            model = KMeans(3, init=X[:3] - 1 if init == "given" else init, random_state=0).fit(X)
        assert record[0].filename == __file__
        assert_consistent(model, X)
        assert_array_equal(model.cluster_centers_, X[:3])
        assert model.labels_.tolist() == [0] * 7
        assert model.inertia_ == 0
        assert model.converged_

    @pytest.mark.parametrize("unit", [1, 0.1])
    @pytest.mark.parametrize("offset", [0, 1e3, 1e5])
    @pytest.mark.parametrize("algorithm", ["lloyd", "hamerly"])
    def test_fewer_distinct_points_than_clusters(self, dtype, rng, unit, offset, algorithm):
        """Each point gets a center, nobody looks for more, and no iterations are spent on rounding."""
        X = offset + unit * np.repeat([[0, 0], [1, 2], [3, 1], [3, 2]], [5, 3, 7, 2], axis=0)[rng.permutation(17)]
        X, weights = X.astype(dtype), rng.choice([0.1, 0.3, 1.0], 17)
        for init in ("k-means++", X[rng.integers(17, size=6)], X[:6] + 5):
            with pytest.warns(ConvergenceWarning, match="Only 4 of n_clusters=6 clusters have samples") as record:
                model = KMeans(6, init=init, random_state=0, algorithm=algorithm).fit(X, sample_weight=weights)
            assert len(record) == 1
            assert_consistent(model, X, weights)
            assert len(np.unique(model.labels_)) == 4
            assert model.n_iter_ < 10
            squares = ((model.cluster_centers_[model.labels_] - X) ** 2).sum(axis=1)
            assert (np.sqrt(squares) <= np.finfo(dtype).eps * np.abs(X).max(axis=1)).all()

    def test_clusters_are_found_wherever_their_samples_are(self):
        labels = np.zeros(25_000, np.int32)
        assert n_filled(labels, 1) == 1
        assert n_filled(labels, 2) == 1
        labels[-1] = 1
        assert n_filled(labels, 2) == 2
        labels[12_000] = 3
        assert n_filled(labels, 4) == 3

    def test_collinear_points(self, rng):
        places = overlapping(rng, 60, 1, 4)
        line = 3 + places * np.array([1.0, -2.0, 2.0])  # a step of 1 is a distance of 3
        model = KMeans(4, init=line[:4]).fit(line)
        assert_consistent(model, line)
        assert_allclose(model.inertia_, 9 * KMeans(4, init=places[:4]).fit(places).inertia_, rtol=1e-9)

    def test_one_feature_is_cut_into_intervals(self, dtype, rng):
        X = rng.random((100, 1)).astype(dtype)
        model = KMeans(6, random_state=0).fit(X)
        assert_consistent(model, X)
        assert np.count_nonzero(np.diff(model.labels_[X.ravel().argsort()])) == 5

    def test_ten_thousand_features(self, dtype, rng):
        X = rng.standard_normal((6, 10_000)).astype(dtype)
        X[::2] += 1
        model = KMeans(2, init=X[:2]).fit(X)
        assert_consistent(model, X)
        assert model.labels_.tolist() == [0, 1] * 3
        assert_allclose(model.cluster_centers_[0], X[::2].mean(axis=0), rtol=1e-5, atol=1e-6)

    def test_the_optimum_stays(self, dtype, rng):
        X = overlapping(rng, 80, 3, 4).astype(dtype)
        model = KMeans(4, random_state=0, tol=0).fit(X)
        again = KMeans(4, init=model.cluster_centers_, tol=0).fit(X)
        assert_array_equal(again.cluster_centers_, model.cluster_centers_)
        assert_array_equal(again.labels_, model.labels_)
        assert again.n_iter_ <= 2

    def test_distances(self):
        model = fit_by_hand([[0, 0], [0, 2], [6, 8]], [[0, 1], [6, 8]])
        assert model.transform([[0, 0], [3, 5]]).tolist() == [[1, 10], [5, math.sqrt(18)]]
        assert model.score([[0, 0], [3, 5]]) == -19
        assert model.score([[0, 0], [3, 5]], sample_weight=[2, 0]) == -2


@pytest.mark.parametrize(
    ("dtype", "scale"), [("float32", 1e-15), ("float32", 1e15), ("float64", 1e-150), ("float64", 1e150)]
)
def test_huge_and_tiny_numbers(rng, dtype, scale):
    X = (clustered(rng, 60, 3, 3) * scale).astype(dtype)
    model = KMeans(3, init=X[:3]).fit(X)
    assert_consistent(model, X)


def screened_shares(monkeypatch):
    """Shares of the samples that pass the screen, a number for each time that few samples are screened, too."""
    shares, kernel_set = [], kernels.load("cpu")
    screen_samples = kernel_set.screen_samples

    def screen(*arguments):
        screen_samples(*arguments)
        shares.append(np.unpackbits(arguments[-1]).mean())

    monkeypatch.setattr(kernel_set, "screen_samples", screen)
    monkeypatch.setattr(seeding, "SCREENED_ELEMENTS", 1)
    return shares


class TestSeeding:
    def test_owners_are_noted_where_kernels_look_them_up(self):
        assert seeding.OWNED_FEATURES == kernels.load("cpu").seeding.LIMIT_FEATURES

    @pytest.mark.parametrize(("n_local_trials", "weighted"), [(1, False), (1, True), (3, True)])
    def test_the_distribution_is_exact(self, n_local_trials, weighted):
        """Each pair of rows as often as plain arithmetic says, within four standard deviations; never more."""
        X, weights = np.array([[0.0], [1.0], [3.0], [7.0]]), [1.0, 2.0, 0.5, 1.0] if weighted else [1.0] * 4
        n_draws = 1000 if INTERPRETED else 2000
        found = {}
        for seed in range(n_draws):
            _, rows = kmeans_plusplus(X, 2, sample_weight=weights, random_state=seed, n_local_trials=n_local_trials)
            found[tuple(rows)] = found.get(tuple(rows), 0) + 1
        chances = naive.greedy_seed_probabilities(X.tolist(), weights, n_local_trials)
        assert math.isclose(math.fsum(chances.values()), 1)
        assert set(found) <= {pair for pair, chance in chances.items() if chance > 0}
        for pair, chance in chances.items():
            deviation = math.sqrt(n_draws * chance * (1 - chance))
            assert abs(found.get(pair, 0) - n_draws * chance) <= 4 * deviation + 1e-9, pair

    @pytest.mark.parametrize("n_local_trials", [1, None, 20])
    def test_a_sample_of_no_weight_is_never_drawn(self, dtype, rng, n_local_trials):
        """However far it is, and where all others are drawn already."""
        X = rng.standard_normal((12, 2)).astype(dtype)
        weights = np.where(np.arange(12) % 3 == 0, 0.0, 1.0)
        X[weights == 0] *= 1000
        for seed in range(30):
            _, rows = kmeans_plusplus(X, 8, sample_weight=weights, random_state=seed, n_local_trials=n_local_trials)
            assert (weights[rows] > 0).all()
            assert len(set(rows.tolist())) == 8
            _, rows = kmeans_plusplus(X, 10, sample_weight=weights, random_state=seed, n_local_trials=n_local_trials)
            assert (weights[rows] > 0).all()
            model = KMeans(8, init="random", n_init=1, max_iter=1, random_state=seed).fit(X, sample_weight=weights)
            assert np.isfinite(model.cluster_centers_).all()

    @pytest.mark.parametrize("offset", [0, 0.1, 1e6 + 0.3])
    def test_copies(self, dtype, offset):
        """All distinct points come first, then whatever is left."""
        X = (offset + np.repeat(np.arange(4.0), 6)[:, None] * np.ones(3)).astype(dtype)
        for seed in range(10):
            centers, rows = kmeans_plusplus(X, 6, random_state=seed)
            assert len(np.unique(centers[:4], axis=0)) == 4
            assert_array_equal(centers, X[rows])

    def test_what_is_returned(self, dtype, rng):
        X = rng.standard_normal((40, 3)).astype(dtype)
        centers, rows = kmeans_plusplus(X, 40, random_state=0)
        assert centers.dtype == dtype
        assert rows.dtype.kind == "i"
        assert_array_equal(np.sort(rows), np.arange(40))
        assert_array_equal(centers, X[rows])
        assert_array_equal(kmeans_plusplus(X.tolist(), 5, random_state=1)[1], kmeans_plusplus(X, 5, random_state=1)[1])

    def test_fit_starts_from_these_rows(self, rng):
        X, weights = overlapping(rng, 100, 4, 6), make_weights(rng, 100)
        centers, _ = kmeans_plusplus(X, 6, sample_weight=weights, random_state=7)
        model = KMeans(6, random_state=7).fit(X, sample_weight=weights)
        assert_same(model, KMeans(6, init=centers).fit(X, sample_weight=weights))

    def test_screening_picks_the_same_rows(self, dtype, rng, monkeypatch):
        """On clusters that lie apart, on noise, and where one sample is so far away that codes tell nothing."""
        n_samples = 300 if INTERPRETED else 3000
        noise = rng.random((n_samples, 40)).astype(dtype)
        apart = (3 * rng.standard_normal((30, 40)))[rng.integers(30, size=n_samples)] + noise
        outlier = noise.copy()
        outlier[17] = 1e4
        shares = {}
        units = 1e6 + np.spacing(np.array(1e6, dtype)) * rng.integers(0, 2, noise.shape)
        samples = {"apart": apart.astype(dtype), "noise": noise, "outlier": outlier, "units": units.astype(dtype)}
        for name, X in samples.items():
            expected = kmeans_plusplus(X, 40, random_state=0)[1]
            shares[name] = screened_shares(monkeypatch)
            assert_array_equal(kmeans_plusplus(X, 40, random_state=0)[1], expected)
            monkeypatch.undo()
        assert len(shares["apart"]) > 20
        assert shares["apart"][-1] < 0.3
        assert len(shares["outlier"]) == 2  # with 16 seeds and with 32
        assert min(shares["outlier"]) > 0.5
        assert shares["noise"]

    def test_what_is_not_screened(self, rng, monkeypatch):
        """Codes of more than 32 bytes that take more memory than 32 times the centers, few or many features, copies."""
        monkeypatch.setattr(seeding, "SCREENED_ELEMENTS", 1)
        kernel_set = kernels.load("cpu")

        def screens(X, n_clusters):
            screen = seeding.Screen(kernel_set, X, n_clusters)
            return screen.may_improve(16, np.ones(len(X), X.dtype), np.arange(3)).size > 0

        most = rng.random((32 * 4 * 18 + 1, 33), dtype=np.float32)
        assert not screens(most, 18)
        assert screens(most[:, :32].copy(), 18)
        assert screens(most[:-1], 18)
        assert screens(most.astype(np.float64), 18)
        assert screens(most[:500, :12].copy(), 40)
        assert not screens(most[:500, :11].copy(), 40)
        assert not screens(rng.random((20, 2**16 + 1), dtype=np.float32), 18)
        assert not screens(np.ones((500, 32)), 40)
        monkeypatch.undo()
        assert not screens(most[:-1], 18)

    @pytest.mark.compiled
    @pytest.mark.parametrize(("dtype", "scale"), [("f4", 1e-42), ("f4", 1e17), ("f8", 1e-310), ("f8", 1e151)])
    def test_screening_of_extreme_numbers(self, rng, monkeypatch, dtype, scale):
        """No warning, and the same rows."""
        X = (scale * rng.uniform(-9, 9, (60, 40))).astype(dtype)
        rows = []
        for elements in (1, 10**9):
            monkeypatch.setattr(seeding, "SCREENED_ELEMENTS", elements)
            rows.append(kmeans_plusplus(X, 20, random_state=0)[1])
        assert_array_equal(*rows)

    @pytest.mark.compiled
    @pytest.mark.parametrize(("dtype", "distance"), [("f4", 3e19), ("f4", 3e38), ("f8", 1.5e154)])
    def test_samples_too_far_apart_are_refused(self, rng, dtype, distance):
        """Not seeded as if they were endlessly far; who draws again goes on as if there was no failure."""
        X = rng.random((60, 3)).astype(dtype)
        X[30:] += np.array(distance, dtype)
        random_state = np.random.RandomState(0)
        with pytest.raises(ValueError, match="X spreads too far"):
            kmeans_plusplus(X, 4, random_state=random_state)
        assert random_state.rand() == np.random.RandomState(0).rand()

    def test_codes_of_subnormal_numbers(self, rng, monkeypatch):
        """A scale of so few units that it is off by a good part of itself is not used."""
        monkeypatch.setattr(seeding, "SCREENED_ELEMENTS", 1)
        screen = seeding.Screen(kernels.load("cpu"), 5e-322 * rng.uniform(-1, 1, (60, 40)), 60)
        assert not screen.quantize()
        assert screen.next_seed == math.inf

    def test_greed_pays(self, rng):
        """More candidates leave less, on average, of what the seeds alone leave."""
        X = clustered(rng, 100, 2, 8)
        left = {}
        for trials in (1, 20):
            centers = [kmeans_plusplus(X, 8, random_state=seed, n_local_trials=trials)[0] for seed in range(8)]
            left[trials] = sum(((X[:, None] - c) ** 2).sum(axis=2).min(axis=1).sum() for c in centers)
        assert left[20] < left[1]


class TestRuns:
    @pytest.mark.parametrize("init", ["random", "k-means++", "callable"])
    def test_the_best_of_several_is_kept(self, rng, init):
        X = overlapping(rng, 70, 2, 8)
        if init == "callable":
            init = lambda X, n_clusters, random_state: X[random_state.permutation(len(X))[:n_clusters]]  # noqa: E731
        state = np.random.RandomState(3)
        runs = [KMeans(8, init=init, n_init=1, random_state=state).fit(X) for _ in range(6)]
        best = KMeans(8, init=init, n_init=6, random_state=3).fit(X)
        assert_allclose(best.inertia_, min(run.inertia_ for run in runs), rtol=1e-12)
        assert any(run.n_iter_ == best.n_iter_ and (run.labels_ == best.labels_).all() for run in runs)

    def test_auto_is_ten_runs_of_random_starts_and_one_of_others(self, rng, monkeypatch):
        X, calls = overlapping(rng, 40, 2, 3), []

        def init(X, n_clusters, random_state):
            calls.append(n_clusters)
            return X[:n_clusters]

        KMeans(3, init=init).fit(X)
        assert calls == [3] * 10
        for name, n_init in (("random", 10), ("k-means++", 1)):
            ten = KMeans(3, init=name, random_state=0).fit(X)
            assert_same(ten, KMeans(3, init=name, n_init=n_init, random_state=0).fit(X))

    def test_given_centers_are_started_from_once(self, rng):
        X = overlapping(rng, 40, 2, 3)
        message = "Explicit initial centers were passed: KMeans starts from them once, not n_init=5 times"
        with pytest.warns(RuntimeWarning, match=message) as record:
            model = KMeans(3, init=X[:3], n_init=5).fit(X)
        assert record[0].filename == __file__
        assert_same(model, KMeans(3, init=X[:3]).fit(X))

    def test_given_centers_stay_as_they_are(self, dtype, rng):
        X = overlapping(rng, 40, 2, 3).astype(dtype)
        init = X[:3].copy()
        model = KMeans(3, init=init).fit(X)
        assert_array_equal(init, X[:3])
        assert not np.shares_memory(init, model.cluster_centers_)
        assert_same(model, KMeans(3, init=init.tolist()).fit(X))

    def test_max_iter_is_said(self, rng):
        X = overlapping(rng, 90, 2, 6)
        message = "k-means has not converged after max_iter=2 iterations; raise max_iter or tol"
        with pytest.warns(ConvergenceWarning, match=message) as record:
            model = KMeans(6, init=X[:6], max_iter=2, tol=0).fit(X)
        assert record[0].filename == __file__
        assert len(record) == 1
        assert not model.converged_
        assert model.n_iter_ == 2
        assert_consistent(model, X)

    def test_a_converged_fit_says_nothing(self, rng, capsys):
        X = overlapping(rng, 90, 2, 6)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = KMeans(6, random_state=0).fit(X)
        assert model.converged_
        assert capsys.readouterr() == ("", "")

    def test_verbose_writes_a_line_an_iteration(self, rng, capsys):
        X = overlapping(rng, 60, 2, 4)
        model = KMeans(4, random_state=0, verbose=1).fit(X)
        out, err = capsys.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert len(lines) == model.n_iter_
        assert lines[0] == f"iteration 1  inertia {model.inertia_curve_[0]:.6g}  60 samples changed cluster"
        assert_same(model, KMeans(4, random_state=0).fit(X))

    def test_the_random_states_of_others_are_left_alone(self, rng):
        X, legacy = overlapping(rng, 60, 2, 4), np.random.mtrand._rand
        before, python = copy.deepcopy(legacy.get_state()), random.getstate()
        for init in ("k-means++", "random"):
            KMeans(4, init=init, random_state=0).fit(X)
        kmeans_plusplus(X, 4, random_state=0)
        k_means(X, 4, random_state=0)
        assert_array_equal(legacy.get_state()[1], before[1])
        assert legacy.get_state()[2:] == before[2:]
        assert random.getstate() == python

    def test_without_a_random_state_fits_differ(self, rng):
        X = uniform(rng, 200, 2, 0)
        assert len({KMeans(12, max_iter=1).fit(X).inertia_ for _ in range(5)}) > 1

    def test_fit_and_what_follows_at_once(self, rng):
        X, weights = overlapping(rng, 60, 2, 4), make_weights(rng, 60)
        model = KMeans(4, random_state=0).fit(X, sample_weight=weights)
        assert_array_equal(KMeans(4, random_state=0).fit_predict(X, sample_weight=weights), model.labels_)
        assert_array_equal(KMeans(4, random_state=0).fit_transform(X, sample_weight=weights), model.transform(X))
        centers, labels, inertia = k_means(X, 4, sample_weight=weights, random_state=0)
        assert_array_equal(centers, model.cluster_centers_)
        assert_array_equal(labels, model.labels_)
        assert inertia == model.inertia_

    def test_centers_that_are_written_are_in_force(self, rng):
        X = overlapping(rng, 60, 2, 4)
        model = KMeans(4, random_state=0).fit(X)
        for _ in range(2):  # by the long way and by the short one
            labels = model.predict(X)
            model.cluster_centers_[[0, 1]] = model.cluster_centers_[[1, 0]]
            assert_array_equal(model.predict(X), np.array([1, 0, 2, 3])[labels])

    def test_fits_do_not_share_anything(self, rng):
        """In either order: a model that was fitted in between changes nothing."""
        X, Y = overlapping(rng, 60, 2, 4), overlapping(rng, 90, 12, 5)
        one, other = KMeans(4, random_state=0).fit(X), KMeans(5, random_state=1).fit(Y)
        other_first, one_then = KMeans(5, random_state=1).fit(Y), KMeans(4, random_state=0).fit(X)
        assert_same(one, one_then)
        assert_same(other, other_first)
        assert_same(one.fit(Y).fit(X), one_then)


class TestCosine:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("n_features", [2, 5, 12])
    def test_is_spherical_k_means(self, dtype, rng, weighted, n_features):
        X = (overlapping(rng, 60, n_features, 4) * rng.uniform(0.1, 10, (60, 1))).astype(dtype)
        weights = make_weights(rng, 60).astype(dtype) if weighted else None
        model = KMeans(4, init=X[:4], metric="cosine", tol=0).fit(X, sample_weight=weights)
        plain_weights = [1.0] * 60 if weights is None else weights.tolist()
        centers, labels, inertia = naive.spherical_k_means(X.tolist(), plain_weights, X[:4].tolist())
        if dtype == np.float64:  # in float32 a sample between two centers may go either way
            assert model.labels_.tolist() == labels
            assert_allclose(model.cluster_centers_, centers, rtol=1e-10, atol=1e-12)
        assert_allclose(model.inertia_, inertia, rtol=1e-10 if dtype == np.float64 else 0.05)
        assert_allclose((model.cluster_centers_.astype(np.float64) ** 2).sum(axis=1), 1, rtol=1e-6)
        assert_array_equal(model.predict(X), model.labels_)
        assert model.score(X, sample_weight=weights) == -model.inertia_
        assert (np.diff(model.inertia_curve_) <= 1e-5).all()
        cosines = (X / np.linalg.norm(X, axis=1, keepdims=True)) @ model.cluster_centers_.T
        assert_allclose(model.transform(X), 1 - cosines, atol=16 * np.finfo(dtype).eps)
        own = np.array(plain_weights) @ (1 - cosines.astype(np.float64))[np.arange(60), model.labels_]
        assert_allclose(model.inertia_, own, rtol=1e-5)
        assert model.labels_.tolist() == (1 - model.transform(X)).argmax(axis=1).tolist() or dtype == np.float32

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_lengths_of_rows_have_no_say(self, dtype, rng, algorithm):
        """Factors of two change no bit of a direction."""
        X = overlapping(rng, 80, 3, 4).astype(dtype)
        scaled = X * np.exp2(rng.integers(-20, 20, (80, 1))).astype(dtype)
        one, other = (KMeans(4, metric="cosine", random_state=0, algorithm=algorithm).fit(data) for data in (X, scaled))
        assert_same(one, other)
        assert_array_equal(one.predict(scaled), one.labels_)
        assert one.score(scaled) == -one.inertia_

    @pytest.mark.parametrize("scale", [1e-15, 1e15])
    def test_tiny_and_huge_rows(self, dtype, rng, scale):
        X = overlapping(rng, 80, 3, 4)
        one, other = (KMeans(4, metric="cosine", random_state=0).fit((X * s).astype(dtype)) for s in (1, scale))
        assert_allclose(one.inertia_, other.inertia_, rtol=1e-3)

    def test_by_hand(self):
        """Two directions at 60 degrees have the mean at 30: 1 - cos 30 for each; the third is alone."""
        X = np.array([[2, 0], [1, math.sqrt(3)], [0, -5]])
        model = KMeans(2, init=X[[0, 2]], metric="cosine").fit(X)
        assert model.labels_.tolist() == [0, 0, 1]
        assert_allclose(model.cluster_centers_, [[math.sqrt(3) / 2, 0.5], [0, -1]], atol=1e-15)
        assert_allclose(model.inertia_, 2 * (1 - math.sqrt(3) / 2), rtol=1e-14)
        assert_allclose(model.transform([[0, 1]]), [[0.5, 2]], rtol=1e-14)

    def test_opposite_directions_have_no_mean(self):
        model = KMeans(1, metric="cosine").fit([[1.0, 0.0], [-1.0, 0.0]])
        assert np.isfinite(model.cluster_centers_).all()
        assert np.isfinite(model.inertia_)
        assert model.labels_.tolist() == [0, 0]

    def test_an_empty_cluster(self, rng):
        X = overlapping(rng, 50, 2, 3)
        X[:, 0] = np.abs(X[:, 0]) + 1
        model = KMeans(3, init=[[1, 0.1], [1, -0.1], [-1, 0]], metric="cosine").fit(X)
        assert len(np.unique(model.labels_)) == 3
        assert_array_equal(model.predict(X), model.labels_)
        assert model.score(X) == -model.inertia_


DIGESTS = """
import hashlib
import numba
import numpy as np
from gdl import KMeans, kmeans_plusplus

def digest(n_samples, n_features, n_clusters, algorithm, dtype):
    rng = np.random.default_rng(0)
    X = (3 * rng.standard_normal((n_clusters, n_features)))[rng.integers(n_clusters, size=n_samples)]
    X = (X + rng.standard_normal(X.shape)).astype(dtype)
    weights = rng.uniform(0, 2, n_samples)
    model = KMeans(n_clusters, random_state=1, tol=0, max_iter=8, algorithm=algorithm).fit(X, sample_weight=weights)
    found = model.cluster_centers_, model.labels_, model.inertia_curve_, np.array(model.inertia_), model.transform(X)
    return [hashlib.sha256(array.tobytes()).hexdigest()[:12] for array in found]

def digests():
    shapes = (20_000, 5, 8), (5_000, 40, 16)
    return [digest(*shape, algorithm, dtype) for shape in shapes for algorithm in ("lloyd", "hamerly")
            for dtype in ("float32", "float64")] + [digest(26_000, 40, 210, "lloyd", "float32")]  # screened

import warnings
warnings.simplefilter("ignore")
for n_threads in [numba.config.NUMBA_NUM_THREADS] * 2 + [1]:
    numba.set_num_threads(n_threads)
    print(digests())
"""


@pytest.mark.compiled
def test_any_number_of_threads_gives_the_same_bits():
    """Of data large enough for many chunks, and on repeated runs."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    printed = {}
    for n_threads in (1, 2, 3, 8):
        environment = os.environ | {"NUMBA_NUM_THREADS": str(n_threads), "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-c", DIGESTS]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        printed[n_threads] = result.stdout.splitlines()
    assert len(printed[1]) == 3
    assert len(printed[1][0]) > 300
    assert set(itertools.chain(*printed.values())) == {printed[1][0]}, printed


@pytest.mark.compiled
@pytest.mark.parametrize(("n_samples", "n_features"), [(20_000, 5), (5_000, 40)])
def test_fits_in_threads_are_fits_alone(dtype, rng, n_samples, n_features):
    """Eight Python threads at once, each with its own start."""
    X = clustered(rng, n_samples, n_features, 10).astype(dtype)
    alone = [KMeans(10, random_state=seed, max_iter=5, tol=0).fit(X) for seed in range(8)]
    together = [KMeans(10, random_state=seed, max_iter=5, tol=0) for seed in range(8)]
    failures = []

    def fit(model):
        try:
            model.fit(X)
        except Exception as error:
            failures.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = [threading.Thread(target=fit, args=(model,)) for model in together]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)


def test_the_comparison_can_fail(rng):
    X = overlapping(rng, 60, 2, 4)
    model = KMeans(4, random_state=0).fit(X)
    assert_consistent(model, X)
    for name, value in [
        ("labels_", np.roll(model.labels_, 1)),
        ("inertia_", np.nextafter(model.inertia_, 1)),
        ("inertia_curve_", model.inertia_curve_[::-1]),
    ]:
        other = copy.deepcopy(model)
        setattr(other, name, value)
        with pytest.raises(AssertionError):
            assert_consistent(other, X)
        with pytest.raises(AssertionError):
            assert_same(model, other)

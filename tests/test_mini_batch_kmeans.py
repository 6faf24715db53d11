"""Mini-batch k-means beside scikit-learn's, plain loops and numbers worked by hand; its state; its interface."""

import copy
import os
import pickle
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import cluster
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

from gdl import MiniBatchKMeans

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
SEEDS = range(2 if INTERPRETED else 5)


def blobs(rng, n_samples=300, n_features=4, n_blobs=6, spread=4.0):
    """Return samples around a few points, and their numbers."""
    numbers = rng.integers(0, n_blobs, n_samples)
    places = spread * rng.standard_normal((n_blobs, n_features))
    return places[numbers] + rng.standard_normal((n_samples, n_features)), numbers


def callable_init(X, n_clusters, random_state):
    return X[random_state.permutation(len(X))[:n_clusters]]


# Beside scikit-learn


def assert_like(model, expected, labels=True):
    assert_allclose(model.cluster_centers_, expected.cluster_centers_, rtol=1e-9, atol=1e-9)
    assert model.n_steps_ == expected.n_steps_
    if labels:
        assert_array_equal(model.labels_, expected.labels_)
        assert_allclose(model.inertia_, expected.inertia_, rtol=1e-9, atol=1e-12)


FITS = {
    "default": {},
    "small batches": {"batch_size": 32},
    "random": {"init": "random", "batch_size": 32},
    "callable": {"init": callable_init, "batch_size": 32},
    "many inits": {"n_init": 4, "batch_size": 16, "init_size": 40},
    "no reassignment": {"batch_size": 32, "reassignment_ratio": 0},
    "much reassignment": {"batch_size": 16, "reassignment_ratio": 0.7},
    "more clusters than half a batch": {"batch_size": 8, "init_size": 30, "reassignment_ratio": 1.0},
    "tol": {"batch_size": 32, "tol": 0.01, "max_no_improvement": None},
    "tol and inertia": {"batch_size": 32, "tol": 1e-3, "max_no_improvement": 3},
    "every step": {"batch_size": 64, "max_no_improvement": None},
    "impatient": {"batch_size": 32, "max_no_improvement": 0},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", FITS)
def test_fit_is_scikit_learns(rng, case, weighted):
    X, _ = blobs(rng)
    sample_weight = rng.random(300) * (rng.random(300) < 0.8) if weighted else None
    for seed in SEEDS:
        parameters = {"n_clusters": 7, "max_iter": 4, "random_state": seed, **FITS[case]}
        expected = cluster.MiniBatchKMeans(**parameters).fit(X, sample_weight=sample_weight)
        model = MiniBatchKMeans(**parameters).fit(X, sample_weight=sample_weight)
        assert_like(model, expected)
        assert model.n_iter_ == expected.n_iter_


def test_fit_from_given_centers_is_scikit_learns(rng):
    X, _ = blobs(rng)
    for seed in SEEDS:
        parameters = {"n_clusters": 7, "init": X[:7], "batch_size": 32, "random_state": seed}
        assert_like(MiniBatchKMeans(**parameters).fit(X), cluster.MiniBatchKMeans(**parameters).fit(X))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("init", ["k-means++", "random", callable_init])
@pytest.mark.parametrize("ratio", [0, 0.3])
def test_partial_fit_is_scikit_learns(rng, init, ratio, weighted):
    for seed in SEEDS:
        parameters = {"n_clusters": 5, "init": init, "reassignment_ratio": ratio, "init_size": 15}
        parameters |= {"batch_size": 20, "random_state": seed}
        model, expected = MiniBatchKMeans(**parameters), cluster.MiniBatchKMeans(**parameters)
        for n_samples in (40, 7, 1, 64, 20, 20):
            X, _ = blobs(rng, n_samples)
            sample_weight = rng.random(n_samples) + 0.1 if weighted else None
            model.partial_fit(X, sample_weight=sample_weight)
            expected.partial_fit(X, sample_weight=sample_weight)
            assert_like(model, expected)


def test_partial_fit_after_fit_is_scikit_learns(rng):
    X, _ = blobs(rng)
    parameters = {"n_clusters": 5, "batch_size": 20, "random_state": 1, "reassignment_ratio": 0.5}
    model, expected = MiniBatchKMeans(**parameters).fit(X), cluster.MiniBatchKMeans(**parameters).fit(X)
    for _ in range(4):
        batch, _ = blobs(rng, 30)
        assert_like(model.partial_fit(batch), expected.partial_fit(batch))
    assert model.n_iter_ == expected.n_iter_
    assert_like(model.fit(X), expected.fit(X))


def test_random_state_of_the_user_is_drawn_from_like_scikit_learns(rng):
    X, _ = blobs(rng)
    mine, theirs = np.random.RandomState(3), np.random.RandomState(3)
    MiniBatchKMeans(5, batch_size=32, random_state=mine).fit(X)
    cluster.MiniBatchKMeans(5, batch_size=32, random_state=theirs).fit(X)
    assert mine.random_sample() == theirs.random_sample()


def test_float32_is_near_scikit_learns_float64(rng):
    X, _ = blobs(rng)
    parameters = {"n_clusters": 6, "batch_size": 64, "random_state": 0, "init": X[:6], "max_no_improvement": None}
    model = MiniBatchKMeans(**parameters, max_iter=3).fit(X.astype(np.float32))
    expected = cluster.MiniBatchKMeans(**parameters, max_iter=3).fit(X)
    assert model.cluster_centers_.dtype == np.float32
    assert_allclose(model.cluster_centers_, expected.cluster_centers_, rtol=1e-4, atol=1e-4)


# By hand, and by plain loops


def test_two_batches_by_hand():
    model = MiniBatchKMeans(2, init=[[0.0], [10.0]], reassignment_ratio=0)
    model.partial_fit([[1.0], [3.0], [8.0]])
    assert_array_equal(model.cluster_centers_, [[2.0], [8.0]])
    assert_array_equal(model.labels_, [0, 0, 1])
    assert model.inertia_ == 1 + 1 + 0
    model.partial_fit([[5.0], [4.0], [12.0]], sample_weight=[0, 2, 3])  # 5.0 is as near to both, and weighs nothing
    assert_array_equal(model.cluster_centers_, [[(2 * 2 + 2 * 4) / 4], [(8 + 3 * 12) / 4]])
    assert_allclose(model.inertia_curve_, [(1 + 9 + 4) / 3, (2 * 4 + 3 * 16) / 5], rtol=1e-15)
    assert model.n_steps_ == 2
    assert not model.converged_


def test_forgetting_by_hand():
    model = MiniBatchKMeans(1, init=[[0.0]], forgetting=0.75)
    model.partial_fit([[2.0], [6.0]])
    assert model.cluster_centers_ == 4  # of weight 2, then 0.5
    model.partial_fit([[7.0]])
    assert model.cluster_centers_ == (0.5 * 4 + 7) / 1.5


def test_reassignment_by_hand():
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    model = MiniBatchKMeans(3, init=[[1.5], [100.0], [200.0]], random_state=4).partial_fit(X)
    rows = np.random.RandomState(4).choice(4, replace=False, size=2)
    assert_array_equal(model.cluster_centers_, [[1.5], *X[rows]])
    assert_array_equal(model.n_reassigned_, [2])
    model.partial_fit(X[rows])  # they have the heaviest's count of 4 now, and the nearest of the samples
    assert_allclose(model.cluster_centers_, [[1.5], *X[rows]], rtol=1e-15)
    assert_array_equal(model.n_reassigned_, [2, 0])


def test_at_most_half_a_batch_is_reassigned():
    far = 100.0 + np.arange(6)[:, None]
    model = MiniBatchKMeans(7, init=[[0.0], *far], random_state=0, batch_size=4, init_size=7)
    model.partial_fit(np.zeros((7, 1)))
    assert model.n_reassigned_[0] == 3
    assert (model.cluster_centers_ < 50).sum() == 4


def test_a_ratio_above_one_leaves_the_heaviest(rng):
    X, _ = blobs(rng)
    model = MiniBatchKMeans(3, batch_size=50, reassignment_ratio=2.0, random_state=0).fit(X)  # scikit-learn fails
    assert model.n_reassigned_.max() == 2


def normalized(X):
    return X / np.sqrt((X**2).sum(axis=1, keepdims=True))


def naive_stream(batches, weights, centers, forgetting, spherical):
    """Return the centers after all batches, one sample after another, and the mean inertia of each batch."""
    centers, counts, curve = [c.astype(np.float64) for c in centers], [0.0] * len(centers), []
    for X, w in zip(batches, weights, strict=True):
        labels = [min(range(len(centers)), key=lambda k: ((x - centers[k]) ** 2).sum()) for x in X]
        distances = [((x - centers[k]) ** 2).sum() for x, k in zip(X, labels, strict=True)]
        curve.append(sum(w * distances) / sum(w) / (2 if spherical else 1))
        counts = [count * (1 - forgetting) for count in counts]
        for x, weight, k in zip(X, w, labels, strict=True):
            counts[k] += weight
            centers[k] = centers[k] + weight / counts[k] * (x - centers[k])
        if spherical:
            centers = [c / np.sqrt((c**2).sum()) for c in centers]
    return np.array(centers), curve


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("forgetting", [0.0, 0.2])
def test_steps_are_those_of_plain_loops(rng, metric, forgetting, dtype):
    batches = [(blobs(rng, n)[0] + 1).astype(dtype) for n in (30, 9, 21, 14)]
    weights = [rng.random(len(batch)) + 0.5 for batch in batches]
    spherical = metric == "cosine"
    init = batches[0][:4]
    model = MiniBatchKMeans(4, init=init, metric=metric, forgetting=forgetting, reassignment_ratio=0)
    for X, w in zip(batches, weights, strict=True):
        model.partial_fit(X, sample_weight=w)
    seen = [normalized(X.astype(np.float64)) if spherical else X for X in batches]
    centers, curve = naive_stream(
        seen, weights, normalized(init.astype(np.float64)) if spherical else init, forgetting, spherical
    )
    tolerance = 1e-4 if dtype == np.float32 else 1e-11
    assert_allclose(model.cluster_centers_, centers, rtol=tolerance, atol=tolerance)
    assert_allclose(model.inertia_curve_, curve, rtol=tolerance)


def test_forgetting_follows_a_drift(rng):
    forgetful, faithful = (MiniBatchKMeans(2, init=[[-1.0], [1.0]], forgetting=forgetting) for forgetting in (0.3, 0.0))
    for step in range(60):
        X = 0.1 * step + rng.choice([-1.0, 1.0], (40, 1)) + 0.01 * rng.standard_normal((40, 1))
        forgetful.partial_fit(X)
        faithful.partial_fit(X)
    assert forgetful.score(X) > 10 * faithful.score(X)
    assert_allclose(np.sort(forgetful.cluster_centers_[:, 0]), [4.9, 6.9], atol=0.4)


@pytest.mark.compiled
def test_float32_keeps_its_digits_when_the_stream_drifts_far(rng):
    """The centers are 1 apart at 30,000: products of such float32 numbers have errors of 64."""
    places = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    model = MiniBatchKMeans(3, init=places, forgetting=0.9, reassignment_ratio=0)
    for step in range(400):
        numbers = np.arange(60) % 3
        X = places[numbers] + 0.02 * rng.standard_normal((60, 2)) + 0.2 * step
        model.partial_fit(X.astype(np.float32))
    for step in range(30_000, 30_101):
        model.cluster_centers_[:] = places + step
        model.partial_fit((places[numbers] + step).astype(np.float32))
    assert_array_equal(model.labels_, numbers)
    assert_array_equal(model.predict((places + 30_100).astype(np.float32)), [0, 1, 2])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_blobs_are_found(rng, metric):
    numbers = rng.integers(0, 4, 2000)
    X = np.eye(4)[numbers] + 0.05 * rng.standard_normal((2000, 4))
    model = MiniBatchKMeans(4, batch_size=100, metric=metric, random_state=0).fit(X)
    assert len({*zip(numbers, model.labels_, strict=True)}) == 4
    assert model.converged_
    assert model.inertia_ < 0.05 * len(X)


def test_weights_are_repetitions_on_average(rng):
    X = np.concatenate([np.full((50, 1), -1.0), np.full((50, 1), 1.0)])
    sample_weight = np.repeat([3.0, 1.0], 50)
    parameters = {"max_iter": 200, "max_no_improvement": None, "batch_size": 50, "random_state": 0}
    weighted = MiniBatchKMeans(1, **parameters).fit(X, sample_weight=sample_weight)
    repeated = MiniBatchKMeans(1, **parameters).fit(np.repeat(X, sample_weight.astype(int), axis=0))
    assert_allclose(weighted.cluster_centers_, -0.5, atol=0.03)
    assert_allclose(repeated.cluster_centers_, -0.5, atol=0.03)


def test_samples_of_weight_zero_do_not_matter(rng):
    X, _ = blobs(rng)
    sample_weight = np.zeros(300)
    sample_weight[[5, 77, 123, 250]] = 1, 2, 3, 4
    for init in ("k-means++", "random"):  # where scikit-learn draws a sample of weight 0, it fails
        model = MiniBatchKMeans(3, init=init, batch_size=4, init_size=6, random_state=0, reassignment_ratio=0)
        model.fit(X, sample_weight=sample_weight)
        spread = X[sample_weight > 0]
        assert (model.cluster_centers_ >= spread.min(axis=0) - 1e-9).all()
        assert (model.cluster_centers_ <= spread.max(axis=0) + 1e-9).all()


# What a fit ends with


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_and_inertia_are_those_of_predict_and_score(rng, dtype, offset, scale, weighted):
    X = (scale * (blobs(rng)[0] + offset)).astype(dtype)
    sample_weight = rng.random(300) if weighted else None
    model = MiniBatchKMeans(5, batch_size=64, max_iter=3, random_state=0).fit(X, sample_weight=sample_weight)
    for _ in range(2):
        assert_array_equal(model.labels_, model.predict(X))
        assert model.inertia_ == -model.score(X, sample_weight=sample_weight)
        model.partial_fit(X, sample_weight=sample_weight)


@pytest.mark.parametrize("part_bytes", [2**26, 100])
def test_labels_and_inertia_by_cosine(rng, dtype, monkeypatch, part_bytes):
    monkeypatch.setattr("gdl.mini_batch.PART_BYTES", part_bytes)
    X = (blobs(rng)[0] + 1).astype(dtype)
    model = MiniBatchKMeans(5, batch_size=64, max_iter=3, random_state=0, metric="cosine", tol=1e-5).fit(X)
    assert_array_equal(model.labels_, model.predict(X))
    assert_allclose(model.inertia_, -model.score(X), rtol=1e-12)
    assert_allclose((model.cluster_centers_.astype(np.float64) ** 2).sum(axis=1), 1, rtol=1e-6)
    cosines = normalized(X.astype(np.float64)) @ model.cluster_centers_.T.astype(np.float64)
    assert_allclose(model.inertia_, (1 - cosines.max(axis=1)).sum(), rtol=1e-4)


@pytest.mark.parametrize("part_bytes", [2**26, 100])
def test_tol_by_cosine_is_of_the_variance(rng, monkeypatch, part_bytes):
    monkeypatch.setattr("gdl.mini_batch.PART_BYTES", part_bytes)
    from gdl.kernels import reference
    from gdl.mini_batch import mean_variance

    X = blobs(rng)[0] + 1
    assert_allclose(mean_variance(reference, X, True), normalized(X).var(axis=0).mean(), rtol=1e-12)


def test_curves_have_a_value_a_step(rng):
    X, _ = blobs(rng)
    model = MiniBatchKMeans(6, batch_size=50, max_no_improvement=None, max_iter=3, random_state=0).fit(X)
    assert model.n_steps_ == 18
    assert model.n_iter_ == 3
    assert model.inertia_curve_.shape == model.n_reassigned_.shape == (18,)
    assert model.inertia_curve_.dtype == np.float64
    assert model.n_reassigned_.dtype == np.int64
    assert not model.converged_
    assert_allclose(model.inertia_curve_[-5:].mean(), model.inertia_ / 300, rtol=0.3)
    model.partial_fit(X)
    assert model.inertia_curve_.shape == (19,)


def test_without_labels(rng):
    X, _ = blobs(rng)
    parameters = {"n_clusters": 6, "batch_size": 60, "random_state": 0, "compute_labels": False}
    model = MiniBatchKMeans(**parameters).fit(X)
    assert not hasattr(model, "labels_")
    assert_allclose(model.inertia_, cluster.MiniBatchKMeans(**parameters).fit(X).inertia_, rtol=1e-9)
    assert_array_equal(MiniBatchKMeans(**parameters).fit_predict(X), model.predict(X))
    model.partial_fit(X[:20])
    assert_allclose(model.inertia_, 20 * model.inertia_curve_[-1], rtol=1e-12)
    model.set_params(compute_labels=True).fit(X)
    assert_array_equal(model.labels_, model.predict(X))
    assert not hasattr(model.set_params(compute_labels=False).fit(X), "labels_")


def test_without_labels_after_one_step(rng):
    X, _ = blobs(rng, 20)
    model = MiniBatchKMeans(2, max_iter=1, compute_labels=False).fit(X)
    assert_allclose(model.inertia_, 20 * model.inertia_curve_[0], rtol=1e-12)


def test_the_best_of_several_first_centers(rng):
    X = np.repeat([[0.0], [1.0], [50.0]], 20, axis=0)
    n_calls = 0

    def init(X, n_clusters, random_state):
        nonlocal n_calls
        n_calls += 1
        return [[0.0], [1.0], [50.0]] if n_calls == 2 else [[0.0], [0.1], [0.2]]

    model = MiniBatchKMeans(3, init=init, n_init=4, max_iter=1, reassignment_ratio=0, random_state=0).fit(X)
    assert n_calls == 4
    assert_array_equal(model.cluster_centers_, [[0.0], [1.0], [50.0]])


# A stream


def assert_same(one, other):
    assert_array_equal(one.cluster_centers_, other.cluster_centers_)
    assert_array_equal(one.inertia_curve_, other.inertia_curve_)
    assert_array_equal(one.n_reassigned_, other.n_reassigned_)
    assert_array_equal(one.labels_, other.labels_)
    assert (one.inertia_, one.n_steps_) == (other.inertia_, other.n_steps_)


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_fit_and_partial_fit_are_the_same_steps(rng, dtype, metric, offset):
    X = (blobs(rng)[0] + offset + 0.1).astype(dtype)
    parameters = {"n_clusters": 7, "init": X[:7], "batch_size": 20, "max_iter": 8, "max_no_improvement": None}
    parameters |= {"metric": metric, "forgetting": 0.1, "reassignment_ratio": 0.2}
    at_once = MiniBatchKMeans(**parameters, random_state=2).fit(X)

    draws = np.random.RandomState(2)
    draws.randint(0, 300, 60), draws.randint(0, 300, 60)  # what fit would choose first centers from, and by
    stream = MiniBatchKMeans(**parameters, random_state=draws)
    for _ in range(120):
        stream.partial_fit(X[draws.choice(300, 20, p=np.full(300, 1 / 300))])
    assert at_once.n_steps_ == 120
    assert at_once.n_reassigned_.sum() > 0
    for name in ("cluster_centers_", "inertia_curve_", "n_reassigned_"):
        assert_array_equal(getattr(stream, name), getattr(at_once, name))
    assert_array_equal(stream.predict(X), at_once.labels_)


@pytest.mark.parametrize("random_state", [0, None])
def test_a_stream_goes_on_after_pickling(rng, random_state):
    batches = [blobs(rng, 20)[0] for _ in range(8)]
    np.random.seed(0)  # noqa: NPY002 - what random_state=None draws from
    stream = MiniBatchKMeans(5, batch_size=20, random_state=random_state, reassignment_ratio=1.0)
    for batch in batches[:4]:
        stream.partial_fit(batch)
    stream.predict(batches[0])
    copies = pickle.loads(pickle.dumps(stream)), copy.deepcopy(stream)
    for batch in batches[4:]:
        stream.partial_fit(batch)
    for other in copies:
        for batch in batches[4:]:
            other.partial_fit(batch)
        assert_same(other, stream)
    assert stream.n_reassigned_[4:].sum() > 0


def test_what_is_written_into_the_centers_is_learned_from():
    model = MiniBatchKMeans(2, init=[[0.0], [9.0]], reassignment_ratio=0).partial_fit([[0.0], [9.0]])
    model.cluster_centers_[0] = 6
    assert_array_equal(model.partial_fit([[5.0]]).cluster_centers_, [[5.5], [9.0]])
    model.cluster_centers_ = np.array([[1.0], [2.0]])
    assert_array_equal(model.partial_fit([[1.0]]).cluster_centers_, [[1.0], [2.0]])


FAILURES = {
    "NaN": (lambda X: {"X": np.full_like(X, np.nan)}, "NaN"),
    "columns": (lambda X: {"X": X[:, 1:]}, "has 3 features, but MiniBatchKMeans is expecting 4"),
    "sparse": (lambda X: {"X": scipy.sparse.csr_array(X)}, "takes dense arrays only"),
    "negative weights": (lambda X: {"X": X, "sample_weight": -np.ones(len(X))}, "(?i)negative"),
    "NaN weights": (lambda X: {"X": X, "sample_weight": np.full(len(X), np.nan)}, "NaN"),
    "zero weights": (lambda X: {"X": X, "sample_weight": np.zeros(len(X))}, "at least one non-zero"),
    "too many weights": (lambda X: {"X": X, "sample_weight": np.ones(len(X) + 1)}, "sample_weight.shape"),
    "great weights": (lambda X: {"X": X, "sample_weight": np.full(len(X), 1e308)}, "weights of the samples sum to"),
    "spread": (lambda X: {"X": 1e200 * X}, "X spreads too far for float64"),
}


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("case", FAILURES)
def test_a_bad_call_changes_nothing(rng, case):
    make, message = FAILURES[case]
    X, _ = blobs(rng, 40)
    stream = MiniBatchKMeans(5, random_state=0, reassignment_ratio=0.5, batch_size=40).partial_fit(X)
    other = copy.deepcopy(stream)
    for method in (stream.partial_fit, stream.fit) if case != "columns" else (stream.partial_fit,):
        before = dict(vars(stream))
        with pytest.raises((ValueError, TypeError), match=message):
            method(**make(X))
        assert vars(stream) == before
    for _ in range(3):
        stream.partial_fit(X)
        other.partial_fit(X)
    assert_same(stream, other)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"forgetting": 1.0}, r"'forgetting' parameter of MiniBatchKMeans must be a float in the range \[0.0, 1.0\)"),
        ({"metric": "cosine"}, 'metric="cosine", but the centers were found with metric="euclidean"'),
        ({"metric": "manhattan"}, "'metric' parameter of MiniBatchKMeans must be a str among"),
        ({"n_clusters": 4}, r"cluster_centers_ has shape \(5, 4\), but must have a row for each of n_clusters=4"),
        ({"device": "abacus"}, "device='abacus' is not one that gdl has kernels for"),
    ],
)
def test_a_stream_refuses_what_does_not_go_on(rng, parameters, message):
    X, _ = blobs(rng, 40)
    stream = MiniBatchKMeans(5, random_state=0).partial_fit(X)
    before = stream.get_params()
    with pytest.raises(ValueError, match=message):
        stream.set_params(**parameters).partial_fit(X)
    stream.set_params(**before).partial_fit(X)
    assert_same(stream, MiniBatchKMeans(5, random_state=0).partial_fit(X).partial_fit(X))


def test_an_interrupted_step_changes_nothing(rng, monkeypatch):
    X, _ = blobs(rng, 40)
    stream = MiniBatchKMeans(5, random_state=0, reassignment_ratio=0.5).partial_fit(X)
    other = copy.deepcopy(stream)

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gdl.mini_batch_kmeans.finish", interrupt)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                stream.partial_fit(X)
            assert_same(stream, other)
    assert_same(stream.partial_fit(X), other.partial_fit(X))


def test_a_failed_fit_draws_nothing(rng):
    X, _ = blobs(rng, 40)
    draws, untouched = np.random.RandomState(0), np.random.RandomState(0)
    for init, message in ((lambda *args, **kwargs: [[0.0]], "init has shape"), (lambda *_, **__: 1 / 0, "division")):
        model = MiniBatchKMeans(5, init=init, random_state=draws, init_size=20)
        for method in (model.fit, model.partial_fit):
            with pytest.raises((ValueError, ZeroDivisionError), match=message):
                method(X)
            assert not hasattr(model, "cluster_centers_")
    assert draws.random_sample() == untouched.random_sample()


# Large data


@pytest.mark.compiled
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_mapped_file_is_not_copied(rng, tmp_path, metric):
    X = np.memmap(tmp_path / "X", np.float32, "w+", shape=(100_000, 40))
    X[:] = rng.standard_normal(X.shape) + rng.integers(0, 3, (len(X), 1))
    X.flush()
    mapped = np.memmap(tmp_path / "X", np.float32, "r", shape=X.shape)
    parameters = {"n_clusters": 4, "random_state": 0, "batch_size": 256, "metric": metric, "tol": 1e-4}
    MiniBatchKMeans(**parameters).fit(X)  # compiles
    tracemalloc.start()
    model = MiniBatchKMeans(**parameters).fit(mapped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    parts = 0 if metric == "euclidean" else X.nbytes  # less than one part of 64 MiB
    assert peak < 0.25 * X.nbytes + parts
    assert_array_equal(model.cluster_centers_, MiniBatchKMeans(**parameters).fit(np.array(X)).cluster_centers_)


@pytest.mark.compiled
def test_a_large_mapped_file_is_scaled_in_parts(rng, tmp_path, monkeypatch):
    monkeypatch.setattr("gdl.mini_batch.PART_BYTES", 2**20)
    X = np.memmap(tmp_path / "X", np.float32, "w+", shape=(100_000, 40))
    X[:] = rng.standard_normal(X.shape) + 1
    parameters = {"n_clusters": 4, "random_state": 0, "batch_size": 256, "metric": "cosine", "tol": 1e-4}
    MiniBatchKMeans(**parameters).fit(X)
    tracemalloc.start()
    MiniBatchKMeans(**parameters).fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.35 * X.nbytes


@pytest.mark.parametrize("dtype", ["float16", "int8", "int64", "bool"])
def test_other_types_are_converted(rng, dtype):
    X = np.clip(10 * blobs(rng)[0], -100, 100).astype(dtype)
    parameters = {"n_clusters": 2, "random_state": 0, "batch_size": 64}
    model = MiniBatchKMeans(**parameters).fit(X)
    assert_array_equal(model.cluster_centers_, MiniBatchKMeans(**parameters).fit(X.astype(float)).cluster_centers_)


# Messages


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_too_few_samples(method):
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3; choose fewer clusters"):
        getattr(MiniBatchKMeans(3), method)([[0.0], [1.0]])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_parameters(method):
    for name, value in {"batch_size": 0, "init_size": 0, "max_no_improvement": -1, "forgetting": -0.1}.items():
        with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MiniBatchKMeans must be"):
            getattr(MiniBatchKMeans(2, **{name: value}), method)([[0.0], [1.0]])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_rows_of_zeros_have_no_direction(method):
    with pytest.raises(ValueError, match="Row 1 of X is all zeros and has no direction"):
        getattr(MiniBatchKMeans(2, metric="cosine"), method)([[1.0], [0.0], [2.0]])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_warnings_point_at_the_caller(rng, method):
    X, _ = blobs(rng)
    for parameters, message in (
        ({"init_size": 3}, r"init_size=3 should be larger than n_clusters=4. Setting it to min\(3\*n_clusters"),
        ({"init": X[:4], "n_init": 3}, "Explicit initial centers were passed: MiniBatchKMeans starts from them once"),
    ):
        with pytest.warns(RuntimeWarning, match=message) as caught:
            getattr(MiniBatchKMeans(4, random_state=0, **parameters), method)(X)
        assert [warning.filename for warning in caught] == [__file__]


def test_float32_that_spreads_too_far():
    X = np.array([[-1e25], [0.0], [1e25]], np.float32)
    with pytest.raises(ValueError, match="X spreads too far for float32: squared distances go beyond"):
        MiniBatchKMeans(1).fit(X)
    assert_allclose(np.abs(MiniBatchKMeans(1).fit(X.astype(np.float64)).cluster_centers_), 0, atol=1e25)


def test_unfitted():
    for read in (lambda m: m.predict([[0.0]]), lambda m: m.inertia_curve_, lambda m: m.n_reassigned_):
        with pytest.raises(NotFittedError, match="This MiniBatchKMeans instance is not fitted yet"):
            read(MiniBatchKMeans())


# In scikit-learn's world

# As for scikit-learn's own: other samples, repeated or weighted, are other batches.
RANDOM = {"check_sample_weight_equivalence_on_dense_data": "batches are random: equivalent only on average"}


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [] if INTERPRETED else [MiniBatchKMeans(), MiniBatchKMeans(n_clusters=2, batch_size=10, forgetting=0.1)],
    expected_failed_checks=lambda _: RANDOM,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_parameters_and_defaults_are_scikit_learns():
    mine, theirs = MiniBatchKMeans().get_params(), cluster.MiniBatchKMeans().get_params()
    assert {name: mine[name] for name in theirs} == theirs
    assert {name: mine[name] for name in mine if name not in theirs} == {
        "metric": "euclidean",
        "device": "cpu",
        "forgetting": 0.0,
        "warm_start": False,
    }


def test_clone_pipeline_and_names(rng):
    X = pd.DataFrame(blobs(rng)[0], columns=list("abcd"))
    model = make_pipeline(StandardScaler(), MiniBatchKMeans(3, random_state=0, batch_size=64))
    model.set_output(transform="pandas")
    frame = clone(model).fit(X).transform(X)
    assert list(frame.columns) == ["minibatchkmeans0", "minibatchkmeans1", "minibatchkmeans2"]
    assert_array_equal(frame.to_numpy().argmin(axis=1), clone(model).fit_predict(X))
    assert not hasattr(clone(model.fit(X)[-1]), "cluster_centers_")


def test_feature_names(rng):
    X = pd.DataFrame(blobs(rng)[0], columns=list("abcd"))
    model = MiniBatchKMeans(3, random_state=0).partial_fit(X)
    assert list(model.partial_fit(X).feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        model.partial_fit(X[list("dcba")])
    assert not hasattr(model.fit(X.to_numpy()), "feature_names_in_")


class Recorder:
    """Notes what it is told, and asks to stop after some steps."""

    def __init__(self, stop_after=10**9):
        self.stop_after, self.events, self.models = stop_after, [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.events.append(("end", context.task_name, context.task_id))
        self.models.append(fitted_estimator)
        return context.task_name == "step" and context.task_id + 1 >= self.stop_after


def test_callbacks_meet_every_step(rng):
    X, _ = blobs(rng, 60)
    recorder = Recorder()
    parameters = {"n_clusters": 3, "batch_size": 30, "max_no_improvement": None, "random_state": 0}
    model = MiniBatchKMeans(**parameters, max_iter=2).set_callbacks(recorder).fit(X)
    steps = [(kind, "step", i) for i in range(4) for kind in ("begin", "end")]
    assert recorder.events == ["setup", ("begin", "fit", 0), *steps, ("end", "fit", 0), "teardown"]
    assert_same(recorder.models[1], MiniBatchKMeans(**parameters, max_iter=1).fit(X))  # two steps, its own arrays
    assert_same(recorder.models[3], model)


def test_a_callback_stops_the_fit(rng):
    X, _ = blobs(rng, 60)
    model = MiniBatchKMeans(3, batch_size=30, random_state=0).set_callbacks(Recorder(stop_after=3)).fit(X)
    assert model.n_steps_ == 3
    assert model.n_iter_ == 2
    assert not model.converged_


def test_lines_of_progress(rng, capsys, monkeypatch):
    X, _ = blobs(rng, 60)
    MiniBatchKMeans(3, random_state=0).fit(X).partial_fit(X)
    assert capsys.readouterr() == ("", "")
    model = MiniBatchKMeans(3, batch_size=30, random_state=0, verbose=1, max_iter=3, max_no_improvement=None).fit(X)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"step 6  mean inertia {model.inertia_curve_[-1]:.6g}\n"
    monkeypatch.setattr("gdl._progress.SECONDS_OF_STEPS", 0.0)
    model.set_params(init=np.array([[0.0] * 4, [1e3] * 4, [1e4] * 4])).fit(X)
    lines = capsys.readouterr().err.split("\n")
    assert lines[0].startswith("step 1  mean inertia ")
    assert lines[0].endswith("  2 centers reassigned")
    assert len(lines) == 6 + 1 + 1  # the last step again, and the end
    model.partial_fit(X)
    assert capsys.readouterr().err.startswith("step 7  mean inertia ")


def test_no_warning_without_cause(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MiniBatchKMeans(3, random_state=0).fit(blobs(rng)[0])

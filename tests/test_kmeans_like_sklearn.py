"""The same start gives scikit-learn's labels, centers and iterations; the same random state gives its seeds.

scikit-learn is the oracle; it shares no code with what is tested. In float64 the numbers differ only by rounding.
"""

import numpy as np
import pytest
import sklearn.cluster as peer
from numpy.testing import assert_allclose, assert_array_equal

from gdl import KMeans, k_means, kernels, kmeans_plusplus
from gdl.seeding import Screen

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Samples, features, clusters: kernels differ by the number of features.
SHAPES = [(90, 1, 4), (90, 2, 5), (80, 3, 3), (80, 7, 6), (70, 8, 4), (70, 9, 5), (60, 16, 4), (60, 33, 3), (50, 70, 4)]
ALGORITHMS = ["auto", "lloyd", "elkan", "hamerly"]


def make_data(seed, n_samples, n_features, n_clusters, offset=0.0):
    """Clusters that overlap, with weights of which some are zero."""
    rng = np.random.default_rng(seed)
    means = 1.5 * rng.standard_normal((n_clusters, n_features))
    X = offset + means[rng.integers(n_clusters, size=n_samples)] + rng.standard_normal((n_samples, n_features))
    return X, np.where(rng.random(n_samples) < 0.2, 0, rng.uniform(0.1, 3, n_samples))


def fit_both(X, sample_weight=None, **parameters):
    theirs = peer.KMeans(**{**parameters, "algorithm": "lloyd"}).fit(X, sample_weight=sample_weight)
    return KMeans(**parameters).fit(X, sample_weight=sample_weight), theirs


def assert_same(ours, theirs, X):
    assert_array_equal(ours.labels_, theirs.labels_)
    assert ours.labels_.dtype == theirs.labels_.dtype
    assert ours.n_iter_ == theirs.n_iter_
    assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-9, atol=1e-12)
    assert_allclose(ours.inertia_, theirs.inertia_, rtol=1e-9)
    assert_array_equal(ours.predict(X), theirs.predict(X))
    assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-6, atol=1e-6)
    assert_allclose(ours.score(X), theirs.score(X), rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_from_the_same_centers(shape, weighted, seed):
    X, weights = make_data(seed, *shape)
    tolerances = [0, 1e-2, 1e-4, 0.3]
    parameters = {"n_clusters": shape[2], "init": X[: shape[2]], "n_init": 1, "tol": tolerances[seed]}
    ours, theirs = fit_both(X, weights if weighted else None, algorithm=ALGORITHMS[seed], **parameters)
    assert_same(ours, theirs, X)
    assert ours.cluster_centers_.dtype == np.float64


@pytest.mark.parametrize("tol", [0, 1e-100, 1e-8, 1e-4, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize("max_iter", [1, 2, 5, 300])
def test_stops_where_scikit_learn_does(tol, max_iter):
    for seed in range(3):
        X, _ = make_data(seed, 90, 2, 5)
        ours, theirs = fit_both(X, n_clusters=5, init=X[:5], n_init=1, tol=tol, max_iter=max_iter)
        assert_same(ours, theirs, X)


@pytest.mark.parametrize("offset", [10.0, 1e4])
@pytest.mark.parametrize("n_features", [2, 12])
def test_far_from_zero(offset, n_features):
    X, weights = make_data(3, 80, n_features, 4, offset)
    ours, theirs = fit_both(X, weights, n_clusters=4, init=X[:4], n_init=1)
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_local_trials", [1, None, 20])
@pytest.mark.parametrize("shape", [(100, 1, 4), (100, 3, 9), (200, 9, 12), (300, 20, 8)], ids=str)
def test_the_same_random_state_picks_the_same_rows(shape, n_local_trials, weighted):
    """20 trials are more than one group of candidates.

    Many clusters of few samples would not do: two candidates that improve only each other tie, and rounding decides.
    """
    for seed in range(3):
        X, weights = make_data(seed, *shape)
        parameters = {"sample_weight": weights if weighted else None, "n_local_trials": n_local_trials}
        centers, rows = kmeans_plusplus(X, shape[2], random_state=seed, **parameters)
        their_centers, their_rows = peer.kmeans_plusplus(X, shape[2], random_state=seed, **parameters)
        assert_array_equal(rows, their_rows)
        assert_array_equal(centers, their_centers)


@pytest.mark.compiled
def test_the_same_rows_where_samples_are_screened():
    X = np.random.default_rng(0).random((33_000, 32))
    assert Screen(kernels.load("cpu"), X, 140).next_seed < 140
    _, rows = kmeans_plusplus(X, 140, random_state=0)
    _, their_rows = peer.kmeans_plusplus(X, 140, random_state=0)
    assert_array_equal(rows, their_rows)


def test_random_state_instances_are_used_up_alike():
    X, weights = make_data(0, 80, 3, 4)
    for function, their_function in ((kmeans_plusplus, peer.kmeans_plusplus), (k_means, peer.k_means)):
        for sample_weight in (None, weights):
            mine, other = np.random.RandomState(5), np.random.RandomState(5)
            function(X, 4, sample_weight=sample_weight, random_state=mine)
            their_function(X, 4, sample_weight=sample_weight, random_state=other)
            assert mine.random_sample() == other.random_sample()


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("n_init", ["auto", 1, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_whole_fits_from_a_random_state(init, n_init, weighted):
    """The same seeds in the same order, and the same run is kept."""
    for seed in range(3):
        X, weights = make_data(seed, 80, 3, 5)
        parameters = {"n_clusters": 5, "init": init, "n_init": n_init, "random_state": seed}
        ours, theirs = fit_both(X, weights if weighted else None, **parameters)
        assert_same(ours, theirs, X)


def test_a_callable_is_called_alike():
    X, _ = make_data(0, 60, 2, 3)
    X -= X.mean(axis=0)  # scikit-learn's callable sees centered data

    def init(X, n_clusters, random_state):
        return X[random_state.permutation(len(X))[:n_clusters]]

    ours, theirs = fit_both(X, n_clusters=3, init=init, random_state=1)
    assert_same(ours, theirs, X)


def test_an_empty_cluster_gets_the_farthest_sample():
    """The center at (3, 3) has no sample at first; (1, 1.25) is the farthest from (0.5, 0.5)."""
    X = np.array([[0, 0], [0.5, 0], [0.5, 1], [1, 1.25]])
    ours, theirs = fit_both(X, n_clusters=2, init=np.array([[0.5, 0.5], [3, 3]]), n_init=1)
    assert_same(ours, theirs, X)
    assert_allclose(ours.cluster_centers_, [[0.25, 0], [0.75, 1.125]])
    assert ours.n_iter_ == 3


@pytest.mark.parametrize("return_n_iter", [False, True])
def test_k_means_returns_what_scikit_learn_s_does(return_n_iter):
    X, weights = make_data(1, 60, 2, 3)
    parameters = {"sample_weight": weights, "random_state": 2, "return_n_iter": return_n_iter}
    ours, theirs = k_means(X, 3, **parameters), peer.k_means(X, 3, **parameters)
    assert len(ours) == len(theirs) == 3 + return_n_iter
    for mine, other in zip(ours, theirs, strict=True):
        assert_allclose(mine, other, rtol=1e-9)


@pytest.mark.parametrize("shape", [(90, 2, 5), (70, 16, 4)], ids=str)
def test_float32_follows_scikit_learn_too(shape):
    X, weights = make_data(4, *shape)
    X = X.astype(np.float32)
    ours, theirs = fit_both(X, weights, n_clusters=shape[2], init=X[: shape[2]], n_init=1)
    assert ours.cluster_centers_.dtype == theirs.cluster_centers_.dtype == np.float32
    assert_array_equal(ours.labels_, theirs.labels_)
    assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-4, atol=1e-5)
    assert_allclose(ours.inertia_, theirs.inertia_, rtol=1e-4)


def test_parameters_and_attributes_have_scikit_learn_s_names():
    theirs = peer.KMeans()
    ours = KMeans().get_params()
    assert set(theirs.get_params()) == set(ours) - {"metric", "device", "warm_start"}
    for name, value in theirs.get_params().items():
        assert ours[name] == value or name == "algorithm", name
    X, _ = make_data(0, 60, 2, 3)
    names = [name for name in vars(theirs.set_params(n_clusters=3).fit(X)) if name.endswith("_") and name[0] != "_"]
    model = KMeans(3).fit(X)
    assert [name for name in names if not hasattr(model, name)] == []


def test_the_comparison_can_fail():
    X, _ = make_data(0, 60, 2, 3)
    ours, theirs = fit_both(X, n_clusters=3, init=X[:3], n_init=1)
    for name, value in (("labels_", np.roll(ours.labels_, 1)), ("n_iter_", ours.n_iter_ + 1)):
        right = getattr(ours, name)
        setattr(ours, name, value)
        with pytest.raises(AssertionError):
            assert_same(ours, theirs, X)
        setattr(ours, name, right)
    ours.cluster_centers_[0, 0] += 1e-6
    with pytest.raises(AssertionError):
        assert_same(ours, theirs, X)


def test_a_run_long_enough_to_matter():
    """The cases above are not comparisons of first iterations alone."""
    X, _ = make_data(3, 400, 2, 10)
    ours, theirs = fit_both(X, n_clusters=10, init=X[:10], n_init=1, tol=0)
    assert_same(ours, theirs, X)
    assert ours.n_iter_ >= 20

"""What users pass: hard inputs work, bad ones get one clear sentence and leave a fitted model as it was."""

import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import DataConversionWarning, NotFittedError

from gdl import KMeans, MLPClassifier, MLPRegressor, _validation, k_means, kmeans_plusplus

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}


@pytest.fixture
def data(rng):
    X = rng.standard_normal((30, 3))
    return X, np.arange(30) % 3


# Bad parameters: (class, parameters, what the sentence says).
BAD_PARAMETERS = [
    ({"hidden_layer_sizes": (4, 0)}, r"hidden_layer_sizes must be > 0 and whole, got \[4, 0\]; leave a layer out"),
    ({"hidden_layer_sizes": (4, -2)}, "hidden_layer_sizes must be > 0"),
    ({"hidden_layer_sizes": (4.5,)}, "hidden_layer_sizes must be > 0 and whole"),
    ({"hidden_layer_sizes": (True,)}, "hidden_layer_sizes must be > 0 and whole"),
    ({"hidden_layer_sizes": -1}, "The 'hidden_layer_sizes' parameter of MLP.* Got -1 instead"),
    ({"activation": "swish"}, "The 'activation' parameter of MLP.* Got 'swish' instead"),
    ({"activation": ["relu", "tanh"]}, r"activation=\['relu', 'tanh'\] has 2 names for 1 hidden layers; pass one"),
    ({"activation": ["softmax"]}, r"activation=\['softmax'\] has 'softmax'; choose from identity, relu"),
    ({"solver": "newton"}, "The 'solver' parameter of MLP"),
    ({"alpha": -1.0}, "The 'alpha' parameter of MLP"),
    ({"batch_size": 0}, "The 'batch_size' parameter of MLP"),
    ({"learning_rate": "linear"}, "The 'learning_rate' parameter of MLP"),
    ({"learning_rate_init": 0.0}, "The 'learning_rate_init' parameter of MLP"),
    ({"max_iter": 0}, "The 'max_iter' parameter of MLP"),
    ({"dropout": 1.0}, "The 'dropout' parameter of MLP"),
    ({"dropout": -0.1}, "The 'dropout' parameter of MLP"),
    ({"max_grad_norm": 0.0}, "The 'max_grad_norm' parameter of MLP"),
    ({"init": "zeros"}, "The 'init' parameter of MLP"),
    ({"init": np.zeros(5)}, r"init has shape \(5,\), but the network has \d+ parameters; pass a vector of shape"),
    ({"init": np.zeros((3, 4))}, r"init has shape \(3, 4\)"),
    ({"init": ["a", "b"]}, "init must be a vector of numbers"),
    ({"fit_intercept": "yes"}, "The 'fit_intercept' parameter of MLP"),
    ({"device": "cuda"}, "device='cuda' is not one that gdl has kernels for; use device=\"cpu\""),
    ({"device": 0}, "The 'device' parameter of MLP"),
    ({"random_state": "seed"}, "The 'random_state' parameter of MLP"),
    ({"validation_fraction": 1.0}, "The 'validation_fraction' parameter of MLP"),
    ({"early_stopping": True, "validation_fraction": 0.01}, "validation_fraction=0.01 of 30 samples is 1; choose"),
    ({"early_stopping": True, "validation_fraction": 0.0}, "validation_fraction=0.0 of 30 samples is 0; choose"),
    ({"early_stopping": True, "validation_fraction": 0.99}, "validation_fraction=0.99 of 30 samples is 30; choose"),
]


def state_of(model):
    return {name: np.copy(value) if isinstance(value, np.ndarray) else value for name, value in vars(model).items()}


def assert_unchanged(model, before):
    after = vars(model)
    assert after.keys() == before.keys()
    for name, value in before.items():
        if isinstance(value, np.ndarray):
            assert_array_equal(after[name], value)
        elif name not in ("_training", "_at_hand"):
            assert after[name] == value, name


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize(("parameters", "message"), BAD_PARAMETERS)
def test_bad_parameters(data, estimator, parameters, message):
    model = estimator(**SMALL).fit(*data)
    model.set_params(**parameters)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        model.fit(*data)
    assert_unchanged(model, before)
    assert model.set_params(**estimator(**SMALL).get_params()).predict(data[0]).shape == (30,)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"loss": "log_loss"}, "The 'loss' parameter of MLPRegressor"),
        ({"huber_delta": 0.0}, "The 'huber_delta' parameter of MLPRegressor"),
        ({"quantile": 1.0}, "The 'quantile' parameter of MLPRegressor"),
    ],
)
def test_bad_parameters_of_a_regressor(data, parameters, message):
    with pytest.raises(ValueError, match=message):
        MLPRegressor(**SMALL, **parameters).fit(*data)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ("fair", "The 'class_weight' parameter of MLPClassifier"),
        ([{0: 1}], "The 'class_weight' parameter of MLPClassifier"),
        ({0: 1.0, 7: 2.0}, r"class_weight has \[7\], not among the classes \[0, 1, 2\]; use the labels of y"),
        ({0: -1.0}, r"class_weight=\{0: -1.0\} must hold finite numbers of 0 or more"),
        ({0: np.nan}, "must hold finite numbers"),
        ({0: 0, 1: 0, 2: 0}, "All weights of the samples are zero; at least one must be positive"),
    ],
)
def test_bad_class_weights(data, class_weight, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**SMALL, class_weight=class_weight).fit(*data)


def test_class_weights_that_have_no_meaning(data):
    X, y = data
    labels = (X > 0).astype(int)
    with pytest.raises(ValueError, match=r"class_weight=\{0: 2\} is for one label a sample, but y has 3; use"):
        MLPClassifier(**SMALL, class_weight={0: 2}).fit(X, labels)
    with pytest.raises(ValueError, match='class_weight="balanced" needs all samples, but partial_fit has one part'):
        MLPClassifier(**SMALL, class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])


# Bad parameters of a clustering of three features into three clusters.
BAD_CLUSTER_PARAMETERS = [
    ({"n_clusters": 0}, "The 'n_clusters' parameter of KMeans must be an int in the range .* Got 0 instead"),
    ({"n_clusters": 2.5}, "The 'n_clusters' parameter of KMeans"),
    ({"n_clusters": 31}, "n_samples=30 should be >= n_clusters=31; choose fewer clusters or pass more samples"),
    ({"init": "pca"}, "The 'init' parameter of KMeans"),
    ({"init": None}, "The 'init' parameter of KMeans"),
    (
        {"init": np.zeros(3)},
        r"init has shape \(3,\), but must have a row for each of n_clusters=3 and a column for each",
    ),
    ({"init": np.zeros((2, 3))}, r"init has shape \(2, 3\), but must have a row for each of n_clusters=3 and a column"),
    ({"init": np.zeros((3, 2))}, r"init has shape \(3, 2\), .* and a column for each of the 3 features"),
    ({"init": np.full((3, 3), np.nan)}, "init holds NaN or numbers beyond float64; pass finite numbers"),
    ({"init": np.full((3, 3), -np.inf)}, "init holds NaN or numbers beyond float64; pass finite numbers"),
    ({"init": [["a"] * 3] * 3}, "init must be a matrix of numbers, but NumPy says: could not convert string to float"),
    ({"init": [[0, 1, 2], [3]]}, "init must be a matrix of numbers, but NumPy says"),
    ({"init": lambda X, k, random_state: X[:1]}, r"init has shape \(1, 3\), but must have a row for each of n_cl"),
    ({"init": lambda X, k, random_state: X[:3] * np.nan}, "init holds NaN or numbers beyond float64"),
    ({"init": lambda X, k, random_state: "centers"}, "init must be a matrix of numbers, but NumPy says"),
    ({"n_init": 0}, "The 'n_init' parameter of KMeans"),
    ({"n_init": "many"}, "The 'n_init' parameter of KMeans"),
    ({"max_iter": 0}, "The 'max_iter' parameter of KMeans"),
    ({"tol": -1.0}, "The 'tol' parameter of KMeans"),
    ({"random_state": "seed"}, "The 'random_state' parameter of KMeans"),
    ({"verbose": "very"}, "The 'verbose' parameter of KMeans"),
    ({"copy_x": "yes"}, "The 'copy_x' parameter of KMeans"),
    ({"algorithm": "full"}, "The 'algorithm' parameter of KMeans .*'auto'.* Got 'full' instead"),
    ({"metric": "manhattan"}, "The 'metric' parameter of KMeans .*'cosine'.* Got 'manhattan' instead"),
    ({"device": "cuda"}, "device='cuda' is not one that gdl has kernels for; use device=\"cpu\""),
    ({"device": 0}, "The 'device' parameter of KMeans"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD_CLUSTER_PARAMETERS)
def test_bad_parameters_of_clusters(data, parameters, message):
    X = data[0]
    model = KMeans(3, random_state=0).fit(X)
    model.predict(X)
    good = model.get_params()
    model.set_params(**parameters)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    assert_unchanged(model, before)
    assert_array_equal(model.set_params(**good).predict(X), model.labels_)
    with pytest.raises(ValueError, match=message.replace("of KMeans", "of k_means")):
        k_means(X, **{"n_clusters": 3, **parameters})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 0}, "The 'n_clusters' parameter of kmeans_plusplus"),
        ({"n_clusters": 31}, "n_samples=30 should be >= n_clusters=31; choose fewer clusters"),
        ({"n_local_trials": 0}, "The 'n_local_trials' parameter of kmeans_plusplus"),
        ({"random_state": "seed"}, "The 'random_state' parameter of kmeans_plusplus"),
        ({"device": "cuda"}, "device='cuda' is not one that gdl has kernels for"),
        ({"sample_weight": np.zeros(30)}, "at least one"),
        ({"sample_weight": -np.ones(30)}, "Negative values in data passed to `sample_weight`"),
    ],
)
def test_bad_parameters_of_seeding(data, parameters, message):
    with pytest.raises(ValueError, match=message):
        kmeans_plusplus(data[0], **{"n_clusters": 3, **parameters})


def replaced(array, value):
    array = np.array(array, float)
    array[2, ...] = value
    return array


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (replaced(X, np.nan), y), "Input X contains NaN"),
        (lambda X, y: (replaced(X, np.inf), y), "Input X contains infinity"),
        (lambda X, y: (X, replaced(y, np.nan)), "y contains NaN"),
        (lambda X, y: (X, replaced(y, np.inf)), "y contains infinity"),
        (lambda X, y: (X[0], y), "Expected 2D array, got 1D array"),
        (lambda X, y: (X[None], y), "Found array with dim 3"),
        (lambda X, y: (X[:5], y), "inconsistent numbers of samples"),
        (lambda X, y: (X[:0], y[:0]), "0 sample"),
        (lambda X, y: (X[:, :0], y), "0 feature"),
        (lambda X, y: (X + 1j, y), "Complex data not supported"),
        (lambda X, y: (X, y, np.full(30, np.nan)), "sample_weight contains NaN"),
        (lambda X, y: (X, y, np.full(30, np.inf)), "sample_weight contains infinity"),
        (lambda X, y: (X, y, -np.ones(30)), "Negative values in data passed to `sample_weight`"),
        (lambda X, y: (X, y, np.ones(3)), "sample_weight.shape"),
        (lambda X, y: (X, y, np.zeros(30)), "at least one"),
        (lambda X, y: (X, y, None, (X,)), r"validation_data is a tuple of 1, but must be \(X, y\) or \(X, y, sample"),
        (lambda X, y: (X, y, None, X), "validation_data is a ndarray, but must be"),
        (lambda X, y: (X, y, None, (X[:, :2], y)), "validation_data: X has 2 features, but MLP.* is expecting 3"),
        (lambda X, y: (X, y, None, (replaced(X, np.nan), y)), "validation_data: Input X contains NaN"),
        (lambda X, y: (X, y, None, (X, y, np.ones(2))), "validation_data: sample_weight.shape"),
        (lambda X, y: (X, y, None, (X, y, np.zeros(30))), "validation_data: .*at least one"),
        (lambda X, y: (X, y, None, (X, np.c_[y, y])), "validation_data's y has"),
    ],
)
def test_bad_data_leaves_the_model_alone(data, estimator, warm_start, change, message):
    model = estimator(**SMALL, warm_start=warm_start).fit(*data)
    before = state_of(model)
    stream = model._training.random_state.get_state()[1].copy()
    with pytest.raises(ValueError, match=message):
        model.fit(*change(*data))
    assert_unchanged(model, before)
    assert_array_equal(model._training.random_state.get_state()[1], stream)
    with pytest.raises(ValueError, match=message):
        estimator(**SMALL).fit(*change(*data))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: (replaced(X, np.nan),), "Input X contains NaN"),
        (lambda X: (replaced(X, -np.inf),), "Input X contains infinity"),
        (lambda X: (X[0],), "Expected 2D array, got 1D array"),
        (lambda X: (X[None],), "Found array with dim 3"),
        (lambda X: (X[:0],), "0 sample"),
        (lambda X: (X[:, :0],), "0 feature"),
        (lambda X: (X[:2],), "n_samples=2 should be >= n_clusters=3; choose fewer clusters or pass more samples"),
        (lambda X: (X + 1j,), "Complex data not supported"),
        (lambda X: (np.full((30, 3), "a"),), "could not convert string to float"),
        (lambda X: (X, None, np.full(30, np.nan)), "sample_weight contains NaN"),
        (lambda X: (X, None, np.full(30, np.inf)), "sample_weight contains infinity"),
        (lambda X: (X, None, -np.ones(30)), "Negative values in data passed to `sample_weight`"),
        (lambda X: (X, None, np.ones(29)), "sample_weight.shape"),
        (lambda X: (X, None, np.zeros(30)), "at least one"),
    ],
)
def test_bad_data_leaves_the_clusters_alone(data, metric, change, message):
    X = data[0]
    model = KMeans(3, random_state=0, metric=metric).fit(X)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        model.fit(*change(X))
    assert_unchanged(model, before)
    with pytest.raises(ValueError, match=message):
        KMeans(3, metric=metric).fit(*change(X))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 2), (17, 1), (29, 2)])
def test_one_number_that_is_none_is_found_wherever_it_is(data, dtype, value, place):
    X = data[0].astype(dtype)
    X[place] = value
    message = "Input X contains NaN" if np.isnan(value) else "Input X contains infinity"
    draws = np.random.RandomState(0)
    for call in (
        KMeans(3, random_state=draws).fit,
        KMeans(3, n_init=2, init="random", random_state=draws).fit,
        KMeans(3, algorithm="elkan", random_state=draws).steps,
        KMeans(3, metric="cosine", random_state=draws).fit,
    ):
        with pytest.raises(ValueError, match=message):
            call(X)
    assert draws.uniform() == np.random.RandomState(0).uniform()


def test_rows_without_a_direction(data):
    X = data[0].copy()
    model = KMeans(3, metric="cosine", random_state=0).fit(X)
    before = state_of(model)
    X[[4, 7]] = 0
    message = (
        'Row 4 of X is all zeros and has no direction, so metric="cosine" cannot compare it; leave out 2 such rows, or '
        'use metric="euclidean"'
    )
    for method in (model.fit, model.predict, model.transform, model.score):
        with pytest.raises(ValueError, match=message):
            method(X)
    assert_unchanged(model, before)
    with pytest.raises(ValueError, match='Row 1 of init is all zeros and has no direction, so metric="cosine" cannot'):
        model.set_params(init=[[1, 0, 0], [0, 0, 0], [0, 0, 1]]).fit(data[0])
    assert KMeans(3, random_state=0).fit(X).labels_.shape == (30,)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # kernels that run as Python warn of overflow
@pytest.mark.parametrize(
    ("dtype", "scale", "message"),
    [
        (
            "float32",
            1e25,
            r"X spreads too far for float32: squared distances go beyond 3\.4e\+38; scale it, or pass fl",
        ),
        ("float64", 1e200, r"X spreads too far for float64: squared distances go beyond 1\.8e\+308; scale it\."),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_data_whose_squares_are_beyond_their_type(data, dtype, scale, message, weighted):
    X, weights = data[0].astype(dtype), np.arange(30.0) if weighted else None
    model = KMeans(3, random_state=0).fit(X)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        model.fit((data[0] * scale).astype(dtype), sample_weight=weights)
    assert_unchanged(model, before)
    if dtype == "float32":
        assert KMeans(3, random_state=0).fit(data[0] * scale, sample_weight=weights).converged_


@pytest.mark.parametrize("n_features", [1, 3, 12])
def test_one_sample_beyond_its_type(rng, n_features):
    """Also where the mean of the squares is not; just below, all is well."""
    X = rng.standard_normal((1000, n_features)).astype(np.float32)
    X[5], X[6] = 3e19 / n_features**0.5, 1e17
    with pytest.raises(ValueError, match="X spreads too far for float32"):
        KMeans(3, random_state=0).fit(X)
    X[5] = 8e18 / n_features**0.5
    model = KMeans(3, random_state=0).fit(X)
    assert np.bincount(model.labels_).tolist().count(1) == 2
    assert_array_equal(model.predict(X), model.labels_)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_numbers_close_together(dtype):
    """Their squares overflow, their distances do not: no warning, no error."""
    X = np.full((9, 2), 1e30 if dtype == "float32" else 1e200, dtype)
    model = KMeans(2, random_state=0).fit(X)
    assert_array_equal(model.cluster_centers_, X[:2])
    assert model.inertia_ == 0


def test_numbers_beyond_the_type_of_the_centers(data):
    X = data[0].astype(np.float32)
    with pytest.raises(ValueError, match="init holds NaN or numbers beyond float32; pass finite numbers"):
        KMeans(3, init=np.full((3, 3), 1e200)).fit(X)
    with pytest.raises(ValueError, match="too large for dtype"):
        KMeans(3, random_state=0).fit(X).predict(data[0] * 1e200)


def test_random_starts_need_samples_of_weight(data):
    weights = np.zeros(30)
    weights[[3, 8]] = 1
    message = 'init="random" needs n_clusters=3 samples of positive weight, but there are 2; choose fewer clusters or'
    with pytest.raises(ValueError, match=message):
        KMeans(3, init="random").fit(data[0], sample_weight=weights)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("method", ["predict", "transform", "score"])
def test_what_is_clustered_is_checked(data, method, metric):
    X = data[0]
    with pytest.raises(NotFittedError):
        getattr(KMeans(), method)(X)
    model = KMeans(3, random_state=0, metric=metric).fit(X)
    model.predict(X)  # from now on the short way is open
    for bad, message in [
        (replaced(X, np.nan), "contains NaN"),
        (replaced(X, -np.inf), "contains infinity"),
        (X[0], "Expected 2D array, got 1D array"),
        (X[:, :2], "X has 2 features, but KMeans is expecting 3"),
        (X[:0], "0 sample"),
    ]:
        with pytest.raises(ValueError, match=message):
            getattr(model, method)(bad)
    with pytest.raises(ValueError, match=r"sample_weight.shape"):
        model.score(X, sample_weight=np.ones(2))
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        model.score(X, sample_weight=-np.ones(30))


@pytest.mark.parametrize("sparse", [scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array])
def test_sparse_data_to_cluster(data, sparse):
    X = data[0]
    model = KMeans(3, random_state=0).fit(X)
    before = state_of(model)
    message = r"X is a sparse matrix, but KMeans takes dense arrays only; pass X.toarray\(\)"
    for method in (model.fit, model.predict, model.transform, model.score):
        with pytest.raises(TypeError, match=message):
            method(sparse(X))
    assert_unchanged(model, before)
    with pytest.raises(TypeError, match=message):
        kmeans_plusplus(sparse(X), 3)
    with pytest.raises(TypeError, match=message):
        k_means(sparse(X), 3)


@pytest.mark.parametrize("sparse", [scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array])
def test_sparse_data(data, sparse):
    X, y = data
    model = MLPClassifier(**SMALL).fit(X, y)
    message = r"X is a sparse matrix, but MLPClassifier takes dense arrays only; pass X.toarray\(\)"
    for method in (model.predict, model.transform, lambda X: model.fit(X, y), lambda X: model.partial_fit(X, y)):
        with pytest.raises(TypeError, match=message):
            method(sparse(X))


def test_sparse_labels_are_fine(data):
    X, _ = data
    labels = (X > 0).astype(int)
    model = MLPClassifier(**SMALL).fit(X, scipy.sparse.csr_array(labels))
    assert_array_equal(model.parameters_, MLPClassifier(**SMALL).fit(X, labels).parameters_)


def test_labels_that_cannot_be_learned(data):
    X, y = data
    with pytest.raises(ValueError, match=r"y has one class, \[1\], but a classifier needs at least two"):
        MLPClassifier(**SMALL).fit(X, np.ones(30, int))
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier(**SMALL).fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"y has shape \(30, 2\) and other values than 0 and 1; pass a column"):
        MLPClassifier(**SMALL).fit(X, np.c_[y, y])


def test_poisson_needs_counts(data):
    X, y = data
    with pytest.raises(ValueError, match=r'y holds -1, but loss="poisson" needs y >= 0; choose another loss'):
        MLPRegressor(**SMALL, loss="poisson").fit(X, y - 1.0)
    assert MLPRegressor(**SMALL, loss="poisson").fit(X, np.zeros(30)).predict(X).min() > 0


def test_labels_never_seen(data):
    X, y = data
    model = MLPClassifier(**SMALL, warm_start=True).fit(X, y)
    before = state_of(model)
    message = r"y has classes \[7\] that are not among the model's \[0, 1, 2\]; leave them out, or fit anew"
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, np.where(y == 0, 7, y))
    with pytest.raises(ValueError, match="validation_data's y has classes"):
        model.fit(X, y, validation_data=(X, np.full(30, "a")))
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes as in the prev"):
        model.fit(X, np.minimum(y, 1))
    with pytest.raises(ValueError, match=r"classes=\[0, 1\] is not the same as on the last call to partial_fit"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"y has shape \(30, 3\), but must have one label a sample, shape \(30,\)"):
        model.partial_fit(X, (X > 0).astype(int))
    assert_unchanged(model, before)
    assert_array_equal(model.partial_fit(X[:1], y[:1]).classes_, [0, 1, 2])


@pytest.mark.parametrize(
    ("classes", "others"),
    [
        (np.array([3, 5, 9]), np.array([2, 4, 7, 10])),
        (np.array([3, 5, 9], np.int8), np.array([-300, 4, 1000])),
        (np.array([3, 5, 9], np.uint64), np.array([0, 2**63], np.uint64)),
        (np.array([1.0, 2.0, 7.0]), np.array([-1.0, 3.0, 8.0])),
        (np.array(["ab", "c", "cd"]), np.array(["a", "bb", "c" * 9])),
        (np.array(["ab", "c", "cd"], object), np.array(["a", "bb", "c" * 9], object)),
    ],
    ids=["int64", "int8", "uint64", "float64", "str", "object"],
)
def test_labels_are_numbered_and_unseen_ones_found(classes, others):
    """Of any kind, and wherever an unseen one lies among the classes."""
    y = classes[[2, 0, 0, 1, 2]]
    target = _validation.targets_of_labels(y)
    assert_array_equal(_validation.encode_labels(y, target, np.dtype("float32")), [[2], [0], [0], [1], [2]])
    for other in others:
        message = re.escape(f"y has classes {np.array([other]).tolist()} that are not among")
        with pytest.raises(ValueError, match=message):
            _validation.encode_labels(np.append(y, other), target, np.dtype("float32"))


def test_partial_fit_needs_classes_first(data):
    X, y = data
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        MLPClassifier(**SMALL).partial_fit(X, y)
    with pytest.raises(ValueError, match=r"y has classes \[2\] that are not among the model's \[0, 1\]"):
        MLPClassifier(**SMALL).partial_fit(X, y, classes=[0, 1])
    labels = (X > 0).astype(int)
    with pytest.raises(ValueError, match="classes has 2 labels, but y has 3 columns; name one for each"):
        MLPClassifier(**SMALL).partial_fit(X, labels, classes=[0, 1])
    model = MLPClassifier(**SMALL).partial_fit(X, labels, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"y has shape \(30, 2\), but must have 3 columns, one a label"):
        model.partial_fit(X, labels[:, :2])


def test_partial_fit_and_solvers(data):
    X, y = data
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True; set it to False"):
        MLPClassifier(**SMALL, early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        MLPRegressor(solver="lbfgs").partial_fit(X, y)


def test_partial_fit_checks_parameters_every_time(data):
    model = MLPRegressor(**SMALL).partial_fit(*data)
    with pytest.raises(ValueError, match="The 'alpha' parameter"):
        model.set_params(alpha=-1).partial_fit(*data)


def test_going_on_with_another_network(data):
    X, y = data
    model = MLPClassifier(**SMALL, warm_start=True).fit(X, y)
    for parameters in ({"hidden_layer_sizes": (5,)}, {"hidden_layer_sizes": (4, 4)}, {"fit_intercept": False}):
        changed = MLPClassifier(**SMALL, warm_start=True).fit(X, y).set_params(**parameters)
        before = state_of(changed)
        message = r"do not belong to the fitted network of widths \[3, 4, 3\]; set them back"
        with pytest.raises(ValueError, match=message):
            changed.fit(X, y)
        assert_unchanged(changed, before)
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 3 features"):
        model.fit(X[:, :2], y)
    with pytest.raises(ValueError, match="y has 2 outputs, but the model has 1"):
        MLPRegressor(**SMALL, warm_start=True).fit(X, y).fit(X, np.c_[y, y])
    model.coefs_[0][1, 1] = np.nan
    with pytest.raises(ValueError, match="parameters_ holds NaN or infinity; write finite numbers"):
        model.fit(X, y)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "transform", "activations"])
def test_what_is_predicted_is_checked(data, method):
    X, y = data
    with pytest.raises(NotFittedError):
        getattr(MLPClassifier(), method)(X)
    model = MLPClassifier(**SMALL).fit(X, y)
    predict = getattr(model, method)
    predict(X)  # from now on the short way is open
    for bad, message in [
        (replaced(X, np.nan), "contains NaN"),
        (replaced(X, -np.inf), "contains infinity"),
        (X[0], "Expected 2D array, got 1D array"),
        (X[:, :2], "X has 2 features, but MLPClassifier is expecting 3"),
        (X[:0], "0 sample"),
    ]:
        with pytest.raises(ValueError, match=message):
            predict(bad)


def test_one_bad_number_anywhere_is_found(rng):
    X = rng.standard_normal((40, 7))
    model = MLPRegressor(**SMALL).fit(X, X[:, 0])
    for value in (np.nan, np.inf, -np.inf):
        for at in np.ndindex(3, 7):
            x = X[:3].copy()
            x[at] = value
            with pytest.raises(ValueError, match="Input X contains"):
                model.predict(x)


def test_init_must_be_finite(data):
    init = np.zeros(31)
    init[3] = np.nan
    with pytest.raises(ValueError, match="init holds NaN or numbers beyond float64; pass finite numbers"):
        MLPClassifier(**SMALL, init=init).fit(*data)
    init[3] = 1e200
    with pytest.raises(ValueError, match="init holds NaN or numbers beyond float32"):
        MLPClassifier(**SMALL, init=init).fit(data[0].astype(np.float32), data[1])


def test_numbers_beyond_float32(data):
    X, y = data
    single = X.astype(np.float32)
    with pytest.raises(ValueError, match=r"y holds 1e\+200, too large for float32; scale it, or pass float64 data"):
        MLPRegressor(**SMALL).fit(single, np.full(30, 1e200))
    model = MLPRegressor(**SMALL).fit(single, y)
    with pytest.raises(ValueError, match="too large for dtype"):
        model.predict(X * 1e200)


def test_batch_size_is_clipped(data):
    X, y = data
    with pytest.warns(UserWarning, match="Got `batch_size`=500 larger than the 30 samples to learn from; it is clip"):
        clipped = MLPClassifier(**SMALL, batch_size=500).fit(X, y)
    assert_array_equal(clipped.parameters_, MLPClassifier(**SMALL, batch_size=30).fit(X, y).parameters_)
    with pytest.warns(UserWarning, match="Got `batch_size`=500") as record:
        MLPClassifier(**SMALL, batch_size=500).partial_fit(X, y, classes=[0, 1, 2])
    assert record[0].filename == __file__


def same_numbers(X, tmp_path):
    """The numbers of X, whole and small, in every form that an array takes."""
    padded = np.zeros((len(X) * 2, X.shape[1] * 3), X.dtype)
    padded[::2, ::3] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    X.tofile(tmp_path / "X")
    names = list("abc")
    return {
        "list": X.tolist(),
        "strided": padded[::2, ::3],
        "reversed": X[::-1].copy()[::-1],
        "fortran": np.asfortranarray(X),
        "read only": read_only,
        "memory map": np.memmap(tmp_path / "X", X.dtype, "r", shape=X.shape),
        "big endian": X.astype(X.dtype.newbyteorder(">")),
        "int8": X.astype(np.int8),
        "int64": X.astype(np.int64),
        "float16": X.astype(np.float16),
        "object": X.astype(object),
        "pandas": pd.DataFrame(X, columns=names),
        "pandas mixed": pd.DataFrame(
            {name: column.astype(t) for name, column, t in zip(names, X.T, "fil", strict=True)}
        ),
        "polars": pl.DataFrame(X, schema=names),
        "matrix of unaligned numbers": unaligned(X),
    }


def unaligned(X):
    buffer = np.empty(X.nbytes + 1, np.uint8)
    array = buffer[1:].view(X.dtype).reshape(X.shape)
    array[:] = X
    return array


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_every_form_of_the_same_numbers(rng, tmp_path, estimator):
    X = rng.integers(-4, 5, (30, 3)).astype(float)
    y = np.arange(30) % 3
    model = estimator(**SMALL).fit(X, y)
    for name, form in same_numbers(X, tmp_path).items():
        other = estimator(**SMALL).fit(form, y)
        assert_array_equal(other.parameters_, model.parameters_, err_msg=name)
        assert other.parameters_.dtype == np.float64, name
        assert_array_equal(other.predict(form), model.predict(X), err_msg=name)
        assert hasattr(other, "feature_names_in_") == (name in ("pandas", "pandas mixed", "polars"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # names given or missing
            assert_array_equal(model.predict(form), model.predict(X), err_msg=name)


@pytest.mark.parametrize("copy_x", [True, False])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_every_form_of_the_same_numbers_to_cluster(rng, tmp_path, copy_x, metric):
    """Gives the same clusters, and is never changed."""
    X = rng.integers(-4, 5, (30, 3)) + 20.0
    parameters = {"n_clusters": 4, "random_state": 0, "copy_x": copy_x, "metric": metric}
    weights = np.arange(30.0)
    model = KMeans(**parameters).fit(X, sample_weight=weights)
    for name, form in same_numbers(X, tmp_path).items():
        other = KMeans(**parameters).fit(form, sample_weight=weights)
        assert_array_equal(np.asarray(form), X, err_msg=name)
        assert_array_equal(other.cluster_centers_, model.cluster_centers_, err_msg=name)
        assert other.cluster_centers_.dtype == np.float64, name
        assert_array_equal(other.predict(form), other.labels_, err_msg=name)
        assert_array_equal(other.transform(form), model.transform(X), err_msg=name)
        assert other.score(form, sample_weight=weights) == -model.inertia_, name
        assert hasattr(other, "feature_names_in_") == (name in ("pandas", "pandas mixed", "polars"))
        rows = kmeans_plusplus(form, 4, random_state=0)[1]
        assert_array_equal(rows, kmeans_plusplus(X, 4, random_state=0)[1], err_msg=name)
        for init in (form[:4] if name != "list" else X[:4].tolist(), np.asarray(form)[:4].astype(np.float32)):
            started = KMeans(**{**parameters, "init": init}).fit(X)
            assert_array_equal(
                started.cluster_centers_, KMeans(**{**parameters, "init": X[:4]}).fit(X).cluster_centers_
            )
    for form in (weights.tolist(), pd.Series(weights), np.arange(60.0)[::2] / 2, weights.astype(np.float16)):
        other = KMeans(**parameters).fit(X, sample_weight=form)
        assert_array_equal(other.cluster_centers_, model.cluster_centers_)


def test_booleans_to_cluster(rng):
    X = rng.random((30, 5)) > 0.5
    model = KMeans(3, random_state=0).fit(X)
    assert_array_equal(model.cluster_centers_, KMeans(3, random_state=0).fit(X.astype(float)).cluster_centers_)
    assert_array_equal(model.predict(X), model.labels_)


def test_feature_names_of_clusters(data):
    frame = pd.DataFrame(data[0], columns=["a", "b", "c"])
    model = KMeans(3, random_state=0).fit(frame)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    model.predict(frame)
    for _ in range(2):  # the short way must not open
        with pytest.warns(UserWarning, match="X does not have valid feature names, but KMeans was fitted with"):
            model.predict(data[0])
    for method in (model.predict, model.transform, model.score):
        with pytest.raises(ValueError, match="feature names should match"):
            method(frame[["c", "b", "a"]])
    assert not hasattr(model.fit(data[0]), "feature_names_in_")
    assert model.n_features_in_ == 3


def test_forms_of_labels_and_weights(data):
    X, y = data
    model = MLPClassifier(**SMALL).fit(X, y, np.arange(30.0))
    for labels in (y.tolist(), y.astype(float), pd.Series(y), pl.Series(y), y.astype(np.uint8)):
        for weights in (list(range(30)), pd.Series(range(30)), np.arange(60)[::2] / 2):
            other = MLPClassifier(**SMALL).fit(X, labels, weights)
            assert_array_equal(other.parameters_, model.parameters_)
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        other = MLPClassifier(**SMALL).fit(X, y.reshape(-1, 1), np.arange(30.0))
    assert_array_equal(other.parameters_, model.parameters_)
    names = np.array(["a", "b", "c"])[y]
    for labels in (names, names.astype(object), names.tolist(), pd.Series(names)):
        assert set(MLPClassifier(**SMALL).fit(X, labels).predict(X)) <= set("abc")
    flags = MLPClassifier(**SMALL).fit(X, y > 0)
    assert flags.predict(X).dtype == bool


def test_booleans(rng):
    X = rng.random((30, 3)) > 0.5
    model = MLPClassifier(**SMALL).fit(X, X[:, 0])
    assert_array_equal(model.parameters_, MLPClassifier(**SMALL).fit(X.astype(float), X[:, 0]).parameters_)


def test_feature_names_are_compared(data):
    X, y = data
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = MLPClassifier(**SMALL).fit(frame, y)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    model.predict(frame)
    for _ in range(2):  # the short way must not open
        with pytest.warns(UserWarning, match="X does not have valid feature names, but MLPClassifier was fitted with"):
            model.predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["c", "b", "a"]])
    with pytest.raises(ValueError, match="validation_data: The feature names should match"):
        model.fit(frame, y, validation_data=(frame[["c", "b", "a"]], y))
    assert not hasattr(model.fit(X, y), "feature_names_in_")


def test_one_sample_and_one_feature():
    one = MLPRegressor(**SMALL).fit([[2.0]], [3.0])
    assert one.predict([[2.0]]).shape == (1,)
    both = MLPClassifier(**SMALL).fit([[0.0], [1.0]], ["a", "b"])
    assert both.predict([[0.5]]).shape == (1,)
    with pytest.raises(ValueError, match="one class"):
        MLPClassifier(**SMALL).fit([[2.0]], ["a"])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # kernels that run as Python warn of overflow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_huge_and_tiny_numbers(data, dtype, scale, solver):
    X, y = data
    X = (X * scale).astype(dtype)
    for model in (MLPClassifier(**SMALL, solver=solver), MLPRegressor(**SMALL, solver=solver)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
        assert np.isfinite(model.parameters_).all()
        assert model.predict(X).shape == (30,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPRegressor(**SMALL, solver=solver).fit(data[0].astype(dtype), y * scale)
    assert np.isfinite(model.parameters_).all()


def test_constant_columns_and_some_zero_weights(data):
    X, y = data
    X[:, 1] = 4.0
    weights = np.where(np.arange(30) < 10, 0.0, 1.0)
    for early_stopping in (False, True):
        model = MLPClassifier(**SMALL, early_stopping=early_stopping, shuffle=False, batch_size=5)
        assert np.isfinite(model.fit(X, y, weights).loss_curve_).all()


def test_a_sample_of_weight_zero_is_no_sample(data):
    X, y = data
    weights = np.where(np.arange(30) < 10, 0.0, 2.0)
    parameters = {**SMALL, "shuffle": False, "batch_size": 30, "max_iter": 10}
    weighted = MLPClassifier(**parameters).fit(X, y, weights)
    dropped = MLPClassifier(**{**parameters, "batch_size": 20}).fit(X[10:], y[10:], np.full(20, 2.0))
    assert_allclose(weighted.parameters_, dropped.parameters_, rtol=1e-10)


def test_zero_weights_in_the_part_that_is_split_off(data):
    X, y = data
    weights = np.zeros(30)
    weights[:2] = 1.0
    model = MLPRegressor(**SMALL, early_stopping=True)
    with pytest.raises(ValueError, match=r"All weights of the (validation set|samples to learn from) are zero"):
        model.fit(X, y, weights)


def test_a_failed_split_draws_nothing(data):
    X, y = data
    model = MLPRegressor(**SMALL, early_stopping=True, warm_start=True).fit(X, y)
    before = model._training.random_state.get_state()
    weights = np.zeros(29)
    weights[:2] = 1.0
    with pytest.raises(ValueError, match="are zero"):
        model.fit(X[:29], y[:29], weights)
    assert_array_equal(model._training.random_state.get_state()[1], before[1])
    assert model._training.random_state.get_state()[2] == before[2]


@pytest.mark.parametrize("fitted", ["float32", "float64"])
@pytest.mark.parametrize("given", ["float32", "float64", "float16", "int32"])
def test_mixed_types(rng, fitted, given):
    X = rng.integers(-4, 5, (30, 3))
    model = MLPClassifier(**SMALL).fit(X.astype(fitted), np.arange(30) % 3)
    assert model.parameters_.dtype == fitted
    for method in ("predict_proba", "transform"):
        result = getattr(model, method)(X.astype(given))
        assert result.dtype == fitted
        assert_array_equal(result, getattr(model, method)(X.astype(fitted)))
    assert model.activations(X.astype(given))[0].dtype == fitted
    model.set_params(warm_start=True).fit(X.astype(given), np.arange(30) % 3)
    assert model.parameters_.dtype == fitted


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # kernels that run as Python warn of overflow
def test_a_diverging_fit_stops_and_says_where(data):
    X, y = data
    model = MLPRegressor(**{**SMALL, "max_iter": 50}, solver="sgd", learning_rate_init=1e6, activation="identity")
    with pytest.warns(UserWarning, match=r"Training diverged in epoch (\d+): the loss is not finite") as record:
        model.fit(X * 100, y, validation_data=(X, y))
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == model.n_iter_
    (warning,) = [w for w in record if "diverged" in str(w.message)]
    assert warning.filename == __file__
    assert f"epoch {model.n_iter_}:" in str(warning.message)
    assert np.isfinite(model.parameters_).all()
    assert model.loss_curve_[-1] == model.loss_ == np.inf
    assert model.n_iter_ < 50
    assert not model.converged_
    model.set_params(learning_rate_init=1e-12, warm_start=True, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)  # a diverged model can be gone on with
    assert np.isfinite(model._training.moments).all()


class TestPlainData:
    """What takes the short way through the checks, and gets the same answer as on the long one."""

    @pytest.mark.parametrize("labels", ["numbers", "booleans", "values"])
    def test_the_same_answer(self, rng, dtype, labels, monkeypatch):
        X = rng.standard_normal((9, 3)).astype(dtype)
        y = {"numbers": np.arange(9), "booleans": np.arange(9) > 3, "values": X[:, 0]}[labels]
        for estimator in (MLPRegressor(), MLPClassifier())[: 1 if labels == "values" else 2]:
            for known in (None, {"n_features_in_": 3}):
                short = _validation.check_samples(estimator, X, y, (np.float64, np.float32), known)
                assert short[0] is X
                assert short[1] is y
                with monkeypatch.context() as patch:
                    patch.setattr(_validation, "is_plain", lambda *_: False)
                    long = _validation.check_samples(estimator, X, y, (np.float64, np.float32), known)
                np.testing.assert_array_equal(long[0], X)
                np.testing.assert_array_equal(long[1], y)
                assert (short[1].dtype, short[2]) == (long[1].dtype, long[2])

    def test_what_is_not_plain(self, dtype):
        X, types = np.ones((4, 3), dtype), (np.float64, np.float32)
        assert _validation.is_plain(X, types, None)
        assert _validation.is_plain(X, X.dtype, {"n_features_in_": 3})
        for value in (np.nan, np.inf, -np.inf, np.finfo(dtype).max):  # the last is fine, but three have no sum
            bad = X.copy()
            bad[1:, 1] = value
            assert not _validation.is_plain(bad, types, None)
        for other in (
            X.tolist(),
            np.asfortranarray(X),
            X[::2],
            X[:0],
            X[0],
            X.astype(np.float16),
            np.ones((4, 3), int),
        ):
            assert not _validation.is_plain(other, types, None)
        assert not _validation.is_plain(X.view(np.matrix), types, None)
        assert not _validation.is_plain(X, np.dtype("float32" if dtype == "float64" else "float64"), None)
        assert not _validation.is_plain(X, types, {"n_features_in_": 4})
        assert not _validation.is_plain(X, types, {"n_features_in_": 3, "feature_names_in_": ["a", "b", "c"]})

    def test_what_is_no_plain_target(self):
        X = np.ones((4, 3))
        assert _validation.is_plain_target(np.arange(4), X, numeric=False)
        assert _validation.is_plain_target(np.ones(4), X, numeric=True)
        assert not _validation.is_plain_target(np.arange(4), X.tolist(), numeric=False)
        for y in (np.ones(4), np.array(list("abcd")), np.array([1, 2, 3, None]), np.arange(3), np.ones((4, 1), int)):
            assert not _validation.is_plain_target(y, X, numeric=False)
        for y in (np.array([1.0, np.nan, 2, 3]), np.array([1.0, np.inf, 2, 3]), [1, 2, 3, 4], np.ones(4, "f2")):
            assert not _validation.is_plain_target(y, X, numeric=True)

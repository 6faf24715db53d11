"""onnxruntime computes what gdl predicts."""

import builtins
import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import NotFittedError

from gdl import KMeans, MiniBatchKMeans, MLPClassifier, MLPRegressor

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

pytestmark = [pytest.mark.compiled, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

ACTIVATIONS = ["identity", "logistic", "tanh", "relu", "leaky_relu", "elu", "softplus", "gelu", "silu"]


@pytest.fixture
def compute(tmp_path, capfd):
    """Outputs of a model in onnxruntime, by name."""

    def run(model, X):
        path = tmp_path / "model.onnx"
        model.to_onnx(path)
        assert os.listdir(tmp_path) == ["model.onnx"]
        onnx.checker.check_model(onnx.load(path), full_check=True)
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, {"X": X}), strict=True))
        assert capfd.readouterr().err == ""  # onnxruntime says what it does not like
        return found

    return run


def close_to(expected):
    """Arguments of ``assert_allclose``, as a share of the largest number."""
    return {"rtol": 0, "atol": 1e-5 * max(1.0, float(np.abs(expected).max()))}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_classes_of_digits(compute, dtype, activation):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(dtype)
    model = MLPClassifier((20, 10), activation=activation, max_iter=20, learning_rate_init=0.01, random_state=0)
    model.fit(X[:800], y[:800])
    found = compute(model, X[800:])
    expected = model.predict_proba(X[800:])
    assert list(found) == ["label", "probabilities"]
    assert found["probabilities"].dtype == dtype
    assert found["label"].dtype == np.int64
    assert_allclose(found["probabilities"], expected, **close_to(expected))
    assert_array_equal(found["label"], model.predict(X[800:]))
    assert (found["label"] == y[800:]).mean() > 0.6  # there is something to compare


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_far_from_zero(compute, dtype, activation):
    X = np.linspace(-1, 1, 101).reshape(-1, 1).astype(dtype)
    model = MLPRegressor((3,), activation=activation, max_iter=1, random_state=0).fit(X, X[:, 0])
    model.parameters_ *= 30
    expected = model.predict(X)
    found = compute(model, X)
    assert list(found) == ["variable"]
    assert found["variable"].shape == (101, 1)
    assert_allclose(found["variable"][:, 0], expected, **close_to(expected))


def test_float64_stays_float64(compute):
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    model = MLPRegressor((10, 10, 10), activation=["elu", "softplus", "leaky_relu"], max_iter=50, random_state=0)
    expected = model.fit(X, y).predict(X)
    assert_allclose(compute(model, X)["variable"][:, 0], expected, rtol=0, atol=1e-13)


def test_several_numbers_and_no_hidden_layer(compute, dtype):
    X, y = load_diabetes(return_X_y=True)
    X, Y = X.astype(dtype), np.column_stack([y, -y, y**0.5]) / 100
    model = MLPRegressor((), fit_intercept=False, solver="lbfgs", random_state=0).fit(X, Y)
    expected = model.predict(X)
    assert_allclose(compute(model, X)["variable"], expected, **close_to(expected))


def test_a_positive_output(compute, dtype):
    X, y = load_diabetes(return_X_y=True)
    model = MLPRegressor((10,), loss="poisson", max_iter=20, learning_rate_init=0.01, random_state=0)
    expected = model.fit(X.astype(dtype), y / 100).predict(X)
    assert_allclose(compute(model, X.astype(dtype))["variable"][:, 0], expected, **close_to(expected))


LABELS = {
    "str": (np.array(["setosa", "versicolor", "virginica ä"]), object),
    "object": (np.array(["setosa", "versicolor", "virginica ä"], object), object),
    "int": (np.array([-5, 0, 2**40]), np.int64),
    "small int": (np.array([1, 2, 3], np.uint8), np.int64),
    "float": (np.array([0.0, 1.0, 2.0], np.float32), np.float64),
}


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_iris(compute, dtype, kind, n_classes):
    (classes, expected_dtype), (X, y) = LABELS[kind], load_iris(return_X_y=True)
    X, y = X[y < n_classes].astype(dtype), classes[y[y < n_classes]]
    model = MLPClassifier((8,), solver="lbfgs", max_iter=30, random_state=0).fit(X, y)
    found = compute(model, X)
    expected = model.predict_proba(X)
    assert found["label"].dtype == expected_dtype
    assert found["label"].tolist() == model.predict(X).tolist()
    assert found["probabilities"].shape == expected.shape == (len(X), n_classes)
    assert_allclose(found["probabilities"], expected, **close_to(expected))


def test_bools(compute):
    X, y = load_iris(return_X_y=True)
    model = MLPClassifier((8,), solver="lbfgs", max_iter=30, random_state=0).fit(X, y == 1)
    found = compute(model, X)
    assert found["label"].dtype == bool
    assert_array_equal(found["label"], model.predict(X))


def test_several_labels(compute, dtype):
    X, y = load_digits(return_X_y=True)
    X, Y = (X / 16).astype(dtype), np.column_stack([y % 2, y > 4, y == 3]).astype(int)
    model = MLPClassifier((10,), max_iter=15, learning_rate_init=0.01, random_state=0).fit(X, Y)
    found = compute(model, X)
    expected = model.predict_proba(X)
    assert_array_equal(found["label"], model.predict(X))
    assert_allclose(found["probabilities"], expected, **close_to(expected))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])
def test_clusters_of_digits(compute, dtype, kind, metric):
    X = load_digits().data.astype(dtype)
    model = kind(10, metric=metric, random_state=0, max_iter=20).fit(X)
    found = compute(model, X)
    expected = model.transform(X)
    assert list(found) == ["label", "scores"]
    assert found["label"].dtype == np.int64
    assert_array_equal(found["label"], model.predict(X))
    assert found["scores"].dtype == dtype
    assert_allclose(found["scores"], expected, **close_to(expected))


@pytest.mark.parametrize("offset", [0, 1e3, 1e5])
def test_clusters_far_from_zero(compute, dtype, offset):
    X = load_iris().data.astype(dtype) + dtype.type(offset)
    model = KMeans(5, random_state=0).fit(X)
    found = compute(model, X)
    exact = np.sqrt(((X.astype(float)[:, None] - model.cluster_centers_.astype(float)) ** 2).sum(axis=2))
    assert_allclose(found["scores"], exact, **close_to(exact))
    assert_array_equal(found["label"], model.labels_)


def test_samples_on_their_centers(compute, dtype):
    X = load_iris().data[::50].astype(dtype)
    found = compute(KMeans(3, init=X, n_init=1).fit(X), X)
    assert_allclose(np.diag(found["scores"]), 0, atol=1e-6)  # from products this would be 1e-3


def test_directions_of_any_length(compute, dtype):
    X = load_iris().data.astype(dtype)
    model = KMeans(3, metric="cosine", random_state=0).fit(X)
    for scale in (1e-30, 1e30):
        found = compute(model, X * dtype.type(scale))
        assert_array_equal(found["label"], model.labels_)
        assert_allclose(found["scores"], model.transform(X), rtol=0, atol=1e-5)
    assert np.isfinite(compute(model, np.zeros((1, 4), dtype))["scores"]).all()


@pytest.mark.parametrize("n_rows", [0, 1, 7])
def test_any_number_of_rows(compute, n_rows):
    X, y = load_iris(return_X_y=True)
    for model in (MLPClassifier((4,), max_iter=1).fit(X, y), KMeans(3).fit(X)):
        found = compute(model, X[:n_rows])
        assert [len(values) for values in found.values()] == [n_rows, n_rows]


def test_the_model_says_where_it_comes_from(tmp_path):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"a": [0.0, 1.0, 5.0], "b ü": [1.0, 1.0, 2.0]})
    KMeans(2).fit(X).to_onnx(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert model.producer_name == "gdl"
    assert model.graph.name == "KMeans"
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("feature_names", '["a", "b \\u00fc"]')]


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    X, y = load_iris(return_X_y=True)
    with pytest.raises(NotFittedError):
        KMeans().to_onnx(path)
    model = MLPClassifier((4,), max_iter=1).fit(X, y)
    model.classes_ = np.array([None, (), []], object)
    with pytest.raises(ValueError, match="classes_ has labels of type object, but ONNX has strings, numbers and bools"):
        model.to_onnx(path)
    with pytest.raises(FileNotFoundError):
        KMeans(2).fit(X).to_onnx(tmp_path / "none" / "model.onnx")
    monkeypatch.setattr("gdl._onnx.MOST_BYTES", 100)
    with pytest.raises(ValueError, match=r"The model has .* bytes, but an ONNX file holds at most 2 GiB; use save"):
        model.to_onnx(path)
    assert os.listdir(tmp_path) == []


def test_without_the_package(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without_onnx(name, *args, **kwargs):
        if name == "onnx":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(ImportError, match=r'needs the package onnx; install it with pip install "gdl\[onnx\]"\.'):
        KMeans(2).to_onnx(tmp_path / "model.onnx")

"""What users pass: hard inputs work, bad ones get one clear sentence and leave a fitted model as it was."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import DataConversionWarning, NotFittedError

from gdl import MLPClassifier, MLPRegressor

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

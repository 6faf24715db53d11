"""The same seed gives scikit-learn's curve: loss, weights and predictions, epoch for epoch.

scikit-learn is the oracle; it shares no code with what is tested. The numbers differ only by the order
of additions, which twenty epochs do not blow up to 1e-6.
"""

import itertools
import warnings

import numpy as np
import pytest
import sklearn.neural_network as peer
from numpy.testing import assert_allclose

from gdl import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SOLVERS = {
    "sgd": {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd"},
    "adam": {"solver": "adam"},
}
ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
TASKS = ["binary", "multiclass", "multilabel", "regression", "poisson"]
CASES = list(itertools.product(TASKS, SOLVERS, ACTIVATIONS))
EPOCHS = {"hidden_layer_sizes": (5, 3), "batch_size": 13, "learning_rate_init": 0.02, "max_iter": 20}


def problem(task, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((48, 4))
    Z = X @ rng.standard_normal((4, 3)) + 0.3 * rng.standard_normal((48, 3))
    targets = {
        "binary": np.where(Z[:, 0] > 0, "yes", "no"),
        "multiclass": Z.argmax(1) * 10 - 5,
        "multilabel": (Z > 0).astype(int),
        "regression": Z[:, :2],
        "poisson": rng.poisson(np.exp(0.3 * Z[:, 0])).astype(float),
    }
    return X, targets[task], rng.random(48) + 0.1


def fit_both(task, sample_weight=None, **parameters):
    X, y, _ = problem(task)
    parameters = {**EPOCHS, **parameters}
    if task in ("regression", "poisson"):
        loss = "poisson" if task == "poisson" else "squared_error"
        ours, theirs = MLPRegressor(loss=loss, **parameters), peer.MLPRegressor(loss=loss, **parameters)
    else:
        ours, theirs = MLPClassifier(**parameters), peer.MLPClassifier(**parameters)
    return ours.fit(X, y, sample_weight), theirs.fit(X, y, sample_weight), X


def assert_same(ours, theirs, X):
    assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-6)
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        assert_allclose(mine, other, rtol=1e-6, atol=1e-9)
    predict = "predict_proba" if hasattr(theirs, "predict_proba") else "predict"
    assert_allclose(getattr(ours, predict)(X), getattr(theirs, predict)(X), rtol=1e-6, atol=1e-12)
    if predict == "predict_proba":
        assert ours.predict(X).tolist() == theirs.predict(X).tolist()
        assert ours.predict(X).dtype == theirs.predict(X).dtype


def assert_same_attributes(ours, theirs):
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("loss_", "best_loss_", "best_validation_score_"):
        if getattr(theirs, name) is None:
            assert getattr(ours, name) is None, name
        else:
            assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6, err_msg=name)
    if theirs.validation_scores_ is None:
        assert ours.validation_scores_ is None
    else:
        assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-6)


@pytest.mark.parametrize(("task", "solver", "activation"), CASES)
def test_solvers_and_activations(task, solver, activation):
    seed = CASES.index((task, solver, activation)) % 7
    ours, theirs, X = fit_both(task, activation=activation, random_state=seed, **SOLVERS[solver])
    assert_same(ours, theirs, X)
    assert_same_attributes(ours, theirs)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_weights_early_stopping_and_order(task, weighted, early_stopping, shuffle):
    weights = problem(task)[2] if weighted else None
    parameters = {"early_stopping": early_stopping, "shuffle": shuffle, "random_state": 11, "validation_fraction": 0.2}
    ours, theirs, X = fit_both(task, weights, **parameters)
    assert_same(ours, theirs, X)
    assert_same_attributes(ours, theirs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1, "max_iter": 30},
        {"tol": 0.03, "n_iter_no_change": 2, "max_iter": 40},
        {"tol": 0.05, "n_iter_no_change": 2, "max_iter": 40, "early_stopping": True},
        {"n_iter_no_change": np.inf},
        {"alpha": 3.0, "beta_1": 0.5, "beta_2": 0.7, "epsilon": 1e-3},
        {"hidden_layer_sizes": (), "activation": "logistic"},
        {"hidden_layer_sizes": 4, "batch_size": "auto"},
    ],
    ids=lambda parameters: "-".join(parameters),
)
def test_schedules_stopping_and_shapes(parameters, seed):
    ours, theirs, X = fit_both("multiclass", random_state=seed, **parameters)
    assert_same(ours, theirs, X)
    assert_same_attributes(ours, theirs)


def test_random_state_instance_is_used_up_alike():
    mine, other = np.random.RandomState(5), np.random.RandomState(5)
    X, y, _ = problem("binary")
    ours = MLPClassifier(**EPOCHS, random_state=mine, early_stopping=True).fit(X, y)
    theirs = peer.MLPClassifier(**EPOCHS, random_state=other, early_stopping=True).fit(X, y)
    assert_same(ours, theirs, X)
    assert mine.random_sample() == other.random_sample()


@pytest.mark.parametrize("task", TASKS)
def test_lbfgs_reaches_the_same_loss(task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        few = fit_both(task, solver="lbfgs", random_state=1, max_iter=10, activation="tanh")
        many = fit_both(task, solver="lbfgs", random_state=1, max_iter=3000, alpha=1.0, activation="tanh", tol=1e-6)
    if task == "regression":  # of two outputs scikit-learn's objective is not the one of its gradient
        assert many[0].loss_ < 1.001 * many[1].loss_
    else:
        assert_allclose(few[0].loss_, few[1].loss_, rtol=1e-6)
        assert_allclose(many[0].loss_, many[1].loss_, rtol=1e-3)


def test_float32_follows_scikit_learn_too():
    X, y, _ = problem("multiclass")
    X = X.astype(np.float32)
    ours = MLPClassifier(**EPOCHS, random_state=0).fit(X, y)
    theirs = peer.MLPClassifier(**EPOCHS, random_state=0).fit(X, y)
    assert ours.coefs_[0].dtype == theirs.coefs_[0].dtype == np.float32
    assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)


def test_the_comparison_can_fail():
    ours, theirs, X = fit_both("binary", random_state=0)
    ours.coefs_[0][0, 0] += 1e-5
    with pytest.raises(AssertionError):
        assert_same(ours, theirs, X)

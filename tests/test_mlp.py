"""What gdl's networks do beyond scikit-learn's, and what is under every prediction."""

import copy
import math
import pickle
import subprocess
import sys
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import accuracy_score, log_loss, mean_pinball_loss, r2_score

from gdl import MLPClassifier, MLPRegressor
from gdl._lbfgs import LineSearch, Point

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SMALL = {"hidden_layer_sizes": (5, 4), "max_iter": 3, "random_state": 0, "batch_size": 12}
# One step of plain gradient descent over all samples, from given parameters.
ONE_STEP = {
    "hidden_layer_sizes": (), "solver": "sgd", "momentum": 0.0, "alpha": 0.0, "batch_size": 40, "max_iter": 1,
    "learning_rate_init": 0.1, "random_state": 0,
}  # fmt: skip

FUNCTIONS = {
    "identity": lambda z: z,
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.exp(z) - 1),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "gelu": lambda z: z * scipy.stats.norm.cdf(z),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True),
    "exp": np.exp,
}


@pytest.fixture
def data(rng):
    X = rng.standard_normal((40, 3))
    return X, np.arange(40) % 3


def outputs_by_hand(model, X, names):
    outputs, A = [], X
    for W, b, name in zip(model.coefs_, model.intercepts_ or [0] * len(names), names, strict=True):
        A = FUNCTIONS[name](A @ W + b)
        outputs.append(A)
    return outputs


# Parameters: one vector and its views.


def test_views_share_the_vector(data):
    model = MLPClassifier(**SMALL).fit(*data)
    assert model.parameters_.shape == (3 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3,)
    for view in model.coefs_ + model.intercepts_:
        assert np.shares_memory(view, model.parameters_)
    assert_array_equal(model.coefs_[0].ravel(), model.parameters_[:15])
    assert_array_equal(model.intercepts_[0], model.parameters_[15:20])


@pytest.mark.parametrize("travel", [lambda m: m, lambda m: pickle.loads(pickle.dumps(m)), copy.copy, copy.deepcopy])
def test_writing_into_views_changes_predictions(data, travel):
    X, y = data
    model = MLPClassifier(**SMALL).fit(X, y)
    model.predict(X[:2])  # the short way is open
    model = travel(model)
    model.predict(X[:2])
    model.coefs_[-1][:] = 0
    model.intercepts_[-1][:] = [0, 9, 0]
    assert set(model.predict(X)) == {1}
    model.intercepts_[-1] = [0, 0, 9]
    assert set(model.predict(X)) == {2}
    model.intercepts_ = [np.zeros(5), np.zeros(4), np.array([9, 0, 0])]
    model.coefs_ = [np.ones((3, 5)), np.ones((5, 4)), np.zeros((4, 3))]
    assert set(model.predict(X)) == {0}
    model.parameters_ = np.arange(59)
    assert_array_equal(model.coefs_[0].ravel(), np.arange(15))
    with pytest.raises(ValueError, match="broadcast"):
        model.parameters_ = np.zeros(3)


def test_writing_into_views_changes_training(data):
    X, y = data
    model = MLPClassifier(**SMALL, warm_start=True).fit(X, y)
    other = copy.deepcopy(model)
    other.coefs_[0][0, 0] += 1
    assert not np.array_equal(model.fit(X, y).coefs_[1], other.fit(X, y).coefs_[1])


def test_unfitted_models_have_no_parameters():
    for name in ("parameters_", "coefs_", "intercepts_"):
        assert not hasattr(MLPClassifier(), name)


def test_parameters_set_after_the_fit_do_not_change_predictions(data):
    X, y = data
    model = MLPClassifier(**SMALL).fit(X, y)
    before = model.predict_proba(X)
    model.set_params(activation="tanh", hidden_layer_sizes=(9,), fit_intercept=False)
    assert_array_equal(model.predict_proba(X), before)


# Layers.


@pytest.mark.parametrize("names", [("tanh", "gelu"), ("silu", "leaky_relu"), ["elu", "softplus"], ("relu", "identity")])
def test_activations_and_transform(data, names):
    X, y = data
    model = MLPClassifier(**SMALL, activation=names).fit(X, y)
    expected = outputs_by_hand(model, X, [*names, "softmax"])
    for mine, other in zip(model.activations(X), expected, strict=True):
        assert_allclose(mine, other, rtol=1e-9, atol=1e-12)
    assert_allclose(model.transform(X), expected[-2], rtol=1e-9, atol=1e-12)
    assert_allclose(model.predict_proba(X), expected[-1], rtol=1e-9)
    assert_allclose(model.predict_log_proba(X), np.log(expected[-1]), rtol=1e-9)
    assert_array_equal(model.predict(X), expected[-1].argmax(1))


def test_a_list_of_one_name_is_the_name(data):
    for name in ("logistic", "relu"):
        one = MLPClassifier(**SMALL, activation=name).fit(*data)
        assert_array_equal(MLPClassifier(**SMALL, activation=[name] * 2).fit(*data).parameters_, one.parameters_)


def test_a_linear_model(data):
    X, y = data
    model = MLPRegressor((), solver="lbfgs", alpha=0.0, tol=1e-10).fit(X, y)
    exact = np.linalg.lstsq(np.c_[X, np.ones(40)], y, rcond=None)[0]
    assert_allclose(model.parameters_, exact, atol=1e-3)
    assert_array_equal(model.transform(X), X)
    assert model.transform(X) is not X
    assert len(model.activations(X)) == 1
    assert MLPClassifier((), activation=[], max_iter=1).fit(X, y).n_layers_ == 2


def test_a_linear_model_of_counts(rng):
    X = np.linspace(0, 1, 100).reshape(-1, 1)
    y = rng.poisson(np.exp(X[:, 0] + 1))
    model = MLPRegressor((), loss="poisson", alpha=0.0, solver="lbfgs", tol=1e-7).fit(X, y)
    expected = PoissonRegressor(alpha=0, tol=1e-7).fit(X, y).predict(X)
    assert_allclose(model.predict(X), expected, rtol=1e-3)


def test_no_intercepts(data):
    X, y = data
    model = MLPClassifier(**SMALL, fit_intercept=False).fit(X, y)
    assert model.parameters_.shape == (3 * 5 + 5 * 4 + 4 * 3,)
    assert model.intercepts_ == []
    assert_allclose(model.predict_proba(X), outputs_by_hand(model, X, ["relu", "relu", "softmax"])[-1])
    assert_allclose(MLPRegressor(**SMALL, fit_intercept=False).fit(X, y).predict(np.zeros((1, 3))), 0)


# First parameters.


def test_the_users_first_parameters(data):
    X, y = data
    start = np.linspace(-1, 1, 59)
    model = MLPClassifier(**SMALL, init=start, solver="sgd", learning_rate_init=1e-15).fit(X, y)
    assert_allclose(model.parameters_, start, atol=1e-12)
    assert_array_equal(start, np.linspace(-1, 1, 59))
    assert MLPClassifier(**SMALL, init=list(start)).fit(X.astype(np.float32), y).parameters_.dtype == np.float32


@pytest.mark.parametrize(
    ("init", "deviation", "has_biases"),
    [
        ("glorot_uniform", math.sqrt(6 / 600) / math.sqrt(3), True),
        ("glorot_normal", math.sqrt(2 / 600), False),
        ("he_uniform", math.sqrt(6 / 400) / math.sqrt(3), False),
        ("he_normal", math.sqrt(2 / 400), False),
    ],
)
def test_initializers(rng, init, deviation, has_biases):
    X = rng.standard_normal((4, 400))
    parameters = {"solver": "sgd", "learning_rate_init": 1e-30, "max_iter": 1, "random_state": 0}
    model = MLPRegressor((200,), init=init, **parameters).fit(X, X[:, 0])
    assert_allclose(model.coefs_[0].std(), deviation, rtol=0.01)
    assert_allclose(model.coefs_[0].mean(), 0, atol=0.002)
    assert abs(model.coefs_[0]).max() > (4 if "normal" in init else 1.7) * deviation
    assert (abs(model.intercepts_[0]).max() > 1e-3) == has_biases


# Losses and weights.


def test_losses_by_hand(rng):
    X, y = rng.standard_normal((40, 2)), 3 * rng.standard_normal((40, 2))
    cases = {
        "squared_error": lambda r: r,
        "absolute_error": np.sign,
        "huber": lambda r: np.clip(r, -0.7, 0.7),
        "quantile": lambda r: np.where(r > 0, 0.1, -0.9),
    }
    values = {
        "squared_error": lambda r: r**2 / 2,
        "absolute_error": abs,
        "huber": lambda r: np.where(abs(r) < 0.7, r**2 / 2, 0.7 * (abs(r) - 0.35)),
        "quantile": lambda r: np.where(r > 0, 0.1 * r, -0.9 * r),
    }
    start = rng.standard_normal(6)
    for loss, slope in cases.items():
        model = MLPRegressor(**ONE_STEP, init=start, loss=loss, huber_delta=0.7, quantile=0.9).fit(X, y)
        W, b = start[:4].reshape(2, 2), start[4:]
        residual = X @ W + b - y
        assert_allclose(model.loss_, values[loss](residual).mean(), rtol=1e-12)
        assert_allclose(model.coefs_[0], W - 0.1 * X.T @ slope(residual) / 40, rtol=1e-10)
        assert_allclose(model.intercepts_[0], b - 0.1 * slope(residual).mean(0), rtol=1e-10)


def test_quantiles_are_found():
    rng = np.random.default_rng(0)  # how near a sample's quantile is to the true one is up to the sample
    X = rng.standard_normal((300, 1))
    y = X[:, 0] + rng.exponential(size=300)
    for level in (0.1, 0.8):
        parameters = {"solver": "adam", "learning_rate_init": 0.05, "alpha": 0.0, "max_iter": 60, "random_state": 0}
        model = MLPRegressor((), loss="quantile", quantile=level, **parameters).fit(X, y)
        assert abs((y < model.predict(X)).mean() - level) < 0.05
        assert_allclose(model.predict([[0.0]]), scipy.stats.expon.ppf(level), atol=0.25)


def test_class_weight_is_sample_weight(data):
    X, _ = data
    y = np.array(["a", "b", "c"])[np.minimum(np.arange(40) % 6, 2)]
    given = {"a": 3.0, "c": 0.5}
    by_sample = np.array([given.get(label, 1.0) for label in y])
    weights = np.linspace(0.5, 2, 40)
    expected = MLPClassifier(**SMALL).fit(X, y, by_sample * weights).parameters_
    assert_array_equal(MLPClassifier(**SMALL, class_weight=given).fit(X, y, weights).parameters_, expected)
    expected = MLPClassifier(**SMALL).fit(X, y, by_sample).parameters_
    assert_array_equal(MLPClassifier(**SMALL, class_weight=given).fit(X, y).parameters_, expected)
    one = MLPClassifier(**{**SMALL, "max_iter": 1, "batch_size": 40}, class_weight=given)
    assert_array_equal(one.partial_fit(X, y, classes=["a", "b", "c"]).coefs_[0], copy.deepcopy(one).fit(X, y).coefs_[0])


def test_balanced_classes_weigh_the_same(data):
    X, _ = data
    y = np.minimum(np.arange(40) % 6, 2)
    counts = np.bincount(y)
    expected = MLPClassifier(**SMALL).fit(X, y, 40 / (3 * counts)[y]).parameters_
    assert_array_equal(MLPClassifier(**SMALL, class_weight="balanced").fit(X, y).parameters_, expected)
    weights = np.where(y == 0, 2.0, 0.0)
    weights[y == 1] = 1.0
    with_weights = MLPClassifier(**SMALL, class_weight="balanced").fit(X, y, weights)
    by_hand = weights * np.array([weights.sum() / (3 * 2 * counts[0]), weights.sum() / (3 * counts[1]), 0])[y]
    assert_allclose(with_weights.parameters_, MLPClassifier(**SMALL).fit(X, y, by_hand).parameters_, rtol=1e-9)
    labels = (X > 0.5).astype(int)
    assert MLPClassifier(**SMALL, class_weight="balanced").fit(X, labels).predict(X).shape == (40, 3)


@pytest.mark.parametrize("solver", ["adamw", "rmsprop"])
def test_solvers_by_hand(rng, solver):
    X, y = rng.standard_normal((40, 2)), rng.standard_normal(40)
    w = start = rng.standard_normal(3)
    extended, decayed = np.c_[X, np.ones(40)], np.array([1, 1, 0])
    m, v, rate = np.zeros(3), np.zeros(3), 0.1
    for t in range(1, 4):
        g = extended.T @ (extended @ w - y) / 40
        if solver == "adamw":
            m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
            step_size = rate * math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
            w = w - rate * 0.3 * w * decayed - step_size * m / (np.sqrt(v) + 1e-8)
        else:
            g = g + 0.3 / 40 * w * decayed
            v = 0.99 * v + 0.01 * g**2
            w = w - rate * g / (np.sqrt(v) + 1e-8)
    parameters = {**ONE_STEP, "solver": solver, "alpha": 0.3, "beta_2": 0.99, "max_iter": 3}
    assert_allclose(MLPRegressor(**parameters, init=start).fit(X, y).parameters_, w, rtol=1e-9)


def test_gradients_are_clipped(rng):
    X, y = rng.standard_normal((40, 3)), 100 * rng.standard_normal(40)
    start = rng.standard_normal(4)
    free = MLPRegressor(**ONE_STEP, init=start).fit(X, y).parameters_ - start
    clipped = MLPRegressor(**ONE_STEP, init=start, max_grad_norm=0.5).fit(X, y).parameters_ - start
    assert_allclose(np.linalg.norm(clipped), 0.1 * 0.5, rtol=1e-9)
    assert_allclose(clipped / np.linalg.norm(clipped), free / np.linalg.norm(free), rtol=1e-9)
    loose = MLPRegressor(**ONE_STEP, init=start, max_grad_norm=1e9).fit(X, y).parameters_ - start
    assert_allclose(loose, free, rtol=1e-12)


def test_dropout(data):
    X, y = data
    with_dropout = MLPClassifier(**SMALL, dropout=0.5).fit(X, y)
    without = MLPClassifier(**SMALL).fit(X, y)
    assert not np.array_equal(with_dropout.parameters_, without.parameters_)
    assert_array_equal(MLPClassifier(**SMALL, dropout=0.5).fit(X, y).parameters_, with_dropout.parameters_)
    other = MLPClassifier(**{**SMALL, "random_state": 1}, dropout=0.5).fit(X, y)
    assert with_dropout._training.dropout_seed != other._training.dropout_seed
    # Nothing is left out of a prediction.
    expected = outputs_by_hand(with_dropout, X, ["relu", "relu", "softmax"])[-1]
    assert_allclose(with_dropout.predict_proba(X), expected, rtol=1e-9)


def test_dropout_can_be_turned_on_later(data):
    model = MLPClassifier(**SMALL, warm_start=True).fit(*data)
    before = model._training.random_state.get_state()[2]
    assert model._training.dropout_seed == 0
    model.set_params(dropout=0.5, shuffle=False).fit(*data)
    assert model._training.dropout_seed > 0
    assert model._training.random_state.get_state()[2] != before
    seed = model._training.dropout_seed
    assert model.fit(*data)._training.dropout_seed == seed


# Schedules.


def rates_of(model, X, y, n_epochs):
    rates = []
    for _ in range(n_epochs):
        rates.append(model.partial_fit(X, y).learning_rate_)
    return rates


def test_cosine_by_hand(rng):
    X, y = rng.standard_normal((40, 2)), rng.standard_normal(40)
    start, extended = rng.standard_normal(3), np.c_[X, np.ones(40)]
    w = start
    for step in range(4):
        w = w - 0.05 * (1 + math.cos(math.pi * step / 4)) * extended.T @ (extended @ w - y) / 40
    parameters = {**ONE_STEP, "learning_rate": "cosine", "max_iter": 4, "init": start}
    model = MLPRegressor(**parameters).fit(X, y)
    assert_allclose(model.parameters_, w, rtol=1e-9)
    assert_allclose(model.learning_rate_, 0, atol=1e-15)
    assert_allclose(rates_of(MLPRegressor(**parameters), X, y, 6), [0.08535534, 0.05, 0.01464466, 0, 0, 0], atol=1e-8)


def test_one_cycle_by_hand(rng):
    X, y = rng.standard_normal((40, 2)), rng.standard_normal(40)
    model = MLPRegressor(**{**ONE_STEP, "learning_rate": "one_cycle", "max_iter": 20})
    rates = rates_of(model, X, y, 25)
    top = 0.3 * 20 - 1
    up = [0.1 + (0.1 / 25 - 0.1) / 2 * (1 + math.cos(math.pi * s / top)) for s in range(1, 6)]
    assert_allclose(rates[:5], up, rtol=1e-12)
    assert_allclose(rates[5:9], [4e-7 + (0.1 - 4e-7) / 2 * (1 + math.cos(math.pi * s / 14)) for s in range(1, 5)])
    assert_allclose(rates[18:], [4e-7] * 7, rtol=1e-9)


@pytest.mark.parametrize("schedule", ["invscaling", "adaptive"])
def test_schedules_that_belong_to_sgd(data, schedule):
    constant = MLPClassifier(**SMALL, tol=1.0, n_iter_no_change=1).fit(*data)
    other = MLPClassifier(**SMALL, tol=1.0, n_iter_no_change=1, learning_rate=schedule).fit(*data)
    assert_array_equal(other.parameters_, constant.parameters_)
    assert other.converged_ == constant.converged_


def test_each_fit_runs_its_whole_schedule(data):
    parameters = {**SMALL, "learning_rate": "cosine", "warm_start": True}
    model = MLPRegressor(**parameters).fit(*data)
    before = model.parameters_.copy()
    assert model.learning_rate_ == pytest.approx(0)
    model.fit(*data)
    assert abs(model.parameters_ - before).max() > 1e-3


# Judging.


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("weighted", [False, True])
def test_validation_curves_of_a_classifier(data, rng, kind, weighted):
    X, y = data
    y = {"binary": y > 0, "multiclass": y, "multilabel": (X > 0).astype(int)}[kind]
    weights = rng.random(15) if weighted else None
    judged = (X[25:], y[25:], weights) if weighted else (X[25:], y[25:])
    model = MLPClassifier(**SMALL).fit(X[:25], y[:25], validation_data=judged)
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == 3
    score = accuracy_score(y[25:], model.predict(X[25:]), sample_weight=weights)
    assert_allclose(model.validation_scores_[-1], score)
    P = model.predict_proba(X[25:])
    if kind == "multilabel":
        loss = sum(log_loss(y[25:, k], P[:, k], sample_weight=weights, labels=[0, 1]) for k in range(3))
    else:
        loss = log_loss(y[25:], P, sample_weight=weights)
    assert_allclose(model.validation_loss_curve_[-1], loss)
    assert model.best_validation_score_ is None
    assert_array_equal(model.parameters_, MLPClassifier(**SMALL).fit(X[:25], y[:25]).parameters_)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_validation_curves_of_a_regressor(data, rng, solver):
    X, y = data
    Y = np.c_[y, X[:, 0]]
    weights = rng.random(15)
    model = MLPRegressor(**SMALL, solver=solver, loss="quantile", quantile=0.3)
    model.fit(X[:25], Y[:25], validation_data=(X[25:], Y[25:], weights))
    P = model.predict(X[25:])
    loss = mean_pinball_loss(Y[25:], P, sample_weight=weights, alpha=0.3)
    assert_allclose(model.validation_loss_curve_[-1], loss)
    assert_allclose(model.validation_scores_[-1], r2_score(Y[25:], P, sample_weight=weights))


def test_a_constant_target_scores_like_scikit_learns(data):
    X, _ = data
    model = MLPRegressor(**SMALL).fit(X, X[:, 0], validation_data=(X[:5], np.ones(5)))
    assert model.validation_scores_[-1] == r2_score(np.ones(5), model.predict(X[:5])) == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # kernels that run as Python warn of overflow
def test_a_network_without_finite_outputs_has_no_score(data):
    X, y = data[0].astype(np.float32), data[1]
    model = MLPRegressor(**SMALL, init=np.full(49, 1e30), solver="sgd")
    with pytest.warns(UserWarning, match="Training diverged in epoch 1"):
        model.fit(X, y, validation_data=(X, y))
    assert math.isnan(model.validation_scores_[0])


def test_early_stopping_by_given_samples(data):
    X, y = data
    judged = (X[25:], y[25:])
    parameters = {**SMALL, "max_iter": 200, "n_iter_no_change": 5, "learning_rate_init": 0.05}
    model = MLPClassifier(**parameters, early_stopping=True).fit(X[:25], y[:25], validation_data=judged)
    assert model.converged_
    assert model.n_iter_ < 200
    assert model.best_validation_score_ == max(model.validation_scores_) == model.score(*judged)
    # No sample is split off and no random number is drawn for it.
    plain = MLPClassifier(**{**parameters, "max_iter": model.n_iter_, "n_iter_no_change": np.inf}, warm_start=True).fit(
        X[:25], y[:25]
    )
    assert model.loss_curve_ == plain.loss_curve_
    assert model.best_loss_ is None


def test_early_stopping_returns_to_the_best(data):
    X, y = data
    parameters = {**SMALL, "max_iter": 40, "learning_rate_init": 0.05, "n_iter_no_change": 40}
    model = MLPClassifier(**parameters, early_stopping=True).fit(X, y)
    best = int(np.argmax(model.validation_scores_)) + 1
    assert 1 < best < 40
    shorter = MLPClassifier(**{**parameters, "max_iter": best}, early_stopping=True).fit(X, y)
    assert_array_equal(model.parameters_, shorter.parameters_)


def test_converged_and_not(data):
    X, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MLPClassifier(**{**SMALL, "max_iter": 50}, tol=10.0, n_iter_no_change=2).fit(X, y).converged_
        assert MLPRegressor((), solver="lbfgs", max_iter=100).fit(X, y).converged_
    with pytest.warns(UserWarning, match=r"Stochastic Optimizer: Maximum iterations \(3\) reached and .* raise max_it"):
        model = MLPClassifier(**SMALL).fit(X, y)
    assert not model.converged_


def test_lbfgs_says_how_it_ended(data, monkeypatch):
    X, y = data
    with pytest.warns(UserWarning, match=r"lbfgs: Maximum iterations \(2\) reached and the optimization hasn't conv"):
        MLPClassifier((3,), solver="lbfgs", max_iter=2).fit(X, y)
    with pytest.warns(UserWarning, match=r"lbfgs: Maximum of loss evaluations \(max_fun=3\) reached"):
        model = MLPClassifier((3,), solver="lbfgs", max_fun=3).fit(X, y)
    assert model.n_iter_ < 5
    monkeypatch.setattr("gdl._lbfgs.MAX_TRIALS", 1)
    with pytest.warns(UserWarning, match="lbfgs: no step lowers the loss after .* though its gradient is above tol"):
        stuck = MLPRegressor((3,), solver="lbfgs", loss="absolute_error", tol=1e-30, random_state=0).fit(X, y)
    assert np.isfinite(stuck.parameters_).all()
    start = MLPRegressor((), solver="lbfgs", tol=1e3).fit(X, y)
    assert start.n_iter_ == 0
    assert start.converged_
    assert start.loss_curve_ == []
    assert math.isfinite(start.loss_)


def hilly(rng):
    """A function of one number with hills, flats and any scale, and its slope."""
    a, b, c, d, e = rng.normal(size=5) * (3, 3, 3, 1, 1)
    scale, bowl = 10 ** rng.uniform(-4, 4), rng.random() < 0.7

    def function(x):
        x = float(x) * scale
        value = a * math.sin(b * x + c) + (d * x) ** 2 / 2 + e * x + bowl * math.log1p(x * x) / 2
        slope = a * b * math.cos(b * x + c) + d * d * x + e + bowl * x / (1 + x * x)
        return value, scale * slope

    return function, 3 * rng.normal() / scale


def test_line_search_tries_what_scipys_tries():
    for seed in range(300):
        function, start = hilly(np.random.default_rng(seed))
        theirs = []

        def recorded(x, function=function, theirs=theirs):
            theirs.append(float(x[0]))
            return function(x[0])[0], np.array([function(x[0])[1]])

        options = {"maxiter": 1, "gtol": 0, "ftol": 0}
        scipy.optimize.minimize(recorded, [start], jac=True, method="L-BFGS-B", options=options)
        value, slope = function(start)
        search, tried, done = LineSearch(Point(0.0, value, -slope * slope), 1 / abs(slope)), [], False
        while not done and len(tried) < 20:
            tried.append(start - search.step * slope)
            value, new_slope = function(tried[-1])
            done = search.is_done(value, -slope * new_slope)
        n_tried = min(len(tried), len(theirs) - 1)  # SciPy does not look twice at one point
        assert len(tried) - n_tried <= 1
        assert_allclose(tried[:n_tried], theirs[1 : n_tried + 1], rtol=1e-6, atol=1e-12)


def test_lbfgs_backs_off_from_infinity(rng):
    X = 3000 * rng.standard_normal((20, 2))  # exp of the first step's outputs is beyond any number
    model = MLPRegressor((), loss="poisson", solver="lbfgs", init=np.zeros(3), max_iter=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, rng.poisson(3.0, 20))
    assert np.isfinite(model.loss_curve_).all()
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_lbfgs_in_runs_of_rows(rng, monkeypatch):
    X = rng.standard_normal((2500, 2))
    y, weights = np.sin(X[:, 0]), rng.random(2500)
    weights[1024:2048] = 0
    parameters = {"hidden_layer_sizes": (3,), "solver": "lbfgs", "max_iter": 4, "random_state": 0, "alpha": 5.0}
    for w in (None, weights):
        whole = MLPRegressor(**parameters).fit(X, y, w)
        with monkeypatch.context() as patch:
            patch.setattr("gdl.training.RUN_SECONDS", 0.0)
            cut = MLPRegressor(**parameters).fit(X, y, w)
        assert_allclose(cut.loss_curve_, whole.loss_curve_, rtol=1e-9)
        assert_allclose(cut.parameters_, whole.parameters_, rtol=1e-6)


# Predicting.


def test_shapes_and_types(data):
    X, y = data
    labels = np.array(["lo", "mid", "hi"])
    model = MLPClassifier(**SMALL).fit(X, labels[y])
    assert model.predict(X).dtype == labels.dtype
    assert list(model.classes_) == sorted(labels)
    binary = MLPClassifier(**SMALL).fit(X, y > 0)
    assert binary.predict_proba(X).shape == (40, 2)
    assert_allclose(binary.predict_proba(X).sum(1), 1)
    assert_array_equal(binary.predict(X), binary.predict_proba(X)[:, 1] > 0.5)
    assert (binary.n_outputs_, binary.out_activation_) == (1, "logistic")
    several = MLPClassifier(**SMALL).fit(X, (X > 0).astype(int))
    assert_array_equal(several.predict(X), several.predict_proba(X) > 0.5)
    assert several.predict(X).dtype == int
    assert MLPRegressor(**SMALL).fit(X, X).predict(X).shape == (40, 3)
    assert MLPRegressor(**SMALL).fit(X, X[:, :1].ravel()).predict(X).shape == (40,)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_short_way_is_the_long_way(data, dtype):
    X, y = data[0].astype(dtype), data[1]
    for model in (
        MLPClassifier(**SMALL).fit(X, y),
        MLPClassifier(**SMALL).fit(X, y > 0),
        MLPRegressor(**SMALL).fit(X, y),
    ):
        long = model.predict(X[:1].tolist())
        assert model._at_hand
        assert_array_equal(model.predict(X[:1]), long)
        assert_array_equal(model.predict(X), model.predict(np.asfortranarray(X)))
        before = dict(vars(model))
        model.predict(X[:1])
        assert vars(model) == before


def test_a_refitted_model_predicts_anew(data):
    X, y = data
    model = MLPRegressor(**SMALL).fit(X, y)
    model.predict(X)
    model.set_params(random_state=5).fit(X[:, :2], -y)
    assert_array_equal(model.predict(X[:, :2].copy()), model.predict(X[:, :2].tolist()))
    with pytest.raises(ValueError, match="X has 3 features"):
        model.predict(X)


def test_predicting_in_runs_of_rows(rng, monkeypatch):
    X = rng.standard_normal((2100, 2))
    model = MLPRegressor((3,), max_iter=1, random_state=0, batch_size=2100).fit(X, X[:, 0])
    whole, activations = model.predict(X), model.activations(X)
    monkeypatch.setattr("gdl.training.RUN_SECONDS", 0.0)
    assert_array_equal(model.predict(X.tolist()), whole)
    for mine, other in zip(model.activations(X), activations, strict=True):
        assert_array_equal(mine, other)


def test_predicting_from_many_threads(data):
    X, y = data
    model = MLPClassifier(**SMALL).fit(X, y)
    expected, wrong = model.predict_proba(X), []

    def work(number):
        for _ in range(20):
            if number % 2:
                wrong.extend([] if np.array_equal(model.predict_proba(X), expected) else [number])
            else:
                try:
                    model.predict(np.full((1, 3), np.nan))
                    wrong.append(number)
                except ValueError:
                    pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_scores(data):
    X, y = data
    model = MLPClassifier(**SMALL).fit(X, y)
    assert model.score(X, y) == accuracy_score(y, model.predict(X))
    regressor = MLPRegressor(**SMALL).fit(X, y)
    assert regressor.score(X, y) == r2_score(y, regressor.predict(X))


# What it costs.


@pytest.mark.compiled
def test_importing_is_light():
    code = "import gdl, sys; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.compiled
@pytest.mark.parametrize("early_stopping", [False, True])
def test_memory_of_a_fit(rng, early_stopping):
    X = rng.standard_normal((20_000, 60))
    model = MLPRegressor((30,), max_iter=2, early_stopping=early_stopping, validation_fraction=0.01)
    model.fit(X, X[:, 0])  # compiles
    tracemalloc.start()
    model.fit(X, X[:, 0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    row_numbers, targets = 20_000 * 8, 20_000 * 8
    parameters = model.parameters_.nbytes * 6
    batch = 200 * (30 + 1) * 8 * 2
    allowance = 10 * row_numbers if early_stopping else row_numbers  # scikit-learn's split works on row numbers
    assert peak < parameters + batch + row_numbers + targets + allowance + 300_000
    assert peak < X.nbytes / 2


def test_parameters_of_a_subclass_are_its_own():
    class WithMore(MLPClassifier):
        def __init__(self, hidden_layer_sizes=(3,), more=1):
            super().__init__(hidden_layer_sizes)
            self.more = more

    names = set(MLPClassifier().get_params())
    assert set(WithMore().get_params()) == {"hidden_layer_sizes", "more"}
    MLPClassifier._get_param_names().append("nothing")  # a list of the caller's own
    assert set(MLPClassifier().get_params()) == names
    assert clone(WithMore(more=2)).more == 2

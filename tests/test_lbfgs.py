"""L-BFGS beside SciPy's, which scikit-learn's networks call: ten problems, from the same first parameters."""

import numpy as np
import pytest
import scipy.optimize
import sklearn.base
import sklearn.datasets
import sklearn.neural_network
from sklearn.preprocessing import StandardScaler

import gdl

pytestmark = [pytest.mark.compiled, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]


def scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def digits():
    X, y = sklearn.datasets.load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def diabetes():
    X, y = scaled(sklearn.datasets.load_diabetes)
    return X, y / 100


def friedman():
    X, y = sklearn.datasets.make_friedman1(200, random_state=0)
    return X, y / 10


PROBLEMS = {
    "iris": ("Classifier", lambda: scaled(sklearn.datasets.load_iris), (10,), "tanh"),
    "wine": ("Classifier", lambda: scaled(sklearn.datasets.load_wine), (20,), "tanh"),
    "wine, two layers": ("Classifier", lambda: scaled(sklearn.datasets.load_wine), (12, 8), "relu"),
    "cancer": ("Classifier", lambda: scaled(sklearn.datasets.load_breast_cancer), (15, 5), "logistic"),
    "digits": ("Classifier", digits, (30,), "relu"),
    "digits, logistic": ("Classifier", digits, (20,), "logistic"),
    "moons": ("Classifier", lambda: sklearn.datasets.make_moons(300, noise=0.2, random_state=0), (20, 20), "tanh"),
    "diabetes": ("Regressor", diabetes, (10,), "tanh"),
    "friedman": ("Regressor", friedman, (30,), "relu"),
    "linnerud": ("Regressor", lambda: scaled(sklearn.datasets.load_linnerud), (6,), "tanh"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_as_low_a_loss_with_no_more_evaluations(name, monkeypatch):
    kind, load, hidden, activation = PROBLEMS[name]
    X, y = load()
    found = []
    minimize = scipy.optimize.minimize
    monkeypatch.setattr(scipy.optimize, "minimize", lambda *a, **k: found.append(minimize(*a, **k)) or found[-1])
    # After some 50 iterations a rounding has become another way down, and which is shorter is chance.
    parameters = {"activation": activation, "solver": "lbfgs", "alpha": 0.1, "max_iter": 45, "random_state": 0}
    theirs = getattr(sklearn.neural_network, f"MLP{kind}")(hidden_layer_sizes=hidden, **parameters).fit(X, y)
    ours = getattr(gdl, f"MLP{kind}")(hidden_layer_sizes=hidden, **parameters).fit(X, y)
    assert len(found) == 1
    assert ours.loss_ <= theirs.loss_ * (1 + 1e-6)
    # SciPy may have stopped at a higher loss, as it does for linnerud with some processors' BLAS.
    reached = np.flatnonzero(np.array(ours.loss_curve_) <= theirs.loss_ * (1 + 1e-6))[0] + 1
    as_low = sklearn.base.clone(ours).set_params(max_iter=int(reached)).fit(X, y)
    assert as_low.loss_ <= theirs.loss_ * (1 + 1e-6)
    assert as_low._training.n_evaluations <= 1.1 * found[0].nfev
    assert np.isfinite(ours.parameters_).all()

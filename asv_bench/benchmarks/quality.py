"""What comes out: losses, errors, inertias and labels. Faster and worse must be visible as such; smaller is better.

All figures are ratios or shares, repeat bit for bit on the same machine, and change only where the arithmetic does.
"""

import warnings

import numpy as np
from sklearn.datasets import load_digits

from .common import Optional, few
from .kmeans import clusters, uniform

gdl = Optional("gdl")


class Network:
    """A classifier of handwritten digits: 64-64-10, trained for 20 epochs, judged on the digits it has not seen."""

    params = (few(["adam", "sgd", "lbfgs"], 2, smoke=1), few(["float32", "float64"], 2, smoke=1))
    param_names = ("solver", "dtype")

    def setup(self, solver, dtype):
        warnings.simplefilter("ignore")
        X, y = load_digits(return_X_y=True)
        X = (X / 16).astype(dtype)
        self.model = gdl.MLPClassifier(
            (64,), solver=solver, learning_rate_init=0.01, max_iter=20, tol=0.0, random_state=0
        ).fit(X[:1200], y[:1200])
        self.X, self.y = X[1200:], y[1200:]
        assert self.model.n_iter_ == 20 or solver == "lbfgs", f"{self.model.n_iter_} epochs, 20 were asked for"

    def track_loss(self, solver, dtype):
        return float(self.model.loss_)

    def track_error(self, solver, dtype):
        return 1 - float(self.model.score(self.X, self.y))

    track_loss.unit = "loss"
    track_error.unit = "share of wrong digits"


class Precision:
    """What float32 costs: labels that are not float64's, and the inertia or loss over float64's."""

    params = (few(["KMeans", "KMeans, clusters", "MiniBatchKMeans", "MLPClassifier"], None, smoke=1),)
    param_names = ("estimator",)

    def setup(self, estimator):
        warnings.simplefilter("ignore")
        self.single, self.double = (self.result(estimator, dtype) for dtype in ("float32", "float64"))

    def result(self, estimator, dtype):
        """Return labels, and what was minimized."""
        if estimator == "MLPClassifier":
            X, y = load_digits(return_X_y=True)
            model = gdl.MLPClassifier((64,), max_iter=20, random_state=0).fit((X / 16).astype(dtype), y)
            return model.predict((X / 16).astype(dtype)), float(model.loss_)
        name, _, data = estimator.partition(", ")
        X, centers = (clusters if data else uniform)("20000x16x64", "float32")  # the same numbers in both types
        X, centers = X.astype(dtype), centers.astype(dtype)
        model = getattr(gdl, name)(64, init=centers, n_init=1, max_iter=10, random_state=0).fit(X)
        return model.labels_, float(model.inertia_)

    def track_labels_changed(self, estimator):
        return float(np.mean(self.single[0] != self.double[0]))

    def track_over_float64(self, estimator):
        return self.single[1] / self.double[1]

    track_labels_changed.unit = "share of labels"
    track_over_float64.unit = "x float64's"


class BesideScikitLearn:
    """The inertia, over scikit-learn's from the same first centers and after as many iterations."""

    params = (few(["clusters", "uniform"], 2, smoke=1), few(["float32", "float64"], 2, smoke=1))
    param_names = ("data", "dtype")

    def setup(self, data, dtype):
        from sklearn import cluster

        warnings.simplefilter("ignore")
        X, centers = {"clusters": clusters, "uniform": uniform}[data]("20000x16x64", dtype)
        settings = {"init": centers, "n_init": 1, "max_iter": 10, "tol": 0.0, "random_state": 0}
        self.ours, self.theirs = (module.KMeans(64, **settings).fit(X) for module in (gdl, cluster))

    def track_inertia(self, data, dtype):
        return self.ours.inertia_ / self.theirs.inertia_

    track_inertia.unit = "x scikit-learn's"

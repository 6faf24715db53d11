"""Latency of ``predict`` by the number of rows, the whole public call; the peer is scikit-learn."""

import warnings

import numpy as np
from sklearn import cluster, neural_network

from .common import Measured, Optional, few

gdl = Optional("gdl")


class _Predict(Measured):
    params = (few([1, 64, 4096]), few(["float32", "float64"]))
    param_names = ("rows", "dtype")

    def prepare(self, rows, dtype):
        warnings.simplefilter("ignore")
        rng = np.random.default_rng(0)
        X = rng.standard_normal((2048, 64)).astype(dtype)
        self.model, self.peer = self.fit(X, (X @ rng.standard_normal((64, 10)).astype(dtype)).argmax(axis=1))
        self.X = np.resize(X, (rows, 64))
        self.loops = max(1, 200 // rows)

    def ours(self):
        self.mine = self.model.predict(self.X)

    def theirs(self):
        self.other = self.peer.predict(self.X)

    def check(self, rows, dtype):
        self.theirs()
        np.testing.assert_array_equal(self.mine, self.other)


class Network(_Predict):
    """A classifier with layers of 64, 64 and 10 units."""

    def fit(self, X, y):
        ours, theirs = (
            module.MLPClassifier((64,), max_iter=2, random_state=0).fit(X, y) for module in (gdl, neural_network)
        )
        for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
            other[:] = mine
        return ours, theirs


class Clusters(_Predict):
    """k-means with 10 centers."""

    def fit(self, X, y):
        settings = {"init": X[:10], "n_init": 1, "max_iter": 2, "random_state": 0}
        ours, theirs = (module.KMeans(10, **settings).fit(X) for module in (gdl, cluster))
        theirs.cluster_centers_ = ours.cluster_centers_.copy()
        return ours, theirs

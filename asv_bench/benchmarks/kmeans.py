"""The kernels of k-means, whole fits, and the rule of ``algorithm="auto"``.

``time_`` is for the graphs, ``track_`` for decisions; smaller is better. What is timed is first compared with NumPy's
result, or with scikit-learn's.
"""

import warnings

import numpy as np
from sklearn.cluster import KMeans as TheirKMeans
from sklearn.exceptions import ConvergenceWarning

from gdl import KMeans, MiniBatchKMeans
from gdl.kernels import cpu

from .common import best_of

SHAPES = ["50000x2x10", "50000x3x100", "20000x16x256", "20000x64x100", "5000x784x10", "5000x128x1024"]


def uniform(shape, dtype):
    """Samples, and the first of them as centers."""
    n_samples, n_features, n_clusters = map(int, shape.split("x"))
    X = np.random.default_rng(0).random((n_samples, n_features)).astype(dtype)
    return X, X[:n_clusters].copy()


def clusters(shape, dtype):
    """Samples around as many points as there are to be clusters, and centers that are off."""
    n_samples, n_features, n_clusters = map(int, shape.split("x"))
    rng = np.random.default_rng(0)
    middles = rng.uniform(-10, 10, (n_clusters, n_features))
    X = (middles[rng.integers(n_clusters, size=n_samples)] + rng.standard_normal((n_samples, n_features))).astype(dtype)
    return X, X[:n_clusters].copy()


class _Kernel:
    """A kernel of k-means; subclasses call it, and say how to check it."""

    params = (SHAPES, ["float32", "float64"])
    param_names = ("n_samples x n_features x n_clusters", "dtype")
    repeat = (5, 30, 1.0)

    def setup(self, shape, dtype):
        self.X, self.centers = uniform(shape, dtype)
        (n_samples, n_features), n_clusters = self.X.shape, len(self.centers)
        self.n_operations = 2 * n_samples * n_features * n_clusters
        self.weights, self.shift = np.empty(0, dtype), np.zeros(n_features, dtype)
        self.labels = np.zeros(n_samples, np.int32)
        self.sums, self.totals, self.count = np.empty(self.centers.shape), np.empty(n_clusters), np.empty(1)
        self.kernel()
        self.check()

    def time_kernel(self, shape, dtype):
        self.kernel()

    def track_nanoseconds_an_operation(self, shape, dtype):
        return best_of(self.kernel)[0] * 1e9 / self.n_operations

    track_nanoseconds_an_operation.unit = "ns/FLOP"

    def check(self):
        rows = slice(0, 500)
        distances = ((self.X[rows, None].astype(np.float64) - self.centers) ** 2).sum(axis=2)
        chosen = np.take_along_axis(distances, self.labels[rows, None].astype(np.int64), axis=1)[:, 0]
        np.testing.assert_allclose(chosen, distances.min(axis=1), rtol=1e-4, atol=1e-6)


class Assign(_Kernel):
    def kernel(self):
        cpu.assign_labels(self.X, self.shift, self.centers, self.labels)


class LloydStep(_Kernel):
    def kernel(self):
        arguments = self.X, self.weights, self.shift, self.centers, self.labels, self.sums, self.totals, self.count
        cpu.lloyd_step(*arguments)

    def check(self):
        super().check()
        np.testing.assert_array_equal(self.totals, np.bincount(self.labels, minlength=len(self.centers)))
        np.testing.assert_allclose(self.sums.sum(axis=0), self.X.sum(axis=0, dtype=np.float64), rtol=1e-9)


class Potentials(_Kernel):
    """One round of seeding: what eight candidates would leave."""

    def setup(self, shape, dtype):
        self.candidates, self.potentials = uniform(shape, dtype)[0][:8].copy(), np.empty(8)
        super().setup(shape, dtype)

    def kernel(self):
        self.closest = np.full(len(self.X), np.inf, self.X.dtype)
        owners, limits = np.zeros(len(self.X), np.int32), np.zeros(1, self.X.dtype)
        improves = np.empty(len(self.X), np.uint16)
        arguments = self.X, self.weights, self.candidates, self.closest, owners, limits, self.potentials, improves
        cpu.candidate_potentials(*arguments)

    def check(self):
        expected = ((self.X.astype(np.float64) - self.candidates[3]) ** 2).sum()
        np.testing.assert_allclose(self.potentials[3], expected, rtol=1e-5)


class Fit:
    """Whole fits, and how they compare with scikit-learn's from the same first centers."""

    params = (SHAPES, ["uniform", "clusters"])
    param_names = ("n_samples x n_features x n_clusters", "data")
    timeout = 300

    def setup(self, shape, data):
        warnings.simplefilter("ignore", ConvergenceWarning)
        make = {"uniform": uniform, "clusters": clusters}[data]
        self.X, self.centers = make(shape, "float32")
        self.settings = {"n_clusters": len(self.centers), "n_init": 1, "max_iter": 10, "tol": 0.0, "random_state": 0}
        ours, theirs = self.fit(KMeans), self.fit(TheirKMeans)
        np.testing.assert_allclose(ours.inertia_, theirs.inertia_, rtol=1e-2)

    def fit(self, estimator, **settings):
        return estimator(**self.settings, init=self.centers, **settings).fit(self.X)

    def time_fit_with_seeding(self, shape, data):
        KMeans(**self.settings).fit(self.X)

    def time_iterations(self, shape, data):
        self.fit(KMeans)

    def peakmem_fit(self, shape, data):
        KMeans(**self.settings).fit(self.X)

    def track_time_over_scikit_learn(self, shape, data):
        ours, theirs = best_of(lambda: self.fit(KMeans), lambda: self.fit(TheirKMeans), seconds=0.5, rounds=3)
        return ours / theirs

    def track_auto_over_the_better_algorithm(self, shape, data):
        """What the rule of ``algorithm="auto"`` loses against the choice that proves right."""
        auto, plain, bounded = best_of(
            *(lambda name=name: self.fit(KMeans, algorithm=name) for name in ("auto", "lloyd", "hamerly")),
            seconds=0.5,
            rounds=3,
        )
        return auto / min(plain, bounded)

    def track_inertia_over_scikit_learn(self, shape, data):
        return self.fit(KMeans).inertia_ / self.fit(TheirKMeans).inertia_

    track_time_over_scikit_learn.unit = "x scikit-learn"
    track_auto_over_the_better_algorithm.unit = "x the better of lloyd and hamerly"
    track_inertia_over_scikit_learn.unit = "x scikit-learn"


class MiniBatch:
    """Learning from one batch of 1,024."""

    params = (["1024x16x64", "1024x64x100"],)
    param_names = ("batch x n_features x n_clusters",)

    def setup(self, shape):
        self.X, centers = uniform(shape, "float32")
        self.model = MiniBatchKMeans(len(centers), init=centers, n_init=1, random_state=0, compute_labels=False)
        self.model.partial_fit(self.X)

    def time_partial_fit(self, shape):
        self.model.partial_fit(self.X)


class Predict:
    """The label of one sample, the whole public call."""

    params = ([8, 64], [2, 64])
    param_names = ("n_clusters", "n_features")

    def setup(self, n_clusters, n_features):
        X, centers = uniform(f"1000x{n_features}x{n_clusters}", "float32")
        self.model = KMeans(n_clusters, init=centers, n_init=1).fit(X)
        self.row = X[:1].copy()
        self.model.predict(self.row)

    def time_one_row(self, n_clusters, n_features):
        self.model.predict(self.row)

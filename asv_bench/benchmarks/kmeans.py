"""The kernels of k-means, seeding, whole fits, mini-batches and the rule of ``algorithm="auto"``.

The peer of a kernel is NumPy, that of a fit scikit-learn. What is timed is first compared with it.
"""

import inspect
import warnings

import numpy as np
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning

from .common import DTYPES, THREADS, TOLERANCES, Measured, MeasuredKernel, Optional, best_of, few

gdl, cpu, reference = Optional("gdl"), Optional("gdl.kernels.cpu"), Optional("gdl.kernels.reference")
SHAPES = ["20000x16x256", "50000x2x10", "20000x64x100", "5000x784x10"]
SHAPE = "n_samples x n_features x n_clusters"


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


def rounding(X):
    """Arguments that round samples to codes."""
    n_samples, n_features = X.shape
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    codes = np.empty((-(-n_samples // 8), -(-n_features // 8) * 2, 8, 4), np.uint8)
    return X, (low + high) / 2, float((high - low).max() / 126), codes, np.empty(n_samples, np.int32), np.empty(1)


def rounded(X):
    """Codes of samples, their norms, scale and error."""
    _, _, scale, codes, norms, error = arguments = rounding(X)
    reference.quantize_samples(*arguments)
    return codes, norms, scale, error[0]


class _Assignment(Measured):
    """A kernel that compares all samples with all centers; subclasses call it."""

    params = (few(SHAPES), few(DTYPES), few(THREADS))
    param_names = (SHAPE, "dtype", "threads")

    def prepare(self, shape, dtype, threads):
        self.X, self.centers = uniform(shape, dtype)
        (n_samples, n_features), n_clusters = self.X.shape, len(self.centers)
        self.n_operations = 2 * n_samples * n_features * n_clusters
        self.loops = max(1, 20_000_000 // self.n_operations)
        self.weights, self.shift = np.empty(0, dtype), np.zeros(n_features, dtype)
        self.labels = np.zeros(n_samples, np.int32)
        self.sums, self.totals, self.count = np.empty(self.centers.shape), np.empty(n_clusters), np.empty(1)

    def theirs(self):
        halves = (self.centers * self.centers).sum(axis=1) / 2
        self.their_labels = (halves - self.X @ self.centers.T).argmin(axis=1)

    def check(self, shape, dtype, threads):
        self.theirs()
        ours, theirs = (
            ((self.X.astype(np.float64) - self.centers[labels]) ** 2).sum(axis=1)
            for labels in (self.labels, self.their_labels)
        )
        np.testing.assert_allclose(ours, theirs, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype] * ours.max())


class Assign(_Assignment):
    def ours(self):
        cpu.assign_labels(self.X, self.shift, self.centers, self.labels)


class _Sums(_Assignment):
    """Assignment, and the sum of each cluster."""

    def theirs(self):
        super().theirs()
        self.their_sums = np.zeros(self.centers.shape)
        np.add.at(self.their_sums, self.their_labels, self.X)

    def check(self, shape, dtype, threads):
        super().check(shape, dtype, threads)
        np.testing.assert_array_equal(self.totals, np.bincount(self.labels, minlength=len(self.centers)))
        total = self.X.sum(axis=0, dtype=np.float64)
        np.testing.assert_allclose(self.sums.sum(axis=0), total, rtol=1e-9)
        np.testing.assert_allclose(self.their_sums.sum(axis=0), total, rtol=1e-9)


class LloydStep(_Sums):
    def ours(self):
        arguments = self.X, self.weights, self.shift, self.centers, self.labels, self.sums, self.totals, self.count
        cpu.lloyd_step(*arguments)


class BoundedStep(_Sums):
    """An iteration with bounds: where nothing is known, and where no label can change."""

    # On one thread: LloydStep shares its samples out in the same way.
    params = (few(SHAPES, 1), few(DTYPES), [1], ["first", "settled"])
    param_names = (SHAPE, "dtype", "threads", "bounds")

    def prepare(self, shape, dtype, threads, bounds):
        super().prepare(shape, dtype, threads)
        self.moves, self.exact = np.zeros(len(self.centers)), np.empty(1)
        self.upper, self.lower = np.full(len(self.X), np.inf, dtype), np.zeros(len(self.X), dtype)
        self.first = bounds == "first"

    def ours(self):
        if self.first:
            self.upper[:] = np.inf
        cpu.bounded_step(
            self.X, self.weights, self.shift, self.centers, self.moves, self.labels, self.upper, self.lower,
            self.sums, self.totals, self.count, self.exact,
        )  # fmt: skip

    def check(self, shape, dtype, threads, bounds):
        super().check(shape, dtype, threads)
        self.ours()
        assert (self.exact[0] == len(self.X)) == self.first, f"{self.exact[0]:.0f} samples were compared"


class Potentials(Measured):
    """One round of seeding: what eight candidates would leave."""

    params = (few(SHAPES), few(DTYPES), few(THREADS))
    param_names = (SHAPE, "dtype", "threads")

    def prepare(self, shape, dtype, threads):
        self.X, _ = uniform(shape, dtype)
        self.candidates, self.potentials = self.X[:8].copy(), np.empty(8)
        self.weights, self.limits = np.empty(0, dtype), np.zeros(1, dtype)
        self.closest, self.owners = np.full(len(self.X), 4096, dtype), np.zeros(len(self.X), np.int32)
        self.improves = np.empty(len(self.X), np.uint16)
        # Older commits did not screen samples, or were not told the potential.
        parameters = inspect.signature(cpu.candidate_potentials).parameters
        optional = {"may_improve": np.empty(0, np.uint8), "potential": 4096.0 * len(self.X)}
        self.optional = [value for name, value in optional.items() if name in parameters]
        self.loops = max(1, 4_000_000 // (8 * self.X.size))

    def ours(self):
        cpu.candidate_potentials(
            self.X, self.weights, self.candidates, self.closest, self.owners, self.limits,
            *self.optional, self.potentials, self.improves,
        )  # fmt: skip

    def theirs(self):
        self.expected = np.array([((self.X - c) ** 2).sum(axis=1).sum(dtype=np.float64) for c in self.candidates])

    def check(self, shape, dtype, threads):
        self.theirs()
        np.testing.assert_allclose(self.potentials, self.expected, rtol=TOLERANCES[dtype])


KERNELS = [
    "add_seed", "average_centers", "center_distances", "center_moves", "column_moments", "draw_samples",
    "label_distances", "label_inertia", "mini_batch_update", "normalize_rows", "quantize_samples",
    "screen_samples", "seed_limits", "sums_inertia",
]  # fmt: skip


class Kernels(MeasuredKernel):
    """The smaller kernels of an iteration, of seeding and of mini-batches."""

    params = (few(KERNELS, None, smoke=1), few(DTYPES))
    param_names = ("kernel", "dtype")
    shape = "20000x16x64"

    def call(self, name, dtype):
        X, centers = uniform(self.shape, dtype)
        (n, d), k = X.shape, len(centers)
        rng = np.random.default_rng(0)
        labels, no_weights = rng.integers(k, size=n, dtype=np.int32), np.empty(0, dtype)
        closest = ((X - centers[0]) ** 2).sum(axis=1)
        block_sums = np.add.reduceat(closest.astype(np.float64), np.arange(0, n, 256))
        improves, owners = np.ones(n, np.uint16), np.zeros(n, np.int32)
        self.n_outputs = {"add_seed": 3, "column_moments": 2, "mini_batch_update": 2, "quantize_samples": 3}.get(
            name, 1
        )
        calls = {
            "add_seed": lambda: (
                cpu.add_seed,
                reference.add_seed,
                (X, no_weights, centers[0], improves, 0, 1, closest, owners, block_sums),
            ),
            "average_centers": lambda: (
                cpu.average_centers,
                reference.average_centers,
                (rng.random((k, d)), np.ones(k), np.zeros(d, dtype), np.empty((k, d), dtype)),
            ),
            "center_distances": lambda: (
                cpu.center_distances,
                reference.center_distances,
                (X, centers, np.empty((n, k), dtype)),
            ),
            "center_moves": lambda: (
                cpu.center_moves,
                reference.center_moves,
                (centers, X[k : 2 * k].copy(), np.empty(k)),
            ),
            "column_moments": lambda: (cpu.column_moments, reference.column_moments, (X, np.empty(d), np.empty(d))),
            "draw_samples": lambda: (
                cpu.draw_samples,
                reference.draw_samples,
                (no_weights, closest, block_sums, rng.random(8) * block_sums.sum(), np.empty(8, np.int64)),
            ),
            "label_distances": lambda: (
                cpu.label_distances,
                reference.label_distances,
                (X, centers, labels, np.empty(n)),
            ),
            "label_inertia": lambda: (
                cpu.label_inertia,
                reference.label_inertia,
                (X, no_weights, centers, labels, np.empty(1)),
            ),
            # As many samples seen before that no number of calls moves the centers: every call does the same work.
            "mini_batch_update": lambda: (
                cpu.mini_batch_update,
                reference.mini_batch_update,
                (X[:1024], no_weights, labels[:1024], centers, np.full(k, 1e12)),
            ),
            "normalize_rows": lambda: (cpu.normalize_rows, reference.normalize_rows, (X, np.empty_like(X))),
            "quantize_samples": lambda: (cpu.quantize_samples, reference.quantize_samples, rounding(X)),
            # Room for as many flags as samples, which older commits write.
            "screen_samples": lambda: (
                cpu.screen_samples,
                reference.screen_samples,
                (*rounded(X), closest / 8, np.arange(8), np.empty(n, np.uint8)[: n // 8]),
            ),
            "seed_limits": lambda: (
                cpu.seed_limits,
                reference.seed_limits,
                (centers, X[k : k + 8].copy(), np.empty(k, dtype)),
            ),
            "sums_inertia": lambda: (
                cpu.sums_inertia,
                reference.sums_inertia,
                (float(n * d), rng.random((k, d)), np.ones(k), np.zeros(d, dtype), centers, np.empty(1)),
            ),
        }
        self.loops = 20
        return calls[name]()


class _Estimator(Measured):
    """A call of gdl's estimators beside scikit-learn's with the same settings."""

    params = (few(SHAPES), few(["clusters", "uniform"]))
    param_names = (SHAPE, "data")
    repeat = (2, 10, 1.0)

    def prepare(self, shape, data):
        warnings.simplefilter("ignore", ConvergenceWarning)
        self.X, self.centers = {"uniform": uniform, "clusters": clusters}[data](shape, "float32")
        self.settings = {"n_clusters": len(self.centers), "n_init": 1, "max_iter": 10, "tol": 0.0, "random_state": 0}

    def ours(self):
        self.mine = self.run(gdl)

    def theirs(self):
        self.other = self.run(cluster)

    def check(self, shape, data):
        self.theirs()
        np.testing.assert_allclose(self.mine.inertia_, self.other.inertia_, rtol=1e-2)


class Iterations(_Estimator):
    """A fit from the same first centers."""

    def run(self, module, **settings):
        return module.KMeans(**self.settings, init=self.centers, **settings).fit(self.X)

    def track_auto_over_the_better_algorithm(self, shape, data):
        """What the rule of ``algorithm="auto"`` loses against the choice that proves right."""
        auto, plain, bounded = best_of(
            *(lambda name=name: self.run(gdl, algorithm=name) for name in ("auto", "lloyd", "hamerly")), rounds=3
        )
        return auto / min(plain, bounded)

    track_auto_over_the_better_algorithm.unit = "x the better of lloyd and hamerly"


class Fit(_Estimator):
    """A whole fit, seeding included; on uniform data, where no choice of seeds ends it early."""

    params = (few(SHAPES), ["uniform"])

    def run(self, module):
        return module.KMeans(**self.settings).fit(self.X)

    def check(self, shape, data):
        self.theirs()
        assert self.mine.n_iter_ == self.other.n_iter_
        # float32 may draw another seed than scikit-learn's.
        np.testing.assert_allclose(self.mine.inertia_, self.other.inertia_, rtol=0.05)


class Seeding(_Estimator):
    """``kmeans_plusplus``."""

    params = (few(SHAPES), ["uniform"])

    def run(self, module):
        return module.kmeans_plusplus(self.X, len(self.centers), random_state=0)

    def check(self, shape, data):
        self.theirs()
        potentials = []
        for centers, _ in (self.mine, self.other):
            halves = (centers * centers).sum(axis=1) / 2
            nearest = (halves - self.X @ centers.T).argmin(axis=1)
            potentials.append(((self.X - centers[nearest]) ** 2).sum(dtype=np.float64))
        np.testing.assert_allclose(*potentials, rtol=0.05)


class Predict(_Estimator):
    params = (few(SHAPES), ["uniform"])

    def prepare(self, shape, data):
        super().prepare(shape, data)
        settings = self.settings | {"init": self.centers, "max_iter": 1}
        self.models = {module: module.KMeans(**settings).fit(self.X) for module in (gdl, cluster)}

    def run(self, module):
        return self.models[module].predict(self.X)

    def check(self, shape, data):
        self.theirs()
        assert np.mean(self.mine != self.other) < 1e-3


class MiniBatch(_Estimator):
    """``MiniBatchKMeans``, 50 batches of 1024."""

    params = (few(SHAPES), ["clusters"])

    def run(self, module):
        # No share of the centers is drawn anew: which ones would be up to rounding.
        model = module.MiniBatchKMeans(
            len(self.centers), init=self.centers, n_init=1, batch_size=1024, reassignment_ratio=0.0, random_state=0
        )
        for i in range(50):
            start = i * 1024 % (len(self.X) - 1024)
            model.partial_fit(self.X[start : start + 1024])
        return model

    def check(self, shape, data):
        self.theirs()
        np.testing.assert_allclose(-self.mine.score(self.X), -self.other.score(self.X), rtol=0.05)

"""KMeans and MiniBatchKMeans step by step: what a step shows, that looking leaves no trace, and that a fit goes on."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from gdl import KMeans, MiniBatchKMeans, load
from gdl.callbacks import Checkpoint

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def blobs(rng, n_samples, n_features, n_blobs):
    means = 1.5 * rng.standard_normal((n_blobs, n_features))
    return means[rng.integers(n_blobs, size=n_samples)] + rng.standard_normal((n_samples, n_features))


def two_empty(X):
    """First centers, two of which are too far for any sample."""
    return np.vstack([X[:3], np.full((2, X.shape[1]), 90.0), X[3:4]])


def far(X):
    """Data far from zero, which kernels see from their mean."""
    return X + 1e4


KMEANS = {
    "lloyd": {"algorithm": "lloyd", "tol": 0},
    "elkan": {"algorithm": "elkan", "tol": 0},
    "hamerly": {"algorithm": "hamerly", "tol": 0},
    "auto": {"tol": 0},
    "tol": {"tol": 1e-2},
    "max_iter": {"max_iter": 3},
    "runs": {"init": "random", "n_init": 3, "tol": 0, "max_iter": 5},
    "runs of k-means++": {"n_init": 3, "algorithm": "hamerly"},
    "cosine": {"metric": "cosine", "tol": 0},
    "empty": {"init": two_empty, "tol": 0},
    "empty, bounds": {"init": two_empty, "tol": 0, "algorithm": "hamerly"},
    "empty, cosine": {"init": two_empty, "tol": 0, "metric": "cosine"},
    "far": {"tol": 0, "offset": 1e4},
}
BATCHES = {
    "default": {},
    "tol": {"tol": 1e-2, "max_no_improvement": None, "batch_size": 32},
    "impatient": {"max_no_improvement": 2, "batch_size": 16},
    "every step": {"max_no_improvement": None, "batch_size": 20, "max_iter": 2},
    "reassignment": {"reassignment_ratio": 0.7, "batch_size": 10, "max_iter": 3},
    "forgetting": {"forgetting": 0.2, "batch_size": 12},
    "cosine": {"metric": "cosine", "batch_size": 16},
    "first centers": {"init": "random", "n_init": 3, "batch_size": 16},
    "no labels": {"compute_labels": False, "batch_size": 16},
    "far": {"offset": 1e4, "batch_size": 16, "tol": 1e-3},
    "long": {"batch_size": 1, "max_no_improvement": None, "max_iter": 2},  # more steps than one shift is for
}
CASES = [(KMeans, name) for name in KMEANS] + [(MiniBatchKMeans, name) for name in BATCHES]
LEARNED = {
    KMeans: "cluster_centers_ labels_ inertia_ n_iter_ converged_ inertia_curve_ n_reassigned_",
    MiniBatchKMeans: "cluster_centers_ labels_ inertia_ n_iter_ converged_ inertia_curve_ n_reassigned_ n_steps_",
}
PARTS = ("predict", "compare", "learn")


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch):
    """Let "auto" try bounds on the few samples of these tests."""
    monkeypatch.setattr("gdl.lloyd.BOUNDED_WORK", (12, 1500))


@pytest.fixture
def make(rng):
    """Return what makes an estimator, samples and weights of a case."""

    def of(cls, name, dtype="float64", **others):
        parameters = {**(KMEANS[name] if cls is KMeans else {"max_iter": 6, **BATCHES[name]}), **others}
        n_samples = 70 if INTERPRETED or name == "long" else 150
        X = (blobs(rng, n_samples, 3, 6) + parameters.pop("offset", 0)).astype(dtype)
        weights = np.where(rng.random(n_samples) < 0.2, 0, rng.uniform(0.1, 3, n_samples))
        if callable(parameters.get("init")):
            parameters["init"] = parameters["init"](X)
        return cls(6, random_state=5, **parameters), X, weights

    return of


def assert_same(one, other):
    """All that two fits have found, bit for bit."""
    for name in LEARNED[type(other)].split():
        assert hasattr(one, name) == hasattr(other, name), name
        if hasattr(other, name):
            assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
            assert np.asarray(getattr(one, name)).dtype == np.asarray(getattr(other, name)).dtype
    if isinstance(other, MiniBatchKMeans):
        assert_array_equal(one._stream.counts, other._stream.counts)


def assert_usable(model, X, weights):
    """What is true of every model, whatever it has been through."""
    if getattr(model, "compute_labels", True):
        assert_array_equal(model.labels_, model.predict(X))
        assert model.inertia_ == -model.score(X, sample_weight=weights)
    for name in ("cluster_centers_", "inertia_", "n_iter_", "converged_", "inertia_curve_", "n_reassigned_"):
        assert hasattr(model, name)
    assert np.isfinite(model.transform(X)).all()


def take_apart(step, n_parts):
    for part in PARTS[:n_parts]:
        getattr(step, part)()


def read_all(step, model, X):
    for name in dir(type(step)):
        if not name.startswith("_") and name not in PARTS:
            getattr(step, name)
    model.predict(X[:5]), model.labels_ if hasattr(model, "labels_") else None
    model.inertia_, model.inertia_curve_, model.n_reassigned_, copy.deepcopy(model), pickle.dumps(model)


class TestAFitIsItsSteps:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize(("cls", "name"), CASES)
    def test_same_bits(self, make, dtype, cls, name, weighted):
        """Steps that nobody touches, parts by hand, and steps of which everything is read."""
        model, X, weights = make(cls, name, dtype)
        weights = weights if weighted else None
        at_once = clone(model).fit(X, sample_weight=weights)
        n_steps = 0
        for _ in model.steps(X, sample_weight=weights):
            n_steps += 1
        assert n_steps >= 2
        assert_same(model, at_once)
        assert vars(model).keys() == vars(at_once).keys()
        by_parts, looked_at = clone(model), clone(model)
        for number, step in enumerate(by_parts.steps(X, sample_weight=weights)):
            take_apart(step, number % 4)
        assert_same(by_parts, at_once)
        for step in looked_at.steps(X, sample_weight=weights):
            read_all(step, looked_at, X)
        assert_same(looked_at, at_once)

    @pytest.mark.parametrize("name", ["lloyd", "hamerly", "empty", "cosine"])
    def test_so_many_steps_are_a_fit_of_as_many(self, make, dtype, name):
        model, X, weights = make(KMeans, name, dtype)
        for number, step in enumerate(model.steps(X, sample_weight=weights)):
            step.learn()
            assert_same(model, clone(model).set_params(max_iter=number + 1).fit(X, sample_weight=weights))

    def test_nothing_happens_before_the_first_step(self, make):
        for cls, name in ((KMeans, "lloyd"), (MiniBatchKMeans, "default")):
            model, X, _ = make(cls, name)
            model.set_params(random_state=np.random.RandomState(0))
            steps = model.steps(X)
            assert iter(steps) is steps
            assert not hasattr(model, "cluster_centers_")
            assert model.random_state.randint(1000) == np.random.RandomState(0).randint(1000)
            before = vars(model.fit(X)).copy()
            steps = model.steps(X)
            assert vars(model) == before
            steps.close()
            assert vars(model) == before

    @pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
    def test_arguments_are_checked_at_once(self, make, cls):
        X = make(cls, "cosine")[1]
        for parameters, arguments, message in (
            ({"n_clusters": 0}, {"X": X}, "'n_clusters' parameter of"),
            ({"warm_start": "yes"}, {"X": X}, "'warm_start' parameter of"),
            ({}, {"X": X[:3]}, r"n_samples=3 should be >= n_clusters=6"),
            ({}, {"X": np.full_like(X, np.nan)}, "Input X contains NaN"),
            ({}, {"X": X, "sample_weight": np.zeros(len(X))}, "weights of the samples are zero|at least one non-zero"),
            ({"init": X[:2]}, {"X": X}, r"init has shape \(2, 3\)"),
        ):
            with pytest.raises(ValueError, match=message):
                cls(**{"n_clusters": 6, **parameters}).steps(**arguments)

    def test_warnings_point_at_the_loop(self, rng):
        X = blobs(rng, 40, 2, 3)
        with pytest.warns(ConvergenceWarning, match="has not converged after max_iter=1") as record:
            for _ in KMeans(3, init=X[:3], max_iter=1, tol=0).steps(X):
                pass
        assert [warning.filename for warning in record] == [__file__]
        with pytest.warns(ConvergenceWarning, match="Only 1 of n_clusters=2") as record:
            for _ in KMeans(2).steps(np.ones((4, 2))):
                pass
        assert [warning.filename for warning in record] == [__file__]
        for cls, parameters in ((KMeans, {}), (MiniBatchKMeans, {"init_size": 2})):
            with pytest.warns(RuntimeWarning) as record:
                cls(3, init=X[:3], n_init=2, **parameters).steps(X)
            assert {warning.filename for warning in record} == {__file__}
            assert len(record) == 1 + len(parameters)


class TestWhatAStepOfKMeansShows:
    """Judged by NumPy alone, from the definition."""

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("name", ["lloyd", "hamerly", "auto", "far", "empty", "runs"])
    def test_numbers(self, make, name, weighted):
        model, X, weights = make(KMeans, name)
        weights = weights if weighted else None
        w = np.ones(len(X)) if weights is None else weights
        labels_before, centers_before, seen = np.full(len(X), -1), None, []
        for step in model.steps(X, sample_weight=weights):
            if step.iteration == 0:
                labels_before[:], centers_before = -1, None
            squares = ((X[:, None] - step.centers) ** 2).sum(axis=2)
            labels = squares.argmin(axis=1)
            assert_array_equal(step.labels, labels)
            assert_array_equal(step.moved, np.flatnonzero(labels != labels_before))
            assert step.n_reassigned == len(step.moved)
            assert_allclose(step.distances, np.sqrt(squares.min(axis=1)), rtol=1e-9, atol=1e-12)
            assert_allclose(step.inertia, w @ squares.min(axis=1), rtol=1e-9)
            sizes = np.bincount(labels, weights=w, minlength=6)
            assert_array_equal(step.empty, np.flatnonzero(sizes == 0))
            if len(step.empty) == 0:
                means = [np.average(X[labels == k], axis=0, weights=w[labels == k]) for k in range(6)]
                assert_allclose(step.new_centers, means, rtol=1e-9, atol=1e-12)
                assert_allclose(step.sizes, sizes)
                assert_allclose(step.sums, (np.array(means) - step.shift) * sizes[:, None], atol=1e-7)
            else:
                assert (step.sizes > 0).all()
            assert_allclose(step.moves, np.sqrt(((step.new_centers - step.centers) ** 2).sum(axis=1)), rtol=1e-9)
            if centers_before is not None:
                assert_array_equal(step.centers, centers_before)
            centers_before, labels_before = step.new_centers.copy(), labels
            seen.append((step.run, step.iteration, step.inertia, step.converged))
        assert [number for number, *_ in seen] == sorted(number for number, *_ in seen)
        assert {number for number, *_ in seen} == set(range(3 if name == "runs" else 1))
        curves = [[inertia for number, _, inertia, _ in seen if number == run] for run in range(seen[-1][0] + 1)]
        assert model.inertia_curve_.tolist() in curves
        for run, curve in enumerate(curves):
            assert [iteration for number, iteration, *_ in seen if number == run] == list(range(len(curve)))

    def test_cosine(self, make):
        model, X, _ = make(KMeans, "cosine")
        unit = X / np.linalg.norm(X, axis=1, keepdims=True)
        for step in model.steps(X):
            cosines = unit @ step.centers.T
            assert_array_equal(step.labels, cosines.argmax(axis=1))
            assert_allclose(step.distances, 1 - cosines.max(axis=1), atol=1e-12)
            assert_allclose(step.inertia, (1 - cosines.max(axis=1)).sum(), rtol=1e-9)
            assert_allclose(np.linalg.norm(step.new_centers, axis=1), 1)

    def test_arrays_are_not_copied_and_types_are_as_documented(self, make, dtype):
        model, X, _ = make(KMeans, "lloyd", dtype)
        for step in model.steps(X):
            assert step.centers is model.cluster_centers_
            assert step.centers.dtype == step.new_centers.dtype == dtype
            assert step.new_centers is model.cluster_centers_
            assert step.centers is not step.new_centers
            assert step.labels.dtype == np.int32
            assert step.moved.dtype == step.empty.dtype == np.int64
            for name in ("distances", "sums", "sizes", "moves"):
                assert getattr(step, name).dtype == np.float64
                assert getattr(step, name) is getattr(step, name)
            with pytest.raises(ValueError, match="read-only"):
                step.labels[0] = 1

    def test_parts(self, make):
        model, X, _ = make(KMeans, "lloyd")
        for step in model.steps(X):
            assert_array_equal(step.predict(), step.labels)
            assert step.compare() == step.inertia
            assert step.learn() is step.new_centers
            for part in PARTS:
                with pytest.raises(RuntimeError, match="This step has learned already"):
                    getattr(step, part)()


class TestWhatAMiniBatchStepShows:
    @pytest.mark.parametrize("name", ["default", "reassignment", "forgetting", "cosine", "far", "tol"])
    def test_numbers(self, make, name):
        model, X, weights = make(MiniBatchKMeans, name)
        model.set_params(max_iter=2)
        rows = X / np.linalg.norm(X, axis=1, keepdims=True) if name == "cosine" else X
        half = 2 if name == "cosine" else 1
        counts, n_seen = np.zeros(6), 0
        for step in model.steps(X, sample_weight=weights):
            assert step.iteration == n_seen
            assert_allclose(step.inputs, rows[step.batch], rtol=1e-12)
            assert (weights[step.batch] > 0).all()
            squares = ((step.inputs[:, None] - step.centers) ** 2).sum(axis=2)
            assert_array_equal(step.labels, squares.argmin(axis=1))
            least = squares.min(axis=1)
            expected = least / 2 if name == "cosine" else np.sqrt(least)
            assert_allclose(step.distances, expected, rtol=1e-7, atol=1e-12)
            assert_allclose(step.inertia, least.mean() / half, rtol=1e-9)
            before = step.centers.copy()
            if name == "forgetting":
                counts *= 0.8
            added = np.bincount(step.labels, minlength=6)
            for k in np.flatnonzero(added):
                total = counts[k] * before[k] + step.inputs[step.labels == k].sum(axis=0)
                mean = total / (counts[k] + added[k])
                if name == "cosine":
                    mean /= np.linalg.norm(mean)
                if k not in step.reassigned:
                    assert_allclose(step.new_centers[k], mean, rtol=1e-9, atol=1e-12)
            for k in step.reassigned:
                assert (step.inputs == step.new_centers[k]).all(axis=1).any()
            counts += added
            kept = np.setdiff1d(np.arange(6), step.reassigned)
            assert_allclose(step.counts[kept], counts[kept])
            counts = step.counts.copy()
            assert_array_equal(step.centers, before)
            assert model.n_steps_ == n_seen + 1
            assert model.n_reassigned_[-1] == len(step.reassigned)
            n_seen += 1
        assert n_seen == model.n_steps_ >= 2
        if name == "reassignment":
            assert model.n_reassigned_.any()

    def test_parts_and_types(self, make, dtype):
        model, X, _ = make(MiniBatchKMeans, "default", dtype)
        for step in model.steps(X):
            assert step.centers is model.cluster_centers_
            assert step.predict() is step.labels
            assert step.compare() == step.inertia
            assert step.learn() is step.new_centers is model.cluster_centers_
            assert step.inputs.dtype == step.centers.dtype == step.new_centers.dtype == dtype
            assert step.labels.dtype == np.int32
            assert step.batch.dtype == step.reassigned.dtype == np.int64
            assert step.counts.dtype == step.distances.dtype == np.float64
            with pytest.raises(RuntimeError, match="This step has learned already"):
                step.predict()


class TestInTheLoop:
    @pytest.mark.parametrize("n_parts", range(4))
    @pytest.mark.parametrize(("cls", "name"), CASES)
    def test_the_model_is_usable_and_after_leaving_it(self, make, cls, name, n_parts):
        model, X, weights = make(cls, name)
        for number, step in enumerate(model.steps(X, sample_weight=weights)):
            take_apart(step, n_parts)
            if name != "no labels" or model.n_steps_:
                assert_usable(model, X, weights)
            assert len(model.inertia_curve_) == getattr(model, "n_steps_", model.n_iter_)
            if number == 1:
                break
        assert_usable(model, X, weights)
        assert_usable(pickle.loads(pickle.dumps(model)), X, weights)
        assert_usable(copy.deepcopy(model), X, weights)
        centers = model.cluster_centers_.copy()
        clone(model)
        assert_array_equal(model.cluster_centers_, centers)

    @pytest.mark.parametrize(("cls", "name"), CASES)
    def test_next_goes_on_after_leaving(self, make, cls, name):
        model, X, weights = make(cls, name)
        at_once = clone(model).fit(X, sample_weight=weights)
        steps = model.steps(X, sample_weight=weights)
        for step in steps:
            step.compare()
            break
        next(steps).labels  # noqa: B018
        for _ in steps:
            pass
        assert_same(model, at_once)
        with pytest.raises(StopIteration):
            next(steps)

    @pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
    def test_a_step_that_has_passed_refuses_to_be_read(self, make, cls):
        model, X, _ = make(cls, "tol")
        steps = model.steps(X)
        first, _ = next(steps), next(steps)
        for name in ("labels", "centers", "new_centers", "inertia", "distances"):
            with pytest.raises(RuntimeError, match="This step has passed"):
                getattr(first, name)
        assert first.iteration == 0

    @pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
    def test_another_fit_ends_the_loop(self, make, cls):
        model, X, _ = make(cls, "tol")
        steps = model.steps(X)
        step = next(steps)
        model.fit(X)
        for call in (step.learn, lambda: next(steps)):
            with pytest.raises(RuntimeError, match="The model has been fitted since these steps began"):
                call()
        assert_same(model, clone(model).fit(X))

    @pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
    def test_close(self, make, cls):
        model, X, weights = make(cls, "tol", warm_start=True)
        steps = model.steps(X, sample_weight=weights)
        next(steps), next(steps)
        steps.close()
        assert "_loop" not in vars(model)
        assert_usable(model, X, weights)
        with pytest.raises(StopIteration):
            next(steps)
        assert_same(model.fit(X, sample_weight=weights), clone(model).fit(X, sample_weight=weights))

    def test_partial_fit_ends_the_loop(self, make):
        model, X, _ = make(MiniBatchKMeans, "default")
        steps = model.steps(X)
        next(steps).learn()
        other = copy.deepcopy(model)
        model.partial_fit(X[:30])
        other.partial_fit(X[:30])
        assert_same(model, other)
        assert model.n_steps_ == 2
        assert model._progress is None
        with pytest.raises(RuntimeError, match="fitted since"):
            next(steps)


class TestWriting:
    """What is written counts from the next step on, and labels stay those of the nearest center."""

    WAYS = ("model", "before", "replaced", "after")

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("algorithm", ["lloyd", "elkan", "hamerly", "auto"])
    def test_centers_of_kmeans(self, make, dtype, algorithm, way):
        model, X, weights = make(KMeans, "lloyd", dtype)
        model.set_params(algorithm=algorithm, n_clusters=6, init=X[:6])
        reached = {}
        for number, step in enumerate(model.steps(X, sample_weight=weights)):
            squares = ((X[:, None].astype(np.float64) - step.centers) ** 2).sum(axis=2)
            if number == 3:
                values = X[20:26] + dtype.type(0.5)
                if way == "model":
                    model.cluster_centers_[:] = values
                elif way == "before":
                    step.centers[:] = values
                elif way == "replaced":
                    model.cluster_centers_ = values.copy()
                else:
                    step.new_centers[:] = values
                if way != "after":
                    squares = ((X[:, None].astype(np.float64) - values) ** 2).sum(axis=2)
                reached["written"] = values
            elif number == 4 and way == "after":
                assert_array_equal(step.centers, reached["written"])
            assert_array_equal(step.labels, squares.argmin(axis=1))
            assert step.new_centers is model.cluster_centers_
            assert_usable(model, X, weights)
        assert_usable(model, X, weights)
        assert len(model.inertia_curve_) > 4
        from_there = KMeans(6, init=reached["written"], tol=0, algorithm="lloyd").fit(X, sample_weight=weights)
        assert_array_equal(model.cluster_centers_, from_there.cluster_centers_)
        assert_array_equal(model.labels_, from_there.labels_)

    def test_predicting_again(self, make):
        model, X, _ = make(KMeans, "hamerly")
        other = clone(model)
        for number, step in enumerate(model.steps(X)):
            step.compare()
            if number == 2:
                kept = step.centers.copy()
                step.centers[:] = X[:6]
                step.predict()
                assert_array_equal(step.labels, ((X[:, None] - X[:6]) ** 2).sum(axis=2).argmin(axis=1))
                assert_allclose(step.distances**2, ((X[:, None] - X[:6]) ** 2).sum(axis=2).min(axis=1), atol=1e-9)
                step.centers[:] = kept
                step.predict()
        assert_same(model, other.fit(X))

    @pytest.mark.parametrize("algorithm", ["lloyd", "hamerly"])
    def test_centers_written_when_the_run_has_converged(self, make, algorithm):
        """The run goes on, for nothing has converged to those."""
        model, X, weights = make(KMeans, "lloyd", algorithm=algorithm)
        n_converged = 0
        for step in model.steps(X, sample_weight=weights):
            if step.converged:
                n_converged += 1
                if n_converged == 1:
                    step.new_centers[:] = X[:6]
                    assert_usable(model, X, weights)
        assert n_converged == 2
        assert_usable(model, X, weights)
        again = KMeans(6, init=X[:6], tol=0).fit(X, sample_weight=weights)
        assert_array_equal(model.cluster_centers_, again.cluster_centers_)

    def test_centers_written_after_predict_break_no_bounds(self, make):
        model, X, _ = make(KMeans, "hamerly")
        for number, step in enumerate(model.steps(X)):
            assert_array_equal(step.labels, ((X[:, None] - step.centers) ** 2).sum(axis=2).argmin(axis=1))
            if number in (1, 2):
                step.centers[:] = 0
            step.learn()
            assert_usable(model, X, None)

    def test_sums_and_sizes(self, rng):
        """A cluster pinned by hand: its center never moves."""
        X = blobs(rng, 60, 2, 3)
        model = KMeans(3, init=X[:3], tol=0)
        for step in model.steps(X):
            step.sums[1], step.sizes[1] = step.sizes[1] * (X[1] - step.shift), step.sizes[1]
        assert_allclose(model.cluster_centers_[1], X[1], rtol=1e-12)
        assert_usable(model, X, None)

    @pytest.mark.parametrize("way", WAYS)
    def test_mini_batch(self, make, dtype, way):
        model, X, _ = make(MiniBatchKMeans, "every step", dtype)
        for number, step in enumerate(model.steps(X)):
            values = X[20:26] + dtype.type(0.5)
            if number == 3:
                if way == "model":
                    model.cluster_centers_[:] = values
                elif way == "before":
                    step.centers[:] = values
                elif way == "replaced":
                    model.cluster_centers_ = values.copy()
                else:
                    step.new_centers[:] = values
            if number == (4 if way == "after" else 3):
                squares = ((step.inputs[:, None].astype(np.float64) - values) ** 2).sum(axis=2)
                assert_array_equal(step.labels, squares.argmin(axis=1))
                assert_array_equal(step.centers, values)
            assert step.new_centers is model.cluster_centers_
            assert_usable(model, X, None)

    def test_inputs_and_labels_of_a_batch(self, make):
        model, X, _ = make(MiniBatchKMeans, "default", reassignment_ratio=0)
        step = next(model.steps(X))
        step.inputs[:] = 7
        step.predict()
        step.labels[:] = 4
        assert_allclose(step.new_centers[4], 7)
        assert step.counts.tolist() == [0, 0, 0, 0, len(X), 0]

    @pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
    def test_nonsense_is_refused_and_can_be_put_right(self, make, cls):
        model, X, _ = make(cls, "tol")
        steps = model.steps(X)
        step = next(steps)
        kept = step.centers.copy()
        step.centers[0] = np.nan
        for call in (step.predict, lambda: next(steps), lambda: model.labels_):
            with pytest.raises(ValueError, match="cluster_centers_ holds NaN"):
                call()
        step.centers[:] = kept
        model.cluster_centers_ = kept[:3]
        with pytest.raises(ValueError, match=r"cluster_centers_ has shape \(3, 3\)"):
            step.predict()
        model.cluster_centers_ = kept
        for _ in steps:
            pass
        assert_same(model, clone(model).fit(X))


def stop_at(model, X, weights, number, n_parts):
    """Leave the loop in a step, after some of its parts; return whether it came so far."""
    for i, step in enumerate(model.steps(X, sample_weight=weights)):
        if i == number:
            take_apart(step, n_parts)
            return True
    return False


def count_steps(model, X, weights):
    return sum(1 for _ in clone(model).steps(X, sample_weight=weights))


class TestGoingOn:
    """A fit that was stopped is finished with the same bits."""

    @pytest.mark.parametrize(("cls", "name"), CASES)
    def test_after_any_step(self, make, dtype, cls, name):
        model, X, weights = make(cls, name, dtype, warm_start=True)
        at_once = clone(model).fit(X, sample_weight=weights)
        n_parts, number = 0, 0
        while True:
            stopped = clone(model)
            if not stop_at(stopped, X, weights, number, n_parts):
                break
            loaded = pickle.loads(pickle.dumps(stopped))
            assert_same(loaded, stopped)
            assert_same(loaded.fit(X, sample_weight=weights), at_once)
            for _ in stopped.steps(X, sample_weight=weights):
                pass
            assert_same(stopped, at_once)
            n_parts, number = (n_parts + 1) % 4, number + (1 if number < 12 else 13)
        assert number >= 2

    @pytest.mark.parametrize(("cls", "name"), CASES)
    def test_stopped_at_every_step(self, make, cls, name):
        model, X, weights = make(cls, name, warm_start=True)
        at_once = clone(model).fit(X, sample_weight=weights)
        n_stops = 0
        while stop_at(model, X, weights, int(n_stops % 3 == 2), 3 - n_stops % 2):
            model = pickle.loads(pickle.dumps(model))
            n_stops += 1
        assert_same(model, at_once)

    @pytest.mark.parametrize("number", [0, 2])
    @pytest.mark.parametrize("n_parts", [0, 2, 3])
    @pytest.mark.parametrize(("cls", "name"), CASES)
    def test_from_a_file(self, make, tmp_path, cls, name, n_parts, number):
        model, X, weights = make(cls, name, warm_start=True)
        at_once = clone(model).fit(X, sample_weight=weights)
        stop_at(model, X, weights, number, n_parts)
        model.save(tmp_path / "stopped")
        loaded = load(tmp_path / "stopped")
        assert_same(loaded, model)
        if model._progress is not None:
            loaded.fit(X, sample_weight=weights)
        assert_same(loaded, at_once)

    def test_from_a_checkpoint(self, make, tmp_path):
        """Of a fit that was killed: the last checkpoint is finished."""
        for cls, name in ((KMeans, "runs"), (KMeans, "hamerly"), (MiniBatchKMeans, "reassignment")):
            model, X, weights = make(cls, name)
            at_once = clone(model).fit(X, sample_weight=weights)
            with pytest.raises(ZeroDivisionError):
                model.set_callbacks(Callback(2, "raise"), Checkpoint(tmp_path / "model")).fit(X, sample_weight=weights)
            loaded = load(tmp_path / "model")
            assert loaded._progress is not None
            assert_same(loaded.fit(X, sample_weight=weights), at_once)

    def test_a_file_with_runs_that_do_not_fit_is_refused(self, make, tmp_path):
        def shorten(progress):
            progress.run.centers = progress.run.centers[:2].copy()

        def mislabel(progress):
            progress.run.labels[3] = 6

        def forget(progress):
            progress.run = None

        def miss(progress):
            progress.is_best_shown = True

        for damage in (shorten, mislabel, forget, miss):
            model, X, _ = make(KMeans, "lloyd", warm_start=True)
            stop_at(model, X, None, 2, 3)
            model = pickle.loads(pickle.dumps(model))
            damage(model._progress)
            with pytest.raises(ValueError, match="The model cannot be saved"):
                model.save(tmp_path / "model")

    @pytest.mark.compiled
    def test_in_another_process(self, make, tmp_path):
        stopped, expected = [], []
        for cls, name in CASES:
            model, X, weights = make(cls, name, warm_start=True)
            expected.append(clone(model).fit(X, sample_weight=weights))
            assert stop_at(model, X, weights, 1, 2)
            stopped.append((model, X, weights))
        (tmp_path / "stopped").write_bytes(pickle.dumps(stopped))
        code = (
            "import pickle, sys\n"
            "models = [m.fit(X, sample_weight=w) for m, X, w in pickle.load(open(sys.argv[1], 'rb'))]\n"
            "pickle.dump(models, open(sys.argv[2], 'wb'))\n"
        )
        command = [sys.executable, "-W", "ignore", "-c", code, tmp_path / "stopped", tmp_path / "finished"]
        subprocess.run(command, check=True)
        for one, other in zip(pickle.loads((tmp_path / "finished").read_bytes()), expected, strict=True):
            assert_same(one, other)

    def test_the_users_own_random_state_goes_on(self, make):
        for cls, name in ((KMeans, "runs"), (MiniBatchKMeans, "reassignment")):
            model, X, _ = make(cls, name, warm_start=True)
            at_once = clone(model).set_params(random_state=np.random.RandomState(3)).fit(X)
            model.set_params(random_state=np.random.RandomState(3))
            stop_at(model, X, None, 2, 1)
            assert_same(model.fit(X), at_once)
            assert model.random_state.randint(2**31) == at_once.random_state.randint(2**31)

    def test_without_warm_start_everything_is_new(self, make):
        for cls in (KMeans, MiniBatchKMeans):
            model, X, weights = make(cls, "tol")
            stop_at(model, X, weights, 1, 3)
            assert_same(model.fit(X, sample_weight=weights), clone(model).fit(X, sample_weight=weights))

    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    @pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
    def test_a_fit_that_has_ended_starts_from_its_centers(self, make, dtype, cls, metric):
        X = make(cls, "tol", dtype)[1]
        parameters = {"n_clusters": 4, "random_state": 0, "metric": metric, "max_iter": 2, "n_init": 2}
        model = cls(**parameters, warm_start=True).fit(X)
        centers = model.cluster_centers_.copy()
        assert_same(model.fit(X), cls(**{**parameters, "init": centers, "n_init": 1}).fit(X))
        model.cluster_centers_[:] = X[:4]
        assert_same(model.fit(X), cls(**{**parameters, "init": X[:4], "n_init": 1}).fit(X))

    @pytest.mark.parametrize("change", ["values", "fewer", "weights", "type"])
    @pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
    def test_other_samples_are_a_new_fit_from_the_centers(self, make, cls, change):
        model, X, weights = make(cls, "tol", warm_start=True)
        stop_at(model, X, weights, 1, 3)
        centers = model.cluster_centers_.copy()
        if change == "weights":
            weights = weights * 2 + 1
        elif change == "fewer":
            X, weights = X[:-1], weights[:-1]
        else:
            X = X.astype(np.float32) if change == "type" else X + 0.5
        expected = clone(model).set_params(init=centers, warm_start=False).fit(X, sample_weight=weights)
        assert_same(model.fit(X, sample_weight=weights), expected)

    def test_a_sample_that_the_fingerprint_leaves_out(self, rng):
        X = blobs(rng, 1000, 2, 4)
        model = KMeans(4, init=X[:4], tol=0, warm_start=True)
        stop_at(model, X, None, 1, 3)
        X[1] += 3
        expected = KMeans(4, init=model.cluster_centers_.copy(), tol=0).fit(X)
        assert_same(model.fit(X), expected)

    @pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
    @pytest.mark.parametrize("stopped", [False, True])
    def test_what_cannot_go_on_is_refused(self, make, cls, stopped):
        model, X, _ = make(cls, "tol", warm_start=True)
        stop_at(model, X, None, 1, 3) if stopped else model.fit(X)
        before = model.cluster_centers_.copy()
        for parameters, arguments, message in (
            ({"n_clusters": 5}, {"X": X}, r"cluster_centers_ has shape \(6, 3\), but must have a row for each"),
            ({}, {"X": X[:, :2]}, r"cluster_centers_ has shape \(6, 3\)"),
            ({"metric": "cosine"}, {"X": X}, 'centers were found with metric="euclidean".*warm_start=False'),
        ):
            given = model.get_params()
            model.set_params(**parameters)
            for method in (model.fit, model.steps):
                with pytest.raises(ValueError, match=message):
                    method(**arguments)
            model.set_params(**given)
            assert_array_equal(model.cluster_centers_, before)
        assert_same(model.fit(X), clone(model).fit(X)) if stopped else None

    def test_more_iterations_than_were_planned(self, make):
        """A fit that was stopped takes up ``max_iter`` as it is now."""
        for cls, name in ((KMeans, "lloyd"), (MiniBatchKMeans, "every step")):
            model, X, _ = make(cls, name, warm_start=True, max_iter=3)
            assert stop_at(model, X, None, 2, 3)
            assert_same(model.set_params(max_iter=5).fit(X), clone(model).fit(X))

    def test_steps_that_were_asked_for_before_another_fit(self, make):
        model, X, _ = make(KMeans, "lloyd", warm_start=True)
        stop_at(model, X, None, 1, 3)
        steps = model.steps(X)
        model.fit(X)
        with pytest.raises(RuntimeError, match="fitted since these steps were asked for"):
            next(steps)

    @pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
    def test_a_copy_goes_its_own_way(self, make, cls):
        model, X, _ = make(cls, "tol", warm_start=True)
        at_once = clone(model).fit(X)
        stop_at(model, X, None, 1, 3)
        shallow = copy.copy(model)
        assert_same(shallow.fit(X), at_once)
        assert_same(model.fit(X), at_once)

    def test_written_after_loading(self, make):
        model, X, _ = make(KMeans, "hamerly", warm_start=True)
        stop_at(model, X, None, 2, 3)
        loaded = pickle.loads(pickle.dumps(model))
        for one in (model, loaded):
            one.cluster_centers_[:] = X[:6]
            one.fit(X)
            assert_usable(one, X, None)
            assert_array_equal(one.cluster_centers_, KMeans(6, init=X[:6], tol=0).fit(X).cluster_centers_)


class Interrupting:
    """A kernel set in which Ctrl-C comes while a kernel runs for the n-th time."""

    def __init__(self, kernel_set, name, n_calls, times=1):
        self.kernel_set, self.name, self.left, self.times = kernel_set, name, n_calls, times

    def __getattr__(self, name):
        kernel = getattr(self.kernel_set, name)
        if name != self.name:
            return kernel

        def interrupted(*arguments):
            kernel(*arguments)
            self.left -= 1
            if self.left == 0:
                for _ in range(self.times):
                    signal.raise_signal(signal.SIGINT)

        return interrupted


class TestCtrlC:
    CASES = (
        (KMeans, "lloyd", "lloyd_step"),
        (KMeans, "hamerly", "bounded_step"),
        (KMeans, "runs", "average_centers"),
        (KMeans, "empty", "center_moves"),
        (MiniBatchKMeans, "reassignment", "mini_batch_update"),
        (MiniBatchKMeans, "cosine", "label_inertia"),
    )

    @pytest.mark.parametrize("n_calls", [1, 2, 7])
    @pytest.mark.parametrize(("cls", "name", "kernel"), CASES)
    def test_fit_stops_at_a_whole_step_and_loses_nothing(self, make, kernels, monkeypatch, cls, name, kernel, n_calls):
        model, X, weights = make(cls, name, warm_start=True)
        at_once = clone(model).fit(X, sample_weight=weights)
        if n_calls > count_steps(model, X, weights):
            pytest.skip("the fit is shorter")
        with monkeypatch.context() as patch:
            patch.setattr("gdl.kernels.load", lambda device: Interrupting(kernels, kernel, n_calls))
            with pytest.warns(UserWarning, match="k-means interrupted by user") as record:
                assert model.fit(X, sample_weight=weights) is model
        assert record[0].filename == __file__
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert_usable(model, X, weights)
        assert model._progress is not None
        loaded = pickle.loads(pickle.dumps(model))
        for one in (model, loaded):
            assert_same(one.fit(X, sample_weight=weights), at_once)

    def test_the_best_run_is_kept(self, make, kernels, monkeypatch):
        """Ctrl-C in the first iteration of the last run, which is worse than what was found before."""
        model, X, _ = make(KMeans, "runs", warm_start=True, max_iter=4)
        at_once = clone(model).fit(X)
        two = clone(model).set_params(n_init=2).fit(X)
        with monkeypatch.context() as patch:
            patch.setattr("gdl.kernels.load", lambda device: Interrupting(kernels, "average_centers", 9))
            with pytest.warns(UserWarning, match="k-means interrupted by user"):
                model.fit(X)
        assert_same(model, two)
        other = copy.deepcopy(model)
        assert_same(model.fit(X), at_once)
        other.cluster_centers_[:] = X[:6]  # of a run that has ended: a new one starts from there
        assert_same(other.fit(X), KMeans(6, init=X[:6], tol=0, max_iter=4).fit(X))

    def test_while_first_centers_are_chosen(self, make, kernels, monkeypatch):
        model, X, _ = make(KMeans, "runs of k-means++", warm_start=True)
        draws = np.random.RandomState(0)
        with monkeypatch.context() as patch:
            patch.setattr("gdl.kernels.load", lambda device: Interrupting(kernels, "add_seed", 3))
            with pytest.raises(KeyboardInterrupt):
                model.set_params(random_state=draws).fit(X)
        assert not hasattr(model, "cluster_centers_")
        assert draws.randint(2**31) == np.random.RandomState(0).randint(2**31)
        model.set_params(random_state=5)
        at_once = clone(model).fit(X)
        with monkeypatch.context() as patch:
            patch.setattr("gdl.kernels.load", lambda device: Interrupting(kernels, "add_seed", 8))  # of the second run
            with pytest.warns(UserWarning, match="k-means interrupted by user"):
                model.fit(X)
        assert_usable(model, X, None)
        assert_same(model.fit(X), at_once)

    @pytest.mark.parametrize(("cls", "name", "kernel"), [CASES[0], CASES[4]])
    def test_a_second_one_gets_through(self, make, kernels, monkeypatch, cls, name, kernel):
        model, X, _ = make(cls, name)
        before = model.fit(X).cluster_centers_.copy()
        with monkeypatch.context() as patch:
            patch.setattr("gdl.kernels.load", lambda device: Interrupting(kernels, kernel, 2, times=2))
            with pytest.raises(KeyboardInterrupt):
                model.fit(X)
        assert_array_equal(model.cluster_centers_, before)

    @pytest.mark.parametrize(("cls", "name", "kernel"), CASES)
    def test_in_the_loop_it_gets_through_and_next_goes_on(self, make, kernels, monkeypatch, cls, name, kernel):
        model, X, weights = make(cls, name)
        at_once = clone(model).fit(X, sample_weight=weights)
        n_interrupts = 0
        with monkeypatch.context() as patch:
            patch.setattr("gdl.kernels.load", lambda device: Interrupting(kernels, kernel, 3))
            steps = model.steps(X, sample_weight=weights)
            while True:
                try:
                    next(steps)
                except KeyboardInterrupt:
                    n_interrupts += 1
                    assert_usable(model, X, weights)
                except StopIteration:
                    break
        assert n_interrupts == 1
        assert_same(model, at_once)


class Callback:
    """Raises, asks to stop, or saves what it is given, after so many steps."""

    def __init__(self, after, action):
        self.after, self.action, self.saved = after, action, []

    def __getstate__(self):  # scikit-learn's context, which is saved with a model, holds the callback
        return {**vars(self), "saved": []}

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name not in ("iteration", "step"):
            return False
        if self.action == "save" and len(self.saved) < 20:
            self.saved.append(pickle.dumps(fitted_estimator.set_callbacks()))
        elif self.action != "save" and context.task_id + 1 == self.after:
            return self.action == "stop" or self.fail()
        return False

    def fail(self):
        raise ZeroDivisionError("the user's own")


class TestCallbacks:
    CASES = ((KMeans, "hamerly"), (KMeans, "runs"), (MiniBatchKMeans, "reassignment"), (MiniBatchKMeans, "no labels"))

    @pytest.mark.parametrize("action", ["raise", "stop"])
    @pytest.mark.parametrize("after", [1, 3, 7])
    @pytest.mark.parametrize(("cls", "name"), CASES)
    def test_one_that_stops_the_fit(self, make, cls, name, after, action):
        model, X, weights = make(cls, name, warm_start=True)
        at_once = clone(model).fit(X, sample_weight=weights)
        if after > count_steps(model, X, weights):
            pytest.skip("the fit is shorter")
        model.set_callbacks(Callback(after, action))
        if action == "raise":
            with pytest.raises(ZeroDivisionError, match="the user's own") as raised:
                model.fit(X, sample_weight=weights)
            assert raised.traceback[-1].name == "fail"
        else:
            model.fit(X, sample_weight=weights)
        assert_usable(model, X, weights)
        if name != "runs":
            assert getattr(model, "n_steps_", model.n_iter_) == after
        model.set_callbacks()
        if model._progress is not None:  # else it was about to end by itself
            model.fit(X, sample_weight=weights)
        assert_same(model, at_once)

    @pytest.mark.parametrize(("cls", "name"), CASES)
    def test_what_one_saves_goes_on(self, make, cls, name):
        model, X, weights = make(cls, name, warm_start=True)
        callback = Callback(0, "save")
        at_once = clone(model).set_callbacks(callback).fit(X, sample_weight=weights)
        assert len(callback.saved) >= 2
        for saved in callback.saved:
            assert_same(pickle.loads(saved).fit(X, sample_weight=weights), at_once)


def test_warm_start_is_keyword_only_and_off():
    for cls in (KMeans, MiniBatchKMeans):
        assert cls().warm_start is False
        with pytest.raises(TypeError):
            cls(8, True)


def test_a_fit_that_has_ended_keeps_nothing_to_go_on_from(make):
    for cls in (KMeans, MiniBatchKMeans):
        model, X, _ = make(cls, "tol")
        assert model.fit(X)._progress is None
        for _ in model.steps(X):
            assert model._progress is not None
        assert model._progress is None
        assert "_loop" not in vars(model)


def test_no_warning_without_cause(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cls in (KMeans, MiniBatchKMeans):
            model, X, _ = make(cls, "tol")
            for _ in model.steps(X):
                pass


def test_the_comparison_can_fail(make):
    for cls in (KMeans, MiniBatchKMeans):
        model, X, _ = make(cls, "tol")
        other = copy.deepcopy(model.fit(X))
        other.cluster_centers_[0, 0] = np.nextafter(other.cluster_centers_[0, 0], 99)
        with pytest.raises(AssertionError):
            assert_same(model, other)

"""Stopping, looking, saving and going on leaves no trace: the bits are those of training at once."""

import copy
import io
import multiprocessing
import pickle
import signal
import subprocess
import sys
import threading
import warnings

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gdl import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SOLVERS = {
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd"},
    "adam": {"solver": "adam"},
    "adamw": {"solver": "adamw"},
    "rmsprop": {"solver": "rmsprop"},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    "dropout": {"dropout": 0.3},
    "no shuffle": {"shuffle": False},
    "clipped": {"max_grad_norm": 0.1},
    "no intercepts": {"fit_intercept": False},
}
SMALL = {"hidden_layer_sizes": (6,), "batch_size": 16, "learning_rate_init": 0.02, "random_state": 3}


@pytest.fixture
def data(rng):
    X = rng.standard_normal((60, 4))
    return X, (X[:, 0] + X[:, 1] ** 2 > 1).astype(int) + (X[:, 2] > 0.5)


def assert_same(one, other):
    assert_array_equal(one.parameters_, other.parameters_)
    for name in ("loss_curve_", "validation_scores_", "validation_loss_curve_"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("t_", "loss_", "best_loss_", "best_validation_score_", "learning_rate_"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SOLVERS)
def test_warm_start_is_one_fit(data, case, dtype):
    X, y = data[0].astype(dtype), data[1]
    parameters = {**SMALL, **SOLVERS[case]}
    at_once = MLPClassifier(**parameters, max_iter=6).fit(X, y)
    halves = MLPClassifier(**parameters, max_iter=3, warm_start=True).fit(X, y)
    assert len(halves.loss_curve_) == halves.n_iter_ == 3
    halves.fit(X, y)
    assert_same(halves, at_once)
    assert len(halves.loss_curve_) == 6


@pytest.mark.parametrize("case", SOLVERS)
def test_partial_fit_is_an_epoch(data, case):
    X, y = data
    parameters = {**SMALL, **SOLVERS[case]}
    at_once = MLPClassifier(**parameters, max_iter=5).fit(X, y)
    by_epoch = MLPClassifier(**parameters, max_iter=5)
    for _ in range(5):
        by_epoch.partial_fit(X, y, classes=[0, 1, 2])
    assert_same(by_epoch, at_once)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit_goes_on_with_a_schedule(data, schedule, solver):
    X, y = data
    parameters = {**SMALL, "solver": solver, "learning_rate": schedule, "max_iter": 4}
    at_once = MLPRegressor(**parameters).fit(X, y)
    by_epoch = MLPRegressor(**parameters)
    for _ in range(4):
        by_epoch.partial_fit(X, y)
    assert_same(by_epoch, at_once)


def test_early_stopping_goes_on(data):
    X, y = data
    parameters = {**SMALL, "early_stopping": True, "n_iter_no_change": 30, "validation_fraction": 0.3}
    at_once = MLPClassifier(**parameters, max_iter=12).fit(X, y)
    halves = MLPClassifier(**parameters, max_iter=5, warm_start=True).fit(X, y)
    assert_same(halves.set_params(max_iter=7).fit(X, y), at_once)


def test_without_early_stopping_training_goes_on_from_the_parameters_as_they_are(data):
    X, y = data
    model = MLPClassifier(**SMALL, early_stopping=True, max_iter=30).fit(X, y)
    best = model.parameters_.copy()
    model.set_params(early_stopping=False, learning_rate_init=1e-12).partial_fit(X, y)
    np.testing.assert_allclose(model.parameters_, best, atol=1e-9)


def test_early_stopping_goes_on_from_what_the_user_wrote(data):
    X, y = data
    model = MLPClassifier(**SMALL, early_stopping=True, max_iter=3, warm_start=True).fit(X, y)
    model.parameters_[:] = 0.0
    model.set_params(max_iter=1, learning_rate_init=1e-9).fit(X, y)
    assert abs(model.parameters_).max() < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lbfgs_one_iteration_at_a_time(data, dtype):
    X, y = data[0].astype(dtype), data[1]
    parameters = {"hidden_layer_sizes": (4,), "solver": "lbfgs", "random_state": 0, "tol": 1e-9}
    at_once = MLPClassifier(**parameters, max_iter=25).fit(X, y)
    by_iteration = MLPClassifier(**parameters, max_iter=1, warm_start=True)
    for _ in range(25):
        by_iteration.fit(X, y)
    assert_same(by_iteration, at_once)
    assert len(at_once.loss_curve_) == at_once.n_iter_ == 25


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


def through_joblib(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize("travel", [through_pickle, through_joblib, copy.deepcopy])
@pytest.mark.parametrize("case", ["adam", "dropout", "nesterov"])
def test_saving_and_loading(data, travel, case):
    X, y = data
    parameters = {**SMALL, **SOLVERS[case]}
    at_once = MLPClassifier(**parameters, max_iter=6).fit(X, y)
    first = MLPClassifier(**parameters, max_iter=3, warm_start=True).fit(X, y)
    predicted = first.predict_proba(X)
    loaded = travel(first)
    assert_array_equal(loaded.predict_proba(X), predicted)
    assert_same(loaded.fit(X, y), at_once)
    assert_array_equal(first.predict_proba(X), predicted)  # the model that was copied has not moved
    assert_same(first.fit(X, y), at_once)


@pytest.mark.compiled
def test_going_on_in_another_process(data, tmp_path):
    X, y = data
    at_once = MLPClassifier(**SMALL, max_iter=4).fit(X, y)
    joblib.dump((MLPClassifier(**SMALL, max_iter=2, warm_start=True).fit(X, y), X, y), tmp_path / "half")
    code = "import joblib, sys; m, X, y = joblib.load(sys.argv[1]); joblib.dump(m.fit(X, y), sys.argv[2])"
    command = [sys.executable, "-W", "ignore", "-c", code, tmp_path / "half", tmp_path / "whole"]
    subprocess.run(command, check=True)
    assert_same(joblib.load(tmp_path / "whole"), at_once)


def fit_and_dump(path, model, data):
    warnings.simplefilter("ignore")
    joblib.dump(model.fit(*data), path)


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_fits_in_other_processes_are_fits_here(rng, tmp_path, method):
    X = rng.standard_normal((600, 64)).astype(np.float32)  # large enough for threads
    y = np.arange(600) % 10
    model = MLPClassifier((128,), max_iter=3, random_state=0)
    process = multiprocessing.get_context(method).Process(target=fit_and_dump, args=(tmp_path / "model", model, (X, y)))
    here = MLPClassifier((128,), max_iter=3, random_state=0).fit(X, y)
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert_same(joblib.load(tmp_path / "model"), here)


def test_a_random_state_instance_goes_on(data):
    X, y = data
    parameters = {**SMALL, "max_iter": 3, "warm_start": True}
    at_once = MLPClassifier(**{**parameters, "random_state": np.random.RandomState(1), "max_iter": 6}).fit(X, y)
    halves = MLPClassifier(**{**parameters, "random_state": np.random.RandomState(1)}).fit(X, y)
    assert_same(halves.fit(X, y), at_once)


def test_global_random_numbers_are_left_alone(data):
    X, y = data
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    MLPClassifier(**SMALL, max_iter=2, early_stopping=True, dropout=0.5).fit(X, y)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_without_warm_start_everything_is_new(data):
    X, y = data
    model = MLPClassifier(**SMALL, max_iter=3).fit(X, y)
    first = model.parameters_
    once = first.copy()
    model.fit(X, y)
    assert model.parameters_ is not first
    assert_array_equal(model.parameters_, once)
    assert len(model.loss_curve_) == 3


def test_other_samples_begin_a_new_order(data):
    X, y = data
    model = MLPRegressor(**SMALL, warm_start=True, max_iter=2, early_stopping=True).fit(X, y)
    model.fit(X[:40], y[:40])
    assert len(model.loss_curve_) == 4
    model.set_params(early_stopping=False).partial_fit(X, y)
    assert len(model.loss_curve_) == 5
    assert model.t_ == 2 * 54 + 2 * 36 + 60


def test_a_new_solver_starts_with_new_moments(data):
    X, y = data
    model = MLPRegressor(**SMALL, warm_start=True, max_iter=2).fit(X, y)
    start = model.parameters_.copy()
    model.set_params(solver="lbfgs").fit(X, y)
    fresh = MLPRegressor(**{**SMALL, "solver": "lbfgs", "max_iter": 2, "init": start}).fit(X, y)
    assert_array_equal(model.parameters_, fresh.parameters_)
    model.set_params(solver="sgd").fit(X, y)
    assert len(model.loss_curve_) == 6


def test_a_new_learning_rate_is_taken_up(data):
    X, y = data
    model = MLPRegressor(**SMALL, warm_start=True, max_iter=2).fit(X, y)
    start = model.parameters_.copy()
    model.set_params(learning_rate_init=1e-12).fit(X, y)
    np.testing.assert_allclose(model.parameters_, start, atol=1e-9)


class StopAfter:
    """Raises SIGINT in the main thread, as Ctrl-C does, when a loss kernel has run so many times."""

    def __init__(self, kernel_set, n_calls):
        self.kernel_set, self.left = kernel_set, n_calls
        self.PreparedEpoch = self._prepare

    def __getattr__(self, name):
        return getattr(self.kernel_set, name)

    def _prepare(self, *arguments):
        epoch = self.kernel_set.PreparedEpoch(*arguments)
        train_steps = epoch.train_steps

        def train_and_count(*numbers):
            loss = train_steps(*numbers)
            self._count()
            return loss

        epoch.train_steps = train_and_count
        return epoch

    def loss_and_gradient(self, *arguments):
        self._count()
        self.kernel_set.loss_and_gradient(*arguments)

    def _count(self):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("n_calls", [1, 2, 6])
def test_ctrl_c_stops_at_a_whole_step_and_loses_nothing(data, kernels, monkeypatch, n_calls):
    X, y = data
    at_once = MLPClassifier(**SMALL, max_iter=8).fit(X, y)
    model = MLPClassifier(**SMALL, max_iter=8, warm_start=True)
    with monkeypatch.context() as patch:
        patch.setattr("gdl.training.RUN_SECONDS", 0.0)  # one step a call, so that it comes amid an epoch
        patch.setattr("gdl.kernels.load", lambda device: StopAfter(kernels, n_calls))
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            model.fit(X, y)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert model._training.step == n_calls
    assert model.n_iter_ == n_calls // 4
    assert not model.converged_
    assert model.predict(X).shape == (60,)
    model.set_params(max_iter=8 - model.n_iter_).fit(X, y)
    assert_same(model, at_once)


def test_ctrl_c_stops_lbfgs_at_a_whole_step(data, kernels, monkeypatch):
    X, y = data
    parameters = {"hidden_layer_sizes": (4,), "solver": "lbfgs", "random_state": 0}
    at_once = MLPClassifier(**parameters, max_iter=10).fit(X, y)
    model = MLPClassifier(**parameters, max_iter=10, warm_start=True)
    with monkeypatch.context() as patch:
        patch.setattr("gdl.kernels.load", lambda device: StopAfter(kernels, 4))
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            model.fit(X, y)
    assert 0 < model.n_iter_ < 5
    assert_same(model.set_params(max_iter=10 - model.n_iter_).fit(X, y), at_once)


def test_a_second_ctrl_c_gets_through(data):
    class Stuck:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context):
            if context.task_name != "epoch":
                return
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("the second Ctrl-C was kept")

    X, y = data
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model = MLPClassifier(**SMALL, max_iter=8).set_callbacks(Stuck()).fit(X, y)
    assert len(model.loss_curve_) == 1


def test_fits_in_threads_are_fits_alone(data):
    X, y = data
    alone = [MLPClassifier(**{**SMALL, "random_state": seed}, max_iter=4).fit(X, y) for seed in range(8)]
    together = [MLPClassifier(**{**SMALL, "random_state": seed}, max_iter=4) for seed in range(8)]

    def fit(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)

    threads = [threading.Thread(target=fit, args=(model,)) for model in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("run_seconds", [0.0, 1e-4, 10.0])
def test_cuts_of_an_epoch_leave_no_trace(data, monkeypatch, run_seconds):
    X, y = data
    at_once = MLPClassifier(**SMALL, max_iter=3, dropout=0.2).fit(X, y)
    monkeypatch.setattr("gdl.training.RUN_SECONDS", run_seconds)
    assert_same(MLPClassifier(**SMALL, max_iter=3, dropout=0.2).fit(X, y), at_once)


def test_the_comparison_can_fail(data):
    X, y = data
    one = MLPClassifier(**SMALL, max_iter=2).fit(X, y)
    other = copy.deepcopy(one)
    other.parameters_[-1] = np.nextafter(other.parameters_[-1], 1)
    with pytest.raises(AssertionError):
        assert_same(one, other)

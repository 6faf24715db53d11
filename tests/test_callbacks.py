"""Callbacks look on, stop and keep a fit, of networks and of clusterings."""

import copy
import math
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.callback import FitCallback, ScoringMonitor
from sklearn.metrics import accuracy_score, f1_score, make_scorer

import gdl
from gdl import KMeans, MiniBatchKMeans, MLPClassifier, MLPRegressor
from gdl.callbacks import Callback, Checkpoint, EarlyStopping, Function, History, ProgressBar

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (6,), "batch_size": 16, "learning_rate_init": 0.02, "random_state": 3}


@pytest.fixture
def data(rng):
    X = rng.standard_normal((60, 4))
    return X, (X[:, 0] + X[:, 1] ** 2 > 1).astype(int) + (X[:, 2] > 0.5)


def models(max_iter=6):
    """One of each kind."""
    return [
        MLPClassifier(**SMALL, max_iter=max_iter),
        MLPRegressor(**SMALL, max_iter=max_iter, early_stopping=True, n_iter_no_change=np.inf),
        MLPRegressor(hidden_layer_sizes=(6,), solver="lbfgs", tol=1e-9, max_iter=max_iter, random_state=0),
        KMeans(4, random_state=0, tol=0, max_iter=max_iter),
        MiniBatchKMeans(4, random_state=0, batch_size=20, max_iter=2, max_no_improvement=None),
    ]


each_model = pytest.mark.parametrize("number", range(5), ids=["classifier", "regressor", "lbfgs", "kmeans", "mini"])


#: Clusterings join as soon as their fit can be left and finished.
each_network = pytest.mark.parametrize("number", range(3), ids=["classifier", "regressor", "lbfgs"])


def learned(model):
    """What a model predicts by."""
    return (model.parameters_ if hasattr(model, "parameters_") else model.cluster_centers_).copy()


class Recorder(Callback):
    """Keeps what each epoch left, with scikit-learn's hooks alone."""

    def __init__(self, stop_after=None):
        self.states, self.models, self.stop_after = [], [], stop_after

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name != "fit":
            self.states.append(learned(fitted_estimator))
            self.models.append(fitted_estimator)
        return len(self.states) == self.stop_after


@pytest.mark.parametrize(
    "callback", [Callback(), Function(print), Checkpoint("x"), EarlyStopping("loss"), History(), ProgressBar()]
)
def test_the_protocol_is_kept(callback):
    assert isinstance(callback, FitCallback)
    model = KMeans(2).set_callbacks(callback)
    assert clone(model)._skl_callbacks == [callback]


@each_model
def test_callbacks_leave_no_trace(data, tmp_path, number):
    alone = models()[number].fit(*data)
    history = History()
    stopping = EarlyStopping("loss", patience=99, restore_best=False)
    watched = models()[number].set_callbacks(history, stopping, Checkpoint(tmp_path / "model"), Function(len_of_vars))
    watched.fit(*data)
    assert_array_equal(learned(watched), learned(alone))
    assert len(history) > 1
    assert history.to_dict()["loss"] == stopping.values_


def len_of_vars(model):
    return len(vars(model)) == 0


# Function.


@each_model
def test_a_function_sees_each_epoch_and_may_stop(data, number):
    recorder, seen = Recorder(), []

    def look(model):
        seen.append(learned(model))
        return len(seen) == 3

    model = models()[number].set_callbacks(recorder, Function(look)).fit(*data)
    assert len(seen) == 3
    assert_array_equal(seen, recorder.states)
    if hasattr(model, "loss_curve_"):
        assert len(model.loss_curve_) == 3


def test_a_function_must_be_one():
    with pytest.raises(TypeError, match="function=3 cannot be called; pass a function of the model"):
        Function(3)


class FullError(Exception):
    pass


def full(model):
    if epoch_of(model) == 2:
        raise FullError("the disk is full")


def epoch_of(model):
    curve = getattr(model, "loss_curve_", None)
    return len(model.inertia_curve_ if curve is None else curve)


@each_model
def test_an_error_in_a_callback_stops_the_fit_and_is_all_that_is_seen(data, number):
    torn_down = []

    class Last(Callback):
        def teardown(self, estimator, context):
            torn_down.append(estimator)

    model = models()[number].set_callbacks(Function(full), Last())
    with pytest.raises(FullError, match="the disk is full") as caught:
        model.fit(*data)
    assert caught.traceback[-1].name == "full"
    assert caught.value.__context__ is None
    assert torn_down == [model]
    assert not hasattr(model, "_callback_fit_ctx")


@each_network
def test_an_error_in_a_callback_leaves_the_model_of_the_last_epoch(data, number):
    recorder = Recorder()
    model = models()[number].set_callbacks(recorder, Function(full))
    with pytest.raises(FullError):
        model.fit(*data)
    assert_array_equal(learned(model), recorder.states[1])
    assert model.predict(data[0]).shape[0] == 60


# Checkpoint.


@each_model
def test_a_checkpoint_holds_the_model_of_its_epoch(data, tmp_path, number):
    recorder, found = Recorder(), {}

    def look(model):
        if (tmp_path / "model").exists():
            found[len(recorder.states)] = learned(gdl.load(tmp_path / "model"))

    callbacks = recorder, Checkpoint(tmp_path / "model", every=2), Function(look)
    model = models()[number].set_callbacks(*callbacks).fit(*data)
    assert min(found) == 2
    for epoch, parameters in found.items():
        assert_array_equal(parameters, recorder.states[epoch // 2 * 2 - 1])
    last = gdl.load(tmp_path / "model")
    assert_array_equal(learned(last), learned(model))
    assert last.get_params().get("warm_start", True)
    assert "warm_start" not in model.get_params() or not model.warm_start
    assert os.listdir(tmp_path) == ["model"]


@each_network
def test_a_checkpoint_of_any_epoch_goes_on(data, tmp_path, number):
    def keep(model):
        shutil.copy(tmp_path / "model", tmp_path / str(epoch_of(model)))

    at_once = models()[number].set_callbacks(Checkpoint(tmp_path / "model"), Function(keep)).fit(*data)
    n_epochs = epoch_of(at_once)
    assert n_epochs >= 3
    for epoch in range(1, n_epochs):
        model = gdl.load(tmp_path / str(epoch))
        assert epoch_of(model) == epoch
        model.fit(*data)
        assert epoch_of(model) == n_epochs
        assert_array_equal(learned(model), learned(at_once))


@each_model
def test_a_copy_is_made_only_for_a_file_that_is_due(data, tmp_path, number, monkeypatch):
    from sklearn.callback import _callback_context

    copies, make = [], _callback_context._from_reconstruction_attributes

    def counting(estimator, attributes):
        copies.append(attributes)
        return make(estimator, attributes)

    monkeypatch.setattr(_callback_context, "_from_reconstruction_attributes", counting)
    models()[number].set_callbacks(Checkpoint(tmp_path / "model", every=4)).fit(*data)
    assert len(copies) <= 2  # the fourth epoch, and the end


def test_a_checkpoint_after_some_time(data, tmp_path, monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    model = MLPClassifier(**SMALL, max_iter=10)
    monkeypatch.setattr(MLPClassifier, "save", lambda model, path: saved.append(len(model.loss_curve_)))

    def let_time_pass(model):
        now[0] += 20

    model.set_callbacks(Function(let_time_pass), Checkpoint(tmp_path / "model", every="1min")).fit(*data)
    assert saved == [3, 6, 9, 10]


TOTAL = 60


@pytest.mark.compiled
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_fit_that_was_killed_goes_on(tmp_path):
    code = (
        "import sys, time, numpy, gdl\n"
        "from gdl.callbacks import Checkpoint, Function\n"
        "rng = numpy.random.default_rng(0)\n"
        "X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)\n"
        "def wait(model): print(len(model.loss_curve_), flush=True); time.sleep(0.01)\n"
        f"model = gdl.MLPClassifier(6, batch_size=16, random_state=3, max_iter={TOTAL}, dropout=0.2, tol=0)\n"
        "model.set_callbacks(Checkpoint('model', every=5), Function(wait)).fit(X, y)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
    n_epochs = next(n for line in process.stdout if (n := int(line)) >= 13)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert os.listdir(tmp_path) == ["model"]

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    at_once = MLPClassifier(6, batch_size=16, random_state=3, max_iter=TOTAL, dropout=0.2, tol=0).fit(X, y)
    model = gdl.load(tmp_path / "model")
    assert TOTAL > len(model.loss_curve_) >= n_epochs // 5 * 5
    model.fit(X, y)
    assert model.loss_curve_ == at_once.loss_curve_
    assert_array_equal(model.parameters_, at_once.parameters_)


def test_a_checkpoint_that_cannot_be_written_says_so_before_the_fit(data, tmp_path):
    class Mine(KMeans):
        pass

    for model, path, error, message in (
        (KMeans(2), tmp_path / "none" / "model", FileNotFoundError, "Checkpoint has no directory"),
        (KMeans(2, init=lambda X, k, random_state: X[:k]), tmp_path / "model", TypeError, "init=.* cannot be saved"),
        (Mine(2), tmp_path / "model", TypeError, "this is a .*Mine"),
    ):
        with pytest.raises(error, match=message):
            model.set_callbacks(Checkpoint(path)).fit(data[0])
        assert not hasattr(model, "labels_")
    for every in (0, -1, 1.5, True, "30", "1 day", None):
        with pytest.raises(
            ValueError, match=r"every=.* must be a whole number of epochs of at least 1, or a time such as"
        ):
            Checkpoint(tmp_path / "model", every)


# EarlyStopping.


def by_hand(values, patience, sign, min_delta=0.0):
    """Number of the best epoch and of the last, with plain loops."""
    best, best_epoch = None, 0
    for epoch, value in enumerate(values, 1):
        if best is None or sign * (value - best) > min_delta:
            best, best_epoch = value, epoch
        elif epoch - best_epoch == patience:
            return best_epoch, epoch
    return best_epoch, len(values)


@pytest.mark.parametrize("metric", ["validation_loss", "validation_score", "loss"])
@pytest.mark.parametrize("min_delta", [0.0, 0.02])
def test_stops_where_curves_say(data, metric, min_delta):
    X, y = data
    parameters = {**SMALL, "max_iter": 60, "n_iter_no_change": np.inf, "learning_rate_init": 0.1}
    validation_data = X[:20], y[:20]
    recorder = Recorder()
    whole = MLPClassifier(**parameters).set_callbacks(recorder).fit(X, y, validation_data=validation_data)
    values = {
        "validation_loss": whole.validation_loss_curve_,
        "validation_score": whole.validation_scores_,
        "loss": whole.loss_curve_,
    }[metric]
    best, last = by_hand(values, 4, 1 if metric == "validation_score" else -1, min_delta)
    stopping = EarlyStopping(metric, 4, min_delta=min_delta)
    model = MLPClassifier(**parameters).set_callbacks(stopping).fit(X, y, validation_data=validation_data)
    assert (stopping.best_epoch_, len(stopping.values_)) == (best, last)
    assert stopping.stopped_ == (last < 60)
    assert stopping.values_ == values[:last]
    assert stopping.best_value_ == values[best - 1]
    assert_array_equal(model.parameters_, recorder.states[best - 1])
    assert model.loss_curve_ == whole.loss_curve_[:best]


@each_model
@pytest.mark.parametrize("restore_best", [True, False])
def test_goes_back_to_the_best_state_of_any_model(data, number, restore_best):
    values = iter([1, 2, 5, 4, 3, 2, 1, 0])
    recorder, stopping = Recorder(), EarlyStopping(lambda model, X, y: next(values), 2, restore_best=restore_best)
    model = models(max_iter=8)[number].set_callbacks(recorder, stopping).fit(*data)
    assert stopping.stopped_
    assert stopping.values_ == [1, 2, 5, 4, 3]
    assert (stopping.best_epoch_, stopping.best_value_) == (3, 5)
    assert_array_equal(learned(model), recorder.states[2 if restore_best else 4])
    expected = recorder.models[2 if restore_best else 4]
    assert_array_equal(model.predict(data[0]), expected.predict(data[0]))
    assert epoch_of(model) == epoch_of(expected)
    assert stopping._best is None  # which would keep a model alive


def test_goes_on_from_the_best_epoch(data):
    values = iter([1, 2, 3, 0, 0])
    stopping = EarlyStopping(lambda model, X, y: next(values), 2)
    model = MLPClassifier(**SMALL, max_iter=20, warm_start=True).set_callbacks(stopping).fit(*data)
    model.set_callbacks().set_params(max_iter=2).fit(*data)
    at_once = MLPClassifier(**SMALL, max_iter=5).fit(*data)
    assert model.loss_curve_ == at_once.loss_curve_
    assert_array_equal(model.parameters_, at_once.parameters_)


def test_views_of_parameters_are_kept(data):
    model = MLPClassifier(**SMALL, max_iter=2, warm_start=True).fit(*data)
    parameters = model.parameters_
    model.set_callbacks(EarlyStopping(lambda model, X, y: -len(model.loss_curve_), 2)).fit(*data)
    assert model.parameters_ is parameters
    assert len(model.loss_curve_) == 3
    model.parameters_[:] = 0
    assert_allclose(model.predict_proba(data[0]), 1 / 3)


def test_scorers(data):
    X, y = data
    judged = X[:20], y[:20]

    def score(model, X, y):
        return f1_score(y, model.predict(X), average="macro")

    found = []
    for metric in ("f1_macro", score, make_scorer(f1_score, average="macro")):
        stopping = EarlyStopping(metric, patience=99, validation_data=judged)
        MLPClassifier(**SMALL, max_iter=4).set_callbacks(stopping).fit(X, y)
        found.append(stopping.values_)
    recorder = Recorder()
    MLPClassifier(**SMALL, max_iter=4).set_callbacks(recorder).fit(X, y)
    expected = [score(model, *judged) for model in recorder.models]
    assert found == [expected] * 3


def test_scores_are_weighted(data):
    X, y = data
    weights = np.arange(60.0)
    for given in (None, (X, y, weights)):
        recorder, stopping = Recorder(), EarlyStopping("accuracy", patience=99, validation_data=given)
        MLPClassifier(**SMALL, max_iter=3).set_callbacks(recorder, stopping).fit(X, y, sample_weight=weights)
        expected = [accuracy_score(y, model.predict(X), sample_weight=weights) for model in recorder.models]
        assert_allclose(stopping.values_, expected)


def test_what_is_no_number_is_no_improvement(data):
    values = iter([math.nan, 1.0, math.nan, math.nan, math.nan])
    stopping = EarlyStopping(lambda model, X, y: next(values), 3)
    MLPClassifier(**SMALL, max_iter=9).set_callbacks(stopping).fit(*data)
    assert (stopping.best_epoch_, stopping.best_value_, len(stopping.values_)) == (2, 1.0, 5)
    stopping = EarlyStopping(lambda model, X, y: math.nan, 3)
    MLPClassifier(**SMALL, max_iter=9).set_callbacks(stopping).fit(*data)
    assert (stopping.best_epoch_, len(stopping.values_)) == (0, 3)


def test_stopping_says_what_is_wrong(data):
    for arguments, error, message in (
        ({"metric": "f2"}, ValueError, "metric='f2' is neither 'loss', .* nor the name of a scorer"),
        ({"metric": 3}, TypeError, r"metric=3 is neither a name nor a function of \(model, X, y\)"),
        ({"patience": 0}, ValueError, "patience=0 must be a whole number of epochs of at least 1"),
        ({"patience": 1.5}, ValueError, "patience=1.5 must be"),
        ({"min_delta": -1}, ValueError, "min_delta=-1 must be a finite number of at least 0"),
        ({"min_delta": math.nan}, ValueError, "min_delta=nan must be"),
        ({"mode": "least"}, ValueError, "mode='least' must be"),
        ({"validation_data": 3}, ValueError, r"validation_data must be \(X, y\) or \(X, y, sample_weight\)"),
    ):
        with pytest.raises(error, match=message):
            EarlyStopping(**arguments)
    with pytest.raises(ValueError, match="metric='validation_loss' needs samples to judge by; pass validation_data to"):
        MLPClassifier(**SMALL).set_callbacks(EarlyStopping()).fit(*data)
    with pytest.raises(TypeError, match="returned 'good', which is not a number"):
        MLPClassifier(**SMALL).set_callbacks(EarlyStopping(lambda model, X, y: "good")).fit(*data)


# History.


def test_a_row_an_epoch(data):
    X, y = data
    history = History({"accuracy": "accuracy", "size": lambda model, X, y: len(X)}, validation_data=(X[:9], y[:9]))
    began = time.monotonic()
    model = MLPClassifier(**SMALL, max_iter=4, learning_rate="invscaling", solver="sgd").set_callbacks(history)
    model.fit(X, y, validation_data=(X[:20], y[:20]))
    taken = time.monotonic() - began
    columns = history.to_dict()
    assert list(columns) == list(history.columns)
    assert columns["epoch"] == [1, 2, 3, 4]
    assert columns["loss"] == model.loss_curve_
    assert columns["validation_loss"] == model.validation_loss_curve_
    assert columns["validation_score"] == model.validation_scores_
    assert columns["learning_rate"][-1] == model.learning_rate_
    assert columns["accuracy"][-1] == model.score(X[:9], y[:9])
    assert columns["size"] == [9] * 4
    assert 0 < sum(columns["seconds"]) <= taken
    rows = list(history)
    assert [row.loss for row in rows] == model.loss_curve_
    assert rows[0]._fields == history.columns
    assert history[-1] == rows[-1]
    pandas = pytest.importorskip("pandas")
    frame = history.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.loss.tolist() == model.loss_curve_
    assert frame.index.tolist() == [1, 2, 3, 4]


@each_model
def test_what_a_fit_has_not_is_not_shown(data, number):
    history = History()
    model = models()[number].set_callbacks(history).fit(*data)
    text = repr(history)
    assert text.splitlines()[0].split()[:2] == ["epoch", "loss"]
    assert len(text.splitlines()) == 1 + len(history)
    assert "nan" not in text
    assert ("validation score" in text) == (number == 1)
    assert ("learning rate" in text) == (number < 2)
    assert history._repr_html_().count("<tr>") == 1 + len(history)
    assert history.to_dict()["loss"] == list(model.inertia_curve_ if number > 2 else model.loss_curve_)


def test_a_long_table_is_cut(data):
    history = History()
    assert repr(history) == "epoch"
    MLPClassifier(**SMALL, max_iter=45, n_iter_no_change=99).set_callbacks(history).fit(*data)
    lines = repr(history).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*map(str, range(1, 11)), "...", *map(str, range(36, 46))]


def test_a_fit_that_goes_on_adds_to_its_table(data):
    history = History()
    model = MLPClassifier(**SMALL, max_iter=3).set_callbacks(history).fit(*data)
    model.fit(*data)
    assert len(history) == 3
    model.set_params(warm_start=True).fit(*data)
    assert history.to_dict()["loss"] == model.loss_curve_
    assert history.to_dict()["epoch"] == [1, 2, 3, 4, 5, 6]


def test_names_of_columns():
    assert History(["accuracy", "f1_macro"]).columns[-2:] == ("accuracy", "f1_macro")
    for name in ("loss", "a b", "_a", "class ", 3):
        with pytest.raises(
            ValueError, match=r"metrics has .*; name each as a Python variable, but none of epoch, loss"
        ):
            History({name: len})


def test_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_pandas needs the package pandas; install it, or use to_dict"):
        History().to_pandas()


# All of them.


def test_they_travel_with_their_model(data, tmp_path):
    callbacks = History(["accuracy"]), EarlyStopping("accuracy", 3), Checkpoint(tmp_path / "model", "1min")
    model = MLPClassifier(**SMALL, max_iter=4).set_callbacks(*callbacks).fit(*data)
    for travel in (copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))):
        again = travel(model)
        assert repr(again._skl_callbacks[0]) == repr(callbacks[0])
        again.fit(*data)


def test_they_work_beside_scikit_learns(data):
    monitor, history = ScoringMonitor(scoring="accuracy"), History(["accuracy"])
    MLPClassifier(**SMALL, max_iter=3).set_callbacks(monitor, history).fit(*data)
    scores = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert scores == history.to_dict()["accuracy"]


def test_importing_gdl_imports_nothing_heavy():
    code = "import sys, gdl; gdl.callbacks.History; print({'sklearn.metrics', 'onnx', 'onnxruntime'} & {*sys.modules})"
    root = pathlib.Path(gdl.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "set()\n"

"""gdl's estimators in scikit-learn's world: its own checks, meta-estimators, output containers, callbacks."""

import copy
import os
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data, parametrize_with_checks

from gdl import KMeans, MLPClassifier, MLPRegressor

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}


# As scikit-learn says of its own k-means; the next test looks at it from the same first centers.
DRAWN = {"check_sample_weight_equivalence_on_dense_data": "k-means++ draws by position: other rows of repeated ones"}


@pytest.mark.compiled  # a hundred fits of a hundred units: hours for interpreted loops
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [] if INTERPRETED else [MLPClassifier(), MLPRegressor(), KMeans()],
    expected_failed_checks=lambda estimator: DRAWN if isinstance(estimator, KMeans) else {},
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("algorithm", ["lloyd", "hamerly"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_scikit_learns_check_of_weights_from_the_same_centers(algorithm, metric):
    """Three of the check's samples: no cluster is empty, to which one sample would be given, not all its copies."""
    init = np.random.RandomState(42).rand(15, 30)[:3]
    model = KMeans(3, init=init, tol=0, algorithm=algorithm, metric=metric)
    check_sample_weight_equivalence_on_dense_data("KMeans", model)


@pytest.fixture
def data(rng):
    X = rng.standard_normal((40, 3))
    return X, (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize("estimator", [MLPClassifier(**SMALL), MLPRegressor(**SMALL)])
def test_clone_and_pickle(estimator, data):
    copied = clone(estimator).fit(*data)
    loaded = pickle.loads(pickle.dumps(copied))
    assert_array_equal(loaded.predict(data[0]), copied.predict(data[0]))
    assert clone(loaded).get_params() == estimator.get_params()
    assert not hasattr(clone(loaded), "coefs_")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_clone_and_pickle_of_clusters(data, metric):
    estimator = KMeans(3, metric=metric, random_state=0)
    copied = clone(estimator).fit(data[0])
    copied.predict(data[0])  # from now on the model holds compiled functions
    loaded = pickle.loads(pickle.dumps(copied))
    for model in (loaded, copy.deepcopy(copied)):
        assert_array_equal(model.predict(data[0]), copied.labels_)
        assert model.score(data[0]) == -copied.inertia_
        assert vars(model).keys() == vars(copied).keys()
    assert clone(loaded).get_params() == estimator.get_params()
    assert not hasattr(clone(loaded), "cluster_centers_")


def test_clone_copies_first_parameters(data):
    init = np.zeros(21)
    model = clone(MLPClassifier(**SMALL, init=init)).fit(*data)
    assert_array_equal(init, 0)
    assert model.init is not init


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.compiled)])
def test_grid_search_and_pipeline(data, n_jobs):
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SMALL))
    grid = {"mlpclassifier__alpha": [0.0, 1.0], "mlpclassifier__class_weight": [None, "balanced"]}
    search = GridSearchCV(pipeline, grid, n_jobs=n_jobs, cv=2).fit(*data)
    assert 0 <= search.best_score_ <= 1
    assert search.predict(data[0]).shape == (40,)


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.compiled)])
def test_grid_search_and_pipeline_of_clusters(data, n_jobs):
    pipeline = make_pipeline(StandardScaler(), KMeans(n_init=1, random_state=0))
    grid = {"kmeans__n_clusters": [2, 5], "kmeans__metric": ["euclidean", "cosine"]}
    search = GridSearchCV(pipeline, grid, n_jobs=n_jobs, cv=2).fit(*data)
    assert search.best_params_["kmeans__metric"] == "cosine"  # its distances are smaller
    assert search.predict(data[0]).shape == (40,)
    model = make_pipeline(KMeans(6, random_state=0), MLPClassifier(**SMALL)).fit(*data)
    assert model[1].n_features_in_ == 6


@pytest.mark.compiled
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_parallel_scores_are_serial_scores(data, backend):
    import joblib

    model = MLPClassifier(**{**SMALL, "max_iter": 20})
    alone = cross_val_score(model, *data, cv=4)
    with joblib.parallel_backend(backend, n_jobs=2):
        assert_array_equal(cross_val_score(model, *data, cv=4), alone)


def test_transform_in_a_pipeline(data):
    X, y = data
    hidden = MLPClassifier(**SMALL).fit(X, y)
    model = make_pipeline(MLPClassifier(**SMALL), MLPRegressor(**SMALL)).fit(X, y)
    assert_array_equal(model[0].transform(X), hidden.transform(X))
    assert model[1].n_features_in_ == 4


@pytest.mark.parametrize(("container", "type_"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
def test_set_output(data, container, type_):
    model = MLPRegressor(**SMALL).set_output(transform=container).fit(*data)
    frame = model.transform(data[0])
    assert isinstance(frame, type_)
    assert list(frame.columns) == [f"mlpregressor{i}" for i in range(4)] == list(model.get_feature_names_out())


@pytest.mark.parametrize(("container", "type_"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
def test_set_output_of_clusters(data, container, type_):
    model = KMeans(3, random_state=0).set_output(transform=container).fit(data[0])
    frame = model.transform(data[0])
    assert isinstance(frame, type_)
    assert list(frame.columns) == [f"kmeans{i}" for i in range(3)] == list(model.get_feature_names_out())
    assert_array_equal(frame.to_numpy().argmin(axis=1), model.labels_)
    assert isinstance(model.fit_transform(data[0]), type_)


def test_names_without_a_hidden_layer(data):
    X, y = pd.DataFrame(data[0], columns=["a", "b", "c"]), data[1]
    model = MLPClassifier((), max_iter=2).set_output(transform="pandas").fit(X, y)
    pd.testing.assert_frame_equal(model.transform(X), X)
    assert list(model.get_feature_names_out()) == ["a", "b", "c"]


class Recorder:
    """Notes what it is told, and asks to stop after some epochs."""

    task_name = "epoch"

    def __init__(self, stop_after=10**9):
        self.stop_after, self.events, self.predictions = stop_after, [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.events.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.events.append(("end", context.task_name, context.task_id))
        self.metadata = metadata
        if context.task_name == self.task_name:
            self.predictions.append(fitted_estimator.predict(X))
            assert fitted_estimator.n_iter_ == len(self.predictions)
        return context.task_name == self.task_name and context.task_id + 1 >= self.stop_after


class IterationRecorder(Recorder):
    """``Recorder`` of a clustering."""

    task_name = "iteration"


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_meet_every_epoch(data, solver):
    recorder = Recorder()
    model = MLPClassifier(**{**SMALL, "solver": solver}).set_callbacks(recorder)
    model.fit(*data, sample_weight=np.ones(40))
    epochs = [(kind, "epoch", i) for i in range(3) for kind in ("begin", "end")]
    assert recorder.events == ["setup", ("begin", "fit", 0), *epochs, ("end", "fit", 0), "teardown"]
    assert list(recorder.metadata) == ["sample_weight"]
    assert_array_equal(recorder.predictions[-1], model.predict(data[0]))


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_a_callback_stops_the_fit(data, solver):
    parameters = {**SMALL, "solver": solver, "warm_start": True}
    model = MLPRegressor(**parameters).set_callbacks(Recorder(stop_after=2)).fit(*data)
    assert model.n_iter_ == len(model.loss_curve_) == 2
    assert not model.converged_
    two = MLPRegressor(**{**parameters, "max_iter": 2}).fit(*data)
    assert_array_equal(model.parameters_, two.parameters_)


def test_callbacks_meet_every_iteration(data):
    recorder = IterationRecorder()
    model = KMeans(4, random_state=0).set_callbacks(recorder).fit(data[0], sample_weight=np.ones(40))
    iterations = [(kind, "iteration", i) for i in range(model.n_iter_) for kind in ("begin", "end")]
    assert recorder.events == ["setup", ("begin", "fit", 0), *iterations, ("end", "fit", 0), "teardown"]
    assert list(recorder.metadata) == ["sample_weight"]
    assert_array_equal(recorder.predictions[-1], model.labels_)
    silent = KMeans(4, random_state=0).fit(data[0], sample_weight=np.ones(40))
    assert_array_equal(silent.cluster_centers_, model.cluster_centers_)
    assert silent.inertia_ == model.inertia_


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_a_callback_stops_the_iterations(data, init):
    """Without a warning, and without further runs: who stops a fit knows that it was stopped."""
    parameters = {"n_clusters": 6, "init": init, "random_state": 0, "tol": 0}
    recorder = IterationRecorder(stop_after=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = KMeans(**parameters).set_callbacks(recorder).fit(data[0])
    assert len(recorder.predictions) == model.n_iter_ == 2
    assert not model.converged_
    two = KMeans(**parameters, max_iter=2, n_init=1).fit(data[0])
    assert_array_equal(model.cluster_centers_, two.cluster_centers_)
    assert_array_equal(model.labels_, two.labels_)
    assert model.inertia_ == two.inertia_


def test_the_clusters_that_a_callback_is_given_are_its_own(data):
    kept = []

    class Keeper(IterationRecorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            if context.task_name == "iteration":
                kept.append(fitted_estimator)
                fitted_estimator.cluster_centers_[:] = 0

    parameters = {"n_clusters": 4, "random_state": 0, "tol": 0}
    model = KMeans(**parameters).set_callbacks(Keeper()).fit(data[0])
    assert len(kept) == model.n_iter_ > 1
    assert_array_equal(model.cluster_centers_, KMeans(**parameters).fit(data[0]).cluster_centers_)
    one = KMeans(**parameters, max_iter=1).fit(data[0])
    assert kept[0].inertia_ == one.inertia_
    assert_array_equal(kept[0].labels_, one.labels_)
    assert_array_equal(kept[0].inertia_curve_, one.inertia_curve_)


def test_what_a_callback_is_given_is_its_own(data):
    kept = []

    class Keeper(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            kept.append(fitted_estimator)

    model = MLPClassifier(**SMALL, early_stopping=True, warm_start=True).set_callbacks(Keeper()).fit(*data)
    first, last = kept[0], model.parameters_.copy()
    one = MLPClassifier(**{**SMALL, "max_iter": 1}, early_stopping=True).fit(*data)
    assert_array_equal(first.parameters_, one.parameters_)
    first.parameters_[:] = 0
    first.set_callbacks().set_params(max_iter=1).fit(*data)
    assert_array_equal(model.parameters_, last)
    assert len(model.loss_curve_) == 3


def test_a_failing_callback_does_not_hide_and_leaves_the_model_of_its_epoch(data):
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            if context.task_id == 1:
                raise RuntimeError("callback failed")

    failing = Failing()
    model = MLPClassifier(**SMALL).fit(*data).set_callbacks(failing)
    with pytest.raises(RuntimeError, match="callback failed"):
        model.fit(*data)
    assert failing.events[-1] == "teardown"
    assert model.n_iter_ == len(model.loss_curve_) == 2
    assert_array_equal(model.parameters_, MLPClassifier(**{**SMALL, "max_iter": 2}).fit(*data).parameters_)
    whole = MLPClassifier(**SMALL).fit(*data)  # and what was left to do is done, if asked for
    model.set_callbacks().set_params(warm_start=True).fit(*data)
    assert_array_equal(model.parameters_, whole.parameters_)


def test_a_failing_callback_leaves_clusters_as_they_are_by_then(data):
    class Failing(IterationRecorder):
        def on_fit_task_end(self, estimator, context):
            self.events.append(context.task_name)
            if self.events.count("iteration") == 2:
                raise RuntimeError("callback failed")

    model = KMeans(3, random_state=0).fit(data[0])
    failing = Failing()
    with pytest.raises(RuntimeError, match="callback failed"):
        model.set_params(n_clusters=5, tol=0).set_callbacks(failing).fit(data[0])
    assert failing.events[-1] == "teardown"
    two = KMeans(5, random_state=0, tol=0, max_iter=2).fit(data[0])
    for name in ("cluster_centers_", "labels_", "inertia_", "n_iter_", "converged_", "inertia_curve_"):
        assert_array_equal(getattr(model, name), getattr(two, name))


def test_scikit_learns_scoring_monitor(data):
    monitor = ScoringMonitor(scoring="neg_log_loss")
    model = MLPClassifier(**SMALL).set_callbacks(monitor).fit(*data)
    log = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in log] == [0, 1, 2]
    assert_allclose(log[-1]["neg_log_loss"], model.loss_curve_[-1] * -1, rtol=0.2)


def test_scikit_learns_progress_bar(data):
    pytest.importorskip("rich.progress")
    from sklearn.callback import ProgressBar

    assert MLPClassifier(**SMALL).set_callbacks(ProgressBar()).fit(*data).n_iter_ == 3
    assert KMeans(3, random_state=0).set_callbacks(ProgressBar()).fit(data[0]).converged_


def test_callbacks_of_a_search_reach_the_network(data):
    class Propagated(Recorder):
        max_propagation_depth = None

        def on_fit_task_end(self, estimator, context):
            self.events.append(context.task_name)

    recorder = Propagated()
    GridSearchCV(MLPClassifier(**SMALL), {"alpha": [0.1]}, cv=2).set_callbacks(recorder).fit(*data)
    assert recorder.events.count("epoch") == 3 * 3  # two folds and the last fit


@pytest.mark.parametrize("on_terminal", [False, True])
def test_progress_line(data, capsys, monkeypatch, on_terminal):
    monkeypatch.setattr("gdl._progress.SECONDS_ELSEWHERE", 0.0)
    monkeypatch.setattr("gdl._progress.SECONDS_ON_TERMINAL", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: on_terminal, raising=False)
    MLPClassifier(**SMALL, verbose=True, early_stopping=True).fit(*data)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("\r" in err) == on_terminal
    lines = err.replace("\r", "\n").split("\n")
    assert any("left" in line and "epoch 2/3 [#############.......]" in line for line in lines)
    assert "  loss " in lines[-2]
    assert "  validation score " in lines[-2]
    assert lines[-2].startswith("epoch 3/3 [####################]")
    assert "\x1b" not in err


def test_quiet_by_default(data, capsys):
    MLPClassifier(**SMALL).fit(*data)
    assert capsys.readouterr() == ("", "")

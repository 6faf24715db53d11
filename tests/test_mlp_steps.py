"""Training one step at a time: the same bits as ``fit``, all numbers in sight, and every change in force."""

import pickle
import pkgutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
from naive import central_difference
from numpy.testing import assert_array_equal

from gdl import MLPClassifier, MLPRegressor
from gdl._lbfgs import LBFGS
from gdl.training import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (6,), "batch_size": 16, "learning_rate_init": 0.02, "random_state": 3, "max_iter": 4}
CASES = {
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd"},
    "adam": {"solver": "adam"},
    "adamw": {"solver": "adamw"},
    "rmsprop": {"solver": "rmsprop"},
    "lbfgs": {"solver": "lbfgs", "max_iter": 12, "tol": 1e-9},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    "cosine": {"learning_rate": "cosine"},
    "one_cycle": {"learning_rate": "one_cycle", "solver": "sgd"},
    "dropout": {"dropout": 0.3, "activation": "gelu", "hidden_layer_sizes": (6, 5)},
    "clipped": {"max_grad_norm": 0.1},
    "no intercepts": {"fit_intercept": False},
    "no shuffle": {"shuffle": False},
    "linear": {"hidden_layer_sizes": ()},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 1, "tol": 0.3, "validation_fraction": 0.3},
    "converges": {"n_iter_no_change": 1, "tol": 0.3},
}


@pytest.fixture
def data(rng):
    X = rng.standard_normal((60, 4))
    return X, (X[:, 0] + X[:, 1] ** 2 > 1).astype(int) + (X[:, 2] > 0.5)


def new(case="adam", **changes):
    return MLPClassifier(**{**SMALL, **CASES[case], **changes})


def assert_same(one, other):
    assert_array_equal(one.parameters_, other.parameters_)
    for name in (
        *("loss_curve_", "validation_scores_", "validation_loss_curve_", "t_", "loss_", "best_loss_", "n_iter_"),
        *("best_validation_score_", "learning_rate_", "converged_"),
    ):
        assert getattr(one, name) == getattr(other, name), name
    assert_array_equal(one._training.moments, other._training.moments)
    assert_array_equal(one._training.order, other._training.order)
    states = (model._training.random_state.get_state() for model in (one, other))
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))
    for pair, same in zip(one._training.curvature, other._training.curvature, strict=True):
        assert_array_equal(pair, same)


def look(step):
    """Read everything."""
    numbers = [step.loss, step.gradient, step.inputs, step.targets, step.parameters, step.learning_rate, repr(step)]
    return [*numbers, *step.activations, *step.deltas, *step.gradients, *step.moments, *step.dropout_masks]


BODIES = {
    "empty": lambda step: None,
    "predict": lambda step: step.predict(),
    "predict, compare": lambda step: (step.predict(), step.compare()),
    "all parts": lambda step: (step.predict(), step.compare(), step.learn()),
    "learn": lambda step: step.learn(),
    "parts twice": lambda step: (step.predict(), step.compare(), step.predict(), step.compare()),
    "look": look,
    "look after": lambda step: (step.learn(), look(step)),
    "now and then": lambda step: look(step) if step.number % 3 == 1 else None,
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("case", CASES)
def test_steps_are_a_fit(data, case, body):
    stepped = new(case)
    for step in stepped.steps(*data):
        BODIES[body](step)
    assert_same(stepped, new(case).fit(*data))


@pytest.mark.parametrize("cases", [("adam", "dropout"), ("nesterov", "lbfgs"), ("linear", "adam")])
def test_loops_in_turns_do_not_disturb_each_other(data, cases):
    models = [new(case, hidden_layer_sizes=(5 + 40 * k,)) for k, case in enumerate(cases)]
    loops = [model.steps(*data) for model in models]
    for step, other in zip(*loops, strict=False):
        step.predict()
        other.predict()
        step.compare()
    for loop in loops:
        for _ in loop:
            pass
    for k, case in enumerate(cases):
        assert_same(models[k], new(case, hidden_layer_sizes=(5 + 40 * k,)).fit(*data))


@pytest.mark.parametrize("case", ["adam", "no shuffle", "lbfgs"])
@pytest.mark.parametrize("way", ["fit", "partial_fit", "steps"])
def test_a_loop_over_other_samples_than_the_model_s_is_refused(data, case, way):
    """Their rows would be looked up in arrays of another length."""
    X, y = data
    if case == "lbfgs" and way == "partial_fit":
        pytest.skip("L-BFGS has none")
    model = new(case, warm_start=True)
    loop = model.steps(X[:40], y[:40])
    step = next(loop)
    again = getattr(model, way)(X, y)
    if way == "steps":
        next(again)
    fitted = model.parameters_.copy()
    for call in (step.predict, step.compare, step.learn, lambda: step.gradient, lambda: next(loop)):
        with pytest.raises(RuntimeError, match="The model was fitted anew since this loop began"):
            call()
    assert step.batch.max() < 40
    assert_array_equal(model.parameters_, fitted)


@pytest.mark.parametrize("case", CASES)
def test_epochs_are_a_fit(data, case):
    fitted, by_epoch = new(case).fit(*data), new(case)
    epochs = list(by_epoch.epochs(*data))
    assert_same(by_epoch, fitted)
    assert [epoch.loss for epoch in epochs] == fitted.loss_curve_
    assert [epoch.number for epoch in epochs] == list(range(fitted.n_iter_))
    if case == "early stopping":
        assert [epoch.validation_score for epoch in epochs] == fitted.validation_scores_
    if case != "lbfgs":
        assert all(len(epoch.step_losses) == len(epochs[0].step_losses) > 1 for epoch in epochs)


@pytest.mark.parametrize("body", ["empty", "look", "all parts"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_and_validation_data(data, rng, dtype, body):
    X, y = data[0].astype(dtype), data[1]
    weights = rng.uniform(0, 2, 60) * (np.arange(60) % 3 > 0)
    weights[:16] = 0  # without shuffling, a whole batch teaches nothing
    arguments = X, y, weights, (X[:9], y[:9])
    for case in ("adam", "no shuffle"):
        stepped = new(case)
        for step in stepped.steps(*arguments):
            BODIES[body](step)
        assert_same(stepped, new(case).fit(*arguments))


@pytest.mark.compiled
@pytest.mark.parametrize("body", ["empty", "look", "all parts"])
def test_wide_networks_are_shared_among_threads(rng, body):
    X, y = rng.standard_normal((600, 70)).astype(np.float32), np.arange(600) % 10
    parameters = {"hidden_layer_sizes": (200, 150), "max_iter": 2, "random_state": 0}
    stepped = MLPClassifier(**parameters)
    for step in stepped.steps(X, y):
        BODIES[body](step)
    assert_same(stepped, MLPClassifier(**parameters).fit(X, y))


@pytest.mark.parametrize("case", CASES)
def test_left_at_any_step_and_gone_on_with(data, case):
    """Between any two parts of a step in turn, at every step, every third time through a pickle."""
    fitted = new(case).fit(*data)
    n_steps = sum(1 for _ in new(case).steps(*data))
    for last in range(n_steps):
        model = new(case, warm_start=True)
        for at, step in enumerate(model.steps(*data)):
            if at == last:
                for part in (step.predict, step.compare, step.learn)[: last % 5 % 4]:
                    part()
                break
        if last % 3 == 0:
            model = pickle.loads(pickle.dumps(model))
        assert model.predict(data[0]).shape == (60,)
        model.fit(*data)
        assert_same(model, fitted)


@pytest.mark.parametrize("how", ["steps", "epochs", "again"])
def test_other_ways_to_go_on(data, how):
    model = new("dropout", warm_start=True)
    steps = model.steps(*data)
    for step in steps:
        if step.number == 5:
            break
    for item in steps if how == "again" else getattr(model, how)(*data):
        assert item is not step
    assert_same(model, new("dropout").fit(*data))


def test_a_finished_fit_is_followed_by_another(data):
    model = new(warm_start=True)
    for _ in range(2):
        for step in model.steps(*data):
            step.learn()
    assert model.n_iter_ == 4
    twice = new(warm_start=True).fit(*data).fit(*data)
    assert_same(model, twice)


def test_another_max_iter_is_another_fit(data):
    model = new(warm_start=True)
    next(iter(model.steps(*data)))
    model.set_params(max_iter=7).fit(*data)
    assert len(model.loss_curve_) == 7


@pytest.mark.compiled
def test_going_on_in_another_process(data, tmp_path):
    model = new("dropout", warm_start=True)
    for step in model.steps(*data):
        if step.number == 6:
            break
    (tmp_path / "half").write_bytes(pickle.dumps((model, data)))
    code = (
        "import pickle, sys; m, data = pickle.load(open(sys.argv[1], 'rb'))\n"
        "pickle.dump(m.fit(*data), open(sys.argv[2], 'wb'))"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, tmp_path / "half", tmp_path / "whole"], check=True)
    assert_same(pickle.loads((tmp_path / "whole").read_bytes()), new("dropout").fit(*data))


class TestWhatThereIsToSee:
    def test_parts_one_after_the_other(self, data):
        X, y = data
        model = new("dropout", alpha=0.1)
        step = next(iter(model.steps(X, y)))
        assert (step.epoch, step.position, step.number) == (0, 0, 0)
        assert_array_equal(step.inputs, X[step.batch])
        assert_array_equal(step.targets[:, 0], y[step.batch])
        prediction = step.predict()
        assert prediction.shape == (16, 3)
        np.testing.assert_allclose(prediction.sum(axis=1), 1)
        assert [A.shape for A in step.activations] == [(16, 6), (16, 5), (16, 3)]
        for A, mask in zip(step.activations, step.dropout_masks, strict=False):
            assert len(step.dropout_masks) == 2
            assert set(np.unique(mask)) == {0, 1 / 0.7}
            assert (A[mask == 0] == 0).all()
        before = step.parameters.copy()
        loss = step.compare()
        squares = sum((W**2).sum() for W in model.coefs_)
        by_hand = -np.log(prediction[np.arange(16), y[step.batch]]).mean() + 0.05 * squares / 16
        assert loss == step.loss == pytest.approx(by_hand, rel=1e-12)
        np.testing.assert_allclose(step.deltas[-1], (prediction - np.eye(3)[y[step.batch]]) / 16, atol=1e-15)
        weights, intercepts = step.gradients[-1]
        A = step.activations[-2]
        np.testing.assert_allclose(weights, A.T @ step.deltas[-1] + 0.1 / 16 * model.coefs_[-1], atol=1e-15)
        np.testing.assert_allclose(intercepts, step.deltas[-1].sum(axis=0), atol=1e-15)
        assert_array_equal(step.parameters, before)
        after = step.learn()
        assert (after != before).any()
        assert after is step.parameters
        assert np.shares_memory(after, model.parameters_)
        np.testing.assert_allclose(step.moments[0], 0.1 * step.gradient, rtol=1e-14)

    @pytest.mark.parametrize("case", ["adam", "no intercepts", "lbfgs"])
    def test_the_gradient_is_that_of_the_loss(self, data, case):
        step = next(iter(new(case, activation="tanh", alpha=0.1).steps(*data)))
        gradient = step.gradient.copy()

        def loss():
            step.predict()
            return step.compare()

        expected = central_difference(loss, step.parameters)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)

    def test_arrays_are_views(self, data):
        step = next(iter(new().steps(*data)))
        step.prediction[0] = step.deltas[0][0] = step.gradients[1].W[0] = step.moments[0, 0] = 7
        assert step.prediction[0, 0] == step.deltas[0][0, 0] == step.gradients[1].W[0, 0] == step.moments[0, 0] == 7
        assert step.gradients[0].W.base is not None
        assert new("no intercepts").steps(*data).__next__().gradients[0].b is None

    def test_losses_are_those_of_the_epoch(self, data):
        model = new()
        losses = [step.loss for step in model.steps(*data)]
        sizes = [16, 16, 16, 12]
        curve = [np.average(losses[at : at + 4], weights=sizes) for at in range(0, 16, 4)]
        np.testing.assert_allclose(model.loss_curve_, curve, rtol=1e-14)

    def test_steps_of_lbfgs(self, data):
        model = new("lbfgs")
        losses, pairs = [], []
        for step in model.steps(*data):
            losses.append(step.loss)
            pairs.append(len(step.moments))
            assert_array_equal(step.batch, np.arange(60))
            assert [A.shape for A in step.activations] == [(60, 6), (60, 3)]
            assert step.learning_rate is None
            np.testing.assert_allclose(step.prediction, model.predict_proba(data[0]), rtol=1e-12)
        assert pairs == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10]
        assert losses[1:] == model.loss_curve_[:-1]
        with pytest.raises(AttributeError, match="has no learning rate"):
            model.learning_rate_ = 0.1
        with pytest.raises(AttributeError, match="has no learning rate"):
            next(iter(new("lbfgs").steps(*data))).learning_rate = 0.1

    @pytest.mark.parametrize("case", ["adam", "lbfgs"])
    def test_nothing_is_predicted_for_who_does_not_look(self, data, monkeypatch, case):
        counts, model = [], new(case)
        for name in ("predict_batch", "compare_batch", "learn_batch"):
            monkeypatch.setattr(f"gdl.kernels.cpu.{name}", lambda *_, name=name: counts.append(name))
        n_steps = sum(1 for _ in model.steps(*data))
        assert n_steps == (12 if case == "lbfgs" else 16)
        assert counts == []
        assert_same(model, new(case).fit(*data))

    def test_the_model_is_fitted_all_along(self, data):
        model = new()
        seen = []
        for step in model.steps(*data):
            assert model.predict(data[0]).shape == (60,)
            assert_array_equal(model.parameters_, step.parameters)
            seen.append((model.n_iter_, len(model.loss_curve_), model.t_))
        assert seen == [(epoch, epoch, 60 * epoch) for epoch in range(4) for _ in range(4)]

    def test_the_epoch_ends_with_its_last_step(self, data):
        model = new()
        for step in model.steps(*data):
            step.learn()
            if step.position == 3:
                break
        assert model.n_iter_ == len(model.loss_curve_) == 1
        assert model.loss_ == model.loss_curve_[0]


class TestChanges:
    @pytest.mark.parametrize("case", ["adam", "lbfgs"])
    @pytest.mark.parametrize("through", ["step.parameters", "model.parameters_", "model.coefs_"])
    def test_parameters(self, data, through, case):
        model = new(case)
        steps = model.steps(*data)
        step = next(steps)
        if through == "model.coefs_":
            model.coefs_[0] = np.ones((4, 6))
            model.intercepts_[0][:] = 1
        else:
            vector = step.parameters if through == "step.parameters" else model.parameters_
            vector[:30] = 1
        assert step.parameters[:30].tolist() == [1] * 30
        np.testing.assert_allclose(
            step.activations[0], np.maximum(data[0][step.batch].sum(axis=1, keepdims=True) + 1, 0).repeat(6, 1)
        )
        if case == "lbfgs":
            start = step.parameters.copy()
            for _ in steps:
                pass
            fresh = new(case, init=start).fit(*data)
            assert_array_equal(model.parameters_, fresh.parameters_)

    @pytest.mark.parametrize("case", ["sgd", "lbfgs"])
    def test_gradients(self, data, case):
        model = new(case)
        step = next(iter(model.steps(*data)))
        step.compare()
        before = step.parameters.copy()
        frozen = np.arange(len(before)) % 2 == 0
        step.gradient[frozen] = 0
        step.learn()
        assert_array_equal(step.parameters[frozen], before[frozen])
        assert (step.parameters[~frozen] != before[~frozen]).any()

    @pytest.mark.parametrize("through", ["step", "model"])
    @pytest.mark.parametrize("body", ["empty", "look"])
    def test_learning_rate(self, data, through, body):
        """By hand: gradient descent with a rate that is set in the loop."""
        model, by_hand = new("sgd", alpha=0.0), None
        for step in model.steps(*data):
            if by_hand is not None:
                np.testing.assert_allclose(step.parameters, by_hand, rtol=1e-12)
            rate = 0.01 * (1 + step.number % 3)
            if through == "step":
                step.learning_rate = rate
            else:
                model.learning_rate_ = rate
            assert step.learning_rate == model.learning_rate_ == rate
            BODIES[body](step)
            by_hand = step.parameters - rate * step.gradient if body == "look" else None
        assert model.learning_rate_ == rate

    @pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "invscaling"])
    def test_a_schedule_goes_on_from_a_rate_that_was_set(self, data, schedule):
        rates = {}
        for factor in (1.0, 0.5):
            model = new("sgd", learning_rate=schedule)
            rates[factor] = []
            for step in model.steps(*data):
                if step.number == 2:
                    step.learning_rate *= factor
                rates[factor].append(step.learning_rate)
        np.testing.assert_allclose(rates[0.5][:2], rates[1.0][:2], rtol=1e-12)
        np.testing.assert_allclose(rates[0.5][2:], np.multiply(rates[1.0][2:], 0.5), rtol=1e-12)

    def test_a_change_that_is_undone_leaves_no_trace(self, data):
        model = new("dropout")
        for step in model.steps(*data):
            kept = step.parameters.copy()
            step.parameters[7] += 1
            changed = step.compare() if step.number % 2 else step.predict().copy()
            step.parameters[:] = kept
            step.predict()
            assert changed is not None
        assert_same(model, new("dropout").fit(*data))

    @pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf])
    def test_a_rate_that_no_step_can_take(self, data, rate):
        model = new()
        next(iter(model.steps(*data)))
        with pytest.raises(ValueError, match=r"learning_rate_=.* must be a finite number of 0 or more"):
            model.learning_rate_ = rate
        assert model.learning_rate_ == 0.02


class TestOutOfTurn:
    def test_nothing_happens_before_the_first_step(self, data):
        model = new().fit(*data)
        before = model.parameters_
        model.steps(*data)
        assert model.parameters_ is before

    @pytest.mark.parametrize("method", ["steps", "epochs"])
    def test_arguments_are_checked_at_once(self, data, method):
        model = new().fit(*data)
        before = model.parameters_
        with pytest.raises(ValueError, match="NaN"):
            getattr(model, method)(data[0] * np.nan, data[1])
        with pytest.raises(ValueError, match="max_iter"):
            getattr(new(max_iter=0), method)(*data)
        assert model.parameters_ is before

    def test_a_step_that_has_passed(self, data):
        steps = iter(new().steps(*data))
        first = next(steps)
        loss = first.loss
        next(steps)
        assert first.loss == loss
        for read in ("prediction", "deltas", "gradient", "gradients", "dropout_masks", "activations"):
            with pytest.raises(RuntimeError, match="Step 0 has passed"):
                getattr(first, read)

    @pytest.mark.parametrize("part", ["predict", "compare", "learn"])
    def test_a_step_learns_once(self, data, part):
        step = next(iter(new().steps(*data)))
        step.learn()
        with pytest.raises(RuntimeError, match=f"Step 0 has learned already and cannot {part} again"):
            getattr(step, part)()
        with pytest.raises(RuntimeError, match="cannot change its learning rate again"):
            step.learning_rate = 1.0

    def test_a_loop_that_another_fit_has_overtaken(self, data):
        model = new()
        steps = iter(model.steps(*data))
        next(steps)
        model.fit(*data)
        with pytest.raises(RuntimeError, match="fitted anew"):
            next(steps)

    def test_a_loop_that_has_ended_stays_so(self, data):
        steps = new().steps(*data)
        assert len(list(steps)) == 16
        assert list(steps) == []

    @pytest.mark.compiled  # NumPy would warn of the overflow
    @pytest.mark.parametrize("body", ["empty", "look"])
    def test_divergence_ends_the_loop(self, data, body):
        parameters = {"solver": "sgd", "learning_rate_init": 1e200, "max_iter": 9, "hidden_layer_sizes": (5,)}
        fitted, stepped = (MLPRegressor(**parameters, random_state=0) for _ in range(2))
        with pytest.warns(UserWarning, match="Training diverged in epoch"):
            fitted.fit(*data)
        with pytest.warns(UserWarning, match="Training diverged in epoch"):  # noqa: PT031
            for step in stepped.steps(*data):
                BODIES[body](step)
        assert_same(stepped, fitted)
        assert np.isfinite(stepped.parameters_).all()

    @pytest.mark.parametrize("case", ["adam", "lbfgs"])
    def test_ctrl_c_in_the_body(self, data, case):
        model = new(case, warm_start=True)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            for step in model.steps(*data):
                if step.number == 5:
                    signal.raise_signal(signal.SIGINT)
        assert_same(model.fit(*data), new(case).fit(*data))

    def test_ctrl_c_at_the_end_of_an_epoch_is_not_swallowed(self, data, monkeypatch):
        """While the validation samples are judged, and for L-BFGS while the first objective is taken."""
        for case, driver, name in (("adam", Trainer, "finish_epoch"), ("lbfgs", LBFGS, "begin")):
            model, whole = new(case, warm_start=True), getattr(driver, name)

            def pressed(*arguments, whole=whole):
                whole(*arguments)
                signal.raise_signal(signal.SIGINT)

            with monkeypatch.context() as patch:
                patch.setattr(driver, name, pressed)
                with pytest.raises(KeyboardInterrupt):
                    list(model.steps(*data))
            assert_same(model.fit(*data), new(case).fit(*data))

    @pytest.mark.parametrize(
        ("case", "place"),
        [
            ("lbfgs", "gdl._lbfgs.LBFGS.begin"),
            ("lbfgs", "gdl.kernels.cpu.loss_and_gradient"),
            ("cosine", "gdl.training.Trainer._scheduled"),
        ],
    )
    def test_the_loop_goes_on_after_ctrl_c(self, data, monkeypatch, case, place):
        """At the end and in the middle of L-BFGS's first evaluation, and in the rates of the second epoch."""
        monkeypatch.setattr("gdl._lbfgs.rows_in_a_run", lambda *_: 16)
        model, whole = new(case), pkgutil.resolve_name(place)
        steps = iter(model.steps(*data))
        for _ in range(0 if case == "lbfgs" else 4):
            next(steps)

        def pressed(*arguments):
            result = whole(*arguments)
            signal.raise_signal(signal.SIGINT)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(place, pressed)
            with pytest.raises(KeyboardInterrupt):
                next(steps)
        for _ in steps:
            pass
        assert_same(model, new(case).fit(*data))

    @pytest.mark.parametrize("diverges", [False, True])
    def test_ctrl_c_between_a_step_and_its_count(self, data, diverges):
        """The step is neither lost nor taken twice, and if it diverged, so has the fit."""
        model = new()
        steps = model.steps(*data)
        first = next(steps)
        epoch, training = steps._driver.epoch, model._training
        whole = epoch.train_steps

        def pressed(start, stop, step):
            loss = whole(start, stop, step)
            if diverges:
                training.step_losses[start] = np.nan
            epoch.train_steps = whole
            signal.raise_signal(signal.SIGINT)
            return loss

        epoch.train_steps = pressed
        with pytest.raises(KeyboardInterrupt):
            next(steps)
        assert training.step == training.position == 1
        for part in (first.predict, first.compare, first.learn):
            with pytest.raises(RuntimeError, match="has learned already"):
                part()
        if diverges:
            with pytest.warns(UserWarning, match="diverged"):
                assert len(list(steps)) == 3
            assert model.loss_curve_ == [np.inf]
            assert np.isfinite(model.parameters_).all()
        else:
            assert len(list(steps)) == 15
            assert_same(model, new().fit(*data))

    def test_warnings_are_those_of_fit(self, data):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in new().steps(*data):
                pass
        assert [str(w.message)[:40] for w in caught] == ["Stochastic Optimizer: Maximum iterations"]
        assert caught[0].filename == __file__

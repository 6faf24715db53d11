"""Numbers that the notebooks of *Grokking Deep Learning* print, computed with gdl's kernels.

Conventions of the book: the error is the squared error of a sample, summed over outputs and neither
halved nor averaged; the gradient leaves out its factor 2 (chapter 13's automatic gradients keep it), and
belongs to the sum over the batch. Weights are one row an output up to chapter 5, (n_in, n_out) later.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from problems import Problem, make_rule, make_state

from gdl.kernels import DEVICES, layout, load

DATA = json.loads((Path(__file__).parent / "data" / "book_cases.json").read_text())
CASES = {case["id"]: case for case in DATA["cases"]}
# Last digits depend on the order of a sum and on fused operations; an error is the square of a difference
# of numbers near 1, whose own rounding shows once they are close.
PRINTED = {"rtol": 1e-12, "atol": 1e-15}
PRINTED_8_DIGITS = {"rtol": 0, "atol": 5e-9}


@pytest.fixture(params=["reference", *DEVICES])
def kernels(request):
    return load(request.param)


def column(values):
    return np.array(values, float).reshape(-1, 1)


def row(values):
    return np.array(values, float).reshape(1, -1)


def network(weights, X, Y, *, hidden="identity", intercepts=False):
    """A network with given weights (n_in, n_out), biases of 0, and the data to train it on."""
    widths = [len(weights[0]), *(len(W[0]) for W in weights)]
    layers = layout.layer_table(widths, [hidden] * (len(weights) - 1) + ["identity"], intercepts)
    parameters = np.zeros(layout.n_parameters(layers))
    for view, W in zip(layout.weight_views(parameters, layers), weights, strict=True):
        view[:] = W
    return Problem(X, Y, np.empty(0), layers, make_rule(), make_state(layers, parameters, len(X)))


def forward(kernels, X, W, b=None, activation="identity"):
    """The output of one layer, by its kernel."""
    out = np.full((len(X), W.shape[1]), np.nan)
    b = np.zeros(W.shape[1]) if b is None else b
    kernels.dense_forward(X, W, b, layout.ACTIVATIONS[activation], out)
    return out


def book_error(kernels, P, Y):
    """Every sample's error as the book counts it, and delta."""
    losses, delta = np.empty(len(P)), np.full_like(P, np.nan)
    kernels.squared_error(P, Y, losses, delta)
    return 2 * P.shape[1] * losses, delta


@pytest.mark.parametrize("case", ["3.1", "3.2", "3.3", "3.4"])
def test_one_layer(kernels, case):
    case = CASES[case]
    W = np.ascontiguousarray(np.array(case["W"], float).T)
    np.testing.assert_allclose(forward(kernels, row(case["x"]), W), row(case["y"]), **PRINTED)


def test_two_layers(kernels):
    case = CASES["3.5"]
    problem = network([np.transpose(W) for W in case["W"]], row(case["x"]), np.zeros((1, 3)))
    np.testing.assert_allclose(problem.predict(kernels), row(case["y"]), **PRINTED)
    problem.step(kernels)
    np.testing.assert_allclose(problem.outputs(1)[0], row(case["hidden_computed"]), **PRINTED)


def test_errors(kernels):
    case = CASES["4.compare"]
    P = np.concatenate([forward(kernels, row(x), row(w)) for x, w in zip(case["x"], case["weight"], strict=True)])
    error, _ = book_error(kernels, P, column(case["goal"]))
    np.testing.assert_allclose(error, case["error"], **PRINTED)


def test_hot_and_cold(kernels):
    """Up or down by a step, whichever errs less; the last error is the square of 3e-14."""
    case = CASES["4.hotcold"]
    x, goal, weight, step = row(case["x"]), row(case["goal"]), case["weight"], case["step"]

    def evaluate(weight):
        P = forward(kernels, x, row(weight))
        return float(book_error(kernels, P, goal)[0][0]), float(P[0, 0])

    errors, predictions = [], []
    for _ in range(case["iterations"]):
        error, prediction = evaluate(weight)
        errors.append(error)
        predictions.append(prediction)
        up, down = evaluate(weight + step)[0], evaluate(weight - step)[0]
        weight += step if up < down else -step if down < up else 0
    np.testing.assert_allclose(errors, case["published"]["error"], 1e-12)
    np.testing.assert_allclose(predictions, case["published"]["pred"], 1e-12)


@pytest.mark.parametrize("case", ["4.gd[10]", "4.gd[14]", "4.gd[20]", "4.gd[23]", "4.gd[24]"])
def test_gradient_descent_on_one_weight(kernels, case):
    """Including the run that diverges and the smaller alpha that cures it."""
    case = CASES[case]
    problem = network([row(case["weight"])], row(case["x"]), row(case["goal"]))
    for error, prediction in zip(case["published"]["error"], case["published"]["pred"], strict=True):
        loss = problem.step(kernels, learning_rate=float(case["alpha"]))
        np.testing.assert_allclose(2 * loss, error, **PRINTED)
        np.testing.assert_allclose(problem.outputs(1)[0], [[prediction]], **PRINTED)


def test_three_weights(kernels):
    case = CASES["5.multi_in"]
    problem = network([column(case["W0"])], row(case["x"]), row(case["y"]))
    published = case["published"]
    for t in range(3):
        np.testing.assert_allclose(problem.state.parameters, published["weights_before"][t], **PRINTED)
        error = 2 * problem.step(kernels, learning_rate=case["alpha"])
        np.testing.assert_allclose(error, published["error"][t], **PRINTED)
        np.testing.assert_allclose(problem.outputs(1)[0], [[published["pred"][t]]], **PRINTED)
        np.testing.assert_allclose(problem.deltas(1)[0], [[published["delta"][t]]], **PRINTED)
        np.testing.assert_allclose(problem.state.gradients, published["weight_deltas"][t], **PRINTED)


def test_a_frozen_weight(kernels):
    """The kernels one by one, with a hand in between."""
    case = CASES["5.freeze"]
    x, y, W, dW = row(case["x"]), row(case["y"]), column(case["W0"]), np.empty((3, 1))
    published = case["published"]
    for t in range(3):
        np.testing.assert_allclose(W[:, 0], published["weights_before"][t], **PRINTED)
        P = forward(kernels, x, W)
        error, delta = book_error(kernels, P, y)
        kernels.dense_weight_gradient(x, delta, dW)
        dW[case["frozen"]] = 0
        np.testing.assert_allclose([P[0, 0], error[0]], [published["pred"][t], published["error"][t]], **PRINTED)
        np.testing.assert_allclose(delta, [[published["delta"][t]]], **PRINTED)
        np.testing.assert_allclose(dW[:, 0], published["weight_deltas"][t], **PRINTED)
        kernels.sgd_step(dW.ravel(), case["alpha"], W.reshape(-1))


def test_several_outputs(kernels):
    case = CASES["5.multi_out"]
    problem = network([row(case["W0"])], row(case["x"]), row(case["y"]))
    problem.step(kernels, learning_rate=case["alpha"])
    np.testing.assert_allclose(problem.state.gradients, case["weight_deltas"], **PRINTED)
    np.testing.assert_allclose(problem.state.parameters, case["weights_after"], **PRINTED)


def test_several_inputs_and_outputs(kernels):
    case = CASES["5.in_out"]
    problem = network([np.transpose(case["W0"])], row(case["x"]), row(case["y"]))
    problem.step(kernels, learning_rate=case["alpha"])
    np.testing.assert_allclose(problem.state.parameters.reshape(3, 3).T, case["weights_after"], **PRINTED)


def test_one_streetlight(kernels):
    case = CASES["6.one"]
    problem = network([column(case["W0"])], row(case["x"]), row(case["y"]))
    for error, prediction in zip(case["published"]["error"], case["published"]["pred"], strict=True):
        loss = problem.step(kernels, learning_rate=case["alpha"])
        np.testing.assert_allclose(2 * loss, error, **PRINTED)
        np.testing.assert_allclose(problem.outputs(1)[0], [[prediction]], **PRINTED)


def test_all_streetlights(kernels):
    """Forty passes, light by light: the predictions step by step, the errors in one epoch."""
    case = CASES["6.all"]
    X, Y = np.array(case["x"], float), column(case["y"])
    order = np.tile(np.arange(6), case["epochs"])
    problem = network([column(case["W0"])], X, Y)
    predictions = []
    for light in order:
        problem.step(kernels, np.array([light]), case["alpha"])
        predictions.append(problem.outputs(1)[0].item())
    np.testing.assert_allclose(predictions, case["published_pred"], **PRINTED)
    again = network([column(case["W0"])], X, Y)
    errors = 2 * again.epoch(kernels, order, 1, case["alpha"]).reshape(-1, 6).sum(axis=1)
    np.testing.assert_allclose(errors, case["published_epoch_error"], **PRINTED)
    np.testing.assert_allclose(again.state.parameters, case["weights_end_computed"], **PRINTED)


def test_deep_network(kernels):
    case = CASES["6.deep"]
    X, Y = np.array(case["x"], float), column(case["y"])
    problem = network([case["W01"], column(case["W12"])], X, Y, hidden="relu")
    losses = problem.epoch(kernels, np.tile(np.arange(4), case["epochs"]), 1, case["alpha"])
    errors = 2 * losses.reshape(-1, 4).sum(axis=1)
    np.testing.assert_allclose(errors[9::10], case["published_error_epochs_10_20_to_60"], 1e-10)
    W01, W12 = layout.weight_views(problem.state.parameters, problem.layers)
    np.testing.assert_allclose(W01, case["W01_end_computed"], 1e-10)
    np.testing.assert_allclose(W12[:, 0], case["W12_end_computed"], 1e-10)


def test_one_backward_pass(kernels):
    case, X = CASES["6.bp1"], row(CASES["6.bp1"]["x"])
    computed = case["computed"]
    problem = network([case["W01"], column(case["W12"])], X, row(case["y"]), hidden="relu")
    error = 2 * problem.step(kernels, learning_rate=case["alpha"])
    np.testing.assert_allclose(error, computed["error"][0], 1e-12)
    A, P = problem.outputs(1)
    np.testing.assert_allclose(A, row(computed["layer_1"]), 1e-12)
    np.testing.assert_allclose(P, row(computed["layer_2"]), 1e-12)
    np.testing.assert_allclose(problem.deltas(1)[0], row(computed["delta_1"]), 1e-12)
    for vector, names in ((problem.state.gradients, ("wd01", "wd12")), (problem.state.parameters, ("w01", "w12"))):
        W01, W12 = layout.weight_views(vector, problem.layers)
        np.testing.assert_allclose(W01, computed[names[0]], 1e-12)
        np.testing.assert_allclose(W12[:, 0], computed[names[1]], 1e-12)


@pytest.mark.parametrize(
    ("case", "factor", "intercepts"), [("13.7a", 1, False), ("13.7b", 2, False), ("13.10", 2, True)]
)
def test_linear_networks(kernels, case, factor, intercepts):
    """A learning rate times 4 rows makes the step's mean the book's sum."""
    case = CASES[case]
    X, Y = np.array(case["x"], float), np.array(case["y"], float)
    problem = network([case["W01"], column(case["W12"])], X, Y, intercepts=intercepts)
    errors = [2 * 4 * problem.step(kernels, learning_rate=4 * factor * case["alpha"], step=t) for t in range(10)]
    np.testing.assert_allclose(errors, case["computed_loss_full"], 1e-9)
    np.testing.assert_allclose(errors, case["published_loss"], **PRINTED_8_DIGITS)


class Layer:
    """A dense layer out of the elementary kernels, that keeps what its backward pass needs."""

    def __init__(self, kernels, W, activation, *, intercept=True):
        self.kernels, self.activation, self.intercept = kernels, activation, intercept
        self.W = np.array(W, float)
        self.b = np.zeros(self.W.shape[1])

    def forward(self, X):
        self.X, self.A = X, forward(self.kernels, X, self.W, self.b, self.activation)
        return self.A

    def through_activation(self, dA):
        dZ = np.full_like(dA, np.nan)
        self.kernels.activation_gradient(self.A, self.A, dA, layout.ACTIVATIONS[self.activation], dZ)
        return dZ

    def input_gradient(self, dZ):
        dX = np.full_like(self.X, np.nan)
        self.kernels.dense_input_gradient(dZ, self.W, dX)
        return dX

    def learn(self, dZ, learning_rate):
        dW, db = np.full_like(self.W, np.nan), np.full_like(self.b, np.nan)
        self.kernels.dense_weight_gradient(self.X, dZ, dW)
        self.kernels.sgd_step(dW.reshape(-1), learning_rate, self.W.reshape(-1))
        if self.intercept:
            self.kernels.dense_bias_gradient(dZ, db)
            self.kernels.sgd_step(db, learning_rate, self.b)


def train_two_layers(kernels, case, X, first, last, loss):
    """Ten full-batch steps; ``loss(P)`` returns the error and the gradient by the last layer's z."""
    errors = []
    for _ in range(10):
        error, dZ = loss(last.forward(first.forward(X)))
        dA = last.input_gradient(dZ)
        last.learn(dZ, float(case["alpha"]))
        first.learn(first.through_activation(dA), float(case["alpha"]))
        errors.append(error)
    return errors


@pytest.mark.parametrize("case", ["13.12", "13.15"])
def test_squared_error_of_a_logistic_output(kernels, case):
    """The gradient goes through the output's activation too; 13.15 looks rows up by number, as one-hot rows do."""
    case = CASES[case]
    looked_up = case["id"] == "13.15"
    X = np.eye(len(case["W01"]))[case["x"]] if looked_up else np.array(case["x"], float)
    first = Layer(kernels, case["W01"], "tanh", intercept=not looked_up)
    last = Layer(kernels, column(case["W12"]), "logistic")

    def loss(P):
        error, delta = book_error(kernels, P, np.array(case["y"], float))
        return error.sum(), last.through_activation(2 * delta)

    errors = train_two_layers(kernels, case, X, first, last, loss)
    np.testing.assert_allclose(errors, case["computed_loss_full"], 1e-9)
    np.testing.assert_allclose(errors, case["published_loss"], **PRINTED_8_DIGITS)


def test_cross_entropy(kernels):
    """The error is the mean over rows, the gradient belongs to their sum."""
    case = CASES["13.16"]
    first = Layer(kernels, case["W01"], "tanh", intercept=False)
    last = Layer(kernels, case["W12"], "softmax")

    def loss(P):
        losses, dZ = np.empty(4), np.full_like(P, np.nan)
        kernels.log_loss(P, np.array(case["y"], float), losses, dZ)
        return losses.mean(), dZ

    errors = train_two_layers(kernels, case, np.eye(3)[case["x"]], first, last, loss)
    np.testing.assert_allclose(errors, case["computed_loss_full"], 1e-9)
    np.testing.assert_allclose(errors, case["published_loss"], 1e-9)


def test_every_case_is_computed():
    """The file holds nothing that no test above names."""
    source = Path(__file__).read_text()
    assert all(f'"{name}"' in source for name in CASES)
    assert len(CASES) == 26

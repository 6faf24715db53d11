"""Learning, as small as it gets: one knob, then three.

    python examples/streetlights.py

A model is a box of knobs. It predicts, compares its prediction with the truth, and turns the knobs. Here are two
ways to know how to turn them: to try both directions, and to ask the gradient. The printed numbers stand beside
those of the book that this project grew from (A. Trask, Grokking Deep Learning, chapters 4 and 6, and its notebooks).
"""

import warnings

import numpy as np

from gdl import MLPRegressor

warnings.simplefilter("ignore")  # the book's runs end before they have converged, and gdl would say so


def box_of_knobs(first_positions, learning_rate, n_epochs=1):
    """Return a network without hidden layers: its prediction is the inputs times the knobs, added up."""
    return MLPRegressor(
        hidden_layer_sizes=(),
        fit_intercept=False,
        init=first_positions,
        solver="sgd",
        momentum=0,
        alpha=0,
        learning_rate_init=learning_rate,
        batch_size=1,  # look at one example, learn from it, go on to the next
        shuffle=False,
        max_iter=n_epochs,
        n_iter_no_change=n_epochs,
    )


def print_beside(name, number, ours, published):
    """Print a number beside the published one."""
    print(f"  {name} {number:>4}   {float(ours)!r:<22} {published!r}")


def hot_and_cold():
    """Find one knob's position by trying: a little up, a little down, and keep what is warmer."""
    published = {0: 0.30250000000000005, 1: 0.3019502500000001, 2: 0.30140100000000003, 10: 0.29702500000000004}
    print("Hot and cold. One knob at 0.5, one input of 0.5; the truth is 0.8. Error of each try:")
    print("                 here                   published")

    # The first step of training, which we do not let go on: all we do is predict.
    step = next(box_of_knobs([0.5], learning_rate=1.0).steps([[0.5]], [0.8]))

    def error_at(position):
        step.parameters[0] = position
        return (step.predict()[0, 0] - 0.8) ** 2

    knob = 0.5
    for n_tries in range(1101):
        error = error_at(knob)
        if n_tries in published:
            print_beside("try", n_tries, error, published[n_tries])
        up, down = error_at(knob + 0.001), error_at(knob - 0.001)
        knob += 0.001 if up < down else -0.001 if down < up else 0
    print(f"After {n_tries + 1} tries and {3 * (n_tries + 1)} predictions the knob stands at {knob:.3f}.")
    print("It works, it is slow, and it cannot find what lies between two tries. With a million knobs: hopeless.\n")


def gradient_descent():
    """Find the same knob's position by asking how the error changes with it."""
    published = [0.30250000000000005, 0.17015625000000004, 0.095712890625, 0.05383850097656251, 0.03028415679931642]
    print("Gradient descent. The same knob; now the gradient says which way, and how far. Error before each step:")
    print("                 here                   published")
    model = box_of_knobs([0.5], learning_rate=1.0, n_epochs=20)
    for step in model.steps([[0.5]], [0.8]):
        step.predict()
        step.compare()  # the loss is half the squared error, so that its gradient is (prediction - truth) x input
        if step.number < len(published):
            print_beside("step", step.number, 2 * step.loss, published[step.number])
        step.learn()
    print(f"After {model.n_iter_} steps and as many predictions the knob stands at {model.parameters_[0]:.3f}.\n")


def streetlights():
    """Learn from six crossings which of three lights means that people walk."""
    lights = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1], [0, 1, 1], [1, 0, 1]], dtype=float)
    walks = np.array([0, 1, 0, 1, 1, 0], dtype=float)
    published = {0: 2.6561231104, 1: 0.9628701776715985, 2: 0.5509165866836797, 39: 0.00053373677328488}
    print("Streetlights. Three lights, six crossings: when do people walk? Error of each time through all six:")
    print("                 here                   published")
    model = box_of_knobs([0.5, 0.48, -0.7], learning_rate=0.1, n_epochs=40)
    for epoch in model.epochs(lights, walks):
        if epoch.number in published:
            error = 2 * epoch.step_losses.sum()
            print_beside("time", epoch.number, error, published[epoch.number])
    print("The knobs, one for each light:", model.parameters_.round(3))
    print("All that was learned is in their positions: the middle light decides.")


if __name__ == "__main__":
    hot_and_cold()
    gradient_descent()
    streetlights()

"""``python -m gdl``: learn to read digits, beside scikit-learn; ``python -m gdl info``: what gdl runs on."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdl._environment import environment

TEST_SIZE = 360
SETTINGS: dict[str, Any] = {
    "hidden_layer_sizes": (256,),
    "batch_size": 32,
    "learning_rate_init": 0.002,
    "early_stopping": True,  # a tenth of the digits is held out, and the epoch that reads it best is kept
    "tol": 0.0,
    "random_state": 0,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of ``python -m gdl`` and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m gdl",
        description="Dense neural networks as Numba kernels under scikit-learn's interface.",
        epilog="Without a command: digits.",
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="command")
    digits = commands.add_parser("digits", help="learn to read handwritten digits, beside scikit-learn")
    digits.add_argument("--epochs", type=_positive, metavar="N", help="times to see all digits (default: 20)")
    commands.add_parser("info", help="say what gdl runs on")
    options = parser.parse_args(arguments)
    try:
        if options.command == "info":
            report_environment()
        else:
            read_digits(getattr(options, "epochs", None) or 20)
    except KeyboardInterrupt:
        return 130
    return 0


def report_environment() -> None:
    """Print what gdl runs on, a line a fact."""
    for name, value in environment().items():
        print(f"{name:<18}{value}")


def read_digits(epochs: int) -> None:
    """Train on 1,437 of scikit-learn's digits and test on the other 360, with both libraries."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier as TheirClassifier

    from gdl import MLPClassifier

    print(environment_line())
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, test_size=TEST_SIZE, random_state=SETTINGS["random_state"], stratify=y
    )
    print(f"{len(X_train)} digits of 8 x 8 pixels to learn from, {len(X_test)} to be tested on, {epochs} epochs")

    settings = SETTINGS | {"max_iter": epochs, "n_iter_no_change": epochs}
    print("compiling kernels, or loading them from disk: ", end="", flush=True)
    print(f"{fit(MLPClassifier(**settings | {'max_iter': 1}), X_train[:200], y_train[:200]):.1f} s", flush=True)
    rows = []
    for name, model in (
        ("gdl", MLPClassifier(**settings, verbose=1)),
        ("scikit-learn", TheirClassifier(**settings)),
    ):
        seconds = fit(model, X_train, y_train)
        rate = model.n_iter_ * len(X_train) / seconds
        rows.append((name, model.score(X_test, y_test), model.loss_curve_[-1], seconds, rate))
        if name == "gdl":
            predicted = model.predict(X_test)

    print(f"\n{'':<14}{'accuracy':>10}{'last loss':>12}{'seconds':>10}{'samples/s':>12}")
    for name, accuracy, loss, seconds, rate in rows:
        print(f"{name:<14}{accuracy:>10.4f}{loss:>12.6f}{seconds:>10.2f}{rate:>12,.0f}")
    print(f"\nWhat gdl read (columns) where the digit was (rows):\n\n{confusion_table(y_test, predicted)}")


def environment_line() -> str:
    """Return what gdl runs on in one line."""
    facts = environment()
    versions = ", ".join(f"{name} {facts[name]}" for name in ("gdl", "NumPy", "Numba", "scikit-learn"))
    gpu = facts["NVIDIA GPU"].replace("none", "no GPU")
    n_threads = facts["threads"]
    threads = f"{n_threads} thread{'s' if n_threads != '1' else ''}"
    return f"{versions}; {facts['CPU']} ({facts['vectors']}), {threads}, {gpu}"


def fit(model: Any, X: NDArray[Any], y: NDArray[Any]) -> float:
    """Fit a model for all its epochs and return the seconds that it took."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is ours
        start = time.perf_counter()
        model.fit(X, y)
        return time.perf_counter() - start


def confusion_table(expected: NDArray[Any], predicted: NDArray[Any]) -> str:
    """Return how often each class was taken for each other, as text."""
    classes = np.unique(np.concatenate([expected, predicted]))
    counts = [[int(np.sum((expected == row) & (predicted == column))) for column in classes] for row in classes]
    lines = [" " * 4 + "".join(f"{column:>4}" for column in classes)]
    lines += [f"{row:>4}" + "".join(f"{n or '.':>4}" for n in line) for row, line in zip(classes, counts, strict=True)]
    return "\n".join(lines)


def _positive(text: str) -> int:
    """Return a positive integer that a user typed."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

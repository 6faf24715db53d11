"""The job of ``python -m gdl``: learn to read digits, sort them, and read them with few labels."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
from numba import config
from numpy.typing import NDArray

from gdl._environment import environment, n_cores
from gdl.kernels import _cache

TEST_SIZE = 360
NETWORK: dict[str, Any] = {
    "hidden_layer_sizes": (256,),
    "batch_size": 32,
    "learning_rate_init": 0.002,
    "early_stopping": True,  # a tenth of the digits is held out, and the epoch that reads it best is kept
    "tol": 0.0,
    "random_state": 0,
}
CLUSTERING: dict[str, Any] = {"n_clusters": 10, "n_init": 10, "random_state": 0}

# What learns from few labels: so many of them, drawn so many times.
N_LABELS, N_DRAWS = 50, 5
FEW_LABELS: dict[str, Any] = {
    "hidden_layer_sizes": (64,),
    "batch_size": 32,
    "learning_rate_init": 0.005,
    "max_iter": 50,
    "n_iter_no_change": 50,
    "tol": 0.0,
}


class Digits(NamedTuple):
    """Pictures of digits, a row of brightnesses from 0 to 1 each, and which digits they are."""

    X_train: NDArray[Any]
    X_test: NDArray[Any]
    y_train: NDArray[Any]
    y_test: NDArray[Any]


def read_digits(epochs: int) -> None:
    """Learn and cluster 1,437 of scikit-learn's digits, test on the other 360, and print how it went."""
    print(environment_line())
    digits = load()
    n_train, n_test = len(digits.X_train), len(digits.X_test)
    print(f"{n_train} digits of 8 x 8 pixels to learn from, {n_test} to be tested on, {epochs} epochs")
    print("compiling kernels, or loading them from disk: ", end="", flush=True)
    print(f"{compile_kernels(digits):.1f} s", flush=True)
    compare_networks(digits, epochs)
    compare_clusterings(digits)
    learn_from_few_labels(digits)


def environment_line() -> str:
    """Return what gdl runs on in one line."""
    facts = environment()
    versions = ", ".join(f"{name} {facts[name]}" for name in ("gdl", "NumPy", "Numba", "scikit-learn"))
    gpu = facts["NVIDIA GPU"].replace("none", "no GPU")
    n_threads = facts["threads"]
    threads = f"{n_threads} thread{'s' if n_threads != '1' else ''}"
    return f"{versions}; {facts['CPU']} ({facts['vectors']}), {threads}, {gpu}"


def load() -> Digits:
    """Return scikit-learn's digits, the same split each time."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    return Digits(*train_test_split(X / 16, y, test_size=TEST_SIZE, random_state=0, stratify=y))


def compile_kernels(digits: Digits) -> float:
    """Fit what is fitted later to a few digits, and return the seconds that it took.

    To compile keeps one core busy, so that another process compiles for the clusters in the meantime: 20 s instead of
    33. What it compiled lies on disk then.
    """
    from gdl import MLPClassifier

    start = time.perf_counter()
    command = [sys.executable, "-c", "from gdl import _digits; _digits.cluster_few(_digits.load())"]
    helper = None
    if not kernels_on_disk() and n_cores() > 1:
        helper = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    fit(MLPClassifier(**NETWORK | {"max_iter": 1}), digits.X_train[:200], digits.y_train[:200])
    if helper is not None:
        helper.wait()
    cluster_few(digits)
    return time.perf_counter() - start


def kernels_on_disk() -> bool:
    """Return whether there are any, or none are needed; those that are out of date are compiled one by one."""
    place = _cache.directory()
    return bool(config.DISABLE_JIT) or (place is not None and any(place.glob("*.kernel")))


def cluster_few(digits: Digits) -> None:
    """Find clusters among a few digits, for the sake of the compiled code."""
    from gdl import KMeans

    fit(KMeans(**CLUSTERING | {"n_init": 1}), digits.X_train[:200])


def fit(model: Any, X: NDArray[Any], y: NDArray[Any] | None = None) -> float:
    """Fit a model and return the seconds that it took."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is ours
        start = time.perf_counter()
        model.fit(X, y)
        return time.perf_counter() - start


def compare_networks(digits: Digits, epochs: int) -> None:
    """Train the same network with both libraries, and print how well it reads."""
    from sklearn.neural_network import MLPClassifier as TheirClassifier

    from gdl import MLPClassifier

    settings = NETWORK | {"max_iter": epochs, "n_iter_no_change": epochs}
    ours, theirs = MLPClassifier(**settings, verbose=1), TheirClassifier(**settings)
    lines = []
    for name, model in (("gdl", ours), ("scikit-learn", theirs)):
        seconds = fit(model, digits.X_train, digits.y_train)
        accuracy, rate = model.score(digits.X_test, digits.y_test), model.n_iter_ * len(digits.X_train) / seconds
        lines.append(f"{name:<14}{accuracy:>10.4f}{model.loss_curve_[-1]:>12.6f}{seconds:>10.2f}{rate:>12,.0f}")
    print(f"\n{'':<14}{'accuracy':>10}{'last loss':>12}{'seconds':>10}{'samples/s':>12}")
    print(*lines, sep="\n")
    table = confusion_table(digits.y_test, ours.predict(digits.X_test))
    print(f"\nWhat gdl read (columns) where the digit was (rows):\n\n{table}")


def confusion_table(expected: NDArray[Any], predicted: NDArray[Any]) -> str:
    """Return how often each class was taken for each other, as text."""
    classes = np.unique(np.concatenate([expected, predicted]))
    counts = [[int(np.sum((expected == row) & (predicted == column))) for column in classes] for row in classes]
    lines = [" " * 4 + "".join(f"{column:>4}" for column in classes)]
    lines += [f"{row:>4}" + "".join(f"{n or '.':>4}" for n in line) for row, line in zip(classes, counts, strict=True)]
    return "\n".join(lines)


def compare_clusterings(digits: Digits) -> None:
    """Find clusters with both libraries, and print how well they agree with the digits that nobody told them."""
    from sklearn.cluster import KMeans as TheirKMeans
    from sklearn.metrics import adjusted_rand_score

    from gdl import KMeans

    n_clusters, n_init = CLUSTERING["n_clusters"], CLUSTERING["n_init"]
    print(
        f"\nThe {len(digits.X_train)} digits again, without their labels: sorted into {n_clusters} clusters of similar "
        f"pictures, the best of {n_init} tries\n"
    )
    print(f"{'':<14}{'inertia':>10}{'Rand index':>12}{'seconds':>10}")
    for name, model in (("gdl", KMeans(**CLUSTERING)), ("scikit-learn", TheirKMeans(**CLUSTERING))):
        fit(model, digits.X_train[: 2 * n_clusters])  # the first fit of a process looks for libraries and threads
        seconds = fit(model, digits.X_train)
        agreement = adjusted_rand_score(digits.y_train, model.labels_)
        print(f"{name:<14}{model.inertia_:>10,.1f}{agreement:>12.4f}{seconds:>10.2f}")
    print(
        "\nThe inertia is the sum of the squared distances of the pictures to the centers of their clusters: less is "
        "better.\nThe adjusted Rand index says how well the clusters agree with the true digits: 1 is in full, 0 is by "
        "chance."
    )


def learn_from_few_labels(digits: Digits) -> None:
    """Label as many digits at random and at the centers of clusters, and print what a network learns from either."""
    draws = [accuracies_with_few_labels(digits, random_state) for random_state in range(N_DRAWS)]
    n_train, n_test = len(digits.X_train), len(digits.X_test)
    print(
        f"\nWhat clusters are good for: there is time to label {N_LABELS} of the {n_train} digits by hand, so which?\n"
        f"The same network learns from them; its accuracy on the {n_test} test digits in {N_DRAWS} tries with other "
        "random numbers:\n"
    )
    print(f"{'':<50}{'mean':>8}{'lowest':>8}{'highest':>9}")
    names = (
        f"{N_LABELS} digits at random",
        f"the digits nearest to the centers of {N_LABELS} clusters",
        "the same, their labels given to their clusters",
    )
    *accuracies, right = zip(*draws, strict=True)
    for name, values in zip(names, accuracies, strict=True):
        print(f"{name:<50}{np.mean(values):>8.4f}{min(values):>8.4f}{max(values):>9.4f}")
    print(f"\nOf the labels given to whole clusters, {np.mean(right):.1%} are right.")


def accuracies_with_few_labels(digits: Digits, random_state: int) -> tuple[float, float, float, float]:
    """Return the test accuracy after learning from few labels.

    Returns
    -------
    at_random : float
        With the labels of digits drawn at random.
    at_centers : float
        With the labels of the digits that are nearest to the centers of as many clusters.
    spread : float
        With these labels given to all digits of their clusters.
    right : float
        Share of the labels given that are right.
    """
    from gdl import KMeans, MLPClassifier

    X, y = digits.X_train, digits.y_train
    clusters = KMeans(N_LABELS, random_state=random_state).fit(X)
    at_centers = clusters.transform(X).argmin(axis=0)
    at_random = np.random.default_rng(random_state).choice(len(X), N_LABELS, replace=False)
    spread = y[at_centers][clusters.labels_]

    def accuracy(samples: NDArray[Any], labels: NDArray[Any]) -> float:
        model = MLPClassifier(**FEW_LABELS, random_state=random_state)
        fit(model, samples, labels)
        return float(model.score(digits.X_test, digits.y_test))

    return (
        accuracy(X[at_random], y[at_random]),
        accuracy(X[at_centers], y[at_centers]),
        accuracy(X, spread),
        float(np.mean(spread == y)),
    )

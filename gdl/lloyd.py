"""The driver of k-means: assign, average, and decide when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: ``"auto"`` keeps bounds in iteration 2, 3 and later while at most this share of the samples has to be compared.
WORTH_BOUNDS = (0.9, 0.8, 0.5)
#: Bounds are worth a try if to compare one sample takes this many multiplications, and to compare all so many.
BOUNDED_WORK = (512, 50_000_000)


@dataclass
class Data:
    """Checked samples, and what every run on them shares."""

    X: NDArray[Any]
    sample_weight: NDArray[Any]  #: of shape (0,) if all are 1
    shift: NDArray[Any]  #: the point near the data that kernels see them from
    scatter: float  #: sum of the weighted squared distances to ``shift``
    spherical: bool  #: rows of length 1, and so are the centers


@dataclass
class Run:
    """A run of k-means: where it stands, and how it went."""

    centers: NDArray[Any]
    labels: NDArray[np.int32]
    inertia: float = 0.0
    n_iter: int = 0
    converged: bool = False
    inertia_curve: list[float] = field(default_factory=list)
    n_reassigned: list[int] = field(default_factory=list)


#: Told after each iteration of a run; returns whether to stop.
Observer = Callable[[Run], bool]


def moments(kernels: ModuleType, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and variance of each feature."""
    mean, variance = np.empty(X.shape[1]), np.empty(X.shape[1])
    kernels.column_moments(X, mean, variance)
    return mean, variance


def choose_shift(mean: NDArray[np.float64], variance: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the point that kernels are to see the data from: the mean if it is far from zero, else zero.

    Products of shifted numbers are more exact, but to shift costs time. An offset of twice the data's spread
    costs a digit of the products at most.
    """
    if (mean**2).sum() <= 4 * variance.sum():
        return np.zeros(len(mean), dtype)
    shift: NDArray[Any] = mean.astype(dtype)
    return shift


def scatter(kernels: ModuleType, X: NDArray[Any], sample_weight: NDArray[Any], shift: NDArray[Any]) -> float:
    """Return the sum of the weighted squared distances of all samples to one point."""
    total = np.empty(1)
    kernels.label_inertia(X, sample_weight, shift.reshape(1, -1), np.zeros(len(X), np.int32), total)
    return float(total[0])


def farthest(kernels: ModuleType, X: NDArray[Any], shift: NDArray[Any]) -> float:
    """Return the squared distance to one point of the sample that is farthest from it."""
    distances = np.empty(len(X))
    kernels.label_distances(X, shift.reshape(1, -1), np.zeros(len(X), np.int32), distances)
    return float(distances.max())


def lloyd(
    kernels: ModuleType,
    data: Data,
    centers: NDArray[Any],
    max_iter: int,
    tol: float,
    algorithm: str = "auto",
    observe: Observer | None = None,
) -> Run:
    """Alternate assignment and averaging until no label changes, or the centers move by ``tol`` or less.

    ``tol`` bounds the sum of the squared moves. The labels of the result belong to its centers, whatever ended it.
    """
    X, sample_weight, shift = data.X, data.sample_weight, data.shift
    n_samples, (n_clusters, n_features) = len(X), centers.shape
    run = Run(centers.copy(), np.full(n_samples, -1, np.int32))
    new_centers = np.empty_like(centers)
    sums, weights = np.empty((n_clusters, n_features)), np.empty(n_clusters)
    moves, n_reassigned, n_exact = np.zeros(n_clusters), np.empty(1), np.empty(1)
    bounded = algorithm in ("elkan", "hamerly") or (
        algorithm == "auto" and may_gain(n_samples, n_clusters * n_features)
    )
    if bounded:
        upper, lower = np.full(n_samples, np.inf, X.dtype), np.zeros(n_samples, X.dtype)

    unchanged = False
    while run.n_iter < max_iter:
        run.n_iter += 1
        if bounded:
            kernels.bounded_step(
                X, sample_weight, shift, run.centers, moves, run.labels, upper, lower,
                sums, weights, n_reassigned, n_exact,
            )  # fmt: skip
            if algorithm == "auto" and run.n_iter > 1:
                bounded = n_exact[0] <= WORTH_BOUNDS[min(run.n_iter, 4) - 2] * n_samples
        else:
            kernels.lloyd_step(X, sample_weight, shift, run.centers, run.labels, sums, weights, n_reassigned)
        run.n_reassigned.append(int(n_reassigned[0]))
        run.inertia_curve.append(_inertia(data, run.centers, sums, weights))
        relocated = _relocate(kernels, data, run, sums, weights)
        kernels.average_centers(sums, weights, shift, new_centers)
        if data.spherical:
            opposite = ~new_centers.any(axis=1)  # directions that cancel have no mean: the center stays
            new_centers[opposite] = run.centers[opposite]
            kernels.normalize_rows(new_centers, new_centers)
        kernels.center_moves(run.centers, new_centers, moves)
        run.centers, new_centers = new_centers, run.centers
        # The same labels do not mean the same centers if a cluster was empty before, or is now.
        unchanged = n_reassigned[0] == 0 and not relocated and np.array_equal(run.centers, new_centers)
        run.converged = unchanged or float((moves**2).sum()) <= tol
        stop = observe is not None and observe(run)
        if run.converged or stop:
            break
    finish(kernels, data, run, assigned=unchanged)
    return run


def may_gain(n_samples: int, work: int) -> bool:
    """Tell whether to try bounds, for samples that each take ``work`` multiplications to compare."""
    return work >= BOUNDED_WORK[0] and n_samples * work >= BOUNDED_WORK[1]


def finish(kernels: ModuleType, data: Data, run: Run, assigned: bool = False) -> None:
    """Bring labels and inertia up to date with the centers; labels are not touched if they are ``assigned``."""
    if not assigned:
        kernels.assign_labels(data.X, data.shift, run.centers, run.labels)
    inertia = np.empty(1)
    kernels.label_inertia(data.X, data.sample_weight, run.centers, run.labels, inertia)
    run.inertia = float(inertia[0]) / (2 if data.spherical else 1)


def _inertia(data: Data, centers: NDArray[Any], sums: NDArray[Any], weights: NDArray[Any]) -> float:
    """Return the inertia of an iteration's labels from its sums alone.

    ``sum w ||x - c||^2 = sum w ||x||^2 - 2 c s + w ||c||^2`` relative to ``shift``: no pass over the samples. In
    float64 it is exact to 1e-16 of the scatter.
    """
    relative = centers.astype(np.float64) - data.shift
    inertia = data.scatter + float((relative * (weights[:, None] * relative - 2 * sums)).sum())
    return max(inertia, 0.0) / (2 if data.spherical else 1)


def _relocate(kernels: ModuleType, data: Data, run: Run, sums: NDArray[Any], weights: NDArray[Any]) -> bool:
    """Give each empty cluster the sample that is farthest from its center; return whether any was given.

    As scikit-learn documents it, but a cluster never gives its last sample away, which would leave it empty.
    """
    empty = np.flatnonzero(weights == 0)
    if len(empty) == 0:
        return False
    distances = np.empty(len(data.X))
    kernels.label_distances(data.X, run.centers, run.labels, distances)
    counted = data.sample_weight > 0 if data.sample_weight.size else np.ones(len(data.X), bool)
    distances[~counted] = 0
    n_left = np.bincount(run.labels[counted], minlength=len(weights))
    rounding = float(np.finfo(data.X.dtype).eps) / 2 + len(data.X) * float(np.finfo(np.float64).eps)
    n_filled = 0
    for row in np.argsort(-distances, kind="stable").tolist():
        relative = (data.X[row] - data.shift).astype(np.float64)
        size = math.hypot(*data.X[row].tolist()) + math.hypot(*relative.tolist())
        # Copies of one sample are as far from their mean as rounding puts it.
        if n_filled == len(empty) or math.sqrt(distances[row]) <= rounding * size:
            break
        donor, cluster = run.labels[row], empty[n_filled]
        if n_left[donor] == 1:
            continue
        weight = float(data.sample_weight[row]) if data.sample_weight.size else 1.0
        moved = weight * relative
        sums[donor] -= moved
        weights[donor] -= weight
        n_left[donor] -= 1
        sums[cluster], weights[cluster] = moved, weight
        n_filled += 1
    return n_filled > 0

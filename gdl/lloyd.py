"""The driver of k-means: assign, average, decide when to stop, and which of several runs to keep."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdl.training import HeldInterrupt

#: ``"auto"`` keeps bounds in iteration 2, 3 and later while at most this share of the samples has to be compared.
WORTH_BOUNDS = (0.9, 0.8, 0.5)
#: Bounds are worth a try if to compare one sample takes this many multiplications, and to compare all so many.
BOUNDED_WORK = (512, 50_000_000)
#: Labels that are looked at at once for clusters without samples.
ROWS_TO_FILL = 10_000
#: Rows that tell whether samples are those of before.
ROWS_OF_A_FINGERPRINT = 64
NO_CLUSTERS = np.empty(0, np.intp)
NO_CLUSTERS.flags.writeable = False  # all runs show it


class Plan(NamedTuple):
    """What the parameters say about a run."""

    max_iter: int
    tol: float  #: of the sum of the centers' squared moves
    algorithm: str


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
    #: of the latest iteration, -1 before the first; when the run has ended, those of ``centers``
    labels: NDArray[np.int32]
    inertia: float = 0.0
    n_iter: int = 0
    converged: bool = False
    inertia_curve: list[float] = field(default_factory=list)
    n_reassigned: list[int] = field(default_factory=list)
    #: ``centers`` as the run left them, where somebody may write into them
    learned: NDArray[Any] | None = None


@dataclass
class Progress:
    """A fit that has not ended: all that it takes to go on exactly where it stopped, but for the samples."""

    random_state: np.random.RandomState
    n_init: int
    n_ended: int = 0  #: runs
    run: Run | None = None  #: the present one; None until its first centers are chosen
    best: Run | None = None  #: of those that have ended
    is_best_shown: bool = False  #: whether the model's centers are those of ``best``, not of ``run``
    samples: str = ""  #: their fingerprint
    scatter: float = 0.0  #: theirs


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


def fingerprint(X: NDArray[Any], sample_weight: NDArray[Any]) -> str:
    """Return what tells samples from others: type, shape, and some rows and weights. All would take too long."""
    rows = np.linspace(0, len(X) - 1, min(len(X), ROWS_OF_A_FINGERPRINT)).astype(np.intp)
    digest = hashlib.sha256(f"{X.dtype.name} {X.shape} {sample_weight.shape}".encode())
    digest.update(X[rows].tobytes())
    if sample_weight.size:
        digest.update(sample_weight[rows].tobytes())
    return digest.hexdigest()


class Lloyd:
    """The iterations of one run, each in three parts, called in turn: ``predict``, ``compare`` and ``learn``.

    If it is ``watched``, labels and centers of before an iteration are kept until the next begins, what an iteration
    has assigned counts only when it has learned, and centers may be written into at any time.
    """

    def __init__(self, kernels: ModuleType, data: Data, plan: Plan, run: Run, watched: bool = False) -> None:
        self.kernels, self.data, self.plan, self.run, self.watched = kernels, data, plan, run, watched
        n_samples, (n_clusters, n_features) = len(data.X), run.centers.shape
        self.centers, self.new_centers = run.centers, np.empty_like(run.centers)
        self.labels = self.labels_before = run.labels
        if watched:
            self.labels = np.empty_like(run.labels)
        self.sums, self.weights = np.empty((n_clusters, n_features)), np.empty(n_clusters)
        self.moves, self.n_reassigned, self.n_exact = np.zeros(n_clusters), np.empty(1), np.empty(1)
        self.inertia_of_labels, self.inertia, self.empty = np.empty(1), math.nan, NO_CLUSTERS
        self.relocated = self.unchanged = False
        self.is_whole = True
        self.bounded = plan.algorithm in ("elkan", "hamerly") or (
            plan.algorithm == "auto" and may_gain(n_samples, n_clusters * n_features)
        )
        if self.bounded:
            self.upper, self.lower = np.empty(n_samples, data.X.dtype), np.empty(n_samples, data.X.dtype)
        self._forget_bounds()
        self.adopt()

    def goes_on(self) -> bool:
        """Tell whether there is another iteration."""
        return not self.run.converged and self.run.n_iter < self.plan.max_iter

    def step(self) -> None:
        """Do a whole iteration."""
        self.begin()
        self.predict()
        self.compare()
        self.learn()

    def begin(self) -> None:
        """Go on from the centers of the last iteration; the arrays of before it take up what is new."""
        if self.new_centers is self.run.centers:
            self.centers, self.new_centers = self.new_centers, self.centers
        if self.watched and self.labels is self.run.labels:
            self.labels, self.labels_before = self.labels_before, self.labels

    def predict(self) -> None:
        """Assign each sample to its nearest center, and add up each cluster: both in one pass over the samples."""
        self.is_whole = False
        X, sample_weight, shift = self.data.X, self.data.sample_weight, self.data.shift
        if self.watched:
            self.adopt()
            np.copyto(self.labels, self.labels_before)
        if self.bounded:
            self.kernels.bounded_step(
                X, sample_weight, shift, self.centers, self.moves, self.labels, self.upper, self.lower,
                self.sums, self.weights, self.n_reassigned, self.n_exact,
            )  # fmt: skip
            self.n_bounded += 1
            if self.plan.algorithm == "auto" and self.n_bounded > 1:
                self.bounded = self.n_exact[0] <= WORTH_BOUNDS[min(self.n_bounded, 4) - 2] * len(X)
        else:
            self.kernels.lloyd_step(
                X, sample_weight, shift, self.centers, self.labels, self.sums, self.weights, self.n_reassigned
            )

    def compare(self) -> None:
        """Take the inertia from the sums, and give empty clusters a sample."""
        inertia = self.inertia_of_labels
        self.kernels.sums_inertia(self.data.scatter, self.sums, self.weights, self.data.shift, self.centers, inertia)
        self.inertia = float(inertia[0]) / (2 if self.data.spherical else 1)
        self.empty = NO_CLUSTERS if self.weights.all() else np.flatnonzero(self.weights == 0)
        self.relocated = len(self.empty) > 0 and _relocate(
            self.kernels, self.data, self.centers, self.labels, self.empty, self.sums, self.weights
        )

    def learn(self) -> None:
        """Move each center to the mean of its cluster."""
        run, centers, new_centers = self.run, self.centers, self.new_centers
        self.kernels.average_centers(self.sums, self.weights, self.data.shift, new_centers)
        if self.data.spherical:
            opposite = ~new_centers.any(axis=1)  # directions that cancel have no mean: the center stays
            new_centers[opposite] = centers[opposite]
            self.kernels.normalize_rows(new_centers, new_centers)
        self.kernels.center_moves(centers, new_centers, self.moves)
        # The same labels do not mean the same centers if a cluster was empty before, or is now.
        same_labels = bool(self.n_reassigned[0] == 0)
        self.unchanged = same_labels and not self.relocated and np.array_equal(new_centers, centers)
        if self.watched:
            self.adopt()  # bounds do not hold for centers that were written after predict
            run.learned = new_centers.copy()
        run.centers, run.labels = new_centers, self.labels
        run.converged = self.unchanged or float((self.moves**2).sum()) <= self.plan.tol
        run.n_iter += 1
        run.n_reassigned.append(int(self.n_reassigned[0]))
        run.inertia_curve.append(self.inertia)
        self.is_whole = True

    def adopt(self) -> None:
        """Take up centers that somebody wrote: no bound holds for them, and nothing has converged to them."""
        if self.run.learned is None:
            if self.watched:
                self.run.learned = self.run.centers.copy()
        elif self.run.centers.tobytes() != self.run.learned.tobytes():  # np.array_equal takes ten times as long
            self.run.learned = self.run.centers.copy() if self.watched else None
            self.run.converged = self.unchanged = False
            self._forget_bounds()

    def _forget_bounds(self) -> None:
        self.n_bounded = 0
        if self.bounded:
            self.upper[:], self.lower[:] = np.inf, 0

    def finish(self) -> None:
        """Bring labels and inertia of the run up to date with its centers."""
        finish(self.kernels, self.data, self.run, assigned=self.unchanged)


class Runs:
    """The runs of one fit; ``progress`` holds what outlives it.

    ``choose`` returns the first centers of a run. The labels of a run that has ended belong to its centers, whatever
    ended it.
    """

    def __init__(
        self,
        kernels: ModuleType,
        data: Data,
        plan: Plan,
        progress: Progress,
        choose: Callable[[np.random.RandomState], NDArray[Any]],
        watched: bool = False,
    ) -> None:
        self.kernels, self.data, self.plan, self.progress = kernels, data, plan, progress
        self.choose, self.watched = choose, watched
        self.lloyd: Lloyd | None = None

    def start_run(self) -> Lloyd | None:
        """Return the iterations of the present run, or the next; None if there is none."""
        progress = self.progress
        if progress.run is None:
            if progress.n_ended >= progress.n_init:
                return None
            centers = self.choose(progress.random_state).copy()
            progress.run = Run(centers, np.full(len(self.data.X), -1, np.int32))
        self.lloyd = Lloyd(self.kernels, self.data, self.plan, progress.run, self.watched)
        return self.lloyd

    def end_run(self) -> None:
        """End the present run, and keep it if it is the best."""
        progress, lloyd = self.progress, self.lloyd
        assert lloyd is not None
        lloyd.finish()
        if progress.best is None or is_better(lloyd.run, progress.best):
            progress.best = lloyd.run
        progress.run, self.lloyd = None, None
        progress.n_ended += 1

    def fit(self, watch: Callable[[], Observer | None]) -> str:
        """Run to the end; return what ended it before: "callback", "interrupted", or nothing.

        ``watch`` returns what is to be told of a run. What a callback raises goes through.
        """
        try:
            while (lloyd := self.start_run()) is not None:
                observe, stopped = watch(), False
                with HeldInterrupt() as interrupt:
                    while not stopped and lloyd.goes_on():
                        lloyd.step()
                        stopped = observe is not None and observe(lloyd.run)
                        interrupt.check()
                if stopped and (lloyd.goes_on() or self.progress.n_ended + 1 < self.progress.n_init):
                    return "callback"
                self.end_run()
        except KeyboardInterrupt:
            if not self.can_stop():
                raise
            return "interrupted"
        return ""

    def can_stop(self) -> bool:
        """Tell whether there is something to show: at least one iteration, and none in pieces."""
        run = self.progress.run
        is_whole = self.lloyd is None or self.lloyd.is_whole
        return is_whole and (self.progress.best is not None or (run is not None and run.n_iter > 0))

    def stop(self) -> Run:
        """Return the best run so far of a fit that is left now, the present one included; write where it stands."""
        progress = self.progress
        progress.is_best_shown = progress.run is None or progress.run.n_iter == 0
        if progress.run is not None and not progress.is_best_shown:
            progress.run.learned = progress.run.centers.copy()
            run = as_if_ended(self.kernels, self.data, progress.run)
            if progress.best is None or is_better(run, progress.best):
                return run
        progress.is_best_shown = True
        assert progress.best is not None
        return replace(progress.best, centers=progress.best.centers.copy())

    def snapshot(self) -> tuple[Run, Progress]:
        """Return the present run as if it had ended, and all that it takes to go on; arrays of their own."""
        progress = copy.deepcopy(self.progress)
        assert progress.run is not None
        progress.run.learned = progress.run.centers.copy()
        return as_if_ended(self.kernels, self.data, progress.run), progress


def is_better(run: Run, best: Run) -> bool:
    """Tell whether a run has found other clusters than the best so far, and a lower inertia."""
    return run.inertia < best.inertia and not same_clustering(run.labels, best.labels)


def same_clustering(labels: NDArray[np.int32], others: NDArray[np.int32]) -> bool:
    """Tell whether two labellings are the same but for the numbers of the clusters.

    >>> same_clustering(np.array([0, 0, 1], np.int32), np.array([5, 5, 2], np.int32))
    True
    """
    number = np.full(labels.max() + 1, -1, np.int32)
    number[labels] = others
    return bool((number[labels] == others).all())


def n_filled(labels: NDArray[np.int32], n_clusters: int) -> int:
    """Return how many clusters have samples. Most often the first rows tell; to count 1,000,000 labels takes 4 ms.

    >>> n_filled(np.array([0, 2, 0], np.int32), 4)
    2
    """
    filled = np.zeros(n_clusters, bool)
    for start in range(0, len(labels), ROWS_TO_FILL):
        filled[labels[start : start + ROWS_TO_FILL]] = True
        if filled.all():
            break
    return int(np.count_nonzero(filled))


def as_if_ended(kernels: ModuleType, data: Data, run: Run) -> Run:
    """Return a run with the same centers, and labels and inertia that belong to them."""
    ended = replace(run, labels=np.empty_like(run.labels))
    finish(kernels, data, ended)
    return ended


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


def _relocate(
    kernels: ModuleType,
    data: Data,
    centers: NDArray[Any],
    labels: NDArray[np.int32],
    empty: NDArray[np.intp],
    sums: NDArray[Any],
    weights: NDArray[Any],
) -> bool:
    """Give each empty cluster the sample that is farthest from its center; return whether any was given.

    As scikit-learn documents it, but a cluster never gives its last sample away, which would leave it empty.
    """
    distances = np.empty(len(data.X))
    kernels.label_distances(data.X, centers, labels, distances)
    counted = data.sample_weight > 0 if data.sample_weight.size else np.ones(len(data.X), bool)
    distances[~counted] = 0
    n_left = np.bincount(labels[counted], minlength=len(weights))
    rounding = float(np.finfo(data.X.dtype).eps) / 2 + len(data.X) * float(np.finfo(np.float64).eps)
    n_filled = 0
    for row in np.argsort(-distances, kind="stable").tolist():
        relative = (data.X[row] - data.shift).astype(np.float64)
        size = math.hypot(*data.X[row].tolist()) + math.hypot(*relative.tolist())
        # Copies of one sample are as far from their mean as rounding puts it.
        if n_filled == len(empty) or math.sqrt(distances[row]) <= rounding * size:
            break
        donor, cluster = labels[row], empty[n_filled]
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

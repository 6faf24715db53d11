"""The driver of mini-batch k-means: draw a batch, learn from it, move centers that nobody needs, and know when to stop.

``BatchStep`` is all that learning is: ``fit`` and ``partial_fit`` differ only in where the batches come from.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdl._validation import check_spread
from gdl.lloyd import choose_shift, moments
from gdl.training import HeldInterrupt

#: Steps between two choices of the point that kernels see the data from: a stream may drift away from it.
STEPS_OF_A_SHIFT = 100
#: Bytes of the copy in which large data are scaled to length 1, part by part.
PART_BYTES = 2**26


class Rule(NamedTuple):
    """What the parameters say about a step."""

    reassignment_ratio: float
    forgetting: float
    spherical: bool  #: rows of length 1, and so are the centers


class Plan(NamedTuple):
    """What the parameters say about when to stop."""

    n_steps: int
    tol: float  #: of the sum of the centers' squared moves; 0 for never
    max_no_improvement: int | None


@dataclass
class Stream:
    """Everything that the next step goes on from, and how the steps before it went."""

    centers: NDArray[Any]
    counts: NDArray[np.float64]  #: weight that each center has seen, less what is forgotten
    #: As in scikit-learn, a step counts as so many samples, however large its batch.
    batch_size: int
    random_state: np.random.RandomState | None
    shift: NDArray[Any] = field(default_factory=lambda: np.empty(0))  #: the point that kernels see the data from
    n_since_reassignment: int = 0  #: samples
    n_steps: int = 0
    inertia_curve: array[float] = field(default_factory=lambda: array("d"))
    n_reassigned: array[int] = field(default_factory=lambda: array("q"))

    def log(self, inertia: float, n_reassigned: int) -> None:
        """Add a step to the curves; what a step that was interrupted may have left there is overwritten."""
        for curve, value in ((self.inertia_curve, inertia), (self.n_reassigned, n_reassigned)):
            del curve[self.n_steps :]
            curve.append(value)  # type: ignore[arg-type]
        self.n_steps += 1


#: Told after each step; returns whether to stop.
Observer = Callable[[Stream], bool]


class BatchStep:
    """One step from one batch, in three parts, called in turn: ``predict``, ``compare`` and ``learn``.

    ``keeps_centers``: whether the centers of before are kept, as ``centers``, or moved in place.
    """

    def __init__(
        self,
        kernels: ModuleType,
        stream: Stream,
        X: NDArray[Any],
        sample_weight: NDArray[Any],
        rule: Rule,
        keeps_centers: bool = False,
    ) -> None:
        self.kernels, self.stream, self.X, self.sample_weight = kernels, stream, X, sample_weight
        self.rule, self.keeps_centers = rule, keeps_centers
        if stream.n_steps % STEPS_OF_A_SHIFT == 0:
            stream.shift = shift_of(kernels, X, rule.spherical)
        self.centers = stream.centers
        self.labels = np.empty(len(X), np.int32)
        self.inertia = math.nan  #: mean
        self.reassigned = np.empty(0, np.intp)  #: numbers of the centers that were put elsewhere

    def predict(self) -> None:
        """Assign the samples."""
        self.kernels.assign_labels(self.X, self.stream.shift, self.centers, self.labels)

    def compare(self) -> None:
        """Take the mean inertia."""
        inertia = np.empty(1)
        self.kernels.label_inertia(self.X, self.sample_weight, self.centers, self.labels, inertia)
        mean_inertia = float(inertia[0]) / total_weight(self.sample_weight, len(self.X))
        check_spread(mean_inertia, self.X.dtype)
        self.inertia = mean_inertia / (2 if self.rule.spherical else 1)

    def learn(self) -> None:
        """Move the centers, and give those that see few samples a new place."""
        stream, rule = self.stream, self.rule
        if self.keeps_centers:
            stream.centers = self.centers.copy()
        if rule.forgetting > 0:
            stream.counts *= 1 - rule.forgetting
        due = _reassignment_is_due(stream)
        self.kernels.mini_batch_update(self.X, self.sample_weight, self.labels, stream.centers, stream.counts)
        if rule.spherical:
            self.kernels.normalize_rows(stream.centers, stream.centers)
        if due and rule.reassignment_ratio > 0:
            self.reassigned = _reassign(stream, self.X, rule.reassignment_ratio)
        stream.log(self.inertia, len(self.reassigned))


def step(kernels: ModuleType, stream: Stream, X: NDArray[Any], sample_weight: NDArray[Any], rule: Rule) -> None:
    """Learn from one batch: assign its samples, move the centers, and give those that see few a new place."""
    parts = BatchStep(kernels, stream, X, sample_weight, rule)
    parts.predict()
    parts.compare()
    parts.learn()


def shift_of(kernels: ModuleType, X: NDArray[Any], spherical: bool) -> NDArray[Any]:
    """Return the point that kernels are to see samples like these from; refuse them if they spread too far."""
    if spherical:
        return np.zeros(X.shape[1], X.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is refused
        mean, variance = moments(kernels, X)
        shift = choose_shift(mean, variance, X.dtype)
        check_spread(float((variance + (mean - shift) ** 2).sum()), X.dtype)
    return shift


def total_weight(sample_weight: NDArray[Any], n_samples: int) -> float:
    """Return the sum of all weights, in float64."""
    return float(sample_weight.sum(dtype=np.float64)) if sample_weight.size else float(n_samples)


def _reassignment_is_due(stream: Stream) -> bool:
    """Tell whether to look for centers that see few samples: every ``10 * n_clusters`` samples, or if one saw none."""
    stream.n_since_reassignment += stream.batch_size
    if (stream.counts == 0).any() or stream.n_since_reassignment >= 10 * len(stream.counts):
        stream.n_since_reassignment = 0
        return True
    return False


def _reassign(stream: Stream, X: NDArray[Any], ratio: float) -> NDArray[np.intp]:
    """Put centers that have seen few samples on random samples of the batch; return their numbers.

    As scikit-learn does it: at most half as many as the batch has samples, and with the smallest count of the
    others, or they would be put elsewhere at once.
    """
    counts = stream.counts
    few = counts < ratio * counts.max()
    if few.sum() > 0.5 * len(X):
        few[np.argsort(counts)[len(X) // 2 :]] = False
    if few.all():  # with a ratio above 1; somebody's count has to be the measure
        few[counts.argmax()] = False
    reassigned = np.flatnonzero(few)
    if len(reassigned):
        assert stream.random_state is not None
        stream.centers[few] = X[stream.random_state.choice(len(X), replace=False, size=len(reassigned))]
        counts[few] = counts[~few].min()
    return reassigned


@dataclass
class Stopping:
    """Whether the smoothed inertia of the batches still falls, and the centers still move."""

    inertia: float = math.nan  #: of a sample, smoothed
    converged: bool = False
    _n_judged: int = 0
    _lowest: float = math.inf
    _n_no_improvement: int = 0

    def judge(self, inertia: float, alpha: float, squared_moves: float, plan: Plan) -> None:
        """Take note of a step, with a share ``alpha`` in the smoothed inertia; the first counts for nothing.

        Its inertia is that of the first centers.
        """
        self._n_judged += 1
        is_start = self._n_judged <= 2
        self.inertia = inertia if is_start else self.inertia * (1 - alpha) + inertia * alpha
        if self._n_judged == 1:
            return
        if self.inertia < self._lowest:
            self._lowest, self._n_no_improvement = self.inertia, 0
        else:
            self._n_no_improvement += 1
        at_rest = plan.tol > 0 and squared_moves <= plan.tol
        self.converged = at_rest or (
            plan.max_no_improvement is not None and self._n_no_improvement >= plan.max_no_improvement
        )


@dataclass
class StreamProgress:
    """A fit that has not ended: all that it takes to go on exactly where it stopped, but for the samples."""

    stream: Stream
    stopping: Stopping = field(default_factory=Stopping)
    rows: NDArray[np.int64] | None = None  #: drawn for the next step
    samples: str = ""  #: their fingerprint


class Learner:
    """Learns from batches drawn by weight, with replacement, until the plan says to stop.

    ``progress`` holds what outlives the fit. If it is ``watched``, somebody looks between the parts of a step.
    """

    def __init__(
        self,
        kernels: ModuleType,
        X: NDArray[Any],
        sample_weight: NDArray[Any],
        rule: Rule,
        plan: Plan,
        progress: StreamProgress,
        watched: bool = False,
    ) -> None:
        self.kernels, self.X, self.sample_weight, self.rule, self.plan = kernels, X, sample_weight, rule, plan
        self.progress, self.watched = progress, watched
        stream = progress.stream
        self.cumulative = cumulative_weights(sample_weight, len(X))
        self.batch = np.empty((stream.batch_size, X.shape[1]), X.dtype)
        self.moves, self.no_weights = np.zeros(len(stream.centers)), np.empty(0, X.dtype)
        self.alpha = min(2.0 * stream.batch_size / (len(X) + 1), 1.0)
        self.is_whole = True
        self.parts: BatchStep

    def goes_on(self) -> bool:
        """Tell whether there is another step."""
        return not self.progress.stopping.converged and self.progress.stream.n_steps < self.plan.n_steps

    def step(self) -> None:
        """Do a whole step."""
        self.begin()
        self.parts.predict()
        self.parts.compare()
        self.learn()

    def begin(self) -> None:
        """Take the next batch."""
        progress, stream = self.progress, self.progress.stream
        if progress.rows is None:
            assert stream.random_state is not None
            # What random_state.choice(n, size, p=...) draws; choice() would add the weights up again for each batch.
            draws = stream.random_state.random_sample(stream.batch_size)
            progress.rows = self.cumulative.searchsorted(draws, side="right")
        self.X.take(progress.rows, axis=0, out=self.batch, mode="clip")  # any other mode makes a copy
        if self.rule.spherical:
            self.kernels.normalize_rows(self.batch, self.batch)
        keeps_centers = self.watched or self.plan.tol > 0
        self.parts = BatchStep(self.kernels, stream, self.batch, self.no_weights, self.rule, keeps_centers)

    def learn(self) -> None:
        """Learn from the batch, and judge whether anything still improves."""
        self.is_whole = False
        self.parts.learn()
        if self.plan.tol > 0:
            self.kernels.center_moves(self.parts.centers, self.progress.stream.centers, self.moves)
        self.progress.stopping.judge(self.parts.inertia, self.alpha, float((self.moves**2).sum()), self.plan)
        self.progress.rows = None
        self.is_whole = True

    def fit(self, observe: Observer | None) -> str:
        """Learn to the end; return what ended it before: "callback", "interrupted", or nothing.

        What a callback raises goes through.
        """
        try:
            with HeldInterrupt() as interrupt:
                while self.goes_on():
                    self.step()
                    if observe is not None and observe(self.progress.stream) and self.goes_on():
                        return "callback"
                    interrupt.check()
        except KeyboardInterrupt:
            if not self.can_stop():
                raise
            return "interrupted"
        return ""

    def can_stop(self) -> bool:
        """Tell whether there is something to show: at least one step, and none in pieces."""
        return self.is_whole and self.progress.stream.n_steps > 0


def cumulative_weights(sample_weight: NDArray[Any], n_samples: int) -> NDArray[np.float64]:
    """Return the share of the weight up to each sample, that one included."""
    weights = sample_weight.astype(np.float64) if sample_weight.size else np.ones(n_samples)
    weights /= weights.sum()
    cumulative = np.cumsum(weights, out=weights)
    cumulative /= cumulative[-1]
    return cumulative


def draw_sample(
    sample_weight: NDArray[Any], n_samples: int, size: int, n_needed: int, random_state: np.random.RandomState
) -> NDArray[np.int64]:
    """Draw rows with replacement, whatever their weight, but ``n_needed`` with a positive one."""
    rows = random_state.randint(0, n_samples, size)
    if sample_weight.size and np.count_nonzero(sample_weight[rows]) < n_needed:
        positive = np.flatnonzero(sample_weight)
        rows = positive[random_state.randint(0, len(positive), size)]
    return np.asarray(rows, np.int64)


def finish(
    kernels: ModuleType,
    X: NDArray[Any],
    sample_weight: NDArray[Any],
    centers: NDArray[Any],
    shift: NDArray[Any],
    spherical: bool,
) -> tuple[NDArray[np.int32], float]:
    """Return the label of each sample, and the inertia; samples need not have length 1 yet."""
    labels, inertia, total = np.empty(len(X), np.int32), np.empty(1), 0.0
    for rows, part in _parts(kernels, X, spherical):
        kernels.assign_labels(part, shift, centers, labels[rows])
        kernels.label_inertia(part, sample_weight[rows], centers, labels[rows], inertia)
        total += float(inertia[0])
    return labels, total / (2 if spherical else 1)


def mean_variance(kernels: ModuleType, X: NDArray[Any], spherical: bool) -> float:
    """Return the mean variance of the features."""
    if not spherical:
        with np.errstate(over="ignore", invalid="ignore"):  # each batch is checked
            return float(moments(kernels, X)[1].mean())
    total = np.zeros(X.shape[1])
    for _, part in _parts(kernels, X, spherical):
        total += part.sum(axis=0, dtype=np.float64)
    mean = total / len(X)
    return float(max(1 - (mean**2).sum(), 0) / X.shape[1])  # all rows have length 1


def _parts(kernels: ModuleType, X: NDArray[Any], spherical: bool) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield X as kernels take it: as it is, or scaled to length 1 and then in parts, for X may not fit twice."""
    if not spherical:
        yield slice(None), X
        return
    n_rows = max(PART_BYTES // (X.itemsize * X.shape[1]), 1)
    for start in range(0, len(X), n_rows):
        rows = slice(start, start + n_rows)
        part = np.empty_like(X[rows])
        kernels.normalize_rows(X[rows], part)
        yield rows, part

"""Mini-batch k-means under scikit-learn's interface: ``MiniBatchKMeans``."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from gdl import _validation, kernels
from gdl._progress import MiniBatchReport
from gdl.kmeans import BaseKMeans, Task
from gdl.kmeans_steps import MiniBatchSteps
from gdl.lloyd import fingerprint
from gdl.mini_batch import (
    Learner,
    Plan,
    Rule,
    Stopping,
    Stream,
    StreamProgress,
    draw_sample,
    finish,
    mean_variance,
    shift_of,
    step,
    total_weight,
)
from gdl.seeding import undrawn_on_failure


class MiniBatchKMeans(CallbackSupportMixin, BaseKMeans):
    """k-means that learns from small batches: for data that are large, lie on disk, or do not end.

    Parameters
    ----------
    n_clusters : int, default=8
        How many centers.
    init : {"k-means++", "random"}, callable or array-like of shape (n_clusters, n_features), default="k-means++"
        First centers, as in ``KMeans``, but chosen from a random sample of ``init_size`` rows.
    max_iter : int, default=100
        ``fit`` takes at most as many steps as read ``max_iter`` times the number of samples.
    batch_size : int, default=1024
        Samples that ``fit`` draws for a step, by weight and with replacement. ``partial_fit`` learns from what it is
        given.
    verbose : bool or int, default=0
        Whether to show a line of progress on stderr now and then.
    compute_labels : bool, default=True
        Whether to label the samples with the final centers.
    random_state : int, RandomState instance or None, default=None
        Seed of the first centers, the batches and the reassignments. Numbers are drawn in scikit-learn's order.
    tol : float, default=0.0
        ``fit`` has converged if the squared moves of all centers in a step sum to at most ``tol`` times the mean
        variance of the features. 0 turns this off, and saves a pass over X.
    max_no_improvement : int, default=10
        ``fit`` has converged if the smoothed inertia of the batches has not fallen for so many steps in a row; None
        turns this off.
    init_size : int, default=None
        Rows to choose the first centers from; None for three batches, or ``3 * n_clusters`` if that is too few.
    n_init : "auto" or int, default="auto"
        First centers to choose from in ``fit``, by their inertia on a random sample. ``"auto"`` is 1 for
        ``"k-means++"`` and an array, else 3.
    reassignment_ratio : float, default=0.01
        A center that has seen less than this share of what the busiest has seen is put on a random sample of the
        batch: every ``10 * n_clusters`` samples, or in each step while there are centers that saw none.
    metric : {"euclidean", "cosine"}, default="euclidean"
        ``"cosine"`` is spherical k-means, as in ``KMeans``.
    device : str, default="cpu"
        Where to compute.
    forgetting : float, default=0.0
        Share of its past, in [0, 1), that each center forgets before each step, so that it follows data that drift.
        0 weighs all samples alike, and centers move less and less.
    warm_start : bool, default=False
        Whether ``fit`` and ``steps`` go on. A fit that was stopped, by leaving the loop over ``steps``, by Ctrl-C or
        by a callback, is finished as if nothing had stopped it: the same bits, in another process, too. After a fit
        that has ended, or with other samples, a new one starts from the present centers, whatever ``init`` is.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        The centers; what is written into them is in force at the next prediction or step.
    labels_ : ndarray of shape (n_samples,)
        Number of each sample's nearest center: what ``predict`` returns for the samples of the last ``fit`` or
        ``partial_fit``. Only with ``compute_labels``.
    inertia_ : float
        Weighted sum of the squared distances of these samples to their centers; minus what ``score`` returns.
        Without ``compute_labels`` an estimate, from the batches before each one moved the centers.
    n_iter_ : int
        Times that ``fit`` read as many samples as there are, rounded up.
    n_steps_ : int
        Batches that were learned from since the first centers, by ``fit`` and ``partial_fit``.
    converged_ : bool
        Whether ``fit`` stopped before its last step because nothing improved; False after ``partial_fit``.
    inertia_curve_ : ndarray of shape (n_steps_,)
        Mean inertia of each batch, before it moved the centers.
    n_reassigned_ : ndarray of shape (n_steps_,)
        How many centers each step put on a random sample, because they had seen too few.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of X's columns, if all are strings.

    See Also
    --------
    KMeans : k-means on all samples at once: slower, and better.

    Notes
    -----
    Sculley 2010, "Web-scale k-means clustering". float64 centers, steps and labels are scikit-learn's up to rounding;
    counts and sums over samples are always in float64. The same stream in the same batches gives the same bits,
    whether they come by ``fit`` or by ``partial_fit``, at once or after pickling, and for any number of threads.
    A memory-mapped X that is float32 or float64 in C order is never copied whole.

    Examples
    --------
    >>> import numpy as np
    >>> from gdl import MiniBatchKMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = MiniBatchKMeans(n_clusters=2, batch_size=4, random_state=0).fit(X)
    >>> model.predict([[0, 0], [12, 3]]).tolist() in ([0, 1], [1, 0])
    True
    >>> stream = MiniBatchKMeans(n_clusters=2, init=[[0, 0], [9, 9]])
    >>> for batch in (X[::2], X[1::2]):
    ...     stream = stream.partial_fit(batch)
    >>> stream.cluster_centers_.tolist()
    [[1.0, 2.0], [10.0, 2.0]]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseKMeans._parameter_constraints,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "compute_labels": ["boolean"],
        "max_no_improvement": [Interval(Integral, 0, None, closed="left"), None],
        "init_size": [Interval(Integral, 1, None, closed="left"), None],
        "reassignment_ratio": [Interval(Real, 0, None, closed="left")],
        "forgetting": [Interval(Real, 0, 1, closed="left")],
    }
    _n_init_of_random: ClassVar[int] = 3

    batch_size: int
    compute_labels: bool
    max_no_improvement: int | None
    init_size: int | None
    reassignment_ratio: float
    forgetting: float

    _stream: Stream

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        max_iter: int = 100,
        batch_size: int = 1024,
        verbose: Any = 0,
        compute_labels: bool = True,
        random_state: Any = None,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        n_init: Any = "auto",
        reassignment_ratio: float = 0.01,
        metric: str = "euclidean",
        device: str = "cpu",
        forgetting: float = 0.0,
        warm_start: bool = False,
    ) -> None:
        arguments = dict(vars())
        self._store(arguments)

    @property
    def inertia_curve_(self) -> NDArray[np.float64]:
        """Mean inertia of each step's batch, before it moved the centers."""
        check_is_fitted(self)
        return np.array(self._stream.inertia_curve[: self._stream.n_steps])

    @property
    def n_reassigned_(self) -> NDArray[np.int64]:
        """How many centers each step put on a random sample."""
        check_is_fitted(self)
        return np.array(self._stream.n_reassigned[: self._stream.n_steps], np.int64)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find the centers, from new first ones, by batches drawn from X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Not negative, and not all zero. A sample is drawn with probability proportional to its weight.

        Returns
        -------
        object
            The estimator itself.
        """
        task = self._check(X, sample_weight)
        learner = self._learner(task, *self._plan(task), self._sample_size(len(task.X)))
        report = MiniBatchReport(self, learner.plan.n_steps, X, sample_weight)
        try:
            stopped_by = learner.fit(report.watch_steps(lambda _stream: self._snapshot(task, learner)))
            self._leave(task, learner, is_over=not stopped_by)
        except BaseException:
            if learner.can_stop():
                self._leave(task, learner, is_over=False)
            raise
        report.close_steps(learner.progress.stream)
        if stopped_by == "interrupted":
            warnings.warn("k-means interrupted by user.", stacklevel=3)
        return self

    def steps(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchSteps:
        """Iterate over what ``fit`` does, a batch at a time, to look into it and to change it.

        Whatever the loop's body leaves out is done when the loop goes on, so that an empty body makes ``fit``. In the
        body and after leaving the loop, the model is fitted, with the present centers; what is written into them is in
        force at the next step. A loop that was left can be finished by ``next``, or with ``warm_start`` by ``fit`` or
        ``steps``, also after pickling. Callbacks are not called, and nothing is printed.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        MiniBatchSteps
            An iterator over ``gdl.kmeans_steps.MiniBatchStep``. Arguments are checked now, but the model is not
            changed before the first step is taken.

        Raises
        ------
        ValueError
            If an argument is wrong, as in ``fit``; in the loop if NaN or infinity was written into the centers.
        RuntimeError
            In the loop, if the model has been fitted by another call since.

        Examples
        --------
        >>> import numpy as np
        >>> from gdl import MiniBatchKMeans
        >>> X = np.array([[0.0], [1.0], [2.0], [6.0], [9.0]])
        >>> model = MiniBatchKMeans(n_clusters=2, init=X[[0, 4]], batch_size=3, max_iter=1, random_state=0)
        >>> for step in model.steps(X):
        ...     print(step.batch.tolist(), step.labels.tolist(), step.counts.tolist(), step.new_centers.tolist())
        [4, 3, 1] [1, 1, 0] [1.0, 2.0] [[1.0], [7.5]]
        """
        return self._steps(X, sample_weight)

    def _steps(self, X: Any, sample_weight: Any) -> MiniBatchSteps:
        if not get_config()["skip_parameter_validation"]:
            self._validate_params()
        task = self._check(X, sample_weight)
        return MiniBatchSteps(self, task, *self._plan(task), self._sample_size(len(task.X)))

    def _plan(self, task: Task) -> tuple[Plan, int]:
        """Return when to stop, and the size of a batch."""
        batch_size = min(self.batch_size, len(task.X))
        spherical = self.metric == "cosine"
        tol = self.tol * mean_variance(kernels.load(self.device), task.X, spherical) if self.tol > 0 else 0.0
        return Plan(self.max_iter * len(task.X) // batch_size, tol, self.max_no_improvement), batch_size

    def _learner(self, task: Task, plan: Plan, batch_size: int, sample_size: int, watched: bool = False) -> Learner:
        """Return what learns: from where an unfinished fit has stopped, or from first centers."""
        kernel_set, progress = kernels.load(self.device), task.unfinished
        if progress is not None:
            assert task.present is not None
            stream = copy.deepcopy(replace(progress.stream, random_state=None))
            stream.centers, stream.random_state = task.present, self._draws_of(progress.stream.random_state)
            rows = progress.rows if stream.batch_size == batch_size else None
            stream.batch_size = batch_size
            progress = replace(progress, stream=stream, stopping=copy.copy(progress.stopping), rows=rows)
        else:
            random_state = check_random_state(self.random_state)
            with undrawn_on_failure(random_state):
                centers = self._choose_centers(kernel_set, task, sample_size, random_state)
            progress = StreamProgress(Stream(centers, np.zeros(len(centers)), batch_size, random_state))
        return Learner(kernel_set, task.X, task.sample_weight, self._rule(), plan, progress, watched)

    def _leave(self, task: Task, learner: Learner, is_over: bool) -> None:
        """Set all attributes, and with them what an unfinished fit goes on from."""
        progress = learner.progress
        attributes = self._attributes(learner.kernels, task, progress.stream, progress.stopping)
        if is_over:
            progress.stream.random_state = None  # as in scikit-learn, partial_fit begins its own draws
        else:
            progress.samples = task.mark()
            attributes["_progress"] = progress
        self._set(attributes)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from one batch, going on where the last ``fit`` or ``partial_fit`` stopped.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The first batch, which first centers are chosen from, must have at least ``n_clusters`` samples.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Not negative, and not all zero. A weight of 2 counts as the sample twice, 0 as not at all.

        Returns
        -------
        object
            The estimator itself.
        """
        return self._partial_fit(X, sample_weight)

    def _partial_fit(self, X: Any, sample_weight: Any) -> Self:
        if not get_config()["skip_parameter_validation"]:
            self._validate_params()
        fitted = "cluster_centers_" in vars(self)
        task = self._check_batch(X, sample_weight) if fitted else self._check(X, sample_weight)
        kernel_set, rule, n_samples = kernels.load(self.device), self._rule(), len(task.X)
        batch = _validation.on_sphere(kernel_set, task.X) if rule.spherical else task.X
        sample_size = 0 if fitted else self._sample_size(n_samples)
        # As in scikit-learn, the draws are not those of a fit, unfinished or not.
        random_state = self._stream.random_state if fitted and self._progress is None else None
        if random_state is None:
            random_state = check_random_state(self.random_state)
        with undrawn_on_failure(random_state):
            if fitted:  # on copies: a step that fails or is interrupted leaves the model as it was
                counts = self._stream.counts.copy()
                stream = replace(self._stream, centers=task.init, counts=counts, random_state=random_state)
            else:
                centers = self._draw_centers(kernel_set, task, sample_size, random_state)
                stream = Stream(centers, np.zeros(len(centers)), min(self.batch_size, n_samples), random_state)
            step(kernel_set, stream, batch, task.sample_weight, rule)
            self._set(self._attributes(kernel_set, task, stream))
        if self.verbose:
            MiniBatchReport.write(stream)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[np.int32]:
        """Fit, and return the label of each sample, whether or not ``fit`` computes them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        self.fit(X, sample_weight=sample_weight)
        return self.labels_ if self.compute_labels else self.predict(X)

    # Checks: everything that can be wrong is found before anything is changed.

    def _check(self, X: Any, sample_weight: Any) -> Task:
        """Return the arguments of a fit; rows are scaled to length 1 only batch by batch, for X may not fit twice."""
        X, weights, known = self._check_samples(X, sample_weight)
        check_finite_total(weights)
        if self.metric == "cosine":
            _validation.check_directions(X)
        return self._check_start(kernels.load(self.device), X, weights, known, partial(fingerprint, X, weights))

    def _check_batch(self, X: Any, sample_weight: Any) -> Task:
        """Return the arguments of a step that goes on, with a copy of the centers as ``init``."""
        _validation.check_device(self.device)
        self._check_metric()
        known = {name: vars(self)[name] for name in ("n_features_in_", "feature_names_in_") if name in vars(self)}
        X, known = _validation.check_unlabelled(self, X, self.cluster_centers_.dtype, known)
        weights = _validation.check_weights(sample_weight, X)
        _validation.check_total_weight(weights, "the samples")
        check_finite_total(weights)
        return Task(X, weights, self._present_centers(X), 1, known, partial(fingerprint, X, weights))

    def _sample_size(self, n_samples: int) -> int:
        """Return how many rows first centers are chosen from."""
        size = 3 * min(self.batch_size, n_samples) if self.init_size is None else self.init_size
        if size < self.n_clusters:
            if self.init_size is not None:
                warnings.warn(
                    f"init_size={size} should be larger than n_clusters={self.n_clusters}. Setting it to "
                    "min(3*n_clusters, n_samples)",
                    RuntimeWarning,
                    stacklevel=4,
                )
            size = 3 * self.n_clusters
        return min(size, n_samples)

    # First centers.

    def _choose_centers(
        self, kernel_set: ModuleType, task: Task, sample_size: int, random_state: np.random.RandomState
    ) -> NDArray[Any]:
        """Return the first centers that have the lowest inertia on a random sample; draws in scikit-learn's order."""
        rows = random_state.randint(0, len(task.X), sample_size)
        if task.n_init == 1:
            return self._draw_centers(kernel_set, task, sample_size, random_state)
        judged, weights, spherical = task.X[rows], task.sample_weight, self.metric == "cosine"
        if weights.size:
            weights = weights[rows]
        shift = shift_of(kernel_set, judged, spherical)
        best, lowest = None, math.inf
        for _ in range(task.n_init):
            centers = self._draw_centers(kernel_set, task, sample_size, random_state)
            _, inertia = finish(kernel_set, judged, weights, centers, shift, spherical)
            if best is None or inertia < lowest:
                best, lowest = centers, inertia
        assert best is not None
        return best

    def _draw_centers(
        self, kernel_set: ModuleType, task: Task, sample_size: int, random_state: np.random.RandomState
    ) -> NDArray[Any]:
        """Return first centers that were chosen from a random sample, or from all if it is as large."""
        X, weights = task.X, task.sample_weight
        if sample_size < len(X):
            n_needed = self.n_clusters if isinstance(task.init, str) and task.init == "random" else 1
            rows = draw_sample(weights, len(X), sample_size, n_needed, random_state)
            X, weights = X[rows], weights[rows] if weights.size else weights
        if self.metric == "cosine":
            X = _validation.on_sphere(kernel_set, X)
        else:
            shift_of(kernel_set, X, spherical=False)  # refuses what spreads too far to be compared
        return self._first_centers(kernel_set, task.init, X, weights, random_state)

    # From the driver to attributes.

    def _rule(self) -> Rule:
        return Rule(float(self.reassignment_ratio), float(self.forgetting), self.metric == "cosine")

    def _snapshot(self, task: Task, learner: Learner) -> dict[str, Any]:
        """Return the attributes of an estimator of its own, of a fit that was stopped here."""
        progress = copy.deepcopy(learner.progress)
        progress.samples = task.mark()
        attributes = self._attributes(learner.kernels, task, progress.stream, progress.stopping)
        return {**attributes, "_progress": progress}

    def _attributes(
        self, kernel_set: ModuleType, task: Task, stream: Stream, stopping: Stopping | None = None
    ) -> dict[str, Any]:
        """Return all fitted attributes, to be set together; ``stopping`` only after a fit."""
        attributes = self._labels_and_inertia(kernel_set, task, stream, stopping)
        return {**attributes, **self._cheap_attributes(task, stream, stopping)}

    def _labels_and_inertia(
        self, kernel_set: ModuleType, task: Task, stream: Stream, stopping: Stopping | None
    ) -> dict[str, Any]:
        """Return the attributes that take a pass over the samples."""
        X, weights, spherical = task.X, task.sample_weight, self.metric == "cosine"
        if self.compute_labels:
            labels, inertia = finish(kernel_set, X, weights, stream.centers, stream.shift, spherical)
            return {"labels_": labels, "inertia_": inertia}
        mean_inertia = stream.inertia_curve[-1] if stopping is None else stopping.inertia
        return {"inertia_": mean_inertia * total_weight(weights, len(X))}

    def _cheap_attributes(self, task: Task, stream: Stream, stopping: Stopping | None) -> dict[str, Any]:
        """Return the other attributes."""
        attributes: dict[str, Any] = {}
        if stopping is not None:
            attributes["n_iter_"] = math.ceil(stream.n_steps * stream.batch_size / len(task.X))
        return {
            **task.known,
            **attributes,
            "cluster_centers_": stream.centers,
            "n_steps_": stream.n_steps,
            "converged_": stopping is not None and stopping.converged,
            "_stream": stream,
            "_shift": stream.shift,
            "_metric": self.metric,
            "_device": self.device,
            "_at_hand": [],
            "_progress": None,
        }


def check_finite_total(weights: NDArray[Any]) -> None:
    """Refuse weights whose sum is beyond all numbers."""
    with np.errstate(over="ignore"):
        total = total_weight(weights, 0)
    if not math.isfinite(total):
        raise ValueError("The weights of the samples sum to more than a float64 holds; scale them.")

"""k-means under scikit-learn's interface: ``KMeans``, and what it shares with ``MiniBatchKMeans``."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from types import ModuleType
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from gdl import _validation, kernels
from gdl._clusters import FittedClusters
from gdl._progress import ClusteringReport
from gdl.kmeans_steps import KMeansSteps
from gdl.lloyd import Data, Plan, Progress, Run, Runs, choose_shift, farthest, fingerprint, moments, n_filled, scatter
from gdl.seeding import greedy_seeds, random_seeds, undrawn_on_failure

ALGORITHMS = ("auto", "lloyd", "elkan", "hamerly")
METRICS = ("euclidean", "cosine")
#: How far the scatter of the same samples may be off on another machine.
SAME_SCATTER = 1e-6


class Task(NamedTuple):
    """A fit whose arguments are known to be right."""

    X: NDArray[Any]
    sample_weight: NDArray[Any]  #: of shape (0,) if all are 1
    init: Any  #: "k-means++", "random", a callable, or the centers as an array
    n_init: int
    known: dict[str, Any]  #: what there is to know of X's features
    mark: Callable[[], str]  #: returns the fingerprint of the samples
    present: NDArray[Any] | None = None  #: the model's centers, if the fit starts there or goes on
    unfinished: Any = None  #: progress of the fit that goes on


class BaseKMeans(FittedClusters):
    """What ``KMeans`` and ``MiniBatchKMeans`` share: parameters, their checks, first centers."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"k-means++", "random"}), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "metric": [StrOptions(set(METRICS))],
        "device": [str],
        "warm_start": ["boolean"],
    }
    #: What ``n_init="auto"`` means for first centers that may be bad.
    _n_init_of_random: ClassVar[int]
    #: Whether NaN and infinity are found in the moments of the features, without a pass of its own over the samples.
    _measures_values: ClassVar[bool] = False

    n_clusters: int
    init: Any
    n_init: Any
    max_iter: int
    tol: float
    verbose: Any
    random_state: Any
    metric: str
    device: str
    warm_start: bool

    def _store(self, arguments: dict[str, Any]) -> None:
        """Keep the arguments of ``__init__`` as they are, which is all that ``clone`` allows."""
        del arguments["self"]
        self.__dict__.update(arguments)

    def _check(self, X: Any, sample_weight: Any) -> Task:
        """Return the arguments of a fit as kernels take them; nothing has changed if one is wrong."""
        X, weights, known = self._check_samples(X, sample_weight)
        kernel_set, mark = kernels.load(self.device), partial(fingerprint, X, weights)
        if self.metric == "cosine":
            X = _validation.on_sphere(kernel_set, X)
        return self._check_start(kernel_set, X, weights, known, mark)

    def _check_samples(self, X: Any, sample_weight: Any) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Return samples and weights of a fit as arrays, and what there is to know of X's features."""
        _validation.check_device(self.device)
        values = self.metric == "cosine" or not self._measures_values
        X, known = _validation.check_unlabelled(self, X, (np.float64, np.float32), values=values)
        if len(X) < self.n_clusters:
            raise ValueError(
                f"n_samples={len(X)} should be >= n_clusters={self.n_clusters}; choose fewer clusters or pass more "
                "samples."
            )
        weights = _validation.check_weights(sample_weight, X)
        _validation.check_total_weight(weights, "the samples")
        return X, weights, known

    def _check_start(
        self,
        kernel_set: ModuleType,
        X: NDArray[Any],
        weights: NDArray[Any],
        known: dict[str, Any],
        mark: Callable[[], str],
    ) -> Task:
        """Return the arguments of a fit that begins anew, at the present centers, or where the last one stopped."""
        if not (self.warm_start and "cluster_centers_" in vars(self)):
            return Task(X, weights, *self._check_init(kernel_set, X), known, mark)
        self._check_metric()
        present = self._present_centers(X)
        if self._progress is None or self._progress.samples != mark():
            return Task(X, weights, self._as_init(present), 1, known, mark, present)
        return Task(X, weights, *self._check_init(kernel_set, X), known, mark, present, self._progress)

    def _check_metric(self) -> None:
        if self.metric != self._metric:
            raise ValueError(
                f'metric="{self.metric}", but the centers were found with metric="{self._metric}"; set it back, or '
                + ("fit with warm_start=False." if self.warm_start else "call fit.")
            )

    def _present_centers(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of the model's centers."""
        return _validation.check_centers(self.cluster_centers_, self.n_clusters, X, "cluster_centers_")

    def _take_present(self, task: Task) -> Task:
        """Return the arguments with the model's centers as they are now; refuse a model that was fitted since."""
        if task.present is None:
            return task
        if task.unfinished is not None and task.unfinished is not self._progress:
            raise RuntimeError("The model has been fitted since these steps were asked for; call steps() again.")
        present = self._present_centers(task.X)
        task = task._replace(present=present)
        return task if task.unfinished is not None else task._replace(init=self._as_init(present))

    def _draws_of(self, random_state: np.random.RandomState) -> np.random.RandomState:
        """Return what an unfinished fit draws from: the user's own, or a copy, for copies of the model have it, too."""
        return random_state if random_state is self.random_state else copy.deepcopy(random_state)

    def _as_init(self, centers: NDArray[Any]) -> NDArray[Any]:
        """Return the model's centers as first centers."""
        if self.metric != "cosine":
            return centers
        return _validation.on_sphere(kernels.load(self.device), centers, "cluster_centers_")

    def _set(self, attributes: dict[str, Any]) -> None:
        """Set fitted attributes, and drop those that the last fit had and this one has not."""
        for name in ("feature_names_in_", "labels_", "_loop"):
            self.__dict__.pop(name, None)
        self.__dict__.update(attributes)

    def _check_init(self, kernel_set: ModuleType, X: NDArray[Any]) -> tuple[Any, int]:
        """Return ``init``, as an array if it is one, and from how many first centers to start."""
        init = self.init
        is_array = not isinstance(init, str) and not callable(init)
        if is_array:
            init = self._check_centers(kernel_set, init, X)
        may_be_bad = not is_array and not (isinstance(init, str) and init == "k-means++")
        n_init = (self._n_init_of_random if may_be_bad else 1) if isinstance(self.n_init, str) else int(self.n_init)
        if is_array and n_init > 1:
            warnings.warn(
                f"Explicit initial centers were passed: {type(self).__name__} starts from them once, not "
                f"n_init={n_init} times.",
                RuntimeWarning,
                stacklevel=6,
            )
            n_init = 1
        return init, n_init

    def _check_centers(self, kernel_set: ModuleType, centers: Any, X: NDArray[Any]) -> NDArray[Any]:
        checked = _validation.check_centers(centers, self.n_clusters, X)
        return _validation.on_sphere(kernel_set, checked, "init") if self.metric == "cosine" else checked

    def _first_centers(
        self,
        kernel_set: ModuleType,
        init: Any,
        X: NDArray[Any],
        sample_weight: NDArray[Any],
        random_state: np.random.RandomState,
    ) -> NDArray[Any]:
        """Return the centers to start from, as ``init`` says."""
        if isinstance(init, np.ndarray):
            return init
        if callable(init):
            return self._check_centers(kernel_set, init(X, self.n_clusters, random_state=random_state), X)
        if init == "random":
            return X[random_seeds(sample_weight, len(X), self.n_clusters, random_state)]
        return X[greedy_seeds(kernel_set, X, sample_weight, self.n_clusters, random_state)]


class KMeans(CallbackSupportMixin, BaseKMeans):
    """k-means clustering: the centers that leave the smallest sum of squared distances to them.

    Parameters
    ----------
    n_clusters : int, default=8
        How many centers.
    init : {"k-means++", "random"}, callable or array-like of shape (n_clusters, n_features), default="k-means++"
        First centers: greedy k-means++, different samples, what ``init(X, n_clusters, random_state=...)`` returns,
        or the array itself.
    n_init : "auto" or int, default="auto"
        Runs from different first centers, of which the one with the lowest inertia is kept. ``"auto"`` is 1 for
        ``"k-means++"`` and an array, else 10.
    max_iter : int, default=300
        Most iterations of a run.
    tol : float, default=1e-4
        A run has converged if the squared moves of all centers sum to at most ``tol`` times the mean variance of the
        features, or if no label changes.
    verbose : bool or int, default=0
        Whether to show a line of progress on stderr.
    random_state : int, RandomState instance or None, default=None
        Seed of the first centers. Numbers are drawn in scikit-learn's order.
    copy_x : bool, default=True
        Has no effect: X is never changed, and never copied whole.
    algorithm : {"auto", "lloyd", "elkan", "hamerly"}, default="auto"
        ``"lloyd"`` compares each sample with all centers in each iteration; ``"elkan"`` and ``"hamerly"`` leave out
        those that bounds show to stay where they are (Hamerly 2010). ``"auto"`` tries bounds where a comparison is
        long, and goes on without if they do not pay. All give the same labels, centers and iterations.
    metric : {"euclidean", "cosine"}, default="euclidean"
        ``"cosine"`` is spherical k-means: samples and centers are scaled to length 1, the inertia is the sum of
        1 minus the cosine.
    device : str, default="cpu"
        Where to compute.
    warm_start : bool, default=False
        Whether ``fit`` and ``steps`` go on. A fit that was stopped, by leaving the loop over ``steps``, by Ctrl-C or
        by a callback, is finished as if nothing had stopped it: the same bits, in another process, too. After a fit
        that has ended, or with other samples, a single run starts from the present centers, whatever ``init`` is.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        The centers; what is written into them is in force at the next prediction.
    labels_ : ndarray of shape (n_samples,)
        Number of each sample's nearest center: what ``predict`` returns for the samples of ``fit``.
    inertia_ : float
        Weighted sum of the squared distances to the nearest center, in float64; minus what ``score`` returns.
    n_iter_ : int
        Iterations of the run that was kept.
    converged_ : bool
        Whether it converged within ``max_iter`` iterations.
    inertia_curve_ : ndarray of shape (n_iter_,)
        Inertia of each iteration's labels, before its centers were moved.
    n_reassigned_ : ndarray of shape (n_iter_,)
        How many labels changed in each iteration.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of X's columns, if all are strings.

    See Also
    --------
    MiniBatchKMeans : k-means on small batches, for data that do not fit or do not end.

    Notes
    -----
    From the same first centers, float64 labels, centers and iterations are scikit-learn's up to rounding. float32
    data are computed in float32, all others in float64; sums over samples always in float64. The same call gives the
    same bits, for any number of threads. An empty cluster is given the sample that is farthest from its center.

    Examples
    --------
    >>> import numpy as np
    >>> from gdl import KMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> model.labels_.tolist()
    [1, 1, 1, 0, 0, 0]
    >>> model.cluster_centers_.tolist()
    [[10.0, 2.0], [1.0, 2.0]]
    >>> model.predict([[0, 0], [12, 3]]).tolist()
    [1, 0]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseKMeans._parameter_constraints,
        "copy_x": ["boolean"],
        "algorithm": [StrOptions(set(ALGORITHMS))],
    }
    _n_init_of_random: ClassVar[int] = 10
    _measures_values: ClassVar[bool] = True

    copy_x: bool
    algorithm: str

    labels_: NDArray[np.int32]
    converged_: bool

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: Any = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "auto",
        metric: str = "euclidean",
        device: str = "cpu",
        warm_start: bool = False,
    ) -> None:
        arguments = dict(vars())
        self._store(arguments)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find the centers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Not negative, and not all zero. A weight of 2 counts as the sample twice, 0 as not at all.

        Returns
        -------
        object
            The estimator itself.
        """
        task = self._check(X, sample_weight)
        runs = self._runs(task, *self._measure(task))
        report = ClusteringReport(self, runs.progress.n_init * self.max_iter, X, sample_weight)
        watch = partial(report.watch, lambda _run: self._attributes(task, runs, *runs.snapshot()))
        try:
            stopped_by = runs.fit(watch)
            if stopped_by:
                self._stop(task, runs)
            else:
                self._end(task, runs)
        except BaseException:
            if runs.can_stop():
                self._stop(task, runs)
            raise
        report.close()
        if stopped_by == "interrupted":
            warnings.warn("k-means interrupted by user.", stacklevel=3)
        elif not stopped_by:
            self._warn()
        return self

    def steps(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeansSteps:
        """Iterate over what ``fit`` does, an iteration at a time, to look into it and to change it.

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
        KMeansSteps
            An iterator over ``gdl.kmeans_steps.KMeansStep``. Arguments are checked now, but the model is not changed
            before the first step is taken.

        Raises
        ------
        ValueError
            If an argument is wrong, as in ``fit``; in the loop if NaN or infinity was written into the centers.
        RuntimeError
            In the loop, if the model has been fitted by another call since.

        Examples
        --------
        >>> import numpy as np
        >>> from gdl import KMeans
        >>> X = np.array([[0.0], [1.0], [2.0], [6.0], [9.0]])
        >>> model = KMeans(n_clusters=2, init=X[:2])
        >>> for step in model.steps(X):
        ...     print(step.iteration, step.inertia, step.moved.tolist(), step.new_centers.ravel().tolist())
        0 90.0 [0, 1, 2, 3, 4] [0.0, 4.5]
        1 27.5 [1, 2] [1.0, 7.5]
        2 6.5 [] [1.0, 7.5]
        >>> model.labels_.tolist()
        [0, 0, 0, 1, 1]
        """
        return self._steps(X, sample_weight)

    def _steps(self, X: Any, sample_weight: Any) -> KMeansSteps:
        if not get_config()["skip_parameter_validation"]:
            self._validate_params()
        task = self._check(X, sample_weight)
        return KMeansSteps(self, task, *self._measure(task))

    def _measure(self, task: Task) -> tuple[Data, float]:
        """Return the data with what all runs share, and the tolerance in squared distance."""
        kernel_set = kernels.load(self.device)
        X, weights, spherical = task.X, task.sample_weight, self.metric == "cosine"
        with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is refused
            mean, variance = moments(kernel_set, X)
            if not np.isfinite(variance).all():  # NaN or infinity, refused by name, or samples far apart, see below
                _validation.check_unlabelled(self, X, X.dtype)
            shift = np.zeros(X.shape[1], X.dtype) if spherical else choose_shift(mean, variance, X.dtype)
            spread = len(X) * float((variance + (mean - shift) ** 2).sum())
        total = scatter(kernel_set, X, weights, shift) if weights.size or not np.isfinite(spread) else spread
        if not 4 * spread < float(np.finfo(X.dtype).max):  # a bound for the distance between any two samples
            spread = farthest(kernel_set, X, shift)
        _validation.check_spread(4 * spread if np.isfinite(total) else total, X.dtype)
        return Data(X, weights, shift, total, spherical), self.tol * float(variance.mean())

    def _runs(self, task: Task, data: Data, tol: float, watched: bool = False) -> Runs:
        """Return the runs of a fit: those that an unfinished one has left, or new ones."""
        kernel_set, init, progress = kernels.load(self.device), task.init, self._unfinished(task, data)
        n_init = task.n_init
        if progress is None:
            if task.present is not None:
                init, n_init = self._as_init(task.present), 1
            progress = Progress(check_random_state(self.random_state), n_init)
        plan = Plan(self.max_iter, tol, self.algorithm)
        draw = partial(self._first_centers, kernel_set, init, task.X, task.sample_weight)

        def choose(random_state: np.random.RandomState) -> NDArray[Any]:
            if n_init == 1 and random_state is not self.random_state:
                return draw(random_state)
            with undrawn_on_failure(random_state):  # who draws again after a failure goes on as if there was none
                return draw(random_state)

        return Runs(kernel_set, data, plan, progress, choose, watched)

    def _unfinished(self, task: Task, data: Data) -> Progress | None:
        """Return a copy of an unfinished fit's progress, with the model's centers; None if it cannot go on."""
        progress: Progress | None = task.unfinished
        if progress is None or not math.isclose(progress.scatter, data.scatter, rel_tol=SAME_SCATTER):
            return None
        assert task.present is not None
        run = copy.deepcopy(progress.run)
        if any(len(known.labels) != len(task.X) for known in (run, progress.best) if known is not None):
            return None
        if progress.is_best_shown:
            assert progress.best is not None
            if not np.array_equal(task.present, progress.best.centers):
                return None  # somebody wrote into centers that are not those of the run that goes on
        elif run is not None:
            run.centers = task.present
        return replace(progress, run=run, random_state=self._draws_of(progress.random_state))

    def _stop(self, task: Task, runs: Runs) -> None:
        """Leave the best run so far, and what the fit can go on from."""
        run = runs.stop()
        self._set(self._attributes(task, runs, run, runs.progress))

    def _end(self, task: Task, runs: Runs) -> None:
        """Leave the best run."""
        best = runs.progress.best
        assert best is not None
        self._set(self._attributes(task, runs, best, None))

    def _attributes(self, task: Task, runs: Runs, run: Run, progress: Progress | None) -> dict[str, Any]:
        """Return all fitted attributes, to be set together."""
        return {
            **self._cheap_attributes(task, runs, run, progress),
            "labels_": run.labels,
            "inertia_": run.inertia,
            "inertia_curve_": np.array(run.inertia_curve),
            "n_reassigned_": np.array(run.n_reassigned, np.int64),
        }

    def _cheap_attributes(self, task: Task, runs: Runs, run: Run, progress: Progress | None) -> dict[str, Any]:
        """Return those that take no work."""
        if progress is not None and not progress.samples:
            progress.samples, progress.scatter = task.mark(), runs.data.scatter
        return {
            **task.known,
            "cluster_centers_": run.centers,
            "n_iter_": run.n_iter,
            "converged_": run.converged,
            "_shift": runs.data.shift,
            "_metric": self.metric,
            "_device": self.device,
            "_at_hand": [],
            "_progress": progress,
        }

    def _warn(self) -> None:
        """Say what is not well with a fit; the model is in place whatever becomes of the warning."""
        n_found = n_filled(self.labels_, self.n_clusters)
        if n_found < self.n_clusters:
            warnings.warn(
                f"Only {n_found} of n_clusters={self.n_clusters} clusters have samples: "
                "X may have fewer distinct points; choose fewer clusters.",
                ConvergenceWarning,
                stacklevel=4,
            )
        if not self.converged_:
            warnings.warn(
                f"k-means has not converged after max_iter={self.max_iter} iterations; raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=4,
            )

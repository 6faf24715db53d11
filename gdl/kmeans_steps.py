"""Looping over a fit of k-means step by step: ``KMeans.steps`` and ``MiniBatchKMeans.steps`` return these iterators.

A step has three parts. ``predict`` assigns samples to centers, ``compare`` says how far they are from them, and
``learn`` moves the centers. ``fit`` does the same parts of the same drivers, only without anybody looking.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from gdl import _validation
from gdl.lloyd import Data, Lloyd, Run, Runs, as_if_ended
from gdl.mini_batch import Learner, Plan
from gdl.training import HeldInterrupt

PREDICT, COMPARE, LEARN = 1, 2, 3


class Steps:
    """An iterator over the steps of a fit, which leaves the model fitted after each part of them."""

    #: Attributes of the model that are made only when somebody asks.
    LAZY: ClassVar[tuple[str, ...]]

    def __init__(self, model: Any, task: Any) -> None:
        self._model, self._task = model, task
        self._step: Any = None
        self._n_done = 0  #: parts of it
        self._is_over = False
        #: What was made when somebody asked, and the centers that it belongs to.
        self._made: tuple[NDArray[Any], dict[str, Any]] | None = None

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def _take_next(self) -> bool:
        """Finish the step, and find the next; return False at the end."""
        if self._is_over:
            return False
        if self._step is None:
            if self._model._loop is not self:
                self._start()
        else:
            self._check_in_force()
            untouched = self._n_done == 0
            self._advance(LEARN)
            if not untouched:  # else nobody has had the time to write into the new centers
                self._adopt()
        if not self._begin_step():
            return False
        self._n_done = 0
        return True

    def close(self) -> None:
        """End the loop here, and let go of the samples; the model stays as it is, and can go on with ``warm_start``."""
        if self._model._loop is self:
            attributes = self.attributes()
            del self._model.__dict__["_loop"]
            self._model.__dict__.update(attributes)
        self._is_over, self._step = True, None

    def _check_in_force(self) -> None:
        """Refuse to go on with a model that is no longer in this loop."""
        if self._model._loop is not self:
            raise RuntimeError("The model has been fitted since these steps began; call steps() again.")

    def _advance(self, n_parts: int) -> None:
        """Do the parts of the step up to this number; Ctrl-C waits for the end of a part."""
        if self._n_done >= n_parts:
            return
        self._check_in_force()
        with HeldInterrupt() as interrupt:
            while self._n_done < n_parts:
                if self._n_done == 0:
                    self._adopt()
                self._parts()[self._n_done]()
                self._n_done += 1
                if self._n_done == LEARN:
                    self._show()
                interrupt.check()

    def _adopt(self) -> None:
        """Take up what the user wrote into the model's centers, or put in their place."""
        centers, given = self._centers(), self._model.cluster_centers_
        if given is not centers or not np.isfinite(centers).all():
            centers[...] = _validation.check_centers(given, len(centers), centers, "cluster_centers_")
            self._model.__dict__["cluster_centers_"] = centers

    def attribute(self, name: str) -> Any:
        """Return one of the ``LAZY`` attributes of the model."""
        self._adopt()
        centers = self._centers()
        if self._made is None or not np.array_equal(self._made[0], centers):
            self._made = centers.copy(), self._make()
        try:
            return self._made[1][name]
        except KeyError:
            raise AttributeError(f"{type(self._model).__name__!r} object has no attribute {name!r}") from None

    def attributes(self) -> dict[str, Any]:
        """Return all of them."""
        return {name: self.attribute(name) for name in self.LAZY if hasattr(self._model, name)}

    def _show(self) -> None:
        """Bring the model's other attributes up to date."""
        self._made = None
        self._model.__dict__.update(self._attributes())

    def _enter(self) -> None:
        """Take the model over."""
        self._model._set({"_loop": self})
        for name in self.LAZY:
            self._model.__dict__.pop(name, None)
        self._show()

    def _start(self) -> None:
        """Make what does the steps, and take the model over."""
        raise NotImplementedError

    def _begin_step(self) -> bool:
        """Begin the next step; return False, with the model as ``fit`` leaves it, if there is none."""
        raise NotImplementedError

    def _parts(self) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
        """Return the three parts of a step."""
        raise NotImplementedError

    def _centers(self) -> NDArray[Any]:
        """Return the array that the next part reads the centers from."""
        raise NotImplementedError

    def _make(self) -> dict[str, Any]:
        """Return the attributes that belong to the model's centers as they are now."""
        raise NotImplementedError

    def _attributes(self) -> dict[str, Any]:
        """Return the attributes that cost nothing, and what an unfinished fit goes on from."""
        raise NotImplementedError


class KMeansSteps(Steps):
    """An iterator over the iterations of a fit, of one run after the other: what ``KMeans.steps`` returns.

    The model keeps a reference to the samples until the loop ends, ``close`` is called or another fit begins.
    """

    LAZY = ("labels_", "inertia_", "inertia_curve_", "n_reassigned_")

    def __init__(self, model: Any, task: Any, data: Data, tol: float) -> None:
        super().__init__(model, task)
        self._data, self._tol = data, tol
        self._runs: Runs
        self._run: Run  #: the latest

    def __next__(self) -> KMeansStep:
        """Finish the step, and return the next."""
        if not self._take_next():
            if not self._is_over:
                self._end()
            raise StopIteration
        assert self._runs.lloyd is not None
        self._step = step = KMeansStep(self, self._runs.lloyd, self._runs.progress.n_ended)
        return step

    def _end(self) -> None:
        self._is_over = True
        self._model._end(self._task, self._runs)
        self._model._warn()

    def _start(self) -> None:
        task = self._model._take_present(self._task)
        self._runs = self._model._runs(task, self._data, self._tol, watched=True)
        progress = self._runs.progress
        progress.is_best_shown = False
        lloyd = self._runs.start_run()
        self._run = progress.best if lloyd is None else lloyd.run  # type: ignore[assignment]
        self._enter()

    def _begin_step(self) -> bool:
        runs = self._runs
        if runs.lloyd is not None:
            with HeldInterrupt() as interrupt:
                runs.lloyd.adopt()
                if not runs.lloyd.goes_on():
                    runs.end_run()
                    self._made = None
            interrupt.check()
        while runs.lloyd is None:
            lloyd = runs.start_run()
            if lloyd is None:
                return False
            self._run = lloyd.run
            self._show()
            if not lloyd.goes_on():  # one that was stopped when it was about to end
                runs.end_run()
        runs.lloyd.begin()
        return True

    def _parts(self) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
        lloyd = self._runs.lloyd
        assert lloyd is not None
        return lloyd.predict, lloyd.compare, lloyd.learn

    def _centers(self) -> NDArray[Any]:
        return self._run.centers

    def _make(self) -> dict[str, Any]:
        run = self._run
        ended = as_if_ended(self._runs.kernels, self._runs.data, run)
        return {
            "labels_": ended.labels,
            "inertia_": ended.inertia,
            "inertia_curve_": np.array(run.inertia_curve),
            "n_reassigned_": np.array(run.n_reassigned, np.int64),
        }

    def _attributes(self) -> dict[str, Any]:
        cheap: dict[str, Any] = self._model._cheap_attributes(self._task, self._runs, self._run, self._runs.progress)
        return cheap


class MiniBatchSteps(Steps):
    """An iterator over the batches of a fit: what ``MiniBatchKMeans.steps`` returns.

    The model keeps a reference to the samples until the loop ends, ``close`` is called or another fit begins.
    """

    LAZY = ("labels_", "inertia_")

    def __init__(self, model: Any, task: Any, plan: Plan, batch_size: int, sample_size: int) -> None:
        super().__init__(model, task)
        self._plan, self._batch_size, self._sample_size = plan, batch_size, sample_size
        self._learner: Learner

    def __next__(self) -> MiniBatchStep:
        """Finish the step, and return the next."""
        if not self._take_next():
            if not self._is_over:
                self._is_over = True
                self._model._leave(self._task, self._learner, is_over=True)
            raise StopIteration
        self._step = step = MiniBatchStep(self, self._learner)
        return step

    def _start(self) -> None:
        task = self._model._take_present(self._task)
        self._learner = self._model._learner(task, self._plan, self._batch_size, self._sample_size, watched=True)
        if self._learner.goes_on():
            self._learner.begin()  # finds the point that kernels see the data from, without which nothing is predicted
        self._learner.progress.samples = task.mark()
        self._enter()

    def _begin_step(self) -> bool:
        learner = self._learner
        if not learner.goes_on():
            return False
        with HeldInterrupt() as interrupt:
            learner.begin()
            self._show()
        interrupt.check()
        return True

    def _parts(self) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
        return self._learner.parts.predict, self._learner.parts.compare, self._learner.learn

    def _centers(self) -> NDArray[Any]:
        return self._learner.progress.stream.centers

    def _make(self) -> dict[str, Any]:
        progress = self._learner.progress
        made: dict[str, Any] = self._model._labels_and_inertia(
            self._learner.kernels, self._task, progress.stream, progress.stopping
        )
        return made

    def _attributes(self) -> dict[str, Any]:
        progress = self._learner.progress
        cheap = self._model._cheap_attributes(self._task, progress.stream, progress.stopping)
        return {**cheap, "_progress": progress}


class Step:
    """What the steps of both estimators share: three parts, and a look at the arrays only until the loop goes on."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._distances: NDArray[np.float64] | None = None

    def _after(self, n_parts: int) -> None:
        """See to it that these parts are done."""
        if self._steps._step is not self or self._steps._is_over:
            raise RuntimeError(
                "This step has passed, and its arrays hold the numbers of a later one; copy what is to stay while the "
                "loop's body has the step."
            )
        self._steps._advance(n_parts)

    def _do(self, part: int, again: bool = True) -> None:
        """Do this part and those before it that are not done; ``again`` even if it is done."""
        self._after(0)
        if self._steps._n_done == LEARN:
            raise RuntimeError("This step has learned already and cannot be taken up again; go on to the next.")
        if again:
            self._steps._n_done = min(self._steps._n_done, part - 1)
        self._distances = None
        self._after(part)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written into."""
    view = array.view()
    view.flags.writeable = False
    return view


class KMeansStep(Step):
    """One iteration of a run of ``KMeans``.

    Arrays are those that ``fit`` computes with, not copies, and are used again when the loop goes on: whatever is to
    stay must be copied, and a step that is over refuses to be read. To read an attribute does the parts of the step
    that it needs; to read nothing costs nothing.

    Attributes
    ----------
    run : int
        Which run it belongs to, of ``n_init``, from 0.
    iteration : int
        Which iteration of the run it is, from 0.
    centers : ndarray of shape (n_clusters, n_features)
        Before the step; what is written into them before ``predict`` is in force.
    labels : ndarray of shape (n_samples,), int32
        Number of the nearest of ``centers``; cannot be written into, for ``sums`` and ``sizes`` belong to it.
    distances : ndarray of shape (n_samples,), float64
        Distance to it; with ``metric="cosine"``, 1 minus the cosine.
    moved : ndarray of shape (n_moved,), int64
        Rows of the samples whose label is another than in the last iteration: all in the first.
    sums : ndarray of shape (n_clusters, n_features), float64
        Weighted sum of the samples of each cluster, relative to ``shift``; what is written before ``learn`` is in
        force.
    sizes : ndarray of shape (n_clusters,), float64
        Weight of the samples of each cluster, their number without weights; what is written before ``learn`` is in
        force.
    shift : ndarray of shape (n_features,)
        The point that ``sums`` are relative to.
    inertia : float
        Weighted sum of the squared distances, as in ``inertia_curve_``.
    empty : ndarray of shape (n_empty,), int64
        Numbers of the clusters that no sample was nearest to; in ``sums`` and ``sizes`` they have been given one.
    new_centers : ndarray of shape (n_clusters, n_features)
        After the step; what is written into them is in force in the next iteration.
    moves : ndarray of shape (n_clusters,), float64
        How far each center was moved.
    converged : bool
        Whether the run has converged with this step. The run goes on all the same if centers are then written into.
    """

    _steps: KMeansSteps

    def __init__(self, steps: KMeansSteps, lloyd: Lloyd, run: int) -> None:
        super().__init__(steps)
        self._lloyd = lloyd
        self.run, self.iteration = run, lloyd.run.n_iter

    def predict(self) -> NDArray[np.int32]:
        """Assign each sample to its nearest center, and add up each cluster in the same pass; return the labels.

        May be called again after a change of the centers, as long as the step has not learned.
        """
        self._do(PREDICT)
        return self.labels

    def compare(self) -> float:
        """Take the inertia, and give empty clusters a sample; return the inertia."""
        self._do(COMPARE, again=False)  # the sums have changed if a cluster was empty
        return self.inertia

    def learn(self) -> NDArray[Any]:
        """Move each center to the mean of its cluster; return the new centers."""
        self._do(LEARN)
        return self.new_centers

    @property
    def centers(self) -> NDArray[Any]:
        """Centers before the step."""
        self._after(0)
        return self._lloyd.centers

    @property
    def shift(self) -> NDArray[Any]:
        """The point that ``sums`` are relative to."""
        return read_only(self._lloyd.data.shift)

    @property
    def labels(self) -> NDArray[np.int32]:
        """Number of each sample's nearest center."""
        self._after(PREDICT)
        return read_only(self._lloyd.labels)

    @property
    def distances(self) -> NDArray[np.float64]:
        """Distance of each sample to its nearest center."""
        self._after(PREDICT)
        if self._distances is None:
            lloyd = self._lloyd
            self._distances = label_distances(
                lloyd.kernels, lloyd.data.X, lloyd.centers, lloyd.labels, lloyd.data.spherical
            )
        return self._distances

    @property
    def moved(self) -> NDArray[np.int64]:
        """Rows of the samples whose label has changed."""
        self._after(PREDICT)
        return np.flatnonzero(self._lloyd.labels != self._lloyd.labels_before)

    @property
    def n_reassigned(self) -> int:
        """How many these are."""
        self._after(PREDICT)
        return int(self._lloyd.n_reassigned[0])

    @property
    def sums(self) -> NDArray[np.float64]:
        """Weighted sum of each cluster's samples."""
        self._after(COMPARE)
        return self._lloyd.sums

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Weight of each cluster's samples."""
        self._after(COMPARE)
        return self._lloyd.weights

    @property
    def inertia(self) -> float:
        """Weighted sum of the squared distances."""
        self._after(COMPARE)
        return self._lloyd.inertia

    @property
    def empty(self) -> NDArray[np.int64]:
        """Numbers of the clusters without samples."""
        self._after(COMPARE)
        return self._lloyd.empty

    @property
    def new_centers(self) -> NDArray[Any]:
        """Centers after the step."""
        self._after(LEARN)
        return self._lloyd.new_centers

    @property
    def moves(self) -> NDArray[np.float64]:
        """How far each center was moved."""
        self._after(LEARN)
        return self._lloyd.moves

    @property
    def converged(self) -> bool:
        """Whether the run has converged."""
        self._after(LEARN)
        return self._lloyd.run.converged


class MiniBatchStep(Step):
    """One step of ``MiniBatchKMeans``, from one batch.

    Arrays are those that ``fit`` computes with, not copies, and are used again when the loop goes on: whatever is to
    stay must be copied, and a step that is over refuses to be read. To read an attribute does the parts of the step
    that it needs; to read nothing costs nothing.

    Attributes
    ----------
    iteration : int
        Which step of the fit it is, from 0.
    batch : ndarray of shape (batch_size,), int64
        Rows of the samples that were drawn.
    inputs : ndarray of shape (batch_size, n_features)
        These samples, with ``metric="cosine"`` of length 1; what is written into them before ``predict`` is learned.
    centers : ndarray of shape (n_clusters, n_features)
        Before the step; what is written into them before ``predict`` is in force.
    labels : ndarray of shape (batch_size,), int32
        Number of the nearest of ``centers``; what is written into them before ``compare`` is in force.
    distances : ndarray of shape (batch_size,), float64
        Distance to the center of the label; with ``metric="cosine"``, 1 minus the cosine.
    inertia : float
        Mean of the squared distances, as in ``inertia_curve_``.
    new_centers : ndarray of shape (n_clusters, n_features)
        After the step; what is written into them is in force in the next.
    counts : ndarray of shape (n_clusters,), float64
        How many samples each center has seen, this batch included; what is written into them is in force in the next.
    reassigned : ndarray of shape (n_reassigned,), int64
        Numbers of the centers that were put on a random sample of the batch, because they had seen too few.
    converged : bool
        Whether the fit ends with this step because nothing has improved.
    """

    _steps: MiniBatchSteps

    def __init__(self, steps: MiniBatchSteps, learner: Learner) -> None:
        super().__init__(steps)
        self._learner, self._parts = learner, learner.parts
        self.iteration = learner.progress.stream.n_steps
        assert learner.progress.rows is not None
        self.batch: NDArray[np.int64] = read_only(learner.progress.rows)

    def predict(self) -> NDArray[np.int32]:
        """Assign each sample of the batch to its nearest center; return the labels.

        May be called again after a change of the centers or the inputs, as long as the step has not learned.
        """
        self._do(PREDICT)
        return self.labels

    def compare(self) -> float:
        """Take the mean inertia, and return it."""
        self._do(COMPARE)
        return self.inertia

    def learn(self) -> NDArray[Any]:
        """Move the centers, and give those that see few samples a new place; return the new centers."""
        self._do(LEARN)
        return self.new_centers

    @property
    def inputs(self) -> NDArray[Any]:
        """The samples."""
        self._after(0)
        return self._learner.batch

    @property
    def centers(self) -> NDArray[Any]:
        """Centers before the step."""
        self._after(0)
        return self._parts.centers

    @property
    def labels(self) -> NDArray[np.int32]:
        """Number of each sample's nearest center."""
        self._after(PREDICT)
        return self._parts.labels

    @property
    def distances(self) -> NDArray[np.float64]:
        """Distance of each sample to the center of its label."""
        self._after(PREDICT)
        if self._distances is None:
            parts = self._parts
            self._distances = label_distances(parts.kernels, parts.X, parts.centers, parts.labels, parts.rule.spherical)
        return self._distances

    @property
    def inertia(self) -> float:
        """Mean of the squared distances."""
        self._after(COMPARE)
        return self._parts.inertia

    @property
    def new_centers(self) -> NDArray[Any]:
        """Centers after the step."""
        self._after(LEARN)
        return self._learner.progress.stream.centers

    @property
    def counts(self) -> NDArray[np.float64]:
        """How many samples each center has seen."""
        self._after(LEARN)
        return self._learner.progress.stream.counts

    @property
    def reassigned(self) -> NDArray[np.int64]:
        """Numbers of the centers that were put elsewhere."""
        self._after(LEARN)
        return self._parts.reassigned

    @property
    def converged(self) -> bool:
        """Whether the fit ends with this step."""
        self._after(LEARN)
        return self._learner.progress.stopping.converged


def label_distances(
    kernels: Any, X: NDArray[Any], centers: NDArray[Any], labels: NDArray[np.int32], spherical: bool
) -> NDArray[np.float64]:
    """Return the distance of each sample to the center of its label, as ``transform`` measures it."""
    distances = np.empty(len(X))
    kernels.label_distances(X, centers, labels, distances)
    return distances / 2 if spherical else np.sqrt(distances)

"""Training networks in the open: one step or one epoch at a time, every number there to be read and changed.

A step predicts a batch, compares it with the truth, and learns. Who does not look pays nothing: a step that
nobody touches is one call into compiled code, the same as in ``fit``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdl._lbfgs import LBFGS
from gdl.kernels import layout
from gdl.training import NO_RATE, Driver, HeldInterrupt, Observer, Trainer, Training, change_rate

FITTED_ANEW = "The model was fitted anew since this loop began; begin another with model.steps()."

# How far a step has come.
NEW, PREDICTED, COMPARED, LEARNED = range(4)


class LayerGradient(NamedTuple):
    """Gradient of the loss by the knobs of one layer."""

    W: NDArray[Any]  #: (n_in, n_out)
    b: NDArray[Any] | None  #: (n_out,); None without intercepts


class Step:
    """One step of training: a batch, and what it does to the network.

    The three parts can be taken one by one: ``predict()``, ``compare()``, ``learn()``. An attribute that needs a
    part has it done when it is read; what is left when the loop goes on is done then. Arrays are those that training
    works in, not copies: what is written into them counts, and the next step overwrites them.

    Attributes
    ----------
    epoch : int
        Number of the epoch, from 0; its place in ``loss_curve_``.
    number : int
        Steps that the optimizer took before this one.
    position : int
        Place of the step in its epoch, from 0.
    """

    __slots__ = ("_driver", "_loss", "_rate", "_stage", "_turn", "epoch", "number", "position")

    def __init__(self, driver: Any, training: Training) -> None:
        self._driver, self._stage, self._turn, self._loss = driver, NEW, driver.turn, math.nan
        self.epoch, self.number, self.position = len(training.loss_curve), training.step, training.position

    # The three parts.

    def predict(self) -> NDArray[Any]:
        """Take the batch through the network, and return what comes out: ``prediction``.

        May be called again after a change of the parameters, as long as the step has not learned.
        """
        self._check_open("predict")
        self._predict()
        self._stage = PREDICTED
        return self.prediction

    def compare(self) -> float:
        """Compare the prediction with the truth, and return the ``loss``; its gradients are there then, too."""
        self._check_open("compare")
        if self._stage == NEW:
            self.predict()
        self._compare()
        self._stage = COMPARED
        return self._loss

    def learn(self) -> NDArray[Any]:
        """Turn the knobs by what ``gradients`` say, and return the ``parameters``."""
        self._check_open("learn")
        self._reach(COMPARED)
        with HeldInterrupt() as interrupt:
            self._learn(interrupt)
        interrupt.check()
        return self.parameters

    def _reach(self, stage: int) -> None:
        """Do what a reader of the step needs."""
        if self._turn != self._driver.turn:
            raise RuntimeError(
                f"Step {self.number} has passed, and its arrays hold the numbers of a later one; copy what you want to "
                "keep while the loop's body has the step."
            )
        self._check_current()
        if self._stage < PREDICTED <= stage:
            self.predict()
        if self._stage < COMPARED <= stage:
            self.compare()

    def _check_open(self, verb: str) -> None:
        """Refuse to take up a step again that has learned."""
        taken = self.number != self._driver.training.step  # also if Ctrl-C came before the step could note it
        if self._stage == LEARNED or taken or self._turn != self._driver.turn:
            raise RuntimeError(f"Step {self.number} has learned already and cannot {verb} again; go on to the next.")
        self._check_current()

    def _check_current(self) -> None:
        """Refuse a step of a network that has learned from other samples since."""
        if self._driver.model._training is not self._driver.training:
            raise RuntimeError(FITTED_ANEW)

    # How each part is done.

    def _predict(self) -> None:
        d = self._driver
        d.kernels.predict_batch(d.samples.X, self.batch, d.layers, d.rule, d.training.step, d.state)

    def _compare(self) -> None:
        d, loss = self._driver, np.empty(1)
        d.kernels.compare_batch(*d.samples, self.batch, d.layers, d.rule, d.state, loss)
        self._loss = float(loss[0])

    def _learn(self, interrupt: HeldInterrupt) -> None:
        d, training, weights = self._driver, self._driver.training, self._driver.samples.sample_weight
        d.set_rates()
        if len(weights) == 0 or weights[self.batch].any():  # as in a step at once, no weight teaches nothing
            d.kernels.learn_batch(d.layers, d.rule, training.learning_rate, training.step, d.state)
        training.step_losses[self.position] = self._loss
        d.count_step()
        self._rate, self._stage = training.learning_rate, LEARNED
        if not math.isfinite(self._loss):
            d.give_up_epoch()
        elif training.position == d.n_steps:
            d.finish_epoch()

    # What there is to see.

    @property
    def batch(self) -> NDArray[np.int64]:
        """Rows of X that the step learns from, of shape (n_rows,)."""
        rows: NDArray[np.int64] = self._driver.batch(self.position)
        return rows

    @property
    def inputs(self) -> NDArray[Any]:
        """These rows, of shape (n_rows, n_in); a copy, as they lie apart in X."""
        rows: NDArray[Any] = self._driver.samples.X[self.batch]
        return rows

    @property
    def targets(self) -> NDArray[Any]:
        """The truth for these rows, as the loss takes it, of shape (n_rows, n_outputs); a copy.

        Of several classes the number of the class, of shape (n_rows, 1).
        """
        rows: NDArray[Any] = self._driver.samples.Y[self.batch]
        return rows

    @property
    def activations(self) -> list[NDArray[Any]]:
        """Outputs of every layer, of shape (n_rows, n_units), dropout applied; the last is ``prediction``."""
        self._reach(PREDICTED)
        return self._views(layout.OUTPUTS)

    @property
    def prediction(self) -> NDArray[Any]:
        """Outputs of the last layer, of shape (n_rows, n_outputs)."""
        return self.activations[-1]

    @property
    def dropout_masks(self) -> list[NDArray[Any]]:
        """What outputs of each hidden layer were multiplied with: 0, or 1 / (1 - dropout); empty without dropout."""
        self._reach(PREDICTED)
        return self._views(layout.MASKS)[:-1] if self._driver.rule.dropout > 0 else []

    @property
    def loss(self) -> float:
        """Mean loss of the batch before the step, penalty included."""
        if self._stage < COMPARED:
            self._reach(COMPARED)
        return self._loss

    @property
    def deltas(self) -> list[NDArray[Any]]:
        """Gradients of the loss by the sums z that go into each layer's activation, of shape (n_rows, n_units)."""
        self._reach(COMPARED)
        return self._views(layout.DELTAS)

    @property
    def gradient(self) -> NDArray[Any]:
        """Gradient of the loss by all ``parameters``, of their shape; what is written into it is learned from.

        After ``learn()``, with ``max_grad_norm``, as it was scaled down.
        """
        self._reach(COMPARED)
        vector: NDArray[Any] = self._driver.state.gradients
        return vector

    @property
    def gradients(self) -> list[LayerGradient]:
        """The same by layer: ``gradients[i].W`` of shape (n_in, n_out) and ``gradients[i].b`` of shape (n_out,)."""
        vector, layers = self.gradient, self._driver.layers
        biases: list[Any] = [*layout.bias_views(vector, layers)] or [None] * len(layers)
        return [LayerGradient(W, b) for W, b in zip(layout.weight_views(vector, layers), biases, strict=True)]

    @property
    def parameters(self) -> NDArray[Any]:
        """All knobs as one vector, the model's ``parameters_``."""
        vector: NDArray[Any] = self._driver.state.parameters
        return vector

    @property
    def moments(self) -> Any:
        """What the optimizer remembers, of shape (n_moments, n_parameters).

        The velocity for momentum and Nesterov, mean and mean square for Adam and AdamW, mean square for RMSprop. For
        L-BFGS a list of pairs of shape (n_parameters,), the latest last: a step, and how the gradient changed by it.
        """
        return self._driver.state.moments

    @property
    def learning_rate(self) -> float | None:
        """Length of the step; may be set until the step has learned. None for L-BFGS, which searches for it."""
        if isinstance(self, LBFGSStep):
            return None
        rate: float = self._rate if self._stage == LEARNED else self._driver.training.learning_rate
        return rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        if isinstance(self, LBFGSStep):
            raise AttributeError(NO_RATE)
        self._check_open("change its learning rate")
        change_rate(self._driver.training, rate)

    def _views(self, row: int) -> list[NDArray[Any]]:
        return layout.unit_views(self._driver.state.workspace[row], self._driver.layers, len(self.batch))

    def __repr__(self) -> str:
        """Say which step it is, and how far it has come."""
        stages = "new", "predicted", "compared", "learned"
        loss = "" if math.isnan(self._loss) else f", loss={self._loss:.6g}"
        return f"<Step {self.number}: epoch {self.epoch}, position {self.position}, {stages[self._stage]}{loss}>"


class LBFGSStep(Step):
    """One iteration of L-BFGS: all rows are its batch, and to learn is to search along a line."""

    __slots__ = ("_state",)

    def _predict(self) -> None:
        d = self._driver
        if not hasattr(self, "_state"):  # the driver itself goes through the rows in parts
            units = len(self.batch) * layout.n_units(d.layers)
            workspace = np.empty((layout.n_workspace_rows(d.layers, 0.0), units), d.state.parameters.dtype)
            self._state = d.state._replace(workspace=workspace, gradients=np.empty_like(d.state.parameters))
        d.kernels.predict_batch(d.samples.X, self.batch, d.layers, d.rule, 0, self._state)

    def _compare(self) -> None:
        d = self._driver
        d.kernels.compare_batch(*d.samples, self.batch, d.layers, d.rule, self._state, np.empty(1))
        d.interrupt = HeldInterrupt()
        d.evaluate_here()
        self._loss = d.loss

    def _learn(self, interrupt: HeldInterrupt) -> None:
        self._loss = self._driver.take_step(interrupt)
        self._stage = LEARNED

    @property
    def gradient(self) -> NDArray[Any]:
        """Gradient of the objective by all ``parameters``, in float64; what is written into it is learned from."""
        self._reach(COMPARED)
        vector: NDArray[Any] = self._driver.gradient
        return vector

    @property
    def moments(self) -> Any:
        """The latest steps and how the gradient changed by each, as pairs of arrays, the latest last."""
        return self._driver.training.curvature

    def _views(self, row: int) -> list[NDArray[Any]]:
        return layout.unit_views(self._state.workspace[row], self._driver.layers, len(self._driver.samples.X))


@dataclass(frozen=True)
class Epoch:
    """An epoch that is done."""

    number: int  #: from 0; its place in ``loss_curve_``
    loss: float  #: of its batches before each was learned from, penalty included
    validation_loss: float | None  #: after it, if there are validation samples
    validation_score: float | None
    learning_rate: float | None  #: of the next step
    step_losses: NDArray[np.float64]  #: (n_steps,), a copy; of L-BFGS the loss alone
    parameters: NDArray[Any]  #: the model's ``parameters_``


class _Loop:
    """What loops over steps and over epochs share: they begin at the first item and end like ``fit``."""

    _kind: type[Step] = Step

    def __init__(self, model: Any, begin: Callable[[], Driver]) -> None:
        self._model, self._begin = model, begin
        self._begun: Driver | None = None
        self._driver: Driver | None = None  #: from the first step to the last
        self._ended = False

    def _open(self) -> Driver:
        """Begin, or make sure that there is something to go on with."""
        if self._ended:
            raise StopIteration
        driver = self._begun
        if driver is None:
            driver = self._begin()
            driver.model = self._model
            self._kind = LBFGSStep if isinstance(driver, LBFGS) else Step
            self._begun = driver
        elif self._model._training is not driver.training:
            raise RuntimeError(FITTED_ANEW)
        if self._driver is None:  # again, if Ctrl-C came into it
            with HeldInterrupt() as interrupt:
                driver.begin(interrupt)
                self._driver = driver
            interrupt.check()
        return driver

    def _stop_if_done(self, driver: Driver) -> None:
        training = driver.training
        if not training.reason and training.n_epochs < self._model.max_iter:
            return
        self._ended, self._driver = True, None
        training.reason = training.reason or "max_iter"
        driver.end()
        self._model._close(driver)
        self._model._warn(stacklevel=4)
        raise StopIteration


class Steps(_Loop, Iterator[Step]):
    """The loop over steps that ``model.steps(X, y)`` returns."""

    _step: Step | None = None

    def __next__(self) -> Step:
        """Finish the last step, and return the next.

        Little is looked at here and in what is called from here: after a large step nothing of Python is left in the
        core's cache, and each microsecond of it becomes ten.
        """
        driver, step = self._driver, self._step
        if driver is None or self._model._training is not driver.training:
            driver = self._open()
        training = driver.training
        if step is not None and step._stage != LEARNED and step.number == training.step:
            if step._stage == NEW:
                step._loss = loss = driver.take_steps(1)
                step._rate, step._stage = training.learning_rate, LEARNED
                if not math.isfinite(loss):
                    driver.give_up_epoch()
            else:
                step.learn()
        if not 0 < training.position < driver.n_steps:
            driver.end_epoch_if_due()
            self._stop_if_done(driver)
            driver.begin_epoch()
        elif driver.goes_by_steps:
            driver.set_rates()
        driver.turn += 1
        self._step = step = self._kind(driver, training)
        return step


class Epochs(_Loop, Iterator[Epoch]):
    """The loop over epochs that ``model.epochs(X, y)`` returns."""

    def __next__(self) -> Epoch:
        """Train for an epoch, and return what became of it."""
        driver = self._open()
        self._stop_if_done(driver)
        training, n_epochs = driver.training, driver.training.n_epochs
        with HeldInterrupt() as interrupt:
            driver.run_epoch(interrupt, Observer())
        interrupt.check()
        losses = training.step_losses.copy() if isinstance(driver, Trainer) else np.array([training.loss])
        if training.n_epochs == n_epochs:  # L-BFGS found no step that lowers the loss
            self._stop_if_done(driver)
        judged = driver.judge is not None
        return Epoch(
            number=len(training.loss_curve) - 1,
            loss=training.loss,
            validation_loss=training.validation_loss_curve[-1] if judged else None,
            validation_score=training.validation_scores[-1] if judged else None,
            learning_rate=self._model.learning_rate_,
            step_losses=losses,
            parameters=driver.state.parameters,
        )

"""The driver of training: epochs, schedules, when to stop, and the state to go on from.

Nothing here checks what users pass; ``mlp`` has done that. All arithmetic on parameters is the kernels'.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import math
import signal
import threading
import time
from dataclasses import dataclass, field
from types import FrameType, ModuleType, TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdl.kernels import layout

# A call into compiled code cannot be interrupted, so it is made short enough that nobody waits for it.
RUN_SECONDS = 0.1
# A cautious first guess of the machine's speed (floating-point operations a second), until it is measured.
GUESSED_SPEED = 20e9

NO_RATE = 'solver="lbfgs" has no learning rate: it searches for the length of each step.'
SCHEDULES = ("constant", "invscaling", "adaptive", "cosine", "one_cycle")


class Samples(NamedTuple):
    """Rows to learn from or to judge by, as kernels take them."""

    X: NDArray[Any]
    Y: NDArray[Any]
    sample_weight: NDArray[Any]  #: of shape (0,) for weights of 1


class Plan(NamedTuple):
    """How to train: the estimator's parameters in the driver's terms."""

    solver: str  #: a name of ``layout.SOLVERS``, or "lbfgs"
    rule: layout.Rule
    batch_size: int
    shuffle: bool
    schedule: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    max_fun: int
    tol: float
    n_iter_no_change: float
    early_stopping: bool


@dataclass
class Training:
    """What a network has been through: all that it takes to go on exactly where training stopped."""

    random_state: np.random.RandomState
    order: NDArray[np.int64]  #: rows to learn from, in the order of the latest epoch
    validation_rows: NDArray[np.int64] | None  #: rows split off for early stopping
    dropout_seed: int = 0

    solver: str = ""
    moments: NDArray[Any] = field(default_factory=lambda: np.empty((0, 0)))
    step: int = 0  #: steps that the optimizer has taken
    learning_rate_init: float = 0.0
    learning_rate: float = 0.0  #: of the next step
    rate_factor: float = 1.0  #: of the schedule's rates, if the user changed one
    clock: int = 0  #: steps since the schedule began
    #: the latest steps and what each did to the gradient, for L-BFGS
    curvature: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=list)

    batch_size: int = 0
    begun: bool = False  #: whether ``order`` is that of an epoch which has not ended
    position: int = 0  #: steps taken of it
    step_losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    max_iter: int = 0  #: epochs that an unfinished fit may take; 0 if no fit is unfinished
    n_epochs: int = 0  #: of the latest fit
    n_evaluations: int = 0  #: of the objective by L-BFGS in the latest fit
    reason: str = ""  #: why the latest fit is to end or has ended, see ``Driver.run``

    t: int = 0  #: samples seen
    loss: float = math.inf  #: of the latest epoch
    no_improvement: int = 0
    best_loss: float = math.inf
    best_score: float = -math.inf
    best_parameters: NDArray[Any] | None = None
    last_parameters: NDArray[Any] | None = None  #: where training stopped, if the best were restored
    loss_curve: list[float] = field(default_factory=list)
    validation_loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled; row numbers in as few bytes as they need, or they would be most of it."""
        small = np.min_scalar_type(len(self.order) + self.n_validation)
        return {**vars(self), "order": self.order.astype(small)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take back what was pickled."""
        self.__dict__.update(state, order=state["order"].astype(np.int64))

    @property
    def n_validation(self) -> int:
        """Number of rows split off."""
        return 0 if self.validation_rows is None else len(self.validation_rows)


def change_rate(training: Training, rate: float) -> None:
    """Set the learning rate of the next step; a schedule goes on from there."""
    if not 0 <= rate < math.inf:
        raise ValueError(f"learning_rate_={rate} must be a finite number of 0 or more.")
    if training.learning_rate > 0:
        training.rate_factor *= rate / training.learning_rate
    training.learning_rate = float(rate)


def restore_best(parameters: NDArray[Any], training: Training) -> None:
    """End early stopping with the best parameters, and keep the last to go on from."""
    if training.best_parameters is not None:
        training.last_parameters = parameters.copy()
        parameters[:] = training.best_parameters


class Observer:
    """What looks on while a network trains; this one does not look."""

    def begin_epoch(self) -> None:
        """Before the first step of an epoch."""

    def in_epoch(self, share: float) -> None:
        """Between runs of steps, with the share of the epoch that is done."""

    def end_epoch(self) -> bool:
        """After an epoch; True stops training."""
        return False


class HeldInterrupt:
    """Keeps Ctrl-C until the next whole step, so that it never meets a half-counted one.

    A second Ctrl-C gets through at once. Only Python's own handler is replaced, and only in the main
    thread, where signals arrive. ``_signal`` is what ``signal`` wraps, which turns handlers into enums and back: 9 us
    a call and not 0.5, where an iteration of k-means with 2,000 samples takes 90.
    """

    def __init__(self) -> None:
        self.requested = False
        self.replaced = False

    def __enter__(self) -> HeldInterrupt:
        """Take over SIGINT."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and _signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            _signal.signal(signal.SIGINT, self._hold)
            self.replaced = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give SIGINT back."""
        if self.replaced:
            _signal.signal(signal.SIGINT, signal.default_int_handler)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def check(self) -> None:
        """Let a held Ctrl-C through."""
        if self.requested:
            raise KeyboardInterrupt


def n_flops(layers: NDArray[np.int64], n_rows: int, factor: int) -> int:
    """Floating-point operations of ``factor`` passes over all weights for each of ``n_rows`` rows."""
    return factor * n_rows * int((layers[:, layout.N_IN] * layers[:, layout.N_OUT]).sum())


def rows_in_a_run(layers: NDArray[np.int64], factor: int, multiple: int) -> int:
    """How many rows may go into one call; depends on the network alone, so that results cannot vary."""
    rows = int(RUN_SECONDS * GUESSED_SPEED / n_flops(layers, 1, factor))
    return max(rows // multiple, 1) * multiple


def predict(
    kernels: ModuleType, samples: NDArray[Any], layers: NDArray[np.int64], parameters: NDArray[Any]
) -> NDArray[Any]:
    """Outputs of the last layer of the table, as a new array; Ctrl-C is answered between runs of rows."""
    out = np.empty((len(samples), int(layers[-1, layout.N_OUT])), parameters.dtype)
    n_rows = rows_in_a_run(layers, 2, 1024)
    for start in range(0, len(samples), n_rows):
        kernels.predict(samples[start : start + n_rows], layers, parameters, out[start : start + n_rows])
    return out


def cosine(position: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Half a cosine from ``peak`` to 0 (Loshchilov & Hutter 2017, equation 5).

    >>> cosine(np.array([0.0, 0.5, 1.0]), 0.2)
    array([0.2, 0.1, 0. ])
    """
    rates: NDArray[np.float64] = peak / 2 * (1 + np.cos(np.pi * np.minimum(position, 1)))
    return rates


def one_cycle(steps: NDArray[np.int64], n_steps: int, peak: float) -> NDArray[np.float64]:
    """Up from ``peak / 25`` to ``peak`` in 30 % of the steps, then down to ``peak / 250000``.

    Smith & Topin 2018, with the half cosines and the defaults that PyTorch gave it.

    >>> one_cycle(np.array([0, 2, 9, 10]), 10, 1.0).round(6).tolist()
    [0.04, 1.0, 4e-06, 4e-06]
    """
    top, end = 0.3 * n_steps - 1, n_steps - 1
    steps = np.minimum(steps, end)
    up = steps / max(top, 1e-9)
    down = (steps - top) / max(end - top, 1e-9)
    rising = peak + (peak / 25 - peak) / 2 * (1 + np.cos(np.pi * up))
    falling = peak / 250_000 + (peak - peak / 250_000) / 2 * (1 + np.cos(np.pi * down))
    return np.where(steps <= top, rising, falling)


class Judge:
    """Loss and score of a network on samples that it does not learn from."""

    def __init__(self, kernels: ModuleType, layers: NDArray[np.int64], samples: Samples, rule: layout.Rule) -> None:
        self.kernels, self.layers, self.samples, self.rule = kernels, layers, samples, rule
        self.name = next(name for name, code in layout.LOSSES.items() if code == rule.loss)
        self.weights = samples.sample_weight if len(samples.sample_weight) else None

    def __call__(self, parameters: NDArray[Any]) -> tuple[float, float]:
        """Return the mean loss, without penalty, and the accuracy or R^2."""
        Y = self.samples.Y
        P = predict(self.kernels, self.samples.X, self.layers, parameters)
        losses = np.empty(len(P))
        scalars = (self.rule.loss_parameter,) if self.name in ("huber", "quantile") else ()
        getattr(self.kernels, self.name)(P, Y, *scalars, losses, np.empty_like(P))
        return float(np.average(losses, weights=self.weights)), self.score(P)

    def score(self, P: NDArray[Any]) -> float:
        """Accuracy of class probabilities, else R^2; as scikit-learn has them."""
        Y = self.samples.Y
        if self.name == "log_loss":
            return float(np.average(P.argmax(1) == Y[:, 0], weights=self.weights))
        if self.name == "binary_log_loss":
            return float(np.average(((P > 0.5) == Y).all(1), weights=self.weights))
        if not np.isfinite(P).all():
            return math.nan
        return r_squared(P.astype(np.float64), Y.astype(np.float64), self.weights)


def r_squared(P: NDArray[np.float64], Y: NDArray[np.float64], weights: NDArray[Any] | None) -> float:
    """Coefficient of determination, averaged over outputs; of a constant target 1 if hit, else 0.

    >>> r_squared(np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]]), None)
    0.5
    """
    residual = np.average((Y - P) ** 2, weights=weights, axis=0)
    total = np.average((Y - np.average(Y, weights=weights, axis=0)) ** 2, weights=weights, axis=0)
    shares = np.divide(residual, total, out=(residual > 0).astype(np.float64), where=total > 0)
    return float(1 - shares.mean())


class Driver:
    """Runs the epochs of one fit; ``training`` holds what outlives it, ``state.parameters`` what was learned."""

    plan: Plan
    training: Training
    state: layout.State
    samples: Samples
    layers: NDArray[np.int64]
    kernels: ModuleType
    judge: Judge | None
    turn = 0  #: steps that a loop has given to its user
    n_steps = 1  #: of an epoch
    goes_by_steps = False  #: whether each step has a rate of its own
    task: Any  #: what the estimator knows of the fit
    model: Any  #: the estimator, if the user loops over steps or epochs

    def run(self, n_epochs: int, observer: Observer) -> None:
        """Train for at most ``n_epochs``, leaving the parameters at a whole step however it ends.

        ``training.reason`` says how: "converged", "max_iter", "max_fun", "callback", "diverged", "stuck", or
        "interrupted".
        """
        training, done = self.training, 0
        with HeldInterrupt() as interrupt:
            try:
                self.begin(interrupt)
                while done < n_epochs and not training.reason:
                    observer.begin_epoch()
                    self.run_epoch(interrupt, observer)
                    done += 1
                    if observer.end_epoch() and not training.reason:
                        training.reason = "callback"
                interrupt.check()
                training.reason = training.reason or "max_iter"
            except KeyboardInterrupt:
                training.reason = "interrupted"
            finally:
                self.end()

    def begin(self, interrupt: HeldInterrupt) -> None:
        """Do what comes before the first epoch."""

    def run_epoch(self, interrupt: HeldInterrupt, observer: Observer) -> None:
        """Run what is left of an epoch and book it; ``training.reason`` then says whether to end."""
        raise NotImplementedError

    def begin_epoch(self) -> None:
        """Do what comes before the first step of an epoch, unless it has been done."""

    def set_rates(self) -> None:
        """Bring the learning rates up to date."""

    def take_steps(self, n_steps: int) -> float:
        """Take the next steps of the epoch; return the loss of the last, not finite if training diverged."""
        raise NotImplementedError

    def batch(self, position: int) -> NDArray[np.int64]:
        """Return the rows of a step of this epoch."""
        raise NotImplementedError

    def end_epoch_if_due(self) -> None:
        """End an epoch whose steps have all been taken."""

    def give_up_epoch(self) -> None:
        """Book an epoch that diverged."""

    def end(self) -> None:
        """Do what comes after the last epoch."""
        restore_best(self.state.parameters, self.training)


class Trainer(Driver):
    """Trains by steps, each on a batch."""

    def __init__(
        self,
        kernels: ModuleType,
        layers: NDArray[np.int64],
        parameters: NDArray[Any],
        samples: Samples,
        judge: Judge | None,
        plan: Plan,
        training: Training,
    ) -> None:
        self.kernels, self.layers, self.samples, self.judge = kernels, layers, samples, judge
        self.plan, self.training = plan, training
        self.rule = plan.rule._replace(seed=training.dropout_seed)
        self.n_steps = -(-len(training.order) // plan.batch_size)
        self.goes_by_steps = plan.schedule in ("cosine", "one_cycle")
        self.rates = np.empty(self.n_steps)
        self.rate = math.nan  #: of all steps, if ``rates`` are the same
        self.rates_of = math.nan, math.nan  #: the step at which ``rates`` begin and their factor, if they are not
        self.seconds_per_step = n_flops(layers, plan.batch_size, 6) / GUESSED_SPEED + 1e-5
        self._continue(parameters)
        units = plan.batch_size * layout.n_units(layers)
        workspace = np.empty((layout.n_workspace_rows(layers, self.rule.dropout), units), parameters.dtype)
        self.state = layout.State(parameters, np.empty_like(parameters), training.moments, workspace)
        # Not to write down the gradients of a step that nobody looks at saves 20 us of 500 for 784-100-10.
        clips = math.isfinite(self.rule.max_grad_norm)
        unseen = self.state if clips else self.state._replace(gradients=np.empty(0, parameters.dtype))
        self.epoch = kernels.PreparedEpoch(
            *samples, training.order, plan.batch_size, layers, self.rule, self.rates, unseen, training.step_losses
        )

    def _continue(self, parameters: NDArray[Any]) -> None:
        """Take over what the last fit left, as far as it still belongs to this plan."""
        training, plan = self.training, self.plan
        if training.solver != plan.solver:
            training.solver, training.step = plan.solver, 0
            training.moments = np.zeros((layout.N_MOMENTS[plan.solver], len(parameters)), parameters.dtype)
        if training.learning_rate_init != plan.learning_rate_init:
            training.learning_rate_init = training.learning_rate = plan.learning_rate_init
            training.rate_factor = 1.0
        if training.batch_size != plan.batch_size or len(training.step_losses) != self.n_steps:
            training.batch_size, training.position, training.begun = plan.batch_size, 0, False
            training.step_losses = np.empty(self.n_steps)
        self._continue_early_stopping(parameters)

    def _continue_early_stopping(self, parameters: NDArray[Any]) -> None:
        """Go back from the best parameters, which are for predicting, to the last."""
        training = self.training
        best, last = training.best_parameters, training.last_parameters
        training.best_parameters = training.last_parameters = None
        if not self.plan.early_stopping:
            return
        if best is not None and last is None and training.max_iter:
            training.best_parameters = best  # the user left a loop over steps: these are the last
        elif best is not None and last is not None and np.array_equal(parameters, best):
            parameters[:] = last
            training.best_parameters = best
        else:  # a new model, or the user wrote into the vector, and the old best must not replace that
            training.best_parameters = parameters.copy()
            training.best_score, training.no_improvement = -math.inf, 0

    def run_epoch(self, interrupt: HeldInterrupt, observer: Observer) -> None:
        """Run what is left of an epoch, in runs short enough to be interrupted between."""
        self.begin_epoch()
        while self.training.position < self.n_steps:
            interrupt.check()
            n_steps = min(max(int(RUN_SECONDS / self.seconds_per_step), 1), self.n_steps - self.training.position)
            start = time.perf_counter()
            if not math.isfinite(self.take_steps(n_steps)):
                self.give_up_epoch()
                return
            self.seconds_per_step = (time.perf_counter() - start) / n_steps
            observer.in_epoch(self.training.position / self.n_steps)
        self.finish_epoch()

    def begin_epoch(self) -> None:
        """Draw the order of an epoch, unless one has begun."""
        training = self.training
        if not training.begun:
            training.begun = True
            if self.plan.shuffle:
                training.random_state.shuffle(training.order)
        self.set_rates()

    def batch(self, position: int) -> NDArray[np.int64]:
        """Return the rows of a step of this epoch."""
        first = position * self.plan.batch_size
        return self.training.order[first : first + self.plan.batch_size]

    def take_steps(self, n_steps: int) -> float:
        """Take the next steps of the epoch in one call; return the loss of the last, not finite if one diverged."""
        training, epoch = self.training, self.epoch
        start, step, clock = training.position, training.step, training.clock
        stop = start + n_steps
        if training.learning_rate != self.rate or self.goes_by_steps:
            self.set_rates()
        try:
            loss: float = epoch.train_steps(start, stop, step)
            training.position, training.step, training.clock = stop, step + n_steps, clock + n_steps
        except BaseException:  # Ctrl-C may come after the call, or amid counting
            if epoch.step == step + n_steps:
                training.position, training.step, training.clock = stop, step + n_steps, clock + n_steps
            raise
        return loss

    def count_step(self) -> None:
        """Count a step that was taken part by part."""
        training = self.training
        training.position, training.step, training.clock = training.position + 1, training.step + 1, training.clock + 1

    def end_epoch_if_due(self) -> None:
        """End an epoch whose steps have all been taken."""
        if self.training.position == self.n_steps:
            with HeldInterrupt() as interrupt:
                self.finish_epoch()
            interrupt.check()

    def finish_epoch(self) -> None:
        """Book the epoch and find out whether training has converged."""
        training, plan = self.training, self.plan
        n_samples, size = len(training.order), plan.batch_size
        losses, n_last = training.step_losses, len(training.order) - (self.n_steps - 1) * size
        training.loss = float(losses[:-1].sum() * size + losses[-1] * n_last) / n_samples
        if not math.isfinite(training.loss):  # Ctrl-C came between the step that diverged and whoever had to see it
            self.give_up_epoch()
            return
        training.position, training.begun = 0, False
        training.loss_curve.append(training.loss)
        training.t += n_samples
        training.n_epochs += 1
        book_judgement(self)
        self._count_improvement()
        if plan.schedule == "invscaling":
            rate = plan.learning_rate_init / (training.t + 1) ** plan.power_t
            training.learning_rate = rate * training.rate_factor
        if training.no_improvement <= plan.n_iter_no_change:
            return
        if plan.schedule != "adaptive" or training.learning_rate <= 1e-6:
            training.reason = "converged"
            return
        training.learning_rate /= 5
        training.no_improvement = 0

    def _count_improvement(self) -> None:
        """Count epochs without improvement and keep the best; the comparisons are scikit-learn's."""
        training, tol = self.training, self.plan.tol
        if training.best_parameters is not None:
            score = training.validation_scores[-1]
            training.no_improvement = training.no_improvement + 1 if score < training.best_score + tol else 0
            if score > training.best_score:
                training.best_score = score
                training.best_parameters[:] = self.state.parameters
        else:
            loss = training.loss_curve[-1]
            training.no_improvement = training.no_improvement + 1 if loss > training.best_loss - tol else 0
            training.best_loss = min(loss, training.best_loss)

    def give_up_epoch(self) -> None:
        """Book an epoch that diverged, and drop moments that no step could use any more."""
        training = self.training
        training.position, training.begun = 0, False
        training.loss = math.inf
        training.loss_curve.append(math.inf)
        training.n_epochs += 1
        training.reason = "diverged"
        book_judgement(self)
        if not np.isfinite(training.moments).all():
            training.moments[:] = 0
            training.step = 0

    def set_rates(self) -> None:
        """Write the learning rate of each step of this epoch, if something changed it."""
        training = self.training
        if not self.goes_by_steps:
            if training.learning_rate != self.rate:
                self.rate = math.nan  # Ctrl-C may come before all are written
                self.rates.fill(training.learning_rate)
                self.rate = training.learning_rate
            return
        first = training.clock - training.position
        if self.rates_of != (first, training.rate_factor):
            self.rates_of = math.nan, math.nan
            self.rates[:] = self._scheduled(np.arange(first, first + self.n_steps))
            self.rates_of = first, training.rate_factor
        training.learning_rate = float(self.rates[min(training.position, self.n_steps - 1)])

    def end(self) -> None:
        """Return to the best parameters, and bring the rate of the next step up to date."""
        super().end()
        if self.goes_by_steps:
            self.training.learning_rate = float(self._scheduled(np.array([self.training.clock]))[0])

    def _scheduled(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        n_steps, peak = self.plan.max_iter * self.n_steps, self.plan.learning_rate_init
        rates = cosine(steps / n_steps, peak) if self.plan.schedule == "cosine" else one_cycle(steps, n_steps, peak)
        return rates * self.training.rate_factor


def book_judgement(driver: Driver) -> None:
    """Add the loss and score of the validation samples to the curves, if there are any."""
    if driver.judge is not None:
        validation_loss, score = driver.judge(driver.state.parameters)
        driver.training.validation_loss_curve.append(validation_loss)
        driver.training.validation_scores.append(score)

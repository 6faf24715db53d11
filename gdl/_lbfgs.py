"""L-BFGS that can be stopped and gone on with: its whole memory is a short list of arrays.

SciPy's L-BFGS-B forgets what it has learned of the curvature when it returns. This is the same method
without bounds: Nocedal's two-loop recursion (1980) over the latest ten steps, and the line search of
More & Thuente (1994) with the constants of L-BFGS-B 3.0, so that it walks the same way.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdl.kernels import layout
from gdl.training import (
    Driver,
    HeldInterrupt,
    Judge,
    Observer,
    Plan,
    Samples,
    Training,
    book_judgement,
    rows_in_a_run,
)

MEMORY = 10
MAX_TRIALS = 20
# Losses whose kernel averages over outputs while its gradient is that of the sum.
AVERAGED = tuple(layout.LOSSES[name] for name in ("squared_error", "absolute_error", "huber", "quantile"))


class Point(NamedTuple):
    """A step length, and the objective and its slope along the direction there."""

    step: float
    value: float
    slope: float


def cubic_minimum(a: Point, b: Point) -> tuple[float, float]:
    """Minimum of the cubic through two points, as the share of the way from a to b; and its discriminant."""
    theta = 3 * (a.value - b.value) / (b.step - a.step) + a.slope + b.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))
    gamma = scale * math.sqrt(max(0.0, (theta / scale) ** 2 - (a.slope / scale) * (b.slope / scale)))
    if b.step < a.step:
        gamma = -gamma
    return ((gamma - a.slope) + theta) / ((((gamma - a.slope) + gamma) + b.slope) or math.ulp(0.0)), gamma


class LineSearch:
    """The step lengths to try along a direction (More & Thuente 1994); ``step`` is the next one.

    ``low`` is the best point so far, ``high`` the other end of the interval that holds a minimum, once
    ``bracketed``.
    """

    decrease, curvature, precision, longest = 1e-3, 0.9, 0.1, 1e10

    def __init__(self, start: Point, step: float) -> None:
        self.start, self.low, self.high = start, start, start
        self.step, self.shortest_now, self.longest_now = step, 0.0, 5 * step
        self.bracketed, self.descended = False, False
        self.width, self.width_before = self.longest, 2 * self.longest

    def is_done(self, value: float, slope: float) -> bool:
        """Take in the objective at ``step``; True if this step will do, else ``step`` is the next to try."""
        tried, sufficient = Point(self.step, value, slope), self.decrease * self.start.slope
        bound = self.start.value + self.step * sufficient
        self.descended = self.descended or (value <= bound and slope >= 0)
        if (value <= bound and abs(slope) <= -self.curvature * self.start.slope) or self._is_exhausted(tried, bound):
            return True
        if not self.descended and bound < value <= self.low.value:
            # Far from a minimum, look for one of the function less the decrease that is asked for.
            shifted = [Point(p.step, p.value - p.step * sufficient, p.slope - sufficient) for p in self._ends(tried)]
            shifted = list(self._narrow(*shifted))
            self.low, self.high = (Point(p.step, p.value + p.step * sufficient, p.slope + sufficient) for p in shifted)
        else:
            self.low, self.high = self._narrow(*self._ends(tried))
        self._bound_next()
        return False

    def _ends(self, tried: Point) -> tuple[Point, Point, Point]:
        return self.low, self.high, tried

    def _is_exhausted(self, tried: Point, bound: float) -> bool:
        """Whether rounding or the limits leave nothing better to try."""
        if self.bracketed and not self.shortest_now < tried.step < self.longest_now:
            return True
        if self.bracketed and self.longest_now - self.shortest_now <= self.precision * self.longest_now:
            return True
        at_the_end = tried.step == self.longest and tried.slope <= self.decrease * self.start.slope
        return at_the_end and tried.value <= bound

    def _narrow(self, low: Point, high: Point, tried: Point) -> tuple[Point, Point]:
        """Choose the next step and return the interval's new ends (section 4 of the paper)."""
        turned = tried.slope * math.copysign(1.0, low.slope) < 0
        if tried.value > low.value:
            cubic = low.step + cubic_minimum(low, tried)[0] * (tried.step - low.step)
            secant = (low.value - tried.value) / (tried.step - low.step) + low.slope
            quadratic = low.step + low.slope / secant / 2 * (tried.step - low.step)
            nearer = abs(cubic - low.step) < abs(quadratic - low.step)
            self.step, self.bracketed = cubic if nearer else cubic + (quadratic - cubic) / 2, True
            return low, tried
        quadratic = tried.step
        if tried.slope != low.slope:
            quadratic += tried.slope / (tried.slope - low.slope) * (low.step - tried.step)
        if turned:
            cubic = tried.step + cubic_minimum(tried, low)[0] * (low.step - tried.step)
            self.step = cubic if abs(cubic - tried.step) > abs(quadratic - tried.step) else quadratic
            self.bracketed = True
            return tried, low
        if abs(tried.slope) < abs(low.slope):
            self.step = self._step_on(low, high, tried, quadratic)
        elif self.bracketed:
            self.step = tried.step + cubic_minimum(tried, high)[0] * (high.step - tried.step)
        else:
            self.step = self.longest_now if tried.step > low.step else self.shortest_now
        return tried, high

    def _step_on(self, low: Point, high: Point, tried: Point, quadratic: float) -> float:
        """Return the next step where the slope flattens but does not turn: case 3 of the paper."""
        share, gamma = cubic_minimum(tried, low)
        cubic = self.longest_now if tried.step > low.step else self.shortest_now
        if share < 0 and gamma != 0:
            cubic = tried.step + share * (low.step - tried.step)
        nearer = abs(cubic - tried.step) < abs(quadratic - tried.step)
        if not self.bracketed:
            return min(max(quadratic if nearer else cubic, self.shortest_now), self.longest_now)
        step, limit = cubic if nearer else quadratic, tried.step + 0.66 * (high.step - tried.step)
        return min(limit, step) if tried.step > low.step else max(limit, step)

    def _bound_next(self) -> None:
        """Keep the next step inside the interval, and make the interval shrink."""
        low, high = self.low.step, self.high.step
        if self.bracketed:
            if abs(high - low) >= 0.66 * self.width_before:
                self.step = low + 0.5 * (high - low)
            self.width_before, self.width = self.width, abs(high - low)
            self.shortest_now, self.longest_now = min(low, high), max(low, high)
        else:
            self.shortest_now = self.step + 1.1 * (self.step - low)
            self.longest_now = self.step + 4 * (self.step - low)
        self.step = min(max(self.step, 0.0), self.longest)
        narrow = self.longest_now - self.shortest_now <= self.precision * self.longest_now
        if self.bracketed and (narrow or not self.shortest_now < self.step < self.longest_now):
            self.step = low


class LBFGS(Driver):
    """Trains by iterations, each on all samples; ``training.curvature`` is what they have learned of the surface."""

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
        if training.solver != plan.solver:
            training.solver, training.step = plan.solver, 0
            training.moments = np.empty((0, len(parameters)), parameters.dtype)
            training.curvature = []
        training.best_parameters = training.last_parameters = None
        self.rule = plan.rule._replace(dropout=0.0)
        capacity = min(len(samples.X), 1024)
        workspace = np.empty(
            (layout.n_workspace_rows(layers, 0.0), capacity * layout.n_units(layers)), parameters.dtype
        )
        self.state = layout.State(parameters, np.empty_like(parameters), training.moments, workspace)
        self.run_rows = rows_in_a_run(layers, 6, 1024)
        self.n_outputs = int(layers[-1, layout.N_OUT]) if plan.rule.loss in AVERAGED else 1
        # Below its resolution, the objective says nothing about where to go: L-BFGS-B's factor for float64.
        self.resolution = max(1e7 * np.finfo(np.float64).eps, float(np.finfo(parameters.dtype).eps))
        self.interrupt = HeldInterrupt()
        self.evaluated_at: NDArray[Any] | None = None  # the parameters that value and gradient belong to

    def begin(self, interrupt: HeldInterrupt) -> None:
        """Evaluate the objective where training begins; an interrupted fit has counted that already."""
        self.interrupt, training = interrupt, self.training
        if self.evaluated_at is not None or training.reason:
            return
        self.evaluate_here()
        training.n_evaluations -= 1 if training.n_epochs else 0
        training.loss = self.loss
        if not math.isfinite(self.value) or not np.isfinite(self.gradient).all():
            training.reason = "diverged"
        elif abs(self.gradient).max() <= self.plan.tol:
            training.reason = "converged"

    def batch(self, position: int) -> NDArray[np.int64]:
        """Return the rows of an iteration: all."""
        return np.arange(len(self.samples.X))

    def evaluate_here(self) -> None:
        """Bring value and gradient up to date with the parameters, which the user may have changed."""
        parameters = self.state.parameters
        if self.evaluated_at is None or not np.array_equal(self.evaluated_at, parameters):
            self.value, self.gradient = self._evaluate()
            self.evaluated_at = parameters.copy()

    def take_steps(self, n_steps: int) -> float:
        """Take an iteration, the one step of its epoch; return the loss that it began at."""
        with HeldInterrupt() as interrupt:
            loss = self.take_step(interrupt)
        interrupt.check()
        return loss

    def take_step(self, interrupt: HeldInterrupt) -> float:
        """Take an iteration, holding Ctrl-C; return the loss that it began at."""
        self.interrupt = interrupt
        self.evaluate_here()
        loss = self.loss
        self.run_epoch(interrupt, Observer())
        return loss

    def run_epoch(self, interrupt: HeldInterrupt, observer: Observer) -> None:
        """Take one step downhill and learn from it."""
        self.interrupt, training, plan = interrupt, self.training, self.plan
        self.evaluate_here()
        value, gradient = self.value, self.gradient
        found = self._search(value, gradient)
        if found is None and training.curvature:  # what was learned misleads: forget it and try the slope itself
            training.curvature.clear()
            found = self._search(value, gradient)
        if found is None:
            training.reason = "stuck"
            return
        self.value, self.gradient, step, descent = found
        self.evaluated_at = self.state.parameters.copy()
        training.step += 1
        change = self.gradient - gradient
        if dot(change, step) > np.finfo(np.float64).eps * descent:
            training.curvature.append((step, change))
            del training.curvature[:-MEMORY]
        is_flat = abs(self.gradient).max() <= plan.tol
        is_level = value - self.value <= self.resolution * max(abs(value), abs(self.value), 1.0)
        is_spent = training.n_evaluations > plan.max_fun
        training.reason = "max_fun" if is_spent else "converged" if is_flat or is_level else ""
        training.n_epochs += 1
        training.loss_curve.append(training.loss)
        training.best_loss = min(training.loss, training.best_loss)
        book_judgement(self)

    def _search(
        self, value: float, gradient: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64], float] | None:
        """Move the parameters along the direction; return value, gradient, the step and its expected descent."""
        parameters = self.state.parameters
        direction = self._direction(gradient)
        slope = dot(direction, gradient)
        if not slope < 0:
            return None
        start, n_evaluations = parameters.copy(), self.training.n_evaluations
        first = 1.0 if self.training.step else min(1 / math.sqrt(dot(direction, direction)), LineSearch.longest)
        search = LineSearch(Point(0.0, value, slope), first)
        try:
            for _ in range(MAX_TRIALS):
                length = search.step
                parameters[:] = start + length * direction
                new_value, new_gradient = self._evaluate()
                if not math.isfinite(new_value) or not np.isfinite(new_gradient).all():
                    search.step = 0.1 * length
                elif search.is_done(new_value, dot(direction, new_gradient)):
                    self.training.loss = self.loss
                    # What float32 made of the step is what its gradient answers to.
                    exact = parameters.dtype == np.float64
                    step = length * direction if exact else (parameters - start).astype(np.float64)
                    return new_value, new_gradient, step, -slope * length
        except BaseException:
            parameters[:], self.training.n_evaluations = start, n_evaluations
            raise
        parameters[:] = start
        return None

    def _direction(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the quasi-Newton direction (Nocedal 1980); down the slope as long as nothing is known."""
        direction, shares = -gradient, []
        for step, change in reversed(self.training.curvature):
            shares.append(dot(step, direction) / dot(step, change))
            direction -= shares[-1] * change
        if self.training.curvature:
            step, change = self.training.curvature[-1]
            direction *= dot(step, change) / dot(change, change)
        for step, change in self.training.curvature:
            direction += (shares.pop() - dot(change, direction) / dot(step, change)) * step
        return direction

    def _evaluate(self) -> tuple[float, NDArray[np.float64]]:
        """Return the objective and its gradient at the parameters, in runs of rows that do not last."""
        X, Y, weights = self.samples
        n_runs = -(-len(X) // self.run_rows)
        rule = self.rule if n_runs == 1 else self.rule._replace(alpha=0.0)
        total = float(weights.sum(dtype=np.float64)) if len(weights) else float(len(X))
        gradient, losses, run_losses = np.zeros(len(self.state.parameters)), np.zeros(2), np.empty(2)
        for start in range(0, len(X), self.run_rows):
            self.interrupt.check()
            rows = slice(start, start + self.run_rows)
            weight = float(weights[rows].sum(dtype=np.float64)) if len(weights) else float(len(X[rows]))
            if weight > 0:
                self.kernels.loss_and_gradient(
                    X[rows], Y[rows], weights[rows], self.layers, rule, self.state, run_losses
                )
                gradient += self.state.gradients * (weight / total)
                losses += run_losses * (weight / total)
        if n_runs > 1:
            losses[1] = self._add_penalty(gradient, total)
        self.loss = float(losses.sum())
        self.training.n_evaluations += 1
        return float(losses[0] * self.n_outputs + losses[1]), gradient

    def _add_penalty(self, gradient: NDArray[np.float64], total: float) -> float:
        """Add the penalty's gradient, and return the penalty."""
        squares, alpha = 0.0, self.plan.rule.alpha
        weights = layout.weight_views(self.state.parameters, self.layers)
        for W, dW in zip(weights, layout.weight_views(gradient, self.layers), strict=True):
            dW += alpha / total * W
            squares += float(np.square(W, dtype=np.float64).sum())
        return 0.5 * alpha * squares / total


def dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Scalar product, added up in an order that depends on the length alone."""
    return float(np.add.reduce(a * b))

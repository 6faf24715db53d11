"""What looks on while a network trains: scikit-learn's callbacks, and a line of progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from gdl.lloyd import Observer as RunObserver
from gdl.lloyd import Run
from gdl.mini_batch import Observer as StreamObserver
from gdl.mini_batch import Stream
from gdl.training import Observer, Training

BAR_WIDTH = 20
# A terminal's line is drawn again, elsewhere (a file, a pipe) each report is a line of its own.
SECONDS_ON_TERMINAL, SECONDS_ELSEWHERE = 0.1, 10.0
SECONDS_OF_STEPS = 1.0  # between the lines of a mini-batch clustering


class ProgressLine:
    """One line on stderr: a bar, the loss, the validation score if there is one, and the time left."""

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs, self.stream = n_epochs, sys.stderr
        self.on_terminal = self.stream.isatty()
        self.started = self.shown = time.monotonic()
        self.width = 0

    def show(self, training: Training, done: float) -> None:
        """Write the line, unless the last one is fresh enough."""
        now = time.monotonic()
        if now - self.shown >= (SECONDS_ON_TERMINAL if self.on_terminal else SECONDS_ELSEWHERE):
            self.shown = now
            self._write(self.text(training, done, now - self.started), "")

    def close(self, training: Training, done: float) -> None:
        """Write the last line, with the time that was taken."""
        taken = time.monotonic() - self.started
        self._write(self.text(training, done, taken, is_last=True), "\n")

    def text(self, training: Training, done: float, seconds: float, is_last: bool = False) -> str:
        """Return the line's text after ``done`` epochs."""
        filled = int(BAR_WIDTH * done / self.n_epochs)
        parts = [f"epoch {int(done)}/{self.n_epochs} [{'#' * filled}{'.' * (BAR_WIDTH - filled)}]"]
        if training.loss_curve:
            parts.append(f"loss {training.loss_curve[-1]:.6g}")
        if training.validation_scores:
            parts.append(f"validation score {training.validation_scores[-1]:.4g}")
        if is_last:
            parts.append(f"{seconds:.1f} s")
        elif done > 0:
            left = round(seconds / done * (self.n_epochs - done))
            parts.append(f"{left // 60}:{left % 60:02d} left")
        return "  ".join(parts)

    def _write(self, text: str, end: str) -> None:
        if self.on_terminal:
            self.stream.write(f"\r{text:<{self.width}}{end}")
            self.width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()


class Report(Observer):
    """Tells the callbacks of an estimator, each epoch a task, and the line of progress."""

    def __init__(self, estimator: Any, n_epochs: int, context: Any = None, **data: Any) -> None:
        self.estimator, self.context, self.data = estimator, context, data
        self.has_callbacks = context is not None and bool(getattr(estimator, "_skl_callbacks", ()))
        self.line = ProgressLine(n_epochs) if estimator.verbose else None
        self.training: Training
        self.snapshot: Callable[[], dict[str, Any]]

    def watch(self, training: Training, snapshot: Callable[[], dict[str, Any]]) -> None:
        """Look on at this training; ``snapshot`` returns the attributes of a fit that was left now."""
        self.training, self.snapshot = training, snapshot

    def begin_epoch(self) -> None:
        """Tell callbacks that the task of an epoch begins."""
        if self.has_callbacks:
            self.task = self.context.subcontext(task_name="epoch")
            self.task.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def in_epoch(self, share: float) -> None:
        """Draw the line of progress."""
        if self.line is not None:
            self.line.show(self.training, self.training.n_epochs + share)

    def end_epoch(self) -> bool:
        """Tell callbacks that the task has ended; they may ask to stop."""
        if not self.has_callbacks:
            return False
        # A function: only a callback that wants a fitted estimator makes it.
        return bool(
            self.task.call_on_fit_task_end(
                estimator=self.estimator, reconstruction_attributes=self.snapshot, **self.data
            )
        )

    def close(self) -> None:
        """Write the last line of progress."""
        if self.line is not None:
            self.line.close(self.training, self.training.n_epochs)


class ClusteringReport:
    """Tells the callbacks of a clustering, each iteration a task, and writes a line an iteration if it is verbose."""

    def __init__(self, estimator: Any, most_iterations: int, X: Any, sample_weight: Any) -> None:
        self.estimator, self.verbose = estimator, bool(estimator.verbose)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.data = {"X": X, "y": None, "metadata": metadata}
        self.context = estimator._init_callback_context(max_subtasks=most_iterations)
        self.has_callbacks = bool(getattr(estimator, "_skl_callbacks", ()))
        self.stopped = False
        self.context.call_on_fit_task_begin(estimator=estimator, **self.data)

    def watch(self, snapshot: Callable[[Run], dict[str, Any]]) -> RunObserver | None:
        """Return what a run is to call after each iteration; ``snapshot`` returns a fit's attributes."""
        if not self.has_callbacks and not self.verbose:
            return None

        def after_iteration(run: Run) -> bool:
            if self.verbose:
                sys.stderr.write(
                    f"iteration {run.n_iter}  inertia {run.inertia_curve[-1]:.6g}  "
                    f"{run.n_reassigned[-1]} samples changed cluster\n"
                )
                sys.stderr.flush()
            if self.has_callbacks:
                task = self.context.subcontext(task_name="iteration")
                task.call_on_fit_task_begin(estimator=self.estimator, **self.data)
                self.stopped = bool(
                    task.call_on_fit_task_end(
                        estimator=self.estimator, reconstruction_attributes=lambda: snapshot(run), **self.data
                    )
                )
            return self.stopped

        return after_iteration

    def close(self) -> None:
        """Tell callbacks that the fit has ended."""
        self.context.call_on_fit_task_end(estimator=self.estimator, reconstruction_attributes={}, **self.data)


class MiniBatchReport(ClusteringReport):
    """Tells the callbacks of a mini-batch clustering, each step a task, and writes a line now and then."""

    def watch_steps(self, snapshot: Callable[[Stream], dict[str, Any]]) -> StreamObserver | None:
        """Return what is to be called after each step; ``snapshot`` returns a fit's attributes."""
        if not self.has_callbacks and not self.verbose:
            return None
        self.shown = time.monotonic()

        def after_step(stream: Stream) -> bool:
            if self.verbose and time.monotonic() - self.shown >= SECONDS_OF_STEPS:
                self.write(stream)
                self.shown = time.monotonic()
            if self.has_callbacks:
                task = self.context.subcontext(task_name="step")
                task.call_on_fit_task_begin(estimator=self.estimator, **self.data)
                self.stopped = bool(
                    task.call_on_fit_task_end(
                        estimator=self.estimator, reconstruction_attributes=lambda: snapshot(stream), **self.data
                    )
                )
            return self.stopped

        return after_step

    @staticmethod
    def write(stream: Stream) -> None:
        """Write a line."""
        n_reassigned = stream.n_reassigned[-1]
        sys.stderr.write(
            f"step {stream.n_steps}  mean inertia {stream.inertia_curve[-1]:.6g}"
            + (f"  {n_reassigned} centers reassigned\n" if n_reassigned else "\n")
        )
        sys.stderr.flush()

    def close_steps(self, stream: Stream) -> None:
        """Write the last line, and tell callbacks that the fit has ended."""
        if self.verbose:
            self.write(stream)
        self.close()

"""Callbacks for ``model.set_callbacks(...)``: what looks on at a fit, keeps it, and stops it.

They follow the protocol of ``sklearn.callback``, so that they work beside scikit-learn's own, of which
``ProgressBar`` (which needs rich) is here as well. All are called after each epoch of a network, iteration of
``KMeans`` and step of ``MiniBatchKMeans``, here called an epoch. If a callback raises, the fit stops with its error. An
object serves one fit at a time.
"""

from __future__ import annotations

import copy
import math
import os
import re
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import Any

from sklearn.callback import ProgressBar

from gdl import _saving
from gdl._table import Table, numbers

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "Function", "History", "ProgressBar"]

#: Names of the tasks that are an epoch.
EPOCHS = ("epoch", "iteration", "step")
UNITS = {"s": 1, "min": 60, "h": 3600}
#: Metrics that a fit computes itself.
CURVES = {
    "loss": ("loss_curve_", "inertia_curve_"),
    "validation_loss": ("validation_loss_curve_",),
    "validation_score": ("validation_scores_",),
}
#: Rows that a printed history shows.
MOST_ROWS = 20


class Callback:
    """The hooks of scikit-learn's protocol, which do nothing; a class of your own overrides some.

    ``context.task_name`` is ``"fit"`` for the whole fit, else ``"epoch"``, ``"iteration"`` or ``"step"``. A hook that
    has a keyword argument ``X``, ``y``, ``metadata`` or ``fitted_estimator`` is given it; the last is a copy of the
    model as if the fit had ended there.
    """

    def setup(self, estimator: Any, context: Any) -> None:
        """Is called before the fit."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Is called after the fit, even if it failed."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Is called before the fit's first epoch and before each epoch."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool | None:
        """Is called after each epoch, where True stops the fit, and at the end, when the estimator has learned."""
        return None


class Function(Callback):
    """Calls a function after each epoch.

    Parameters
    ----------
    function : callable
        Is given a copy of the model as if the fit had ended there. If it returns a true value, the fit stops.

    Examples
    --------
    >>> from gdl import KMeans
    >>> from gdl.callbacks import Function
    >>> moves = []
    >>> model = KMeans(2, init=[[0.0], [1.0]])
    >>> model = model.set_callbacks(Function(lambda model: moves.append(model.cluster_centers_.ravel().tolist())))
    >>> model = model.fit([[0.0], [1.0], [2.0], [6.0], [9.0]])
    >>> moves
    [[0.0, 4.5], [1.0, 7.5], [1.0, 7.5]]
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        if not callable(function):
            raise TypeError(f"function={function!r} cannot be called; pass a function of the model.")
        self.function = function

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> bool:  # type: ignore[override]
        """Call the function."""
        return context.task_name in EPOCHS and bool(self.function(fitted_estimator))


class Checkpoint(Callback):
    """Saves the model to a file now and then, so that a fit that is killed can go on.

    ``gdl.load(path).fit(X, y)`` goes on from the last time: the file holds the model with ``warm_start=True``, where it
    has this parameter, but without callbacks. The file is replaced whole or not at all. When the fit ends, by itself
    or by Ctrl-C, the model that it leaves is saved, too; put the checkpoint after callbacks that change it.

    Parameters
    ----------
    path : str or path-like
        As in ``save``.
    every : int or str, default=1
        How many epochs, or how much time, to let pass: ``10``, or ``"30s"``, ``"5min"``, ``"1h"``. Time is looked at
        after each epoch.

    Examples
    --------
    >>> import os, tempfile
    >>> import gdl
    >>> from gdl.callbacks import Checkpoint
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = os.path.join(directory, "model.npz")
    ...     model = gdl.KMeans(2, random_state=0).set_callbacks(Checkpoint(path, every="30s"))
    ...     model = model.fit([[0.0], [1.0], [9.0]])
    ...     gdl.load(path).predict([[8.0]]) == model.predict([[8.0]])
    array([ True])
    """

    def __init__(self, path: str | os.PathLike[str], every: int | str = 1) -> None:
        self.path, self.every = os.fspath(path), every
        self.n_epochs, self.seconds = parse_interval(every)
        self._is_due: bool | None = None

    def setup(self, estimator: Any, context: Any) -> None:
        """Find out, before the fit, whether the model can be saved."""
        _saving.check_savable(estimator)
        directory = os.path.dirname(os.path.abspath(self.path))
        if not os.path.isdir(directory):
            raise FileNotFoundError(f"Checkpoint has no directory {directory} to write to; make it first.")
        self._n_passed, self._saved_at = 0, time.monotonic()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Take the next decision anew."""
        self._is_due = None

    @property
    def on_fit_task_end(self) -> Any:
        """What is to be done after an epoch; decided once, though it is asked for more than once.

        scikit-learn looks at a hook's signature, and makes a copy of the model for one that has the argument
        ``fitted_estimator``. In k-means that takes as long as an iteration, so only a file that is due asks for it.
        """
        if self._is_due is None:
            passed, waited = getattr(self, "_n_passed", 0) + 1, time.monotonic() - getattr(self, "_saved_at", 0.0)
            self._is_due = passed >= self.n_epochs if self.seconds is None else waited >= self.seconds
        return self._save if self._is_due else self._pass

    def _save(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> None:
        if context.task_name not in (*EPOCHS, "fit"):
            return
        model = copy.copy(fitted_estimator)
        if "warm_start" in model.get_params(deep=False):
            model.set_params(warm_start=True)
        model.save(self.path)
        self._n_passed, self._saved_at = 0, time.monotonic()

    def _pass(self, estimator: Any, context: Any) -> None:
        if context.task_name in EPOCHS:
            self._n_passed += 1
        elif context.task_name == "fit":
            self._save(estimator, context, fitted_estimator=estimator)


def parse_interval(every: int | str) -> tuple[int, float | None]:
    """Return a number of epochs, or of seconds.

    >>> parse_interval(10), parse_interval("1.5min")
    ((10, None), (0, 90.0))
    """
    if isinstance(every, Integral) and not isinstance(every, bool) and every >= 1:
        return int(every), None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h)", every) if isinstance(every, str) else None
    if match is None:
        raise ValueError(
            f'every={every!r} must be a whole number of epochs of at least 1, or a time such as "30s", "5min" or "1h".'
        )
    return 0, float(match[1]) * UNITS[match[2]]


class Metric:
    """A number that says how good a model is: one that the fit computes, a scorer of scikit-learn or a function."""

    def __init__(self, metric: Any, validation_data: Any = None) -> None:
        self.metric: Any = metric
        self.score: Any = None
        if isinstance(metric, str) and metric not in CURVES:
            from sklearn.metrics import get_scorer, get_scorer_names  # takes a while to import

            if metric not in get_scorer_names():
                raise ValueError(
                    f"metric={metric!r} is neither {', '.join(map(repr, CURVES))} nor the name of a scorer of "
                    "scikit-learn; see sklearn.metrics.get_scorer_names()."
                )
            self.score = get_scorer(metric)
        elif callable(metric):
            self.score = metric
        elif not isinstance(metric, str):
            raise TypeError(f"metric={metric!r} is neither a name nor a function of (model, X, y).")
        if validation_data is not None and (
            not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3)
        ):
            raise ValueError("validation_data must be (X, y) or (X, y, sample_weight).")
        self.data = validation_data

    def __call__(self, model: Any, X: Any, y: Any, metadata: Any) -> float:
        """Return the number; of the data that were given, else of those of the fit."""
        if self.score is None:
            return self._latest(model)
        if self.data is None:
            weights = (metadata or {}).get("sample_weight")
        else:
            X, y, *rest = self.data
            weights = rest[0] if rest else None
        value = self.score(model, X, y) if weights is None else self.score(model, X, y, sample_weight=weights)
        if not isinstance(value, Real):
            raise TypeError(f"metric={self.metric!r} returned {value!r}, which is not a number.")
        return float(value)

    def _latest(self, model: Any) -> float:
        curves = [getattr(model, name, None) for name in CURVES[self.metric]]
        curve = next((curve for curve in curves if curve is not None), None)
        if curve is None:
            raise ValueError(
                f"metric={self.metric!r} needs samples to judge by; pass validation_data to fit, set early_stopping, "
                "or choose another metric."
            )
        return float(curve[-1])


class EarlyStopping(Callback):
    """Stops a fit when a metric improves no more, and goes back to where it was best.

    Parameters
    ----------
    metric : str or callable, default="validation_loss"
        ``"loss"`` (of k-means the inertia), ``"validation_loss"`` and ``"validation_score"`` are what the fit computes,
        the latter two with ``fit(..., validation_data=...)`` or ``early_stopping``. Or the name of a scorer of
        scikit-learn, such as ``"f1_macro"``; or a function of (model, X, y), and of ``sample_weight`` where there is
        one, as scikit-learn's scorers are.
    patience : int, default=10
        Epochs in a row without improvement after which the fit stops.
    min_delta : float, default=0.0
        What is at most so much better is no improvement.
    mode : {"auto", "min", "max"}, default="auto"
        What is better: less or more. ``"auto"`` is less for ``"loss"`` and ``"validation_loss"``, else more.
    restore_best : bool, default=True
        Whether the model that the fit leaves, however it ends, is that of the best epoch: its parameters and all that
        it takes to go on, as if the fit had ended there. Curves end there, too; ``values_`` has all epochs.
    validation_data : tuple (X, y) or (X, y, sample_weight), default=None
        Samples to compute a scorer or function of; those of the fit by default. ``y`` is None for a clustering.

    Attributes
    ----------
    values_ : list of float
        The metric after each epoch of the last fit.
    best_value_ : float
        The best of them; NaN before there is one.
    best_epoch_ : int
        Its number, counted from 1.
    stopped_ : bool
        Whether the callback stopped the fit.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from gdl import MLPClassifier
    >>> from gdl.callbacks import EarlyStopping
    >>> X, y = load_iris(return_X_y=True)
    >>> stopping = EarlyStopping("balanced_accuracy", patience=5, validation_data=(X[::3], y[::3]))
    >>> model = MLPClassifier((10,), learning_rate_init=0.05, random_state=0).set_callbacks(stopping)
    >>> model = model.fit(X[1::3], y[1::3])
    >>> stopping.stopped_, stopping.best_epoch_ == len(model.loss_curve_) == len(stopping.values_) - 5
    (True, True)
    """

    def __init__(
        self,
        metric: Any = "validation_loss",
        patience: int = 10,
        *,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
        validation_data: Any = None,
    ) -> None:
        if not isinstance(patience, Integral) or isinstance(patience, bool) or patience < 1:
            raise ValueError(f"patience={patience!r} must be a whole number of epochs of at least 1.")
        if not isinstance(min_delta, Real) or not 0 <= float(min_delta) < math.inf:
            raise ValueError(f"min_delta={min_delta!r} must be a finite number of at least 0.")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f'mode={mode!r} must be "auto", "min" or "max".')
        self.metric: Any = metric
        self.patience: int = patience
        self.min_delta: float = min_delta
        self.mode: str = mode
        self.restore_best: bool = restore_best
        self.validation_data: Any = validation_data
        self._compute: Metric = Metric(metric, validation_data)
        is_loss = isinstance(metric, str) and metric in ("loss", "validation_loss")
        self._sign: int = -1 if mode == "min" or (mode == "auto" and is_loss) else 1
        self._forget()

    def _forget(self) -> None:
        self.values_: list[float] = []
        self.best_value_, self.best_epoch_, self.stopped_ = math.nan, 0, False
        self._best: Any = None

    def setup(self, estimator: Any, context: Any) -> None:
        """Forget the last fit."""
        self._forget()

    def teardown(self, estimator: Any, context: Any) -> None:
        """Let go of the best model."""
        self._best = None

    def on_fit_task_end(  # type: ignore[override]
        self, estimator: Any, context: Any, *, X: Any, y: Any, metadata: Any, fitted_estimator: Any
    ) -> bool:
        """Compare the metric with the best, and tell whether to stop; at the end, go back to the best model."""
        if context.task_name == "fit" and self.restore_best and self._best is not None:
            restore(estimator, self._best)
        if context.task_name not in EPOCHS:
            return False
        value = self._compute(fitted_estimator, X, y, metadata)
        self.values_.append(value)
        is_first = not self.best_epoch_ and not math.isnan(value)
        if is_first or self._sign * (value - self.best_value_) > self.min_delta:
            self.best_value_, self.best_epoch_ = value, len(self.values_)
            self._best = fitted_estimator if self.restore_best else None
        self.stopped_ = len(self.values_) - self.best_epoch_ >= self.patience
        return self.stopped_


def restore(estimator: Any, model: Any) -> None:
    """Give an estimator that has been fitted what a copy of it had learned."""
    parameters = estimator.get_params(deep=False)
    learned = {
        name: value for name, value in vars(model).items() if name not in parameters and name not in _saving.PASSING
    }
    ended = vars(estimator).get("_training")
    if ended is not None:
        # The copy is of a fit that had not ended, and this one has.
        training = copy.copy(learned["_training"])
        for name in ("max_iter", "reason"):
            if hasattr(ended, name):
                setattr(training, name, getattr(ended, name))
        # Whoever holds views of the parameters keeps them.
        estimator._parameters[:] = learned["_parameters"]
        learned.update(_training=training, _parameters=estimator._parameters)
    vars(estimator).update(learned, _at_hand=[])


class History(Callback):
    """A table of a fit, a row an epoch: prints as text, shows as HTML in a notebook, iterates as named tuples.

    A new fit begins a new table; one that goes on (``warm_start``) adds to it.

    Parameters
    ----------
    metrics : dict of str to metric, or list of str, default=()
        More columns. Metrics are those of ``EarlyStopping``.
    validation_data : tuple (X, y) or (X, y, sample_weight), default=None
        Samples to compute ``metrics`` of; those of the fit by default.

    Attributes
    ----------
    columns : tuple of str
        ``epoch`` (counted from 1), ``loss`` (of k-means the inertia), ``validation_loss``, ``validation_score``,
        ``learning_rate`` (of the next step), ``seconds`` that the epoch took, and the metrics. What a fit does not
        have is NaN.

    Examples
    --------
    >>> from gdl import KMeans
    >>> from gdl.callbacks import History
    >>> history = History()
    >>> model = KMeans(2, init=[[0.0], [1.0]]).set_callbacks(history).fit([[0.0], [1.0], [2.0], [6.0], [9.0]])
    >>> for row in history:
    ...     print(row.epoch, row.loss)
    1 90.0
    2 27.5
    3 6.5
    >>> history.to_dict()["loss"]
    [90.0, 27.5, 6.5]
    """

    def __init__(self, metrics: Any = (), validation_data: Any = None) -> None:
        own = ("epoch", "loss", "validation_loss", "validation_score", "learning_rate", "seconds")
        metrics = dict(metrics) if isinstance(metrics, dict) else {name: name for name in metrics}
        for name in metrics:
            if not isinstance(name, str) or not name.isidentifier() or name.startswith("_") or name in own:
                raise ValueError(
                    f"metrics has {name!r}; name each as a Python variable, but none of {', '.join(own)}; "
                    "pass functions as a dict of name to function."
                )
        self.metrics, self.validation_data = metrics, validation_data
        self.columns: tuple[str, ...] = (*own, *metrics)
        self._compute = [Metric(metric, validation_data) for metric in metrics.values()]
        self._rows: list[tuple[Any, ...]] = []

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin a new table, unless the model goes on."""
        goes_on = getattr(estimator, "warm_start", False) and "n_features_in_" in vars(estimator)
        if not goes_on:
            self._rows = []
        self._since = time.monotonic()

    def on_fit_task_end(  # type: ignore[override]
        self, estimator: Any, context: Any, *, X: Any, y: Any, metadata: Any, fitted_estimator: Any
    ) -> None:
        """Add a row."""
        if context.task_name not in EPOCHS:
            return
        seconds = time.monotonic() - self._since
        latest = [self._latest(fitted_estimator, name) for name in CURVES]
        rate = getattr(fitted_estimator, "learning_rate_", None)
        number = self._rows[-1][0] + 1 if self._rows else 1
        more = [compute(fitted_estimator, X, y, metadata) for compute in self._compute]
        self._rows.append((number, *latest, math.nan if rate is None else float(rate), seconds, *more))
        self._since = time.monotonic()

    @staticmethod
    def _latest(model: Any, curve: str) -> float:
        curves = [getattr(model, name, None) for name in CURVES[curve]]
        return next((float(values[-1]) for values in curves if values is not None and len(values)), math.nan)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows as named tuples."""
        Epoch = namedtuple("Epoch", self.columns)  # type: ignore[misc]
        return iter([Epoch(*row) for row in self._rows])

    def __getitem__(self, index: int) -> Any:
        """Return a row as a named tuple."""
        return list(self)[index]

    def to_dict(self) -> dict[str, list[Any]]:
        """Return a list for each column."""
        return {name: [row[j] for row in self._rows] for j, name in enumerate(self.columns)}

    def to_pandas(self) -> Any:
        """Return the table as a pandas frame, with the epoch as its index.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs the package pandas; install it, or use to_dict.") from error
        return pandas.DataFrame(self.to_dict()).set_index("epoch")

    def __repr__(self) -> str:
        """Return the table as text."""
        return self._table().as_text()

    def _repr_html_(self) -> str:
        return self._table().as_html()

    def _table(self) -> Table:
        """Return the cells: of a long table the first and the last rows, of all columns that hold something."""
        columns = self.to_dict()
        header = [name for name, values in columns.items() if name == "epoch" or not all(map(math.isnan, values))]
        cells = [[str(number) for number in columns["epoch"]], *(numbers(columns[name]) for name in header[1:])]
        rows = [tuple(row) for row in zip(*cells, strict=True)]
        if len(rows) > MOST_ROWS:
            half = MOST_ROWS // 2
            rows = [*rows[:half], ("...",) * len(header), *rows[-half:]]
        return Table([name.replace("_", " ") for name in header], rows)

"""What both estimators share: from checked parameters and arrays to the driver, and back to attributes."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
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
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from gdl import _validation, kernels
from gdl._fitted import FittedNetwork
from gdl._lbfgs import LBFGS
from gdl._progress import Report
from gdl._validation import Target
from gdl.initializers import INITIALIZERS, draw_parameters
from gdl.kernels import layout
from gdl.mlp_steps import Epochs, Steps
from gdl.training import (
    NO_RATE,
    SCHEDULES,
    Driver,
    Judge,
    Plan,
    Samples,
    Trainer,
    Training,
    change_rate,
    restore_best,
)

STOCHASTIC_SOLVERS = ("sgd", "adam", "adamw", "rmsprop")


class Task(NamedTuple):
    """A fit whose arguments are known to be right."""

    samples: Samples
    validation: Samples | None
    target: Target
    layers: NDArray[np.int64]
    drawn_for: list[str]  #: the activation that each layer's first parameters are drawn for
    init: NDArray[Any] | None  #: first parameters that the user gave
    known: dict[str, Any]  #: what there is to know of X's features


def reading(read: Callable[[Training], Any], doc: str) -> property:
    """Return an attribute that reads from what the network has been through, so that it is never out of date."""

    def getter(self: Any) -> Any:
        check_is_fitted(self)
        return read(self._training)

    return property(getter, doc=doc)


class BaseMLP(CallbackSupportMixin, FittedNetwork):
    """A network of dense layers: parameters, checks and fitted attributes; ``training`` does the work."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(_validation.HIDDEN_ACTIVATIONS)), list, tuple],
        "solver": [StrOptions({"lbfgs", *STOCHASTIC_SOLVERS})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "init": [StrOptions(set(INITIALIZERS)), "array-like"],
        "fit_intercept": ["boolean"],
        "device": [str],
    }

    hidden_layer_sizes: Any
    activation: Any
    solver: str
    alpha: float
    batch_size: Any
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: Any
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    dropout: float
    max_grad_norm: float | None
    init: Any
    fit_intercept: bool
    device: str

    _training: Training
    _target: Target

    n_iter_ = reading(lambda t: t.n_epochs, "Epochs of the last fit.")
    t_ = reading(lambda t: t.t, "Samples seen.")
    loss_ = reading(lambda t: t.loss, "Loss of the last epoch, penalty included.")
    loss_curve_ = reading(lambda t: t.loss_curve, "Loss of every epoch since the model was new.")
    best_loss_ = reading(
        lambda t: t.best_loss if t.best_parameters is None else None,
        "Lowest loss of an epoch; None with early stopping.",
    )
    best_validation_score_ = reading(
        lambda t: t.best_score if t.best_parameters is not None else None,
        "Highest score of the validation set, with early stopping.",
    )
    validation_scores_ = reading(
        lambda t: t.validation_scores if t.best_parameters is not None or t.validation_scores else None,
        "Score of the validation set after each epoch, if there was one.",
    )
    validation_loss_curve_ = reading(
        lambda t: t.validation_loss_curve if t.best_parameters is not None or t.validation_scores else None,
        "Loss of the validation set after each epoch, if there was one.",
    )
    converged_ = reading(lambda t: t.reason == "converged", "Whether the last fit ended for want of improvement.")

    @property
    def learning_rate_(self) -> float | None:
        """Learning rate of the next step; None for ``"lbfgs"``. What is written into it is in force at once."""
        check_is_fitted(self)
        return None if self._training.solver == "lbfgs" else self._training.learning_rate

    @learning_rate_.setter
    def learning_rate_(self, rate: float) -> None:
        check_is_fitted(self)
        if self._training.solver == "lbfgs":
            raise AttributeError(NO_RATE)
        change_rate(self._training, rate)

    def _store(self, arguments: dict[str, Any]) -> None:
        """Keep the arguments of ``__init__`` as they are, which is all that ``clone`` allows."""
        del arguments["self"]
        self.__dict__.update(arguments)

    # What the two estimators do each in their way.

    def _find_target(self, y: NDArray[Any], fitted: bool, incremental: bool, classes: Any) -> Target:
        """Return what the network is to put out for y."""
        raise NotImplementedError

    def _encode(self, y: NDArray[Any], target: Target, dtype: np.dtype[Any], name: str = "y") -> NDArray[Any]:
        """Return y as kernels take it."""
        raise NotImplementedError

    def _weigh(self, weights: NDArray[Any], Y: NDArray[Any], target: Target, incremental: bool) -> NDArray[Any]:
        """Return the samples' weights for their classes."""
        return weights

    def _loss_parameter(self) -> float:
        """Return the number that the loss takes, if it takes one."""
        return 0.0

    # Checks: everything that can be wrong is found before anything is changed.

    def _check(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation_data: Any = None,
        *,
        fitted: bool,
        classes: Any = None,
        incremental: bool = False,
    ) -> Task:
        """Return the arguments of a fit as kernels take them; ``fitted`` if it goes on from the last one."""
        _validation.check_device(self.device)
        known = self._known() if fitted else None
        dtype = self._parameters.dtype if fitted else (np.float64, np.float32)
        X, y, known = _validation.check_samples(self, X, y, dtype, known)
        target = self._find_target(y, fitted, incremental, classes)
        Y = self._encode(y, target, X.dtype)
        weights = self._weigh(_validation.check_weights(sample_weight, X), Y, target, incremental)
        _validation.check_total_weight(weights, "the samples")
        layers, drawn_for = self._check_network(X.shape[1], target)
        init = None
        if fitted:
            self._check_same_network(layers)
        elif not isinstance(self.init, str):
            init = _validation.check_init(self.init, layout.n_parameters(layers), X.dtype)
        validation = None
        if validation_data is not None:
            validation = self._check_validation(validation_data, X.dtype, target, known)
        return Task(Samples(X, Y, weights), validation, target, layers, drawn_for, init, known)

    def _known(self) -> dict[str, Any]:
        """What a fitted estimator knows of X's features."""
        names = ("n_features_in_", "feature_names_in_")
        return {name: vars(self)[name] for name in names if name in vars(self)}

    def _check_network(self, n_features: int, target: Target) -> tuple[NDArray[np.int64], list[str]]:
        """Return the layer table, and the activation that each layer's parameters are drawn for."""
        widths = _validation.check_hidden_layer_sizes(self.hidden_layer_sizes)
        hidden = _validation.check_activations(self.activation, len(widths))
        layers = layout.layer_table(
            [n_features, *widths, target.n_outputs], [*hidden, target.out_activation], self.fit_intercept
        )
        last = self.activation if isinstance(self.activation, str) else [*hidden, "relu"][len(hidden) - 1]
        return layers, [*hidden, last]

    def _check_same_network(self, layers: NDArray[np.int64]) -> None:
        """Refuse to go on with a network of another shape, or with numbers that no step can use."""
        shape = [layout.N_IN, layout.N_OUT, layout.B_START]
        if layers.shape != self._layers.shape or (layers[:, shape] != self._layers[:, shape]).any():
            widths = [int(self._layers[0, layout.N_IN]), *self._layers[:, layout.N_OUT].tolist()]
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes} and fit_intercept={self.fit_intercept} do not belong "
                f"to the fitted network of widths {widths}; set them back, or fit with warm_start=False."
            )
        if not np.isfinite(self._parameters).all():
            raise ValueError("parameters_ holds NaN or infinity; write finite numbers, or fit with warm_start=False.")

    def _check_validation(
        self, validation_data: Any, dtype: np.dtype[Any], target: Target, known: dict[str, Any]
    ) -> Samples:
        X, y, weights = _validation.split_validation_data(validation_data)
        try:
            X, y, _ = _validation.check_samples(self, X, y, dtype, known)
            weights = _validation.check_weights(weights, X)
        except ValueError as error:
            raise ValueError(f"validation_data: {error}") from error
        _validation.check_total_weight(weights, "validation_data")
        return Samples(X, self._encode(y, target, dtype, "validation_data's y"), weights)

    # Training.

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Train for ``max_iter`` epochs, or until the loss or the validation score improves no more.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
            Not negative, and not all zero.
        validation_data : tuple (X, y) or (X, y, sample_weight), default=None
            Samples to judge each epoch by; with ``early_stopping`` they are used instead of a part of X.

        Returns
        -------
        object
            The estimator itself.
        """
        fitted = self.warm_start and self.__sklearn_is_fitted__()
        task = self._check(X, y, sample_weight, validation_data, fitted=fitted)
        context = self._init_callback_context(max_subtasks=self.max_iter)
        data = {"X": X, "y": y, "metadata": None if sample_weight is None else {"sample_weight": sample_weight}}
        context.call_on_fit_task_begin(estimator=self, **data)
        self._train(task, fitted, Report(self, self.max_iter, context, **data))
        context.call_on_fit_task_end(estimator=self, reconstruction_attributes={}, **data)
        self._warn()
        return self

    def steps(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Steps:
        """Train like ``fit``, one step at a time: ``for step in model.steps(X, y)``.

        The same numbers come out as of ``fit``, bit for bit. The loop may be left at any step; the model is fitted
        all the time. With ``warm_start=True``, another call of ``steps`` or ``fit`` goes on where it was left.

        Parameters
        ----------
        X, y, sample_weight, validation_data
            As in ``fit``.

        Returns
        -------
        Steps
            An iterator of ``gdl.mlp_steps.Step``.

        Examples
        --------
        >>> import numpy as np
        >>> from gdl import MLPClassifier
        >>> X, y = np.eye(4), [0, 0, 1, 1]
        >>> model = MLPClassifier((3,), max_iter=2, batch_size=2, tol=0, n_iter_no_change=9, random_state=0)
        >>> for step in model.steps(X, y):
        ...     print(step.epoch, step.batch, step.prediction.shape, step.gradients[0].W.shape)
        ...     if step.number == 2:
        ...         break
        0 [1 2] (2, 1) (4, 3)
        0 [0 3] (2, 1) (4, 3)
        1 [0 2] (2, 1) (4, 3)
        """
        return Steps(*self._open(X, y, sample_weight, validation_data))

    def epochs(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Epochs:
        """Train like ``fit``, one epoch at a time: ``for epoch in model.epochs(X, y)``.

        Parameters
        ----------
        X, y, sample_weight, validation_data
            As in ``fit``.

        Returns
        -------
        Epochs
            An iterator of ``gdl.mlp_steps.Epoch``, each yielded when it is done.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from gdl import MLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = MLPClassifier((10,), learning_rate_init=0.05, random_state=0)
        >>> for epoch in model.epochs(X, y):
        ...     if epoch.loss < 0.1:
        ...         break
        >>> epoch.number + 1 == len(model.loss_curve_)
        True
        """
        return Epochs(*self._open(X, y, sample_weight, validation_data))

    def _open(self, X: Any, y: Any, sample_weight: Any, validation_data: Any) -> tuple[Self, Callable[[], Driver]]:
        """Return what a loop over steps needs: the estimator, and how to begin, now that the arguments are checked."""
        if not get_config()["skip_parameter_validation"]:
            self._validate_params()
        fitted = self.warm_start and self.__sklearn_is_fitted__()
        task = self._check(X, y, sample_weight, validation_data, fitted=fitted)

        def begin() -> Driver:
            driver = self._start(task, fitted)
            self._set(driver)
            return driver

        return self, begin

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> Self:
        if not get_config()["skip_parameter_validation"]:
            self._validate_params()
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True; set it to False, or call fit.")
        fitted = self.__sklearn_is_fitted__()
        task = self._check(X, y, sample_weight, fitted=fitted, incremental=True, classes=classes)
        self._train(task, fitted, Report(self, 1), incremental=True)
        self._warn(incremental=True)
        return self

    def _train(self, task: Task, fitted: bool, report: Report, incremental: bool = False) -> None:
        """Train on checked arguments and remember the result."""
        driver = self._start(task, fitted, incremental)
        training = driver.training
        report.watch(training, lambda: self._snapshot(driver))
        try:
            driver.run(1 if incremental else self.max_iter - training.n_epochs, report)
        finally:  # a callback that raises leaves a model, too
            self._set(driver)
        report.close()
        self._close(driver)

    def _start(self, task: Task, fitted: bool, incremental: bool = False) -> Driver:
        """Return what trains on checked arguments, from where the last fit stopped if it goes on from there."""
        kernel_set = kernels.load(self.device)
        parameters, training = self._begin(task, fitted)
        plan = self._plan(task, len(training.order))
        if incremental or training.max_iter != self.max_iter:
            training.n_epochs = training.n_evaluations = 0
            training.max_iter = 0 if incremental else self.max_iter
            if not incremental:  # each fit runs its whole schedule; partial_fit goes on with it
                training.clock, training.rate_factor = 0, 1.0
            training.reason = ""
        if training.reason == "interrupted":
            training.reason = ""
        kind = LBFGS if plan.solver == "lbfgs" else Trainer
        driver = kind(
            kernel_set, task.layers, parameters, task.samples, self._judge(kernel_set, task, training), plan, training
        )
        driver.task = task
        return driver

    def _set(self, driver: Driver) -> None:
        """Set the fitted attributes as training stands."""
        self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(self._attributes(driver.task, driver.state.parameters, driver.training))

    @staticmethod
    def _close(driver: Driver) -> None:
        """Note that a fit has ended, unless it was interrupted."""
        if driver.training.reason != "interrupted":
            driver.training.max_iter = 0

    def _begin(self, task: Task, fitted: bool) -> tuple[NDArray[Any], Training]:
        """Return the parameters to start from and the state to go on from; draws in scikit-learn's order."""
        n_samples = len(task.samples.X)
        if fitted:
            training = copy.copy(self._training)  # an order of its own: a loop may still hold that of other samples
            same_samples = n_samples == len(training.order) + training.n_validation
            if not same_samples or self._splits(task) != bool(training.n_validation):
                training.order, training.validation_rows = self._split(task, training.random_state)
                training.position, training.begun = 0, False
            self._seed_dropout(training)
            return self._parameters, training
        random_state = check_random_state(self.random_state)
        if task.init is None:
            dtype = task.samples.X.dtype
            parameters = draw_parameters(self.init, task.layers, task.drawn_for, dtype, random_state)
        else:
            parameters = task.init
        training = Training(random_state, *self._split(task, random_state))
        self._seed_dropout(training)
        return parameters, training

    def _seed_dropout(self, training: Training) -> None:
        """Draw the seed of dropout once, and only if there is any, or the draws would not be scikit-learn's."""
        if self.dropout > 0 and not training.dropout_seed:
            training.dropout_seed = int(training.random_state.randint(1, 2**63 - 1, dtype=np.int64))

    def _splits(self, task: Task) -> bool:
        return self.early_stopping and task.validation is None and self.solver != "lbfgs"

    def _split(
        self, task: Task, random_state: np.random.RandomState
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return the rows to learn from and, for early stopping, the rows to judge by."""
        n_samples = len(task.samples.X)
        rows = np.arange(n_samples, dtype=np.int64)
        if not self._splits(task):
            return rows, None
        n_validation = math.ceil(self.validation_fraction * n_samples)
        if n_validation < 2 or n_validation == n_samples:
            raise ValueError(
                f"The validation set is too small or too large: validation_fraction={self.validation_fraction} of "
                f"{n_samples} samples is {n_validation}; choose a fraction that leaves 2 to judge by and 1 to learn "
                "from, or pass validation_data."
            )
        from sklearn.model_selection import train_test_split  # takes a while to import

        # scikit-learn stratifies where its target has one column of classes: two classes, but not more.
        stratify = task.samples.Y[:, 0] if len(task.target.classes) == 2 and not task.target.multilabel else None
        before = random_state.get_state()
        try:
            learn, judge = train_test_split(
                rows, test_size=self.validation_fraction, random_state=random_state, stratify=stratify
            )
            if len(weights := task.samples.sample_weight):
                _validation.check_total_weight(weights[learn], "the samples to learn from")
                _validation.check_total_weight(weights[judge], "the validation set")
        except ValueError:
            random_state.set_state(before)
            raise
        return learn, judge

    def _judge(self, kernel_set: ModuleType, task: Task, training: Training) -> Judge | None:
        """Return what judges an epoch, by the samples given or split off for it."""
        judged = task.validation
        if judged is None and training.validation_rows is not None:
            rows = training.validation_rows
            judged = Samples(*(part[rows] if len(part) else part for part in task.samples))
        return None if judged is None else Judge(kernel_set, task.layers, judged, self._rule(task.target))

    def _rule(self, target: Target) -> layout.Rule:
        solver = self._kernel_solver()
        return layout.Rule(
            loss=layout.LOSSES[target.loss],
            loss_parameter=float(self._loss_parameter()),
            alpha=float(self.alpha),
            dropout=float(self.dropout),
            max_grad_norm=math.inf if self.max_grad_norm is None else float(self.max_grad_norm),
            solver=layout.SOLVERS.get(solver, 0),
            momentum=float(self.momentum),
            beta_1=float(self.beta_1),
            beta_2=float(self.beta_2),
            epsilon=float(self.epsilon),
            seed=0,
        )

    def _kernel_solver(self) -> str:
        if self.solver == "sgd" and self.momentum > 0:
            return "nesterov" if self.nesterovs_momentum else "momentum"
        return self.solver

    def _plan(self, task: Task, n_samples: int) -> Plan:
        batch_size = min(200, n_samples) if isinstance(self.batch_size, str) else int(self.batch_size)
        if batch_size > n_samples:
            warnings.warn(
                f"Got `batch_size`={batch_size} larger than the {n_samples} samples to learn from; "
                "it is clipped to that.",
                stacklevel=6,
            )
        schedule = self.learning_rate
        if self.solver != "sgd" and schedule in ("invscaling", "adaptive"):
            schedule = "constant"  # as in scikit-learn, these two belong to sgd
        return Plan(
            solver=self._kernel_solver(),
            rule=self._rule(task.target),
            batch_size=min(batch_size, n_samples),
            shuffle=bool(self.shuffle),
            schedule=schedule,
            learning_rate_init=float(self.learning_rate_init),
            power_t=float(self.power_t),
            max_iter=int(self.max_iter),
            max_fun=int(self.max_fun),
            tol=float(self.tol),
            n_iter_no_change=float(self.n_iter_no_change),
            early_stopping=bool(self.early_stopping),
        )

    def _snapshot(self, driver: Driver) -> dict[str, Any]:
        """Return the attributes of an estimator of its own, as if the fit had been left here."""
        training = copy.deepcopy(driver.training)
        parameters = driver.state.parameters.copy()
        restore_best(parameters, training)
        return self._attributes(driver.task, parameters, training)

    def _attributes(self, task: Task, parameters: NDArray[Any], training: Training) -> dict[str, Any]:
        """Return all fitted attributes, to be set together."""
        return {
            **task.known,
            **({"classes_": task.target.classes} if len(task.target.classes) else {}),
            "n_outputs_": task.target.n_outputs,
            "n_layers_": len(task.layers) + 1,
            "out_activation_": task.target.out_activation,
            "_parameters": parameters,
            "_layers": task.layers,
            "_training": training,
            "_target": task.target,
            "_device": self.device,
            "_at_hand": [],
        }

    def _warn(self, incremental: bool = False, stacklevel: int = 4) -> None:
        """Say how a fit ended if it did not end well; the model is in place whatever becomes of the warning."""
        reason = self._training.reason
        solver = "lbfgs" if self.solver == "lbfgs" else "Stochastic Optimizer"
        at_epoch = max(len(self.loss_curve_), 1)
        messages = {
            "diverged": f"Training diverged in epoch {at_epoch}: the loss is not finite. The model keeps the last "
            "finite parameters; lower learning_rate_init, scale the data, or set max_grad_norm.",
            "max_iter": f"{solver}: Maximum iterations ({self.max_iter}) reached and the optimization hasn't converged "
            "yet; raise max_iter, or set warm_start and fit again.",
            "max_fun": f"{solver}: Maximum of loss evaluations (max_fun={self.max_fun}) reached and the optimization "
            "hasn't converged yet; raise max_fun.",
            "stuck": f"{solver}: no step lowers the loss after {at_epoch} iterations, though its gradient is above "
            f"tol={self.tol}; scale the data.",
        }
        if reason == "interrupted":
            warnings.warn("Training interrupted by user.", stacklevel=stacklevel)
        elif reason in messages and not (incremental and reason == "max_iter"):
            warnings.warn(messages[reason], ConvergenceWarning, stacklevel=stacklevel)

    def _has_steps(self) -> bool:
        if self.solver not in STOCHASTIC_SOLVERS:
            raise AttributeError(f"partial_fit needs a stochastic solver; {self.solver} is not stochastic.")
        return True

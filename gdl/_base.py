"""What both estimators share: from checked parameters and arrays to the driver, and back to attributes."""

from __future__ import annotations

import copy
import math
import warnings
from numbers import Integral, Real
from types import ModuleType
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from gdl import _validation, kernels
from gdl._progress import Report
from gdl._validation import Target
from gdl.initializers import INITIALIZERS, draw_parameters
from gdl.kernels import layout
from gdl.training import SCHEDULES, Judge, Outcome, Plan, Samples, Trainer, Training, predict, restore_best, rows_in_a_run

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


class Views(list[NDArray[Any]]):
    """Views of a vector; putting an array into the list writes its numbers into the vector."""

    def __setitem__(self, index: Any, value: Any) -> None:
        self[index][...] = value


class BaseMLP(CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
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

    _parameters: NDArray[Any]
    _layers: NDArray[np.int64]
    _training: Training
    _target: Target
    _device: str
    #: What the short way of predicting needs at hand; empty until the first prediction.
    _at_hand: Any = ()

    def _store(self, arguments: dict[str, Any]) -> None:
        """Keep the arguments of ``__init__`` as they are, which is all that ``clone`` allows."""
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # What the two estimators tell apart.

    def _find_target(self, y: NDArray[Any], fitted: bool, classes: Any) -> Target:
        raise NotImplementedError

    def _encode(self, y: NDArray[Any], target: Target, dtype: np.dtype[Any], name: str = "y") -> NDArray[Any]:
        raise NotImplementedError

    def _weigh(self, sample_weight: NDArray[Any], Y: NDArray[Any], target: Target, incremental: bool) -> NDArray[Any]:
        return sample_weight

    def _loss_parameter(self) -> float:
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
        target = self._find_target(y, fitted, classes)
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
        """Train."""
        fitted = self.warm_start and self.__sklearn_is_fitted__()
        task = self._check(X, y, sample_weight, validation_data, fitted=fitted)
        return self._fit(task, fitted, False, Report())

    def _fit(self, task: Task, fitted: bool, incremental: bool, report: Report) -> Self:
        """Train on checked arguments, remember the result, and then say what there is to say of it."""
        kernel_set = kernels.load(self.device)
        parameters, training = self._begin(task, fitted)
        judge = self._judge(kernel_set, task, training)
        plan = self._plan(task, len(training.order))
        driver = Trainer
        trainer = driver(kernel_set, task.layers, parameters, task.samples, judge, plan, training)
        if not incremental:
            training.clock = 0  # each fit runs its whole schedule; partial_fit goes on with it
        report.attributes = lambda n_epochs: self._snapshot(task, parameters, training, n_epochs)
        outcome = trainer.run(1 if incremental else self.max_iter, report)
        vars(self).pop("feature_names_in_", None)
        vars(self).update(self._attributes(task, parameters, training, outcome))
        self._warn(outcome, incremental)
        return self

    def _begin(self, task: Task, fitted: bool) -> tuple[NDArray[Any], Training]:
        """Return the parameters to start from and the state to go on from; draws in scikit-learn's order."""
        n_samples = len(task.samples.X)
        if fitted:
            training = self._training
            if n_samples != len(training.order) + training.n_validation or self._splits(task) != bool(
                training.n_validation
            ):
                training.order, training.validation_rows = self._split(task, training.random_state)
                training.position = 0
            return self._parameters, training
        random_state = check_random_state(self.random_state)
        if task.init is None:
            dtype = task.samples.X.dtype
            parameters = draw_parameters(self.init, task.layers, task.drawn_for, dtype, random_state)
        else:
            parameters = task.init
        training = Training(random_state, *self._split(task, random_state))
        if self.dropout > 0:
            training.dropout_seed = int(random_state.randint(2**63 - 1, dtype=np.int64))
        return parameters, training

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
        stratify = task.samples.Y[:, 0] if task.target.classes is not None and task.target.n_outputs == 1 else None
        before = random_state.get_state()
        try:
            learn, judge = train_test_split(
                rows, test_size=self.validation_fraction, random_state=random_state, stratify=stratify
            )
            for part, name in ((learn, "the samples to learn from"), (judge, "the validation set")):
                _validation.check_total_weight(task.samples.sample_weight[part] if len(task.samples.sample_weight) else task.samples.sample_weight, name)
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
                stacklevel=4,
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

    def _snapshot(
        self, task: Task, parameters: NDArray[Any], training: Training, n_epochs: int
    ) -> dict[str, Any]:
        """Return the attributes of an estimator of its own, as if the fit had ended here."""
        training = copy.deepcopy(training)
        parameters = parameters.copy()
        restore_best(parameters, training)
        return self._attributes(task, parameters, training, Outcome(n_epochs, "callback"))

    def _attributes(
        self, task: Task, parameters: NDArray[Any], training: Training, outcome: Outcome
    ) -> dict[str, Any]:
        """Return all fitted attributes, to be set together."""
        early = training.best_parameters is not None
        judged = bool(training.validation_scores)
        return {
            **task.known,
            **({} if task.target.classes is None else {"classes_": task.target.classes}),
            "n_outputs_": task.target.n_outputs,
            "n_layers_": len(task.layers) + 1,
            "out_activation_": task.target.out_activation,
            "n_iter_": outcome.n_epochs,
            "t_": training.t,
            "loss_": training.loss_curve[-1] if training.loss_curve else math.inf,
            "loss_curve_": training.loss_curve,
            "best_loss_": None if early else training.best_loss,
            "best_validation_score_": training.best_score if early else None,
            "validation_scores_": training.validation_scores if judged else None,
            "validation_loss_curve_": training.validation_loss_curve if judged else None,
            "learning_rate_": training.learning_rate,
            "converged_": outcome.reason == "converged",
            "_parameters": parameters,
            "_layers": task.layers,
            "_training": training,
            "_target": task.target,
            "_device": self.device,
            "_at_hand": [],
        }

    def _warn(self, outcome: Outcome, incremental: bool) -> None:
        """Say how the fit ended if it did not end well; the model is in place whatever becomes of a warning."""
        if outcome.reason == "interrupted":
            warnings.warn("Training interrupted by user.", stacklevel=4)
        elif outcome.reason == "diverged":
            warnings.warn(
                f"Training diverged in epoch {len(self.loss_curve_)}: its loss is not finite; the model keeps the "
                "last finite parameters. Lower learning_rate_init, scale the data, or set max_grad_norm.",
                ConvergenceWarning,
                stacklevel=4,
            )
        elif outcome.reason == "max_iter" and not incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )

    # The parameters, one vector and its views.

    @property
    def parameters_(self) -> NDArray[Any]:
        """All knobs as one vector: for each layer W, row by row, and b. Writing into it changes the model."""
        check_is_fitted(self)
        return self._parameters

    @parameters_.setter
    def parameters_(self, values: Any) -> None:
        self.parameters_[...] = values

    @property
    def coefs_(self) -> list[NDArray[Any]]:
        """W of each layer, of shape (n_in, n_out); views of ``parameters_``."""
        return Views(layout.weight_views(self.parameters_, self._layers))

    @coefs_.setter
    def coefs_(self, values: Any) -> None:
        for W, value in zip(self.coefs_, values, strict=True):
            W[...] = value

    @property
    def intercepts_(self) -> list[NDArray[Any]]:
        """b of each layer, of shape (n_out,); views of ``parameters_``. Empty without intercepts."""
        return Views(layout.bias_views(self.parameters_, self._layers))

    @intercepts_.setter
    def intercepts_(self, values: Any) -> None:
        for b, value in zip(self.intercepts_, values, strict=True):
            b[...] = value

    def __sklearn_is_fitted__(self) -> bool:
        return "_parameters" in vars(self)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        # Compiled functions stay here; the next prediction fetches them again.
        return {**state, "_at_hand": []} if "_at_hand" in state else state

    # Using what was learned.

    def _outputs(self, X: Any) -> NDArray[Any]:
        """Outputs of the network for X as the user passes it.

        What a service sends, a plain array of the model's type, takes a short way through the same checks.
        """
        if self._at_hand:
            dtype, n_in, n_out, n_rows, layers, parameters, all_finite, predict_rows = self._at_hand
            if (
                type(X) is np.ndarray
                and X.dtype is dtype
                and X.ndim == 2
                and X.shape[1] == n_in
                and 0 < X.shape[0] <= n_rows
                and X.flags.c_contiguous
            ):
                finite = np.empty(1)
                all_finite(X, finite)
                if finite[0]:
                    out = np.empty((X.shape[0], n_out), dtype)
                    predict_rows(X, layers, parameters, out)
                    return out
        return self._checked_outputs(X)

    def _checked_outputs(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        X = _validation.check_inputs(self, X)
        kernel_set = kernels.load(self._device)
        if not self._at_hand and "feature_names_in_" not in vars(self):
            n_rows = rows_in_a_run(self._layers, 2, 1024)
            functions = kernel_set.all_finite, kernel_set.predict
            dtype, n_out = self._parameters.dtype, int(self._layers[-1, layout.N_OUT])
            self._at_hand[:] = dtype, X.shape[1], n_out, n_rows, self._layers, self._parameters, *functions
        return predict(kernel_set, X, self._layers, self._parameters)

    def transform(self, X: Any) -> Any:
        """Outputs of the last hidden layer; X itself where there is none.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_units)
        """
        check_is_fitted(self)
        X = _validation.check_inputs(self, X)
        if len(self._layers) == 1:
            return X.copy()
        return predict(kernels.load(self._device), X, self._layers[:-1], self._parameters)

    @property
    def _n_features_out(self) -> int:
        return int(self._layers[-1, layout.N_IN])

    def activations(self, X: Any) -> list[NDArray[Any]]:
        """Outputs of every layer, the last included.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        list of ndarray of shape (n_samples, n_out)
        """
        check_is_fitted(self)
        X = _validation.check_inputs(self, X)
        kernel_set, n_units = kernels.load(self._device), layout.n_units(self._layers)
        outputs = [np.empty((len(X), n_out), X.dtype) for n_out in self._layers[:, layout.N_OUT]]
        n_rows = rows_in_a_run(self._layers, 2, 1024)
        for start in range(0, len(X), n_rows):
            rows = X[start : start + n_rows]
            flat = np.empty(len(rows) * n_units, X.dtype)
            kernel_set.forward(rows, self._layers, self._parameters, flat)
            for output, part in zip(outputs, layout.unit_views(flat, self._layers, len(rows)), strict=True):
                output[start : start + n_rows] = part
        return outputs

    def _has_steps(self) -> bool:
        if self.solver not in STOCHASTIC_SOLVERS:
            raise AttributeError(f"partial_fit needs a stochastic solver; {self.solver} is not stochastic.")
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

"""Networks of dense layers that classify and that predict numbers."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from gdl import _validation
from gdl._base import BaseMLP
from gdl._validation import Target


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """Dense network that classifies."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    class_weight: Any

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        *,
        activation: Any = "relu",
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        class_weight: Any = None,
        max_grad_norm: float | None = None,
        init: Any = "glorot_uniform",
        fit_intercept: bool = True,
        device: str = "cpu",
    ) -> None:
        self._store(locals())

    def _find_target(self, y: NDArray[Any], fitted: bool, classes: Any) -> Target:
        if not fitted:
            return _validation.targets_of_labels(y) if classes is None else _validation.targets_of_first_batch(y, classes)
        return self._target

    def _encode(self, y: NDArray[Any], target: Target, dtype: np.dtype[Any], name: str = "y") -> NDArray[Any]:
        return _validation.encode_labels(y, target, dtype, name)

    @available_if(lambda self: self._has_steps())
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch over the given data."""
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict classes."""
        outputs = self._outputs(X)
        target = self._target
        if target.multilabel:
            return (outputs > 0.5).astype(int)
        if target.n_outputs == 1:
            return self.classes_.take(outputs.ravel() > 0.5)
        return self.classes_.take(outputs.argmax(1))

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probability of each class."""
        outputs = self._outputs(X)
        if self._target.n_outputs > 1:
            return outputs
        both = np.empty((len(outputs), 2), outputs.dtype)
        both[:, 1] = outputs[:, 0]
        np.subtract(1, outputs[:, 0], out=both[:, 0])
        return both


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """Dense network that predicts numbers."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson", "absolute_error", "huber", "quantile"})],
        "huber_delta": [Interval(Real, 0, None, closed="neither")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    loss: str
    huber_delta: float
    quantile: float

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        *,
        loss: str = "squared_error",
        activation: Any = "relu",
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        max_grad_norm: float | None = None,
        init: Any = "glorot_uniform",
        fit_intercept: bool = True,
        huber_delta: float = 1.0,
        quantile: float = 0.5,
        device: str = "cpu",
    ) -> None:
        self._store(locals())

    def _find_target(self, y: NDArray[Any], fitted: bool, classes: Any) -> Target:
        n_outputs = 1 if y.ndim == 1 else y.shape[1]
        if fitted:
            n_outputs = self.n_outputs_
        return Target("exp" if self.loss == "poisson" else "identity", self.loss, n_outputs)

    def _encode(self, y: NDArray[Any], target: Target, dtype: np.dtype[Any], name: str = "y") -> NDArray[Any]:
        return _validation.encode_numbers(y, target, dtype, name)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict numbers."""
        outputs = self._outputs(X)
        return outputs.reshape(-1) if outputs.shape[1] == 1 else outputs

"""Dense networks that classify and that predict numbers, under scikit-learn's interface."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from gdl import _validation
from gdl._base import BaseMLP
from gdl._validation import Target


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Dense network that classifies: two classes, more, or several labels at once.

    The loss is the log loss of softmax outputs, or of one logistic output a label.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, or int, default=(100,)
        Width of each hidden layer; ``()`` for a linear model.
    activation : str, or list of str with one name a hidden layer, default="relu"
        ``"identity"``, ``"logistic"``, ``"tanh"``, ``"relu"``, ``"leaky_relu"`` (slope 0.01), ``"elu"``,
        ``"softplus"``, ``"gelu"`` or ``"silu"``.
    solver : {"lbfgs", "sgd", "adam", "adamw", "rmsprop"}, default="adam"
        ``"lbfgs"`` uses all samples in each iteration, the others one batch a step. ``"adamw"`` is Adam with
        decoupled weight decay (Loshchilov & Hutter 2019).
    alpha : float, default=0.0001
        Weight of the L2 penalty; a batch's penalty is divided by its total weight. For ``"adamw"`` the decay.
    batch_size : int, default="auto"
        ``"auto"`` is min(200, n_samples).
    learning_rate : {"constant", "invscaling", "adaptive", "cosine", "one_cycle"}, default="constant"
        ``"invscaling"`` (``learning_rate_init / t ** power_t`` after t samples) and ``"adaptive"`` (divided
        by 5 instead of stopping) belong to ``"sgd"``. ``"cosine"`` falls to 0 and ``"one_cycle"`` rises
        and falls within the ``max_iter`` epochs of a fit, step by step; ``partial_fit`` goes on with them.
    learning_rate_init : float, default=0.001
        The highest learning rate.
    power_t : float, default=0.5
        Exponent of ``"invscaling"``.
    max_iter : int, default=200
        Epochs, or iterations of ``"lbfgs"``; with ``warm_start``, that many more.
    shuffle : bool, default=True
        Whether to draw a new order of the samples each epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of the first parameters, the validation split, the order of samples and dropout. Numbers are
        drawn in scikit-learn's order.
    tol : float, default=1e-4
        What counts as an improvement of the loss or validation score; for ``"lbfgs"`` the largest gradient
        at which to stop.
    verbose : bool or int, default=False
        Whether to show a line of progress on stderr.
    warm_start : bool, default=False
        Whether ``fit`` goes on where the last one stopped: parameters, moments, schedule, random numbers and
        best values are taken up as if there had been no pause.
    momentum : float, default=0.9
        Of ``"sgd"``.
    nesterovs_momentum : bool, default=True
        Whether the momentum is Nesterov's.
    early_stopping : bool, default=False
        Whether to stop when the score of a validation set improves no more, and to return to the parameters
        that scored best.
    validation_fraction : float, default=0.1
        Share of the samples that ``early_stopping`` sets aside, unless ``fit`` is given ``validation_data``.
    beta_1 : float, default=0.9
        Decay of Adam's mean gradient.
    beta_2 : float, default=0.999
        Decay of Adam's, and of ``"rmsprop"``'s, mean squared gradient.
    epsilon : float, default=1e-8
        Keeps Adam's and ``"rmsprop"``'s steps finite where gradients vanish.
    n_iter_no_change : int, default=10
        Epochs without improvement that are waited for; ``np.inf`` for never stopping early.
    max_fun : int, default=15000
        Most evaluations of the loss by ``"lbfgs"``.
    dropout : float, default=0.0
        Probability that a hidden unit is left out of a step (inverted dropout, Srivastava et al. 2014).
    class_weight : dict {label: weight} or "balanced", default=None
        Multiplied with ``sample_weight``; ``"balanced"`` gives all classes the same total weight.
    max_grad_norm : float, default=None
        Gradients longer than this are scaled down to it.
    init : str or array-like of shape (n_parameters,), default="glorot_uniform"
        ``"glorot_uniform"`` (scikit-learn's draws), ``"glorot_normal"``, ``"he_uniform"``, ``"he_normal"``,
        or the first ``parameters_`` themselves.
    fit_intercept : bool, default=True
        Whether layers have biases.
    device : str, default="cpu"
        What to compute on; ``"cpu"`` is the only one yet.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    parameters_ : ndarray of shape (n_parameters,)
        All knobs, W0, b0, W1, b1, ...; writing into it changes the model at once.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer, views of ``parameters_``.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer, views of ``parameters_``; empty without intercepts.
    loss_ : float
        Loss of the last epoch, penalty included.
    best_loss_ : float or None
        Lowest loss of an epoch; None with ``early_stopping``.
    loss_curve_ : list of float
        Loss of every epoch since the model was new, over all calls that went on with it.
    validation_scores_ : list of float or None
        Accuracy of the validation set after each epoch, if there was one.
    best_validation_score_ : float or None
        Highest of them, with ``early_stopping``.
    validation_loss_curve_ : list of float or None
        Loss of the validation set after each epoch, without penalty.
    converged_ : bool
        Whether the last call stopped because there was no more improvement.
    learning_rate_ : float or None
        Learning rate of the next step; None for ``"lbfgs"``.
    n_iter_ : int
        Epochs of the last call.
    t_ : int
        Samples seen.
    n_layers_ : int
        Layers, the inputs counted as one.
    n_outputs_ : int
        Units of the last layer.
    out_activation_ : str
        Activation of the last layer.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of X's columns, if all are strings.

    See Also
    --------
    MLPRegressor : The same network for numbers.

    Notes
    -----
    With the same ``random_state``, float64 data and parameters that scikit-learn has too, the loss curve and
    the weights are scikit-learn's up to rounding. float32 data are computed in float32, all others in
    float64. The same call gives the same bits, for any number of threads.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from gdl import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier((10,), learning_rate_init=0.05, random_state=0).fit(X, y)
    >>> model.predict(X[:3])
    array([0, 0, 0])
    >>> model.coefs_[0].shape, model.parameters_.shape
    ((4, 10), (83,))
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    class_weight: Any
    classes_: NDArray[Any]

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

    def _find_target(self, y: NDArray[Any], fitted: bool, incremental: bool, classes: Any) -> Target:
        if not fitted:
            if incremental and classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            return _validation.targets_of_labels(y, classes)
        if not incremental:
            _validation.check_same_classes(y, self._target)
        elif classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ValueError(
                f"classes={np.asarray(classes).tolist()} is not the same as on the last call to partial_fit, "
                f"{self.classes_.tolist()}; leave it out."
            )
        return self._target

    def _encode(self, y: NDArray[Any], target: Target, dtype: np.dtype[Any], name: str = "y") -> NDArray[Any]:
        return _validation.encode_labels(y, target, dtype, name)

    def _weigh(self, weights: NDArray[Any], Y: NDArray[Any], target: Target, incremental: bool) -> NDArray[Any]:
        if self.class_weight is None:
            return weights
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                'class_weight="balanced" needs all samples, but partial_fit has one part of them; pass a dict.'
            )
        return _validation.weights_of_classes(self.class_weight, weights, Y, target)

    @available_if(lambda self: self._has_steps())
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch, going on where the last call stopped.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; needed in the first call.

        Returns
        -------
        object
            The estimator itself.
        """
        return self._partial_fit(X, y, classes, sample_weight)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the class of each sample, or 0 and 1 for each label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        outputs = self._outputs(X)
        n_outputs = outputs.shape[1]
        if n_outputs == 1:
            labels = self.classes_.take(outputs.ravel() > 0.5)
        elif self._target.multilabel:
            labels = (outputs > 0.5).astype(int)
        else:
            labels = self.classes_[outputs.argmax(1)]
        return labels

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        outputs = self._outputs(X)
        if outputs.shape[1] > 1:
            return outputs
        both = np.empty((len(outputs), 2), outputs.dtype)
        both[:, 1:] = outputs
        np.subtract(1, outputs, out=both[:, :1])
        return both

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Minus infinity where the probability is 0.
        """
        with np.errstate(divide="ignore"):
            logarithms: NDArray[Any] = np.log(self.predict_proba(X))
        return logarithms

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what the estimator can do."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, BaseMLP):
    """Dense network that predicts numbers, one or several for a sample.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, or int, default=(100,)
        Width of each hidden layer; ``()`` for a linear model.
    loss : {"squared_error", "poisson", "absolute_error", "huber", "quantile"}, default="squared_error"
        ``"squared_error"`` is half the square and ``"poisson"`` half the deviance, with exp as the last
        activation. Averaged over outputs, except for ``"poisson"``.
    activation : str, or list of str with one name a hidden layer, default="relu"
        ``"identity"``, ``"logistic"``, ``"tanh"``, ``"relu"``, ``"leaky_relu"`` (slope 0.01), ``"elu"``,
        ``"softplus"``, ``"gelu"`` or ``"silu"``.
    solver : {"lbfgs", "sgd", "adam", "adamw", "rmsprop"}, default="adam"
        ``"lbfgs"`` uses all samples in each iteration, the others one batch a step. ``"adamw"`` is Adam with
        decoupled weight decay (Loshchilov & Hutter 2019).
    alpha : float, default=0.0001
        Weight of the L2 penalty; a batch's penalty is divided by its total weight. For ``"adamw"`` the decay.
    batch_size : int, default="auto"
        ``"auto"`` is min(200, n_samples).
    learning_rate : {"constant", "invscaling", "adaptive", "cosine", "one_cycle"}, default="constant"
        ``"invscaling"`` (``learning_rate_init / t ** power_t`` after t samples) and ``"adaptive"`` (divided
        by 5 instead of stopping) belong to ``"sgd"``. ``"cosine"`` falls to 0 and ``"one_cycle"`` rises
        and falls within the ``max_iter`` epochs of a fit, step by step; ``partial_fit`` goes on with them.
    learning_rate_init : float, default=0.001
        The highest learning rate.
    power_t : float, default=0.5
        Exponent of ``"invscaling"``.
    max_iter : int, default=200
        Epochs, or iterations of ``"lbfgs"``; with ``warm_start``, that many more.
    shuffle : bool, default=True
        Whether to draw a new order of the samples each epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of the first parameters, the validation split, the order of samples and dropout. Numbers are
        drawn in scikit-learn's order.
    tol : float, default=1e-4
        What counts as an improvement of the loss or validation score; for ``"lbfgs"`` the largest gradient
        at which to stop.
    verbose : bool or int, default=False
        Whether to show a line of progress on stderr.
    warm_start : bool, default=False
        Whether ``fit`` goes on where the last one stopped: parameters, moments, schedule, random numbers and
        best values are taken up as if there had been no pause.
    momentum : float, default=0.9
        Of ``"sgd"``.
    nesterovs_momentum : bool, default=True
        Whether the momentum is Nesterov's.
    early_stopping : bool, default=False
        Whether to stop when the score of a validation set improves no more, and to return to the parameters
        that scored best.
    validation_fraction : float, default=0.1
        Share of the samples that ``early_stopping`` sets aside, unless ``fit`` is given ``validation_data``.
    beta_1 : float, default=0.9
        Decay of Adam's mean gradient.
    beta_2 : float, default=0.999
        Decay of Adam's, and of ``"rmsprop"``'s, mean squared gradient.
    epsilon : float, default=1e-8
        Keeps Adam's and ``"rmsprop"``'s steps finite where gradients vanish.
    n_iter_no_change : int, default=10
        Epochs without improvement that are waited for; ``np.inf`` for never stopping early.
    max_fun : int, default=15000
        Most evaluations of the loss by ``"lbfgs"``.
    dropout : float, default=0.0
        Probability that a hidden unit is left out of a step (inverted dropout, Srivastava et al. 2014).
    max_grad_norm : float, default=None
        Gradients longer than this are scaled down to it.
    init : str or array-like of shape (n_parameters,), default="glorot_uniform"
        ``"glorot_uniform"`` (scikit-learn's draws), ``"glorot_normal"``, ``"he_uniform"``, ``"he_normal"``,
        or the first ``parameters_`` themselves.
    fit_intercept : bool, default=True
        Whether layers have biases.
    huber_delta : float, default=1.0
        Error from which ``"huber"`` is linear.
    quantile : float, default=0.5
        Share of targets that are to lie below the prediction of ``"quantile"``.
    device : str, default="cpu"
        What to compute on; ``"cpu"`` is the only one yet.

    Attributes
    ----------
    parameters_ : ndarray of shape (n_parameters,)
        All knobs, W0, b0, W1, b1, ...; writing into it changes the model at once.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer, views of ``parameters_``.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer, views of ``parameters_``; empty without intercepts.
    loss_ : float
        Loss of the last epoch, penalty included.
    best_loss_ : float or None
        Lowest loss of an epoch; None with ``early_stopping``.
    loss_curve_ : list of float
        Loss of every epoch since the model was new, over all calls that went on with it.
    validation_scores_ : list of float or None
        R^2 of the validation set after each epoch, if there was one.
    best_validation_score_ : float or None
        Highest of them, with ``early_stopping``.
    validation_loss_curve_ : list of float or None
        Loss of the validation set after each epoch, without penalty.
    converged_ : bool
        Whether the last call stopped because there was no more improvement.
    learning_rate_ : float or None
        Learning rate of the next step; None for ``"lbfgs"``.
    n_iter_ : int
        Epochs of the last call.
    t_ : int
        Samples seen.
    n_layers_ : int
        Layers, the inputs counted as one.
    n_outputs_ : int
        Units of the last layer.
    out_activation_ : str
        Activation of the last layer.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of X's columns, if all are strings.

    See Also
    --------
    MLPClassifier : The same network for classes.

    Notes
    -----
    With the same ``random_state``, float64 data and parameters that scikit-learn has too, the loss curve and
    the weights are scikit-learn's up to rounding. float32 data are computed in float32, all others in
    float64. The same call gives the same bits, for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from gdl import MLPRegressor
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> y = X[:, 0] ** 2
    >>> model = MLPRegressor((20,), activation="tanh", solver="lbfgs", random_state=0).fit(X, y)
    >>> bool(abs(model.predict(X) - y).max() < 0.05)
    True
    """

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

    def _find_target(self, y: NDArray[Any], fitted: bool, incremental: bool, classes: Any) -> Target:
        n_outputs = self.n_outputs_ if fitted else 1 if y.ndim == 1 else y.shape[1]
        return Target("exp" if self.loss == "poisson" else "identity", self.loss, n_outputs, np.empty(0))

    def _encode(self, y: NDArray[Any], target: Target, dtype: np.dtype[Any], name: str = "y") -> NDArray[Any]:
        return _validation.encode_numbers(y, target, dtype, name)

    def _loss_parameter(self) -> float:
        return {"huber": self.huber_delta, "quantile": self.quantile}.get(self.loss, 0.0)

    @available_if(lambda self: self._has_steps())
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch, going on where the last call stopped.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        object
            The estimator itself.
        """
        return self._partial_fit(X, y, None, sample_weight)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the numbers of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        outputs = self._outputs(X)
        return outputs.reshape(-1) if outputs.shape[1] == 1 else outputs

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what the estimator can do."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

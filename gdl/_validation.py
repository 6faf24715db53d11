"""What users pass, made into arrays that kernels take, or one clear sentence about it."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.base import is_regressor
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from gdl.kernels import DEVICES, layout

HIDDEN_ACTIVATIONS = tuple(name for name in layout.ACTIVATIONS if name not in ("exp", "softmax"))


class Target(NamedTuple):
    """What a network is to put out."""

    out_activation: str
    loss: str
    n_outputs: int
    classes: NDArray[Any]  #: empty for a regressor
    multilabel: bool = False


def check_device(device: str) -> str:
    """Return the name of a device that gdl has kernels for."""
    if device not in DEVICES:
        choices = " or ".join(f'device="{name}"' for name in DEVICES)
        raise ValueError(f"device={device!r} is not one that gdl has kernels for; use {choices}.")
    return device


def check_hidden_layer_sizes(sizes: Any) -> list[int]:
    """Return the widths of the hidden layers."""
    widths = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if not all(isinstance(width, Integral) and not isinstance(width, bool) and int(width) > 0 for width in widths):
        raise ValueError(
            f"hidden_layer_sizes must be > 0 and whole, got {widths}; leave a layer out, or pass () for none."
        )
    return [int(width) for width in widths]


def check_activations(activation: Any, n_hidden: int) -> list[str]:
    """Return the activation of each hidden layer."""
    if isinstance(activation, str):
        return [activation] * n_hidden
    names = list(activation)
    if len(names) != n_hidden:
        raise ValueError(
            f"activation={names} has {len(names)} names for {n_hidden} hidden layers; "
            "pass one name, or one for each hidden layer."
        )
    for name in names:
        if name not in HIDDEN_ACTIVATIONS:
            raise ValueError(f"activation={names} has {name!r}; choose from {', '.join(HIDDEN_ACTIVATIONS)}.")
    return names


def check_dense(estimator: Any, X: Any, name: str = "X") -> None:
    """Refuse sparse matrices, which no kernel reads."""
    if scipy.sparse.issparse(X):
        raise TypeError(
            f"{name} is a sparse matrix, but {type(estimator).__name__} takes dense arrays only; pass {name}.toarray()."
        )


def check_inputs(estimator: Any, X: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return X as the kernels of an estimator that was fitted on ``dtype`` take it."""
    check_dense(estimator, X)
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is infinite, and refused as such
        checked: NDArray[Any] = validate_data(estimator, X, dtype=dtype, order="C", reset=False)
    return checked


def is_plain(X: Any, dtype: Any, known: dict[str, Any] | None, values: bool = True) -> bool:
    """Whether X is as kernels take it: finite, if ``values`` are to be looked at, and as what is ``known`` of it says.

    scikit-learn's checks find the same in 0.7 ms, ten epochs of a small network. They are left with what is not plain,
    and with the messages.
    """
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and X.size > 0
        and X.dtype in (dtype if isinstance(dtype, tuple) else (dtype,))
        and X.flags.c_contiguous
        and (known is None or known == {"n_features_in_": X.shape[1]})
        and (not values or adds_up(X))
    )


def is_plain_target(y: Any, X: Any, numeric: bool) -> bool:
    """Whether y has one finite number for each row of X, whole if it is to be a label."""
    if type(y) is not np.ndarray or type(X) is not np.ndarray or y.shape != X.shape[:1]:
        return False
    return y.dtype.kind in "biu" or (numeric and y.dtype in (np.float64, np.float32) and adds_up(y))


def adds_up(values: NDArray[Any]) -> bool:
    """Whether the sum is finite, and so are all values; where it is not, it may have been too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()))


def check_samples(
    estimator: Any, X: Any, y: Any, dtype: Any, known: dict[str, Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any]]:
    """Return X as kernels take it, y as an array, and what there is to know of X's features.

    What is ``known`` already, X must agree with. The estimator is not changed, whatever happens.
    """
    if is_plain_target(y, X, is_regressor(estimator)) and is_plain(X, dtype, known):
        return X, y, known or {"n_features_in_": X.shape[1]}
    check_dense(estimator, X)
    if scipy.sparse.issparse(y):  # a label indicator matrix may come like this
        y = y.toarray()
    # scikit-learn's check writes on the estimator before it has seen everything, so it gets a stand-in.
    stand_in = object.__new__(type(estimator))
    vars(stand_in).update(known or {})
    with np.errstate(over="ignore", invalid="ignore"):
        X, y = validate_data(
            stand_in,
            X,
            y,
            dtype=dtype,
            order="C",
            multi_output=True,
            y_numeric=is_regressor(estimator),
            reset=known is None,
        )
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return X, y, vars(stand_in)


def check_unlabelled(
    estimator: Any, X: Any, dtype: Any, known: dict[str, Any] | None = None, values: bool = True
) -> tuple[NDArray[Any], dict[str, Any]]:
    """``check_samples`` for X alone; its ``values`` need not be looked at if the caller will."""
    if is_plain(X, dtype, known, values):
        return X, known or {"n_features_in_": X.shape[1]}
    check_dense(estimator, X)
    stand_in = object.__new__(type(estimator))
    vars(stand_in).update(known or {})
    with np.errstate(over="ignore", invalid="ignore"):
        X = validate_data(stand_in, X, dtype=dtype, order="C", reset=known is None)
    return X, vars(stand_in)


def check_weights(sample_weight: Any, X: NDArray[Any]) -> NDArray[Any]:
    """Return one weight a sample, of X's type; of shape (0,) for None."""
    if sample_weight is None:
        return np.empty(0, X.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        weights: NDArray[Any] = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
    return np.ascontiguousarray(weights)


def check_total_weight(sample_weight: NDArray[Any], of: str) -> None:
    """Refuse samples that all have weight 0, from which nothing can be learned."""
    if len(sample_weight) and not sample_weight.any():
        raise ValueError(f"All weights of {of} are zero; at least one must be positive.")


def targets_of_labels(y: NDArray[Any], classes: Any = None) -> Target:
    """Return what a classifier is to put out for its labels, or for the ``classes`` that they are among."""
    multilabel = is_multilabel(y)
    classes = np.unique(np.asarray(classes)) if classes is not None else None if multilabel else np.unique(y)
    if multilabel:
        n_labels = y.shape[1]
        if classes is None:
            classes = np.arange(n_labels)
        if len(classes) != n_labels:
            raise ValueError(f"classes has {len(classes)} labels, but y has {n_labels} columns; name one for each.")
        return Target("logistic", "binary_log_loss", n_labels, classes, multilabel)
    if len(classes) < 2:
        raise ValueError(f"y has one class, {classes.tolist()}, but a classifier needs at least two.")
    if len(classes) == 2:
        return Target("logistic", "binary_log_loss", 1, classes)
    return Target("softmax", "log_loss", len(classes), classes)


def is_multilabel(y: NDArray[Any], name: str = "y") -> bool:
    """Whether y has a column of 0 and 1 for each label; refuse what is no label at all."""
    if y.ndim == 1 and y.dtype.kind in "biuU":  # always labels; the check below takes longer than some epochs
        return False
    check_classification_targets(y)
    if y.ndim == 1:
        return False
    if not np.isin(y, (0, 1)).all():
        raise ValueError(
            f"{name} has shape {y.shape} and other values than 0 and 1; pass a column of 0 and 1 for each label, or "
            "fit one classifier for each column."
        )
    return True


def check_same_classes(y: NDArray[Any], target: Target) -> None:
    """Refuse to go on with other classes than before."""
    present = np.unique(y)
    if not target.multilabel and set(present.tolist()) != set(target.classes.tolist()):
        raise ValueError(
            "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
            f"Previously got {target.classes}, `y` has {present}; fit with warm_start=False."
        )


def weights_of_classes(class_weight: Any, weights: NDArray[Any], Y: NDArray[Any], target: Target) -> NDArray[Any]:
    """Return samples' weights times those of their classes."""
    if target.multilabel:
        if class_weight != "balanced":
            raise ValueError(
                f"class_weight={class_weight} is for one label a sample, but y has {target.n_outputs}; "
                'use class_weight="balanced", or sample_weight.'
            )
        by_sample = compute_sample_weight("balanced", Y)
    else:
        numbers = Y[:, 0].astype(np.intp)
        by_class = (
            balanced_weights(numbers, weights, len(target.classes))
            if isinstance(class_weight, str)
            else given_weights(class_weight, target.classes.tolist())
        )
        by_sample = by_class[numbers]
    product: NDArray[Any] = (by_sample * weights if len(weights) else by_sample).astype(Y.dtype)
    return product


def balanced_weights(numbers: NDArray[np.intp], weights: NDArray[Any], n_classes: int) -> NDArray[np.float64]:
    """Return a weight for each class, such that all classes weigh the same.

    >>> balanced_weights(np.array([0, 0, 0, 1]), np.empty(0), 2).round(2).tolist()
    [0.67, 2.0]
    """
    counts = np.bincount(numbers, weights=weights if len(weights) else None, minlength=n_classes)
    shares: NDArray[np.float64] = np.divide(counts.sum(), n_classes * counts, out=np.zeros(n_classes), where=counts > 0)
    return shares


def given_weights(class_weight: dict[Any, float], classes: list[Any]) -> NDArray[np.float64]:
    """Return the weight of each class, 1 for those that the dict leaves out."""
    unknown = [label for label in class_weight if label not in classes]
    if unknown and any(label not in class_weight for label in classes):
        raise ValueError(f"class_weight has {unknown}, not among the classes {classes}; use the labels of y.")
    weights = np.array([class_weight.get(label, 1.0) for label in classes], np.float64)
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"class_weight={class_weight} must hold finite numbers of 0 or more.")
    return weights


def encode_labels(y: NDArray[Any], target: Target, dtype: np.dtype[Any], name: str = "y") -> NDArray[Any]:
    """Return labels as kernels take them: the class number, or 0 and 1 in a column for each label."""
    multilabel = is_multilabel(y, name)
    if target.multilabel:
        if not multilabel or y.shape[1] != target.n_outputs:
            raise ValueError(f"{name} has shape {y.shape}, but must have {target.n_outputs} columns, one a label.")
        return np.ascontiguousarray(y, dtype)
    if multilabel:
        raise ValueError(f"{name} has shape {y.shape}, but must have one label a sample, shape ({len(y)},).")
    if y.dtype.kind == target.classes.dtype.kind and y.dtype.kind in "biuU":  # labels of 2,000 samples: 30 us, not 90
        numbers = np.minimum(np.searchsorted(target.classes, y), len(target.classes) - 1)
        unseen = np.unique(y[target.classes[numbers] != y]).tolist()
    else:
        present, inverse = np.unique(y, return_inverse=True)
        known = {label: number for number, label in enumerate(target.classes.tolist())}
        unseen = [label for label in present.tolist() if label not in known]
        numbers = np.array([known.get(label, 0) for label in present.tolist()])[inverse]
    if unseen:
        raise ValueError(
            f"{name} has classes {unseen} that are not among the model's {target.classes.tolist()}; "
            "leave them out, or fit anew with all classes."
        )
    return numbers.astype(dtype).reshape(-1, 1)


def encode_numbers(y: NDArray[Any], target: Target, dtype: np.dtype[Any], name: str = "y") -> NDArray[Any]:
    """Return a regressor's targets as kernels take them."""
    with np.errstate(over="ignore"):
        Y = np.ascontiguousarray(y.reshape(len(y), -1), dtype)
    if Y.shape[1] != target.n_outputs:
        raise ValueError(f"{name} has {Y.shape[1]} outputs, but the model has {target.n_outputs}.")
    if not np.isfinite(Y).all():
        raise ValueError(f"{name} holds {np.abs(y).max():g}, too large for {dtype}; scale it, or pass float64 data.")
    if target.loss == "poisson" and Y.min() < 0:
        raise ValueError(f'{name} holds {Y.min():g}, but loss="poisson" needs y >= 0; choose another loss.')
    return Y


def check_init(init: Any, n_parameters: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a copy of the first parameters that the user gave."""
    try:
        with np.errstate(over="ignore"):
            parameters = np.array(init, dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"init must be a vector of numbers, but NumPy says: {error}.") from error
    if parameters.shape != (n_parameters,):
        raise ValueError(
            f"init has shape {parameters.shape}, but the network has {n_parameters} parameters; "
            f"pass a vector of shape ({n_parameters},)."
        )
    if not np.isfinite(parameters).all():
        raise ValueError(f"init holds NaN or numbers beyond {dtype}; pass finite numbers.")
    return parameters


def split_validation_data(validation_data: Any) -> tuple[Any, Any, Any]:
    """Return the X, y and sample_weight (or None) of ``validation_data``."""
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        got = type(validation_data).__name__
        if isinstance(validation_data, (tuple, list)):
            got += f" of {len(validation_data)}"
        raise ValueError(f"validation_data is a {got}, but must be (X, y) or (X, y, sample_weight).")
    X, y, *rest = validation_data
    return X, y, rest[0] if rest else None


def check_centers(centers: Any, n_clusters: int, X: NDArray[Any], name: str = "init") -> NDArray[Any]:
    """Return first centers as kernels take them, in an array of their own."""
    try:
        with np.errstate(over="ignore"):
            checked = np.array(centers, X.dtype, order="C")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a matrix of numbers, but NumPy says: {error}.") from error
    if checked.shape != (n_clusters, X.shape[1]):
        raise ValueError(
            f"{name} has shape {checked.shape}, but must have a row for each of n_clusters={n_clusters} and a column "
            f"for each of the {X.shape[1]} features."
        )
    if not np.isfinite(checked).all():
        raise ValueError(f"{name} holds NaN or numbers beyond {X.dtype}; pass finite numbers.")
    return checked


def check_spread(squared_distance: float, dtype: np.dtype[Any]) -> None:
    """Refuse samples whose squared distances are beyond what their type holds."""
    largest = float(np.finfo(dtype).max)
    if not squared_distance < largest:
        raise ValueError(
            f"X spreads too far for {dtype}: squared distances go beyond {largest:.1e}; scale it"
            + (", or pass float64 data." if dtype == np.float32 else ".")
        )


def check_directions(X: NDArray[Any], name: str = "X") -> None:
    """Refuse rows of zeros, which the cosine cannot compare."""
    zero = np.flatnonzero(~X.any(axis=1))
    if len(zero):
        raise ValueError(
            f'Row {zero[0]} of {name} is all zeros and has no direction, so metric="cosine" cannot compare it; leave '
            f'out {len(zero)} such rows, or use metric="euclidean".'
        )


def on_sphere(kernels: ModuleType, X: NDArray[Any], name: str = "X") -> NDArray[Any]:
    """Return the rows of X scaled to length 1, which is what the cosine compares."""
    check_directions(X, name)
    rows = np.empty_like(X)
    kernels.normalize_rows(X, rows)
    return rows

"""What a clustering found, a row a cluster."""

from __future__ import annotations

from itertools import pairwise
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from gdl import _validation, kernels
from gdl._table import Table, numbers, short

#: Columns of a center that a table shows, and characters of a name.
MOST_FEATURES, MOST_CHARACTERS = 6, 20


class ClusterRow(NamedTuple):
    """One cluster of a summary."""

    cluster: int
    size: int  #: samples
    weight: float  #: sum of their weights
    spread: float  #: root of the mean squared distance to the center; NaN without samples
    center: NDArray[Any]
    nearest: list[Any]  #: names or numbers of the rows that are nearest to the center, the nearest first


class ClusterSummary:
    """A table of clusters: prints as text, shows as HTML in a notebook, and its ``rows`` are named tuples."""

    def __init__(self, rows: list[ClusterRow], feature_names: list[str], is_weighted: bool) -> None:
        self.rows, self.feature_names, self.is_weighted = rows, feature_names, is_weighted

    def __repr__(self) -> str:
        """Return the table as text."""
        return self._table().as_text()

    def _repr_html_(self) -> str:
        return self._table().as_html()

    def _table(self) -> Table:
        """Return the cells."""
        columns = {"cluster": [str(row.cluster) for row in self.rows], "size": [f"{row.size:,}" for row in self.rows]}
        if self.is_weighted:
            columns["weight"] = numbers([row.weight for row in self.rows])
        columns["spread"] = numbers([row.spread for row in self.rows])
        header, cells = [*columns], [*columns.values()]
        for name, column in self._center_columns():
            header.append(name)
            cells.append(column)
        header.append("nearest rows")
        cells.append([", ".join(short(str(name), MOST_CHARACTERS) for name in row.nearest) for row in self.rows])
        return Table(header, list(zip(*cells, strict=True)), left=(len(header) - 1,))

    def _center_columns(self) -> list[tuple[str, list[str]]]:
        """Return name and cells of the features that there is room for, and an ellipsis for the others."""
        n_features = len(self.feature_names)
        n_shown = n_features if n_features <= MOST_FEATURES else MOST_FEATURES - 1
        shown = [
            (short(name, MOST_CHARACTERS), numbers([float(row.center[j]) for row in self.rows]))
            for j, name in enumerate(self.feature_names[:n_shown])
        ]
        return shown if n_shown == n_features else [*shown, ("...", ["..."] * len(self.rows))]


def summarize(model: Any, X: Any, sample_weight: Any, n_nearest: int) -> ClusterSummary:
    """Return what ``FittedClusters.summary`` returns."""
    check_is_fitted(model)
    if not isinstance(n_nearest, Integral) or isinstance(n_nearest, bool) or n_nearest < 0:
        raise ValueError(f"n_nearest={n_nearest!r} must be a whole number of at least 0.")
    samples = model._prepare(X)
    weights = _validation.check_weights(sample_weight, samples)
    names, feature_names = row_names(X, len(samples)), names_of_features(model)
    labels = model._checked_labels(samples)
    distances = np.empty(len(samples))
    kernels.load(model._device).label_distances(samples, model.cluster_centers_, labels, distances)
    weights = weights.astype(np.float64) if weights.size else np.ones(len(samples))

    order = np.lexsort((distances, labels))  # stable: the first of equally near rows
    order = order[weights[order] > 0]
    n_clusters = len(model.cluster_centers_)
    bounds = np.searchsorted(labels[order], np.arange(n_clusters + 1))
    rows = []
    for cluster, (start, stop) in enumerate(pairwise(bounds.tolist())):
        members = order[start:stop]
        spread = spread_of(distances[members], weights[members], model._metric)
        nearest = [names[i] for i in members[:n_nearest].tolist()]
        center = model.cluster_centers_[cluster].copy()
        rows.append(ClusterRow(cluster, len(members), float(weights[members].sum()), spread, center, nearest))
    return ClusterSummary(rows, feature_names, sample_weight is not None)


def spread_of(distances: NDArray[np.float64], weights: NDArray[np.float64], metric: str) -> float:
    """Return how far samples are from their center, given squared distances.

    >>> spread_of(np.array([9.0, 49.0]), np.array([3.0, 2.0]), "euclidean")
    5.0
    """
    if len(distances) == 0:
        return float("nan")
    mean = float(np.average(distances, weights=weights))
    return mean / 2 if metric == "cosine" else float(np.sqrt(mean))


def row_names(X: Any, n_rows: int) -> Any:
    """Return the names of X's rows: the index of a pandas frame where each row has one name, else their numbers."""
    index: Any = getattr(X, "index", None)
    if hasattr(X, "iloc") and index.nlevels == 1 and index.is_unique:
        return index.tolist()
    return range(n_rows)


def names_of_features(model: Any) -> list[str]:
    """Return the names of the features that the model was fitted on, or x0, x1, ... as scikit-learn calls them."""
    known = getattr(model, "feature_names_in_", None)
    return [f"x{j}" for j in range(model.cluster_centers_.shape[1])] if known is None else known.tolist()

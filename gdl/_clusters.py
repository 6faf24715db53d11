"""What a clustering can do once it has centers: label, measure, score, and be pickled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from gdl import _validation, kernels
from gdl._files import FileMixin
from gdl._summary import ClusterSummary, summarize

#: Rows that the short way of predicting takes.
FEW_ROWS = 1024


class FittedClusters(FileMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Centers, and everything that only reads them."""

    cluster_centers_: NDArray[Any]
    _shift: NDArray[Any]
    _device: str
    _metric: str
    #: What the short way of predicting needs at hand; empty until the first prediction.
    _at_hand: Any = ()
    #: What an unfinished fit goes on from; None if there is none.
    _progress: Any = None
    #: The loop over steps that this model is in; None if it is in none.
    _loop: Any = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return a fitted attribute that takes work, which a loop over steps leaves until somebody asks."""
            loop = vars(self).get("_loop")
            if loop is None or name not in loop.LAZY:
                return super().__getattribute__(name)  # says again what is wrong
            return loop.attribute(name)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled and copied: no compiled functions, and no loop but what it has come to."""
        state = dict(super().__getstate__())
        loop = state.pop("_loop", None)
        if loop is not None:
            state.update(loop.attributes())
        return {**state, "_at_hand": []} if "_at_hand" in state else state

    def _prepare(self, X: Any) -> NDArray[Any]:
        """Return X as kernels compare it with the centers."""
        check_is_fitted(self)
        X = _validation.check_inputs(self, X, self.cluster_centers_.dtype)
        return _validation.on_sphere(kernels.load(self._device), X) if self._metric == "cosine" else X

    def predict(self, X: Any) -> NDArray[np.int32]:
        """Number of the nearest center of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        at_hand = self._at_hand
        if at_hand and type(X) is np.ndarray and X.ndim == 2:
            dtype, n_features, shift, all_finite, assign_labels = at_hand
            n_rows, n_columns = X.shape
            if X.dtype is dtype and n_columns == n_features and 0 < n_rows <= FEW_ROWS and X.flags.c_contiguous:
                finite = np.empty(1)
                all_finite(X, finite)
                if finite[0]:
                    labels = np.empty(n_rows, np.int32)
                    assign_labels(X, shift, self.cluster_centers_, labels)
                    return labels
        return self._checked_labels(self._prepare(X))

    def _checked_labels(self, X: NDArray[Any]) -> NDArray[np.int32]:
        kernel_set = kernels.load(self._device)
        if not self._at_hand and self._metric == "euclidean" and "feature_names_in_" not in vars(self):
            functions = kernel_set.all_finite, kernel_set.assign_labels
            self._at_hand[:] = X.dtype, X.shape[1], self._shift, *functions
        labels = np.empty(len(X), np.int32)
        kernel_set.assign_labels(X, self._shift, self.cluster_centers_, labels)
        return labels

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[np.int32]:
        """Fit, and return the label of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        labels: NDArray[np.int32] = self.fit(X, sample_weight=sample_weight).labels_
        return labels

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return the distance of each sample to each center.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        ndarray of shape (n_samples, n_clusters)
        """
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def transform(self, X: Any) -> Any:
        """Distance of each sample to each center; with ``metric="cosine"``, 1 minus the cosine.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_clusters)
        """
        X = self._prepare(X)
        distances = np.empty((len(X), len(self.cluster_centers_)), X.dtype)
        kernels.load(self._device).center_distances(X, self.cluster_centers_, distances)
        return distances**2 / 2 if self._metric == "cosine" else distances

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the inertia of the samples, each labelled with its nearest center.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        X = self._prepare(X)
        sample_weight = _validation.check_weights(sample_weight, X)
        inertia = np.empty(1)
        kernels.load(self._device).label_inertia(
            X, sample_weight, self.cluster_centers_, self._checked_labels(X), inertia
        )
        return -float(inertia[0]) / (2 if self._metric == "cosine" else 1)

    def summary(self, X: Any, sample_weight: Any = None, n_nearest: int = 3) -> ClusterSummary:
        """Size, spread, center and nearest rows of each cluster, as a table.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples to sum up, of the fit or others; each belongs to its nearest center.
        sample_weight : array-like of shape (n_samples,), default=None
            Samples of weight 0 are left out.
        n_nearest : int, default=3
            How many rows to name of each cluster: those nearest to its center, by the frame's index or by number.

        Returns
        -------
        ClusterSummary
            Prints as text and shows as HTML in a notebook. ``rows`` has a named tuple ``(cluster, size, weight,
            spread, center, nearest)`` for each cluster. The spread is the root of the mean squared distance to the
            center; with ``metric="cosine"``, the mean of 1 minus the cosine.
        """
        return summarize(self, X, sample_weight, n_nearest)

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what the estimator can do."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

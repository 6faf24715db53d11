"""k-means by functions, under scikit-learn's names: ``k_means``, and ``kmeans_plusplus`` for first centers alone."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from gdl import _validation, kernels
from gdl.kmeans import KMeans
from gdl.seeding import greedy_seeds, undrawn_on_failure


@validate_params({"return_n_iter": ["boolean"]}, prefer_skip_nested_validation=False)
def k_means(
    X: Any,
    n_clusters: int,
    *,
    sample_weight: Any = None,
    init: Any = "k-means++",
    n_init: Any = "auto",
    max_iter: int = 300,
    verbose: Any = False,
    tol: float = 1e-4,
    random_state: Any = None,
    copy_x: bool = True,
    algorithm: str = "auto",
    metric: str = "euclidean",
    device: str = "cpu",
    return_n_iter: bool = False,
) -> tuple[Any, ...]:
    """Cluster with ``KMeans``, whose parameters these are, and return what it found.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    n_clusters : int
    sample_weight : array-like of shape (n_samples,), default=None
    init, n_init, max_iter, verbose, tol, random_state, copy_x, algorithm, metric, device
        As in ``KMeans``.
    return_n_iter : bool, default=False
        Whether to return the number of iterations, too.

    Returns
    -------
    centers : ndarray of shape (n_clusters, n_features)
    labels : ndarray of shape (n_samples,)
    inertia : float
    n_iter : int
        Only with ``return_n_iter``.

    Examples
    --------
    >>> from gdl import k_means
    >>> centers, labels, inertia = k_means([[0.0], [1.0], [8.0], [9.0]], 2, random_state=0)
    >>> sorted(centers.ravel().tolist()), inertia
    ([0.5, 8.5], 1.0)
    """
    model = KMeans(
        n_clusters,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        verbose=verbose,
        tol=tol,
        random_state=random_state,
        copy_x=copy_x,
        algorithm=algorithm,
        metric=metric,
        device=device,
    ).fit(X, sample_weight=sample_weight)
    found = model.cluster_centers_, model.labels_, model.inertia_
    return (*found, model.n_iter_) if return_n_iter else found


@validate_params(
    {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "n_local_trials": [Interval(Integral, 1, None, closed="left"), None],
        "device": [str],
    },
    prefer_skip_nested_validation=True,
)
def kmeans_plusplus(
    X: Any,
    n_clusters: int,
    *,
    sample_weight: Any = None,
    x_squared_norms: Any = None,
    random_state: Any = None,
    n_local_trials: int | None = None,
    device: str = "cpu",
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Choose first centers by greedy k-means++.

    Arthur & Vassilvitskii 2007, "k-means++: the advantages of careful seeding", with several candidates for each
    seed. Numbers are drawn in scikit-learn's order, and the distribution is exact.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    n_clusters : int
    sample_weight : array-like of shape (n_samples,), default=None
        A sample is drawn with probability proportional to its weight.
    x_squared_norms : ignored
        Distances are taken from differences, which need no norms.
    random_state : int, RandomState instance or None, default=None
    n_local_trials : int, default=None
        Candidates for each seed but the first; None for ``2 + int(log(n_clusters))``.
    device : str, default="cpu"

    Returns
    -------
    centers : ndarray of shape (n_clusters, n_features)
    indices : ndarray of shape (n_clusters,)
        The rows of X that they are.

    Examples
    --------
    >>> from gdl import kmeans_plusplus
    >>> centers, rows = kmeans_plusplus([[0.0], [1.0], [8.0]], 2, random_state=0)
    >>> sorted(rows.tolist())
    [1, 2]
    """
    _validation.check_device(device)
    X, _ = _validation.check_unlabelled(KMeans(), X, (np.float64, np.float32))
    if len(X) < n_clusters:
        raise ValueError(f"n_samples={len(X)} should be >= n_clusters={n_clusters}; choose fewer clusters.")
    weights = _validation.check_weights(sample_weight, X)
    _validation.check_total_weight(weights, "the samples")
    random_state = check_random_state(random_state)
    with undrawn_on_failure(random_state):
        rows = greedy_seeds(kernels.load(device), X, weights, n_clusters, random_state, n_local_trials)
    return X[rows], rows

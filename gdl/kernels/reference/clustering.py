"""k-means: the nearest center of each sample, and the mean of each cluster.

All kernels see samples and centers relative to ``shift``, one point near the data. Products of numbers far
from zero would lose the digits in which the samples differ.
"""

import numpy as np


def column_moments(X, mean, variance):
    """Mean and variance of each feature, in float64.

    Both are taken relative to the first sample, so that an offset of the data costs no digits.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    mean : float64 array of shape (n_features,)
    variance : float64 array of shape (n_features,)
    """
    deviations = X.astype(np.float64) - X[0]
    mean[:] = deviations.mean(axis=0)
    variance[:] = np.maximum((deviations**2).mean(axis=0) - mean**2, 0)
    mean += X[0]


def assign_labels(X, shift, centers, labels):
    """Nearest center of each sample: ``labels[i] = argmin_k ||x_i - c_k||``; the lowest k of equal ones.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    shift : float array of shape (n_features,)
    centers : float array of shape (n_clusters, n_features)
    labels : int32 array of shape (n_samples,)
    """
    labels[:] = _pairwise(X, shift, centers).argmin(axis=1)


def lloyd_step(X, sample_weight, shift, centers, labels, sums, weights, n_reassigned):
    """One iteration of Lloyd's algorithm but for the division: assign each sample, and add up each cluster.

    Lloyd 1982, "Least squares quantization in PCM", in one pass over the samples.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    sample_weight : float array of shape (n_samples,)
        Or of shape (0,): every weight is 1.
    shift : float array of shape (n_features,)
    centers : float array of shape (n_clusters, n_features)
    labels : int32 array of shape (n_samples,)
        Updated in place: as in ``assign_labels``.
    sums : float64 array of shape (n_clusters, n_features)
        Sum of ``w_i (x_i - shift)`` over the samples of each cluster.
    weights : float64 array of shape (n_clusters,)
        Sum of ``w_i`` over the samples of each cluster.
    n_reassigned : float64 array of shape (1,)
        How many labels changed.
    """
    before = labels.copy()
    assign_labels(X, shift, centers, labels)
    _add_up(X, sample_weight, shift, labels, sums, weights)
    n_reassigned[0] = np.sum(labels != before)


def bounded_step(X, sample_weight, shift, centers, moves, labels, upper, lower, sums, weights, n_reassigned, n_exact):
    """``lloyd_step`` with the same result, which leaves out the samples whose label cannot change.

    Hamerly 2010, "Making k-means even faster": with the centers moved by ``moves``, a sample's distance to its
    own center is at most ``upper`` plus that center's move, and its distance to any other at least ``lower``
    minus the farthest move of another. A sample whose upper bound is below its lower bound, or below half the
    distance from its center to the nearest other, keeps its label. The set decides which samples it looks at.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    sample_weight : float array of shape (n_samples,)
        Or of shape (0,): every weight is 1.
    shift : float array of shape (n_features,)
    centers : float array of shape (n_clusters, n_features)
    moves : float64 array of shape (n_clusters,)
        How far each center is from where it was when the bounds were taken.
    labels : int32 array of shape (n_samples,)
        Updated in place: as in ``assign_labels``.
    upper : float array of shape (n_samples,)
        Updated in place: at least the distance to the sample's own center; infinite where nothing is known.
    lower : float array of shape (n_samples,)
        Updated in place: at most the distance to any other center.
    sums : float64 array of shape (n_clusters, n_features)
        As in ``lloyd_step``.
    weights : float64 array of shape (n_clusters,)
        As in ``lloyd_step``.
    n_reassigned : float64 array of shape (1,)
        How many labels changed.
    n_exact : float64 array of shape (1,)
        How many samples were compared with all centers.
    """
    lloyd_step(X, sample_weight, shift, centers, labels, sums, weights, n_reassigned)
    distances = np.sqrt(_pairwise(X, shift, centers))
    upper[:] = np.take_along_axis(distances, labels[:, None].astype(np.int64), axis=1)[:, 0]
    np.put_along_axis(distances, labels[:, None].astype(np.int64), np.inf, axis=1)
    lower[:] = distances.min(axis=1)
    n_exact[0] = len(X)


def average_centers(sums, weights, shift, centers):
    """Mean of each cluster, ``shift + sums / weights``; where a cluster is empty, that of the heaviest.

    Parameters
    ----------
    sums : float64 array of shape (n_clusters, n_features)
    weights : float64 array of shape (n_clusters,)
    shift : float array of shape (n_features,)
    centers : float array of shape (n_clusters, n_features)
    """
    filled = np.where(weights > 0, np.arange(len(weights)), weights.argmax())
    centers[:] = sums[filled] / weights[filled, None] + shift


def sums_inertia(scatter, sums, weights, shift, centers, inertia):
    """Inertia of the labels that sums were taken by, without a pass over the samples.

    ``sum_i w_i ||x_i - c||^2 = sum_i w_i ||x_i||^2 - 2 c s + w ||c||^2``, all relative to ``shift``. In float64 it is
    exact to 1e-16 of the scatter.

    Parameters
    ----------
    scatter : float
        Sum of ``w_i ||x_i - shift||^2``.
    sums : float64 array of shape (n_clusters, n_features)
        As ``lloyd_step`` left them.
    weights : float64 array of shape (n_clusters,)
    shift : float array of shape (n_features,)
    centers : float array of shape (n_clusters, n_features)
        Those that ``lloyd_step`` compared with.
    inertia : float64 array of shape (1,)
        Not below 0, whatever rounding does.
    """
    relative = centers.astype(np.float64) - shift
    total = scatter + (relative * (weights[:, None] * relative - 2 * sums)).sum()
    inertia[0] = 0.0 if total < 0 else total


def normalize_rows(X, out):
    """Rows of length 1, ``out_i = x_i / ||x_i||``; a row of zeros stays one.

    Each row is divided by its largest number first, whose square could be too large or too small.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    out : float array of shape (n_samples, n_features)
        May be X itself.
    """
    rows = X.astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows /= np.where(largest > 0, largest, 1)
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    out[:] = rows / np.where(lengths > 0, lengths, 1)


def center_moves(centers, new_centers, moves):
    """How far each center is moved, ``||c'_k - c_k||``, in float64.

    Parameters
    ----------
    centers : float array of shape (n_clusters, n_features)
    new_centers : float array of shape (n_clusters, n_features)
    moves : float64 array of shape (n_clusters,)
    """
    moves[:] = np.sqrt(((new_centers.astype(np.float64) - centers) ** 2).sum(axis=1))


def label_distances(X, centers, labels, out):
    """Squared distance of each sample to the center of its label, in float64.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    centers : float array of shape (n_clusters, n_features)
    labels : int32 array of shape (n_samples,), values below n_clusters
    out : float64 array of shape (n_samples,)
    """
    out[:] = ((X.astype(np.float64) - centers[labels]) ** 2).sum(axis=1)


def label_inertia(X, sample_weight, centers, labels, inertia):
    """Inertia: the sum over samples of ``w_i ||x_i - c||^2`` with the center c of their label, in float64.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    sample_weight : float array of shape (n_samples,)
        Or of shape (0,): every weight is 1.
    centers : float array of shape (n_clusters, n_features)
    labels : int32 array of shape (n_samples,), values below n_clusters
    inertia : float64 array of shape (1,)
    """
    distances = np.empty(len(X))
    label_distances(X, centers, labels, distances)
    inertia[0] = distances.sum() if sample_weight.size == 0 else distances @ sample_weight.astype(np.float64)


def center_distances(X, centers, out):
    """Distance of each sample to each center, ``out[i, k] = ||x_i - c_k||``.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    centers : float array of shape (n_clusters, n_features)
    out : float array of shape (n_samples, n_clusters)
    """
    for k in range(len(centers)):
        out[:, k] = np.sqrt(((X - centers[k]) ** 2).sum(axis=1))


def mini_batch_update(X, sample_weight, labels, centers, counts):
    """Move each center to the mean of all samples that it has seen, those of this batch included.

    Sculley 2010, "Web-scale k-means clustering", algorithm 1, for a whole batch at once: the center of a cluster
    of weight n that is given samples of total weight w and sum s goes to ``(n c + s) / (n + w)``.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    sample_weight : float array of shape (n_samples,)
        Or of shape (0,): every weight is 1.
    labels : int32 array of shape (n_samples,), values below n_clusters
    centers : float array of shape (n_clusters, n_features)
        Updated in place.
    counts : float64 array of shape (n_clusters,)
        Updated in place: the weight of the samples that each center has seen.
    """
    sums, weights = np.zeros(centers.shape), np.zeros(len(centers))
    _add_up(X, sample_weight, np.zeros_like(X[0]), labels, sums, weights)
    total = counts + weights
    seen = weights > 0
    centers[seen] = ((centers[seen].astype(np.float64) * counts[seen, None] + sums[seen]) / total[seen, None]).astype(
        centers.dtype
    )
    counts[:] = total


def _pairwise(X, shift, centers):
    """Squared distances of all samples to all centers."""
    distances = np.empty((len(X), len(centers)), X.dtype)
    for k in range(len(centers)):
        distances[:, k] = (((X - shift) - (centers[k] - shift)) ** 2).sum(axis=1)
    return distances


def _add_up(X, sample_weight, shift, labels, sums, weights):
    """Sum of the shifted samples and of the weights, by label, in float64."""
    sample_weight = np.ones(len(X)) if sample_weight.size == 0 else sample_weight.astype(np.float64)
    sums[:], weights[:] = 0, 0
    np.add.at(sums, labels, sample_weight[:, None] * (X - shift))
    np.add.at(weights, labels, sample_weight)

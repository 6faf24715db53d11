"""The driver of k-means++: first centers, drawn one after another in scikit-learn's order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Candidates that one pass over the samples judges.
GROUP = 16
#: Samples are summed in blocks of this many.
BLOCK = 256


def greedy_seeds(
    kernels: ModuleType,
    X: NDArray[Any],
    sample_weight: NDArray[Any],
    n_clusters: int,
    random_state: np.random.RandomState,
    n_local_trials: int | None = None,
) -> NDArray[np.int64]:
    """Return the rows of X that greedy k-means++ chooses as seeds.

    Each seed is the best of ``n_local_trials`` candidates, drawn with probability proportional to their weight
    times their squared distance to the closest seed so far: the one that leaves the smallest sum of these.
    """
    n_trials = n_local_trials or 2 + int(math.log(n_clusters))
    seeds = np.empty(n_clusters, np.int64)
    centers = np.empty((n_clusters, X.shape[1]), X.dtype)
    closest = np.full(len(X), np.inf, X.dtype)
    owners = np.zeros(len(X), np.int32)
    block_sums = np.empty(-(-len(X) // BLOCK))
    limits = np.empty(n_clusters, X.dtype)
    rows = np.empty(n_trials, np.int64)
    improves, best_improves = np.ones(len(X), np.uint16), np.empty(len(X), np.uint16)

    row, bit = first_seed(sample_weight, len(X), random_state), 0
    for number in range(n_clusters):
        seeds[number], centers[number] = row, X[row]
        kernels.add_seed(X, sample_weight, centers[number], improves, bit, number, closest, owners, block_sums)
        if number == n_clusters - 1:
            break
        targets = random_state.uniform(size=n_trials) * block_sums.sum()
        kernels.draw_samples(sample_weight, closest, block_sums, targets, rows)
        least = math.inf
        for start in range(0, n_trials, GROUP):
            candidates = X[rows[start : start + GROUP]]
            potentials = np.empty(len(candidates))
            known, limits_of = centers[: number + 1], limits[: number + 1]
            kernels.seed_limits(known, candidates, limits_of)
            kernels.candidate_potentials(
                X, sample_weight, candidates, closest, owners, limits_of, potentials, best_improves
            )
            if potentials.min() < least:
                best = int(potentials.argmin())
                least, row, bit = potentials[best], int(rows[start + best]), best
                improves, best_improves = best_improves, improves
    return seeds


def first_seed(sample_weight: NDArray[Any], n_samples: int, random_state: np.random.RandomState) -> int:
    """Draw a sample with probability proportional to its weight."""
    if sample_weight.size == 0:  # what choice() would find, without its arrays of n_samples numbers
        return min(int(random_state.uniform() * n_samples), n_samples - 1)
    weights = sample_weight.astype(np.float64)
    return int(random_state.choice(n_samples, p=weights / weights.sum()))


def random_seeds(
    sample_weight: NDArray[Any], n_samples: int, n_clusters: int, random_state: np.random.RandomState
) -> NDArray[np.int64]:
    """Draw different samples with probability proportional to their weights."""
    weights = np.ones(n_samples) if sample_weight.size == 0 else sample_weight.astype(np.float64)
    if np.count_nonzero(weights) < n_clusters:
        raise ValueError(
            f'init="random" needs n_clusters={n_clusters} samples of positive weight, but there are '
            f"{np.count_nonzero(weights)}; choose fewer clusters or another init."
        )
    seeds = random_state.choice(n_samples, size=n_clusters, replace=False, p=weights / weights.sum())
    return np.asarray(seeds, np.int64)


@contextmanager
def undrawn_on_failure(random_state: np.random.RandomState) -> Iterator[None]:
    """Put the random numbers back if anything fails, so that a call that failed leaves no trace."""
    before = random_state.get_state(legacy=False)
    try:
        yield
    except BaseException:
        random_state.set_state(before)
        raise

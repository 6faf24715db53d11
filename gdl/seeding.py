"""The driver of k-means++: first centers, drawn one after another in scikit-learn's order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdl import _validation

#: Candidates that one pass over the samples judges.
GROUP = 16
#: Samples are summed in blocks of this many.
BLOCK = 256
#: Screening takes a byte for each element of X. With no more samples a cluster than this, times the bytes of an
#: element, that is no more memory than 32 times the centers', which an iteration takes for the sums of its chunks.
SCREENED_SAMPLES = 32
#: Narrower samples, or fewer elements, are compared as fast as they are screened; of wider ones, 32 bits would not hold
#: the squares of distances between codes.
SCREENED_FEATURES, SCREENED_ELEMENTS = range(12, 2**16 + 1), 1_000_000
#: Codes of so few features take so little memory, a byte each, that the number of clusters does not matter.
FEW_FEATURES = 32
#: To look up the seed of a narrower sample takes as long as to compare it with a candidate; see ``LIMIT_FEATURES`` of
#: the cpu kernels.
OWNED_FEATURES = 8
#: The first seeds improve many samples each.
UNSCREENED_SEEDS = 16
#: Below, what is divided by the scale may be infinite, and a subnormal scale is off by so much that codes do not fit.
LEAST_SCALE = 1e-300


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

    Raises
    ------
    ValueError
        If a squared distance is beyond what the type of X holds.
    """
    n_trials = n_local_trials or 2 + int(math.log(n_clusters))
    seeds = np.empty(n_clusters, np.int64)
    centers = np.empty((n_clusters, X.shape[1]), X.dtype)
    closest = np.full(len(X), np.inf, X.dtype)
    owners = np.zeros(len(X) if X.shape[1] >= OWNED_FEATURES else 0, np.int32)
    block_sums = np.empty(-(-len(X) // BLOCK))
    limits = np.empty(n_clusters, X.dtype)
    rows = np.empty(n_trials, np.int64)
    improves, best_improves = np.ones(len(X), np.uint16), np.empty(len(X), np.uint16)
    screen = Screen(kernels, X, n_clusters)

    row, bit = first_seed(sample_weight, len(X), random_state), 0
    for number in range(n_clusters):
        seeds[number], centers[number] = row, X[row]
        kernels.add_seed(X, sample_weight, centers[number], improves, bit, number, closest, owners, block_sums)
        if number == n_clusters - 1:
            break
        potential = block_sums.sum()
        if not potential < math.inf:
            _validation.check_spread(math.inf, X.dtype)
        targets = random_state.uniform(size=n_trials) * potential
        kernels.draw_samples(sample_weight, closest, block_sums, targets, rows)
        least = math.inf
        for start in range(0, n_trials, GROUP):
            group = rows[start : start + GROUP]
            candidates = X[group]
            potentials = np.empty(len(candidates))
            known, limits_of = centers[: number + 1], limits[: number + 1]
            if owners.size > 0:
                kernels.seed_limits(known, candidates, limits_of)
            may_improve = screen.may_improve(number, closest, group)
            kernels.candidate_potentials(
                X, sample_weight, candidates, closest, owners, limits_of, may_improve, potential, potentials,
                best_improves,
            )  # fmt: skip
            if potentials.min() < least:
                best = int(potentials.argmin())
                least, row, bit = potentials[best], int(rows[start + best]), best
                improves, best_improves = best_improves, improves
    return seeds


class Screen:
    """What tells samples that no candidate can improve by their codes of 7 bits a feature, as long as that pays.

    Of 100,000 uniform samples of 128 features, 500 of them seeds, 8 candidates improve 780; 1,800 pass the screen.
    1,024 seeds took 2.2 s with it and 4.5 without (two cores, Zen 3).
    """

    def __init__(self, kernels: ModuleType, X: NDArray[Any], n_clusters: int) -> None:
        self.kernels, self.X = kernels, X
        self.next_seed: float = UNSCREENED_SEEDS
        takes_too_much = len(X) > SCREENED_SAMPLES * X.itemsize * n_clusters and X.shape[1] > FEW_FEATURES
        if takes_too_much or X.shape[1] not in SCREENED_FEATURES or X.size < SCREENED_ELEMENTS:
            self.next_seed = math.inf
        self.codes: NDArray[np.uint8] | None = None
        self.flags = np.empty(0, np.uint8)

    def may_improve(self, number: int, closest: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a bit for each sample that a candidate, in one of ``rows``, may improve, or nothing: look at all.

        Where all but a few groups of eight samples have one, which means that about half of the samples may be
        improved, screening is put off until there are twice as many seeds.
        """
        if number < self.next_seed or (self.codes is None and not self.quantize()):
            return self.flags[:0]
        self.kernels.screen_samples(self.codes, self.norms, self.scale, self.error, closest, rows, self.flags)
        if 256 * (len(self.flags) - np.count_nonzero(self.flags)) < len(self.flags):
            self.next_seed = 2 * number
        return self.flags

    def quantize(self) -> bool:
        """Make the codes, unless the samples hardly differ, or too much for their type."""
        low, high = (extreme(self.X, choose).astype(np.float64) for choose in (np.minimum, np.maximum))
        with np.errstate(over="ignore"):
            center = low + (high - low) / 2
            # Not half of the range: few units in the last place have no middle.
            self.scale = float(np.maximum(high - center, center - low).max() / 63)
        if not LEAST_SCALE < self.scale < math.inf:
            self.next_seed = math.inf
            return False
        n_samples, n_features = self.X.shape
        self.codes = np.empty((-(-n_samples // 8), -(-n_features // 8) * 2, 8, 4), np.uint8)
        self.norms, self.flags = np.empty(n_samples, np.int32), np.empty(len(self.codes), np.uint8)
        error = np.empty(1)
        self.kernels.quantize_samples(self.X, center, self.scale, self.codes, self.norms, error)
        # With what rounding may do to the differences that it is made of, and to their sum.
        self.error = float(error[0]) * (1 + n_features * 2.0**-50) + self.scale * math.sqrt(n_features) * 2.0**-45
        return True


def extreme(X: NDArray[Any], choose: np.ufunc) -> NDArray[Any]:
    """Return the smallest or largest value of each feature, as np.minimum or np.maximum chooses.

    64 rows are chosen from like one, as NumPy goes through a long row ten times as fast as through short ones.

    >>> extreme(np.array([[1, 5], [2, 3]]), np.maximum).tolist()
    [2, 5]
    """
    n_long = len(X) // 64
    rest = X[64 * n_long :]
    if n_long:
        long_row = choose.reduce(X[: 64 * n_long].reshape(n_long, -1))
        rest = np.vstack([rest, long_row.reshape(64, -1)])
    least_or_most: NDArray[Any] = choose.reduce(rest)
    return least_or_most


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

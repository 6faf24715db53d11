"""Greedy k-means++: what each candidate for the next seed would leave, and where the candidates are drawn.

Arthur & Vassilvitskii 2007, "k-means++: the advantages of careful seeding". ``closest`` is each sample's squared
distance to its closest seed, taken from differences, so that it is exactly 0 for a copy of a seed.
"""

import numpy as np

BLOCK = 256  # samples whose potentials are kept as one sum
MOST_CANDIDATES = 16  # bits of an element of ``improves``


def candidate_potentials(
    X, sample_weight, candidates, closest, owners, limits, may_improve, potential, potentials, improves
):
    """Potential that is left if a candidate becomes a seed: ``sum_i w_i min(closest_i, ||x_i - c||^2)``.

    A sample need not be looked at if its distance to its own seed is at most half of the distance from that
    seed to every candidate: by the triangle inequality no candidate is closer (Elkan 2003, lemma 1). Nor need one of
    which ``screen_samples`` says so.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    sample_weight : float array of shape (n_samples,)
        Or of shape (0,): every weight is 1.
    candidates : float array of shape (n_candidates, n_features)
        At most 16.
    closest : float array of shape (n_samples,)
    owners : int32 array of shape (n_samples,), values below n_clusters
        The number of each sample's closest seed. Or of shape (0,): no sample is left out by its seed.
    limits : float array of shape (n_clusters,)
        For each seed, a quarter of its squared distance to the closest candidate.
    may_improve : uint8 array of shape ((n_samples + 7) // 8,), values below n_bytes
        Bit ``i % 8`` of element ``i // 8`` is set for each sample i to be looked at. Or of shape (0,): all are.
    potential : float
        Sum of ``w_i closest_i``.
    potentials : float64 array of shape (n_candidates,)
    improves : uint16 array of shape (n_samples,)
        Bit k is set where candidate k is closer than the closest seed.
    """
    may_change = closest > (limits[owners] if owners.size > 0 else 0)
    if may_improve.size > 0:
        may_change &= np.unpackbits(may_improve, count=len(X), bitorder="little") == 1
    weights = np.ones(len(X)) if sample_weight.size == 0 else sample_weight.astype(np.float64)
    improves[:] = 0
    for k in range(len(candidates)):
        distances = ((X - candidates[k]) ** 2).sum(axis=1)
        closer = may_change & (distances < closest)
        potentials[k] = potential - weights @ np.where(closer, closest.astype(np.float64) - distances, 0)
        improves |= closer.astype(np.uint16) << np.uint16(k)


def add_seed(X, sample_weight, seed, improves, bit, number, closest, owners, block_sums):
    """Make a candidate a seed: the samples that it improves become its own.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    sample_weight : float array of shape (n_samples,)
        Or of shape (0,): every weight is 1.
    seed : float array of shape (n_features,)
    improves : uint16 array of shape (n_samples,)
        As ``candidate_potentials`` left it.
    bit : int, the candidate's number
    number : int, the seed's number
    closest : float array of shape (n_samples,)
        Updated in place.
    owners : int32 array of shape (n_samples,)
        Updated in place. Or of shape (0,): nobody asks.
    block_sums : float64 array of shape ((n_samples + 255) // 256,)
        Sum of ``w_i closest_i`` over each block of 256 samples.
    """
    improved = (improves >> np.uint16(bit)) & 1 == 1
    closest[improved] = ((X[improved] - seed) ** 2).sum(axis=1)
    if owners.size > 0:
        owners[improved] = number
    weights = np.ones(len(X)) if sample_weight.size == 0 else sample_weight.astype(np.float64)
    for block in range(_n_blocks(len(X))):
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        block_sums[block] = weights[rows] @ closest[rows].astype(np.float64)


def draw_samples(sample_weight, closest, block_sums, targets, rows):
    """First sample at which the running sum of ``w_i closest_i`` reaches each target.

    Only samples that add to the sum are drawn; where rounding leaves the sum below the target, the last of them;
    where nothing adds to it, the first sample of positive weight.

    Parameters
    ----------
    sample_weight : float array of shape (n_samples,)
        Or of shape (0,): every weight is 1.
    closest : float array of shape (n_samples,)
    block_sums : float64 array of shape ((n_samples + 255) // 256,)
        As ``add_seed`` left it.
    targets : float64 array of shape (n_candidates,)
    rows : int64 array of shape (n_candidates,)
    """
    weights = np.ones(len(closest)) if sample_weight.size == 0 else sample_weight.astype(np.float64)
    ends = np.cumsum(block_sums)
    for k, target in enumerate(targets):
        filled = np.flatnonzero(block_sums > 0)
        if len(filled) == 0:
            rows[k] = np.flatnonzero(weights)[0]
            continue
        reached = filled[ends[filled] >= target]
        block = reached[0] if len(reached) else filled[-1]
        start = block * BLOCK
        mass = weights[start : start + BLOCK] * closest[start : start + BLOCK].astype(np.float64)
        running = ends[block] - block_sums[block] + np.cumsum(mass)
        samples = np.flatnonzero(mass > 0)
        reached = samples[running[samples] >= target]
        rows[k] = start + (reached[0] if len(reached) else samples[-1])


def seed_limits(seeds, candidates, limits):
    """For each seed, a quarter of its squared distance to the closest candidate.

    Parameters
    ----------
    seeds : float array of shape (n_clusters, n_features)
    candidates : float array of shape (n_candidates, n_features)
    limits : float array of shape (n_clusters,)
    """
    for k in range(len(seeds)):
        limits[k] = ((candidates - seeds[k]) ** 2).sum(axis=1).min() / 4


def _n_blocks(n_samples):
    """Number of blocks that the samples are summed in."""
    return (n_samples + BLOCK - 1) // BLOCK

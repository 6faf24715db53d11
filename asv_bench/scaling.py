"""How the cost of an iteration of k-means grows: doubling the samples, the clusters or the features.

    python -m asv_bench.scaling

Prints the table of ``docs/benchmarks/kmeans-scaling.md``: shortest time of an iteration of the plain algorithm on
uniform float32 data, and by how much it grows from row to row.
"""

import numpy as np

from asv_bench.benchmarks.common import best_of
from gdl._environment import environment
from gdl.kernels import cpu

BASE = {"samples": 50_000, "clusters": 64, "features": 64}
FACTORS = (1, 2, 4, 8)


def iteration(sizes):
    """One pass over uniform samples, ready to be timed."""
    X = np.random.default_rng(0).random((sizes["samples"], sizes["features"]), dtype=np.float32)
    centers = X[: sizes["clusters"]].copy()
    labels, weights, shift = np.zeros(len(X), np.int32), np.empty(0, X.dtype), np.zeros(X.shape[1], X.dtype)
    sums, totals, count = np.empty(centers.shape), np.empty(len(centers)), np.empty(1)
    return lambda: cpu.lloyd_step(X, weights, shift, centers, labels, sums, totals, count)


def main():
    facts = environment()
    print(", ".join(facts[name] for name in ("CPU", "vectors")) + f", {facts['threads']} threads, gdl {facts['gdl']}\n")
    print("| what grows | samples | clusters | features | ms an iteration | growth |\n|---|---|---|---|---|---|")
    for grows in BASE:
        before = None
        for factor in FACTORS:
            sizes = BASE | {grows: BASE[grows] * factor}
            seconds = best_of(iteration(sizes), seconds=0.5, rounds=5)[0]
            growth = "" if before is None else f"{seconds / before:.2f}"
            print(f"| {grows} | " + " | ".join(map(str, sizes.values())) + f" | {seconds * 1e3:.2f} | {growth} |")
            before = seconds


if __name__ == "__main__":
    main()

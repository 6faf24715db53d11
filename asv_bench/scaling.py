"""How the cost of an iteration of k-means grows: doubling the samples, the clusters or the features.

    python -m asv_bench.scaling

Prints the table of ``docs/benchmarks/kmeans-scaling.md``: shortest time of an iteration of the plain algorithm on
uniform float32 data, and by how much it grows from row to row.
"""

from asv_bench.benchmarks.common import best_of
from asv_bench.benchmarks.scaling import FACTORS, kmeans_iteration
from gdl._environment import environment

BASE = {"samples": 50_000, "clusters": 64, "features": 64}


def main():
    facts = environment()
    print(", ".join(facts[name] for name in ("CPU", "vectors")) + f", {facts['threads']} threads, gdl {facts['gdl']}\n")
    print("| what grows | samples | clusters | features | ms an iteration | growth |\n|---|---|---|---|---|---|")
    for grows in BASE:
        before = None
        for factor in FACTORS:
            sizes = BASE | {grows: BASE[grows] * factor}
            seconds = best_of(kmeans_iteration(sizes), seconds=0.5, rounds=5)[0]
            growth = "" if before is None else f"{seconds / before:.2f}"
            print(f"| {grows} | " + " | ".join(map(str, sizes.values())) + f" | {seconds * 1e3:.2f} | {growth} |")
            before = seconds


if __name__ == "__main__":
    main()

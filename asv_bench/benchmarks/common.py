"""What the benchmarks share."""

from time import perf_counter


def best_of(*functions, seconds=0.3, rounds=7):
    """Shortest time of a call of each function in seconds; they take turns, so that all meet the same machine."""
    loops = []
    for function in functions:
        function()  # compile or load: never timed
        n = 1
        while _time(function, n) < 2e-3:
            n *= 4
        loops.append(n)
    best = [float("inf")] * len(functions)
    stop = perf_counter() + seconds * len(functions)
    done = 0
    while done < rounds or perf_counter() < stop:
        for i, (function, n) in enumerate(zip(functions, loops, strict=True)):
            best[i] = min(best[i], _time(function, n) / n)
        done += 1
    return best


def _time(function, n):
    start = perf_counter()
    for _ in range(n):
        function()
    return perf_counter() - start

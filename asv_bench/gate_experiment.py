"""What the gate is worth: no alarm where nothing changed, and slowdowns that were put there found.

    python -m asv_bench.gate_experiment [--commit HEAD] [--only same busy kernel python startup memory] [--runs 5]

Identical code is compared ``2 x runs`` times, half of them while another process keeps a core busy. Then a kernel, the
Python around a kernel, the import and the memory of a fit are each made 10, 20 and 50 % worse in a commit of a
throw-away working tree, and the gate compares it with the commit before. Prints the tables of
``docs/benchmarks/gate.md``. Every comparison is of the gate's dozen benchmarks, by its own command.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from asv_bench import gate
from gdl._environment import environment

ROOT = Path(__file__).resolve().parents[1]
SHARES = (0.1, 0.2, 0.5)

# place: the benchmark that has to show it, the file, and what is added to its end
SEEDS = {
    "kernel": (
        "kmeans.Assign.time_calls(20000x16x256, float32, 1)",
        "gdl/kernels/cpu/clustering.py",
        """
_once = assign_labels

def assign_labels(X, shift, centers, labels):
    _once(X, shift, centers, labels)
    again = round({share} * len(X))
    _once(X[:again], shift, centers, labels[:again])
""",
    ),
    "python": (
        "predict.Network.time_calls(1, float32)",
        "gdl/mlp.py",
        """
_once = MLPClassifier.predict

def _predict(self, X):
    for _ in range({loops}):
        pass
    return _once(self, X)

MLPClassifier.predict = _predict
""",
    ),
    "startup": (
        "startup.Import.timeraw_import()",
        "gdl/__init__.py",
        """
import time as _time
_end = _time.perf_counter() + {seconds}
while _time.perf_counter() < _end:
    pass
""",
    ),
    "memory": (
        "memory.Memory.peakmem_call(KMeans.fit)",
        "gdl/kmeans.py",
        """
_once = KMeans.fit

def _fit(self, X, y=None, sample_weight=None):
    waste = np.ones({bytes} if len(X) > 100_000 else 1, np.uint8)
    return _once(self, X, y, sample_weight)

KMeans.fit = _fit
""",
    ),
}


def git(*arguments, place=ROOT):
    command = ["git", "-C", str(place), "-c", "user.name=experiment", "-c", "user.email=experiment", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def throw_away_tree(commit):
    """A working tree that is gone afterwards, as are its commits when git next tidies up."""
    with tempfile.TemporaryDirectory() as place:
        tree = f"{place}/tree"
        git("worktree", "add", "--detach", tree, commit)
        try:
            yield Path(tree)
        finally:
            git("worktree", "remove", "--force", tree)


def seeded(commit, place, share, baseline):
    """Return a commit on top of ``commit`` in which one place is worse by ``share``."""
    case, file, text = SEEDS[place]
    before = baseline[case]
    values = {"share": share, "seconds": share * before, "bytes": round(share * before)}
    values["loops"] = round(share * before / CALLS_OF_PREDICT / seconds_of_a_loop())
    with throw_away_tree(commit) as tree:
        with (tree / file).open("a") as source:
            source.write(text.format(**values))
        git("commit", "--quiet", "--no-verify", "--all", f"--message={place} {share:.0%} worse", place=tree)
        return git("rev-parse", "HEAD", place=tree)


# The benchmark of one row calls predict so often in one timed call.
CALLS_OF_PREDICT = 200


def seconds_of_a_loop(turns=100, n=10_000):
    """Return what one turn of a short empty loop in Python takes: the shortest of some runs."""
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(n):
            for _ in range(turns):
                pass
        best = min(best, time.perf_counter() - start)
    return best / (n * turns)


def unchanged(commit):
    """Return a commit with the same content."""
    with throw_away_tree(commit) as tree:
        git("commit", "--quiet", "--no-verify", "--allow-empty", "--message=nothing changed", place=tree)
        return git("rev-parse", "HEAD", place=tree)


@contextlib.contextmanager
def busy_core():
    """Another process that computes without end."""
    process = subprocess.Popen([sys.executable, "-c", "while True: sum(range(100_000))"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run_gate(base, head, pattern):
    """Return the gate's exit status, its rows by benchmark, and the seconds that it took."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "asv_bench.gate", base, head, *(["--bench", pattern] if pattern else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    rows = [re.split(r" \| ", line.strip("| ")) for line in done.stdout.splitlines()[2:]]
    return done.returncode, {row[0]: row[1:] for row in rows}, time.perf_counter() - start


def alarms(rows):
    return [f"{case} ({row[2]})" for case, row in rows.items() if row[3].startswith(("regression", "fails"))]


def second_looks(rows):
    return sum(row[3].startswith(("same: moved", "regression", "faster")) for row in rows.values())


def baseline_of(commit):
    """Return the figures that shares are taken of."""
    tree, figures = gate.tree_of(gate.commit_of(commit)), {}
    for case, _, _ in SEEDS.values():
        before, after = gate.look(case, (tree, tree), gate.ROUNDS[gate.kind_of(case)][0])
        figures[case] = min(before + after)
    return figures


def compare_identical(commit, kind, runs, pattern):
    other = unchanged(commit)
    for run in range(runs):
        with busy_core() if kind == "busy" else contextlib.nullcontext():
            status, rows, seconds = run_gate(commit, other, pattern)
        machine = "the other core busy" if kind == "busy" else "quiet"
        said = "; ".join(alarms(rows)) or "none"
        print(f"| {run + 1} | {machine} | {second_looks(rows)} | {said} | {status} | {seconds:.0f} |", flush=True)


def compare_seeded(commit, place, baseline, pattern):
    for share in SHARES:
        status, rows, seconds = run_gate(commit, seeded(commit, place, share, baseline), pattern)
        case = SEEDS[place][0]
        before, after, ratio, verdict = rows[case]
        others = [alarm for alarm in alarms(rows) if not alarm.startswith(case)]
        cells = [place, f"{share:.0%}", case, before, after, ratio, verdict, "; ".join(others) or "none"]
        print(f"| {' | '.join(cells)} | {status} | {seconds:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--only", nargs="*", choices=["same", "busy", *SEEDS], default=["same", "busy", *SEEDS])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bench", metavar="REGEX", help="benchmarks to compare, to try the script out")
    options = parser.parse_args()
    try:
        commit = gate.commit_of(options.commit)
        gate.check_clean()
    except gate.RequestError as error:
        print(error, file=sys.stderr)
        return 2
    facts = environment()
    print(", ".join(facts[name] for name in ("CPU", "vectors")) + f", {facts['cores']} cores, gdl {commit[:10]}\n")
    identical = [kind for kind in ("same", "busy") if kind in options.only]
    if identical:
        print("| run | machine | looked at again | alarms | exit status | seconds |\n|---|---|---|---|---|---|")
        for kind in identical:
            compare_identical(commit, kind, options.runs, options.bench)
        print()
    places = [place for place in SEEDS if place in options.only]
    if places:
        print(
            "| place | worse by | benchmark | before | after | ratio | verdict | other alarms | exit status | seconds |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
        baseline = baseline_of(commit)
        for place in places:
            compare_seeded(commit, place, baseline, options.bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())

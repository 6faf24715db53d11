"""Tell whether a commit is slower than another, on an ordinary noisy machine.

    python -m asv_bench.gate BASE HEAD [--bench REGEX] [--threshold 1.1]

Both commits take turns: each round measures one right after the other, in processes that stay open and share a core,
so that a drift of the machine's speed meets both. A ratio is the median over the rounds or that of the shortest
times, whichever is closer to 1. Whatever moves by more than the threshold is looked at again, in new processes and
with more rounds; what still stands has its instructions counted by valgrind's callgrind, where that is installed, and
if these are the same it has to stand a third time. So a regression is reported only if it stands twice.

The benchmarks are those of the working tree, the commits' sources lie in ``.asv/gate``, and nothing else is written.
Prints a table and exits with 1 if there is a regression, with 2 if something could not be measured, else with 0.
"""

import argparse
import compileall
import contextlib
import importlib
import inspect
import io
import itertools
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREES = ROOT / ".asv" / "gate"
MODULES = ("dense", "kmeans", "predict", "startup", "memory", "quality", "scaling", "cuda")
THRESHOLD = 1.1
# What is measured unless --bench asks for more: kernels, Python around them, whole fits, start-up and memory.
DOZEN = [
    "dense.Forward.time_calls(256x512x1024, float32, 1)",
    "dense.WeightGradient.time_calls(128x784x512, float32, 1)",
    "dense.Elementwise.time_calls(adam_step, float32)",
    "dense.Step.time_calls(4-8-3 by 32, float32, 1)",
    "dense.Epoch.time_calls(784-100-10 by 100, float32, 1, adam)",
    "kmeans.Assign.time_calls(20000x16x256, float32, 1)",
    "kmeans.LloydStep.time_calls(50000x2x10, float64, 1)",
    "kmeans.Fit.time_calls(20000x64x100, uniform)",
    "predict.Network.time_calls(1, float32)",
    "predict.Clusters.time_calls(64, float32)",
    "startup.Import.timeraw_import()",
    "memory.Memory.peakmem_call(KMeans.fit)",
]
# Rounds of the first look, and those of each of the new pairs of processes of a later look, by kind of benchmark.
ROUNDS = {"time": (12, 12), "track": (3, 3), "timeraw": (5, 5), "peakmem": (1, 1)}
LATER_PAIRS = 3
SAMPLE_SECONDS = 4e-3
# How a process that measures begins.
KEEP_TO = "core = {core}\nif core is not None:\n    import os\n    os.sched_setaffinity(0, {{core}})\n"
WORK = "import runpy\nrunpy.run_module('asv_bench.gate', run_name='__main__', alter_sys=True)"
# Two counts of the same code's instructions differ by less than this: 1.00002 when measured, 1.018 as a benchmark.
SAME_INSTRUCTIONS = 1.03
COUNTED_SECONDS = 2e-2
# To count takes a minute or two: of so many benchmarks, the first to stand twice. The others are reported as they are.
MOST_COUNTED = 3
# What valgrind's processor can do. Kernels are compiled for it outside valgrind, which would take 50 times as long.
EMULATED = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+cx8,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+popcnt,"
    "+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave",
}


class RequestError(Exception):
    """Says in one sentence what is wrong with what was asked."""


# Commits


def git(*arguments):
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, stdin=subprocess.DEVNULL)


def commit_of(name):
    """Return the commit that a name stands for."""
    found = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found.returncode:
        raise RequestError(f"{name!r} is not a commit of this repository.")
    return found.stdout.decode().strip()


def check_clean():
    """Refuse a tree whose changes are in no commit: what would be measured is not what is there."""
    changed = git("status", "--porcelain", "--untracked-files=no").stdout.decode().split("\n")[0]
    if changed:
        raise RequestError(f"The working tree has changes that no commit holds ({changed.split()[-1]}): commit them.")


def tree_of(commit):
    """Return a directory that holds the commit's gdl; made once, whole or not at all."""
    place = TREES / commit
    if place.exists():
        return place
    archive = git("archive", commit, "gdl")
    if archive.returncode:
        raise RequestError(f"Commit {commit[:10]} has no gdl to measure.")
    TREES.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=TREES))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(draft, filter="data")
        compileall.compile_dir(draft, quiet=2)
        with contextlib.suppress(OSError):  # somebody else was faster
            draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def environment(tree):
    """Return the variables of a process that measures the gdl in ``tree``."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    variables |= dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    variables |= {"PYTHONPATH": f"{tree}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1", "GDL_BENCH": "full"}
    return variables | {"NUMBA_CACHE_DIR": str(tree / "kernels")}


# Statistics and verdicts


def ratio_of(before, after):
    """Return how many times as much ``after`` takes: by rounds or by the shortest, whichever is closer to 1.

    >>> ratio_of([1.0, 1.0, 1.1], [1.2, 1.3, 1.2])
    1.2
    >>> ratio_of([1.0, 1.0, 1.0], [1.0, 1.5, 1.5])  # two rounds met something that the first did not
    1.0
    """
    if min(before) <= 0:  # nothing was added, nothing was wrong
        return 1.0 if min(after) <= 0 else math.inf
    paired = statistics.median(a / b for b, a in zip(before, after, strict=True))
    shortest = min(after) / min(before)
    return closest_to_1([paired, shortest])


def closest_to_1(ratios):
    """Return what all ratios agree on.

    >>> closest_to_1([1.3, 1.2]), closest_to_1([0.8, 0.7]), closest_to_1([0.9, 1.2])
    (1.2, 0.8, 1.0)
    """
    return min(ratios) if min(ratios) > 1 else max(ratios) if max(ratios) < 1 else 1.0


def moved(ratio, threshold):
    """Return 1 for slower, -1 for faster, 0 for neither."""
    return 1 if ratio > threshold else -1 if ratio < 1 / threshold else 0


def judge(looks, instructions, threshold):
    """Return the verdict on the ratios of all looks so far, or None if one more is needed.

    ``instructions`` is the ratio of the instructions, None if they cannot be counted.
    """
    directions = [moved(ratio, threshold) for ratio in looks]
    direction = directions[0]
    if direction == 0:
        return "same"
    if any(other != direction for other in directions):
        return "same: moved once, not again"
    if len(looks) == 1:
        return None
    what = "regression" if direction > 0 else "faster"
    if instructions is None:
        return what
    if moved(instructions, SAME_INSTRUCTIONS) == direction:
        return f"{what}, instructions x{instructions:.2f}"
    if len(looks) == 2:
        return None
    return f"{what}, not by instructions (x{instructions:.2f})"


def amount(value, kind):
    """Return a figure with its unit.

    >>> amount(0.00123, "time"), amount(256e6, "peakmem"), amount(1.5, "track")
    ('1.23 ms', '256 MB', '1.5')
    """
    if value is None:
        return "-"
    if kind == "peakmem":
        return f"{value / 1e6:.0f} MB"
    if kind == "track":
        return f"{value:.4g}"
    scale, unit = next((s, u) for s, u in ((1, "s"), (1e3, "ms"), (1e6, "us")) if value * s >= 1 or u == "us")
    return f"{value * scale:.3g} {unit}"


def table(rows):
    """Return the rows as one Markdown table."""
    lines = ["| benchmark | before | after | ratio | verdict |", "|---|---|---|---|---|"]
    for case, before, after, ratio, verdict in rows:
        kind = kind_of(case)
        ratio = "-" if ratio is None else f"{ratio:.2f}"
        lines.append(f"| {case} | {amount(before, kind)} | {amount(after, kind)} | {ratio} | {verdict} |")
    return "\n".join(lines)


def status_of(verdicts):
    """Return the exit status: 1 if there is a regression, 2 if something failed, else 0."""
    if any(verdict.startswith("regression") for verdict in verdicts):
        return 1
    return 2 if any(verdict.startswith("fails") for verdict in verdicts) else 0


# Benchmarks


def kind_of(case):
    return case.split("(")[0].split(".")[2].partition("_")[0]


def all_cases():
    """Return every benchmark of the suite with every choice of its parameters."""
    cases = []
    for module in MODULES:
        for name, value in vars(importlib.import_module(f"asv_bench.benchmarks.{module}")).items():
            if name.startswith("_") or not inspect.isclass(value) or inspect.isabstract(value):
                continue
            methods = [m for m in dir(value) if m.partition("_")[0] in ROUNDS and callable(getattr(value, m))]
            cases += [f"{module}.{name}.{m}({', '.join(map(str, c))})" for m in methods for c in choices(value)]
    return cases


def choices(benchmark):
    """Return every choice of a benchmark class's parameters."""
    return list(itertools.product(*getattr(benchmark, "params", ())))


def chosen(pattern):
    """Return the benchmarks to measure."""
    if pattern is None:
        return DOZEN
    try:
        cases = [case for case in all_cases() if re.search(pattern, case)]
    except re.error as error:
        raise RequestError(f"--bench {pattern!r} is not a regular expression: {error}.") from None
    if not cases:
        raise RequestError(f"No benchmark matches --bench {pattern!r}.")
    return cases


# The side that measures: one process, one benchmark


def find(case):
    """Return an instance of the benchmark's class, its method and its parameters."""
    module, name, method, text = re.fullmatch(r"(\w+)\.(\w+)\.(\w+)\((.*)\)", case).groups()
    benchmark = getattr(importlib.import_module(f"asv_bench.benchmarks.{module}"), name)
    parameters = next(choice for choice in choices(benchmark) if ", ".join(map(str, choice)) == text)
    instance = benchmark()
    return instance, getattr(instance, method), parameters


def work(case, tree):
    """Set up a benchmark, then answer each line with a figure."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a benchmark prints is not an answer

    def answer(**facts):
        print(json.dumps(facts), file=answers, flush=True)

    import gdl

    if not Path(gdl.__file__).is_relative_to(tree):
        answer(fails=f"gdl was imported from {gdl.__file__}, not from the commit")
        return
    try:
        instance, method, parameters = find(case)
        if hasattr(instance, "setup"):
            instance.setup(*parameters)
        answer(ready=True)
        for line in sys.stdin:
            answer(value=take(line.strip(), method, parameters))
    except NotImplementedError as error:
        answer(skipped=str(error) or "not for this machine")
    except Exception as error:
        answer(fails=f"{type(error).__name__}: {str(error).strip().split(chr(10))[0]}"[:200])


def take(request, method, parameters):
    """Return what was asked for: seconds of a call, the peak of memory, a tracked value, or code."""
    kind, _, n = request.partition(" ")
    if kind == "time":
        return min(seconds_of(method, parameters, int(n)) for _ in range(3)) / int(n)
    if kind == "calls":  # how many fill a sample
        n = 1
        while (seconds := seconds_of(method, parameters, n)) < SAMPLE_SECONDS:
            n *= 2
        return max(1, math.ceil(n * SAMPLE_SECONDS / seconds))
    if kind == "instructions":
        count_instructions(method, parameters, int(n))
        return 0
    if kind == "peakmem":
        method(*parameters)
        from asv_bench.benchmarks.memory import peak

        return peak()
    return method(*parameters)


def seconds_of(method, parameters, n):
    start = time.perf_counter()
    for _ in range(n):
        method(*parameters)
    return time.perf_counter() - start


def count_instructions(method, parameters, n):
    """Have valgrind, under which this runs, count the instructions of ``n`` calls."""
    for command in ("instrumentation on", "zero"):
        tell_valgrind(command)
    for _ in range(n):
        method(*parameters)
    tell_valgrind("instrumentation off")


def tell_valgrind(command):
    vgdb = subprocess.Popen(
        ["vgdb", f"--pid={os.getpid()}", *command.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while vgdb.poll() is None:
        time.sleep(0.01)
    if vgdb.returncode:
        raise RuntimeError(f"vgdb failed: {command}")


# The side that asks


class UnavailableError(Exception):
    """A commit cannot run a benchmark: ``skipped`` or ``fails``, and why."""


class Side:
    """A process that measures one benchmark of one commit."""

    def __init__(self, case, tree, core=None, wrapper=(), **variables):
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", KEEP_TO.format(core=core) + WORK, "--work", case, str(tree)],
            env=environment(tree) | variables, cwd=tree,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE if wrapper else subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self._read()["value"]

    def _read(self):
        line = self.process.stdout.readline()
        facts = json.loads(line) if line else {"fails": "its process died"}
        for kind in ("skipped", "fails"):
            if kind in facts:
                raise UnavailableError(kind, facts[kind])
        return facts

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Code:
    """A statement of a ``timeraw_`` benchmark: each sample is a fresh interpreter."""

    def __init__(self, case, tree, core=None):
        with Side(case, tree) as side:
            code = side.ask("code")
        statement, setup = (code, "") if isinstance(code, str) else code
        self.tree = tree
        timed = f"import time as _t\n_s = _t.perf_counter()\n{statement}\nprint(_t.perf_counter() - _s)"
        self.program = f"{KEEP_TO.format(core=core)}{setup}\n{timed}"
        self.ask("")  # the caches of files and of kernels are warm from now on

    def ask(self, request):
        command = [sys.executable, "-c", self.program]
        variables = environment(self.tree)
        done = subprocess.run(command, env=variables, cwd=self.tree, capture_output=True, text=True)
        if done.returncode:
            raise UnavailableError("fails", (done.stderr.strip() or "its process died").split("\n")[-1])
        return float(done.stdout.split()[-1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Fresh:
    """A process for each sample: a peak of memory never goes down again."""

    def __init__(self, case, tree, core=None):
        self.case, self.tree, self.core = case, tree, core

    def ask(self, request):
        with Side(self.case, self.tree, self.core) as side:
            return side.ask(request)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def look(case, trees, rounds, number=0):
    """Return the figures of both commits, round by round, from one new pair of processes, ``number`` of several.

    Both keep to one core, and the next pair to another: cores that others use differ in speed by half, and the system
    would leave each process on one of its own.
    """
    kind = kind_of(case)
    measure = {"time": Side, "track": Side, "timeraw": Code, "peakmem": Fresh}[kind]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
    core = cores[number % len(cores)]
    with measure(case, trees[0], core) as before, measure(case, trees[1], core) as after:
        request = kind
        if kind == "time":
            request = f"time {max(side.ask('calls') for side in (before, after))}"
        figures = [], []
        for i in range(rounds):
            for which in (0, 1) if i % 2 == 0 else (1, 0):  # neither always comes first
                figures[which].append((before, after)[which].ask(request))
    return figures


def look_again(case, trees):
    """Return the figures of several new pairs of processes, and the median of the pairs' ratios.

    Where a process lies in memory changes its speed by some percent for as long as it lives.
    """
    pairs = [look(case, trees, ROUNDS[kind_of(case)][1], number) for number in range(1, LATER_PAIRS + 1)]
    figures = tuple(list(itertools.chain(*(pair[which] for pair in pairs))) for which in (0, 1))
    return figures, statistics.median(ratio_of(*pair) for pair in pairs)


def why_no_counts():
    """Return why instructions cannot be counted here, or None if they can."""
    missing = [tool for tool in ("valgrind", "vgdb", "setarch") if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is not installed: what stands twice is reported without a count of its instructions."
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"Instructions are counted on x86-64 only, not on {platform.machine()}."
    return None


def instruction_ratio(case, trees):
    """Return how many times as many instructions the later commit executes; None if that cannot be told."""
    if kind_of(case) != "time" or why_no_counts():
        return None
    try:
        counts, n = [], None
        for tree in trees:
            with Side(case, tree, **EMULATED) as native:  # compiles for valgrind's processor
                if n is None:
                    calls = native.ask("calls")
                    n = math.ceil(COUNTED_SECONDS / (native.ask(f"time {calls}")))
            counts.append(instructions(case, tree, n))
        return counts[1] / counts[0]
    except (UnavailableError, ValueError, subprocess.SubprocessError):
        return None


def instructions(case, tree, n):
    """Return the instructions of ``n`` calls, counted by callgrind."""
    valgrind = ["setarch", "-R", "valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"]
    with Side(case, tree, None, valgrind, PYTHONHASHSEED="0", **EMULATED) as side:
        side.ask(f"instructions {n}")
        _, report = side.process.communicate(timeout=120)
    counted = re.search(r"Collected : (\d+)", report)
    if not counted or int(counted[1]) == 0:
        raise ValueError("callgrind counted nothing")
    return int(counted[1])


def measure(case, trees, threshold, say, counts=True):
    """Return a row of the table; ``counts`` says whether instructions may be counted."""
    try:
        figures = look(case, trees, ROUNDS[kind_of(case)][0])
        looks, instruction = [ratio_of(*figures)], None
        while (verdict := judge(looks, instruction, threshold)) is None:
            say(f"{case}: x{looks[-1]:.2f}, looking again")
            figures, ratio = look_again(case, trees)
            looks.append(ratio)
            if counts and len(looks) == 2 and all(moved(ratio, threshold) > 0 for ratio in looks):
                say(f"{case}: x{ratio:.2f}, counting instructions")
                instruction = instruction_ratio(case, trees)
    except UnavailableError as error:
        return [case, None, None, None, f"{error.args[0]}: {lacking(case, trees, error)}"]
    return [case, min(figures[0]), min(figures[1]), closest_to_1(looks), verdict]


def lacking(case, trees, error):
    """Return which of the commits lacks what, as far as one more try tells."""
    for which, tree in zip(("before", "after"), trees, strict=True):
        try:
            with Side(case, tree):
                pass
        except UnavailableError as again:
            return f"{which}: {again.args[1]}"
    return error.args[1]


def compare(base, head, pattern=None, threshold=THRESHOLD, say=lambda line: None):
    """Return the rows of the table for two commits."""
    check_clean()
    commits = [commit_of(name) for name in (base, head)]
    cases = chosen(pattern)
    trees = [tree_of(commit) for commit in commits]
    rows, counted = [], 0
    if why_not := why_no_counts():
        say(why_not)
    for case in cases:
        rows.append(measure(case, trees, threshold, say, counted < MOST_COUNTED))
        counted += "instructions" in rows[-1][-1]
        say(f"{case}: {rows[-1][-1]}")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="BASE", help="the commit to compare with, such as main")
    parser.add_argument("head", metavar="HEAD", help="the commit that may be slower, such as HEAD")
    parser.add_argument("--bench", metavar="REGEX", help="benchmarks to measure; a dozen if not given")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="ratio from which on a change counts")
    options = parser.parse_args()
    if options.threshold <= 1:
        parser.error(f"--threshold {options.threshold} must be above 1.")
    try:
        rows = compare(options.base, options.head, options.bench, options.threshold, say)
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(rows))
    return status_of(row[-1] for row in rows)


def say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        sys.exit(main())

"""The speed of gdl, by asv, in one command each.

    python -m asv_bench run dense.Forward    some benchmarks of the working tree
    python -m asv_bench.gate main HEAD       is the second commit slower than the first?
    python -m asv_bench history              every commit of main that changed gdl, and is not measured yet
    python -m asv_bench page                 the web page of the results
    python -m asv_bench smoke                does every benchmark run?

Results lie in ``.asv/results``, which is a working tree of the orphan branch ``asv-results``: a commit's results are
committed there as a whole, or not at all.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asv_bench.gate import RequestError, commit_of, git

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / "asv_bench" / "asv.conf.json"
PLACE = ROOT / ".asv"
RESULTS = PLACE / "results"
BRANCH = "asv-results"
SMOKE = r"^(dense|startup|cuda)\.", r"^(?!dense\.|startup\.|cuda\.)"  # two halves of the suite
FAILED = 2  # asv's exit status where a benchmark failed; the others' results are good


def asv(*arguments, configuration=CONFIGURATION, output=None, **variables):
    """Run asv, and return its exit status; what it prints goes to a file, if one is given."""
    prepare_asv()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | variables
    command, *rest = arguments
    line = [sys.executable, "-m", "asv", command, "--config", str(configuration), *rest]
    return subprocess.run(line, env=environment, cwd=ROOT, stdout=output).returncode


def prepare_asv():
    """Make sure that asv is there, and tell it what it would ask about the machine."""
    if importlib.util.find_spec("asv") is None:
        raise RequestError('asv is not installed: python -m pip install ".[bench]".')
    if not (Path.home() / ".asv-machine.json").exists():
        line = [sys.executable, "-m", "asv", "machine", "--yes", "--config", str(CONFIGURATION)]
        subprocess.run(line, stdout=subprocess.DEVNULL, check=True)


def run(pattern, profile="full", quick=False, output=None):
    """Measure the working tree with this Python, and keep nothing."""
    options = ["--python=same", "--dry-run", "--show-stderr", *(["--quick"] if quick else [])]
    options += ["--bench", pattern] if pattern else []
    return asv("run", *options, output=output, GDL_BENCH=profile, ASV_PYTHONPATH=str(ROOT))


def smoke():
    """Run every benchmark once, in two processes: most of the time goes into compiling, which takes one core each."""
    first, second = SMOKE
    prepare_asv()  # once, not by both at a time
    with tempfile.TemporaryFile("w+") as output, ThreadPoolExecutor(1) as beside:
        other = beside.submit(run, second, profile="smoke", quick=True, output=output)
        status = max(run(first, profile="smoke", quick=True), other.result())
        output.seek(0)
        print(output.read(), flush=True)
    return status


def history(commits, profile, pattern):
    """Measure each commit in an environment of asv's own, oldest first."""
    if git("status", "--porcelain", "--untracked-files=no", "asv_bench").stdout:
        raise RequestError("asv_bench has changes that no commit holds, and results would depend on them: commit them.")
    wanted = commits_of(commits)
    open_results()
    for stale in PLACE.glob("incoming-*"):  # of a run that was killed
        shutil.rmtree(stale)
    todo = [commit for commit in wanted if not measured(commit)]
    print(f"{len(wanted)} commits, {len(todo)} of them to be measured.", flush=True)
    status = 0
    for commit in todo:
        status = max(status, measure(commit, profile, pattern))
    return status


def commits_of(commits):
    """Return the commits of a range that changed gdl, oldest first: where it had kernels to measure."""
    for name in commits.replace("...", "..").split(".."):
        commit_of(name or "HEAD")
    listed = git("rev-list", "--first-parent", "--reverse", commits, "--", "gdl").stdout.decode().split()
    return [
        commit for commit in listed if not git("cat-file", "-e", f"{commit}:gdl/kernels/cpu/training.py").returncode
    ]


def measured(commit):
    return any(RESULTS.glob(f"*/{commit[:8]}-*.json"))


def open_results():
    """Have the results' branch at hand, an empty one at first."""
    if (RESULTS / ".git").exists():
        return
    if RESULTS.exists():
        raise RequestError(f"{RESULTS} is no working tree of the branch {BRANCH}: move it away.")
    if git("rev-parse", "--verify", "--quiet", BRANCH).returncode:
        empty = git("mktree").stdout.decode().strip()
        commit = git("commit-tree", empty, "-m", "Results of asv").stdout.decode().strip()
        check(git("branch", BRANCH, commit))
    git("worktree", "prune")
    check(git("worktree", "add", str(RESULTS), BRANCH))


def check(done):
    if done.returncode:
        raise RequestError(done.stderr.decode().strip().split("\n")[-1])


def measure(commit, profile, pattern):
    """Measure a commit beside the results, and add what it gave to them when all is there."""
    from asv.util import load_json

    PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE, prefix="incoming-") as draft:
        settings = load_json(str(CONFIGURATION), js_comments=True)
        for name in ("benchmark_dir", "env_dir", "html_dir", "repo"):
            settings[name] = str((CONFIGURATION.parent / settings[name]).resolve())
        settings["results_dir"] = f"{draft}/results"
        configuration = Path(draft, "asv.conf.json")
        configuration.write_text(json.dumps(settings))
        if RESULTS.joinpath("benchmarks.json").exists():  # else asv asks every commit anew what there is
            Path(draft, "results").mkdir()
            shutil.copy(RESULTS / "benchmarks.json", f"{draft}/results")
        options = ["--show-stderr", *(["--bench", pattern] if pattern else [])]
        status = asv("run", *options, f"{commit}^!", configuration=configuration, GDL_BENCH=profile)
        found = [path for path in Path(draft, "results").glob(f"*/{commit[:8]}-*.json")]
        if status not in (0, FAILED) or not found:
            print(f"{commit[:10]} was not measured (asv's exit status {status}).", flush=True)
            return max(status, 1)
        shutil.copytree(f"{draft}/results", RESULTS, dirs_exist_ok=True)
    subject = git("log", "-1", "--format=%h %s", commit).stdout.decode().strip()
    for arguments in (["add", "--all"], ["commit", "--quiet", "--message", subject]):
        subprocess.run(["git", "-C", str(RESULTS), *arguments], check=True)
    return status


def page(port, serve):
    """Write the web page of all results, and show it."""
    if not any(RESULTS.glob("*/*-*.json")):
        raise RequestError("There are no results yet: python -m asv_bench history measures them.")
    status = asv("publish")
    if status == 0 and serve:
        with contextlib.suppress(KeyboardInterrupt):
            status = asv("preview", "--port", str(port))
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run", help="measure some benchmarks of the working tree")
    command.add_argument("pattern", metavar="REGEX", nargs="?", help="which ones; all if not given")
    command = commands.add_parser("history", help="measure the commits that are not measured yet")
    command.add_argument("commits", metavar="RANGE", nargs="?", default="main", help="as git rev-list takes it")
    command.add_argument("--profile", choices=["full", "short"], default="full", help="short: first parameters only")
    command.add_argument("--bench", metavar="REGEX", help="which benchmarks; all if not given")
    command = commands.add_parser("page", help="show the web page of the results")
    command.add_argument("--port", type=int, default=8080)
    command.add_argument("--no-serve", action="store_true", help="write the page to .asv/html and stop")
    commands.add_parser("smoke", help="run every benchmark once")
    options = parser.parse_args()
    try:
        if options.command == "run":
            return run(options.pattern)
        if options.command == "smoke":
            return smoke()
        if options.command == "history":
            return history(options.commits, options.profile, options.bench)
        return page(options.port, not options.no_serve)
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

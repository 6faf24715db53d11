"""The gate's arithmetic, verdicts and messages. asv_bench/gate_experiment.py shows what it is worth."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from asv_bench import __main__ as commands  # noqa: E402
from asv_bench import gate  # noqa: E402

CASE = "dense.Forward.time_calls(32x64x64, float32, 1)"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of two commits, of which the second has a gdl."""

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "--quiet", "--initial-branch=main")
    (tmp_path / "README").write_text("a\n")
    git("add", "--all")
    git("commit", "--quiet", "--message=first")
    (tmp_path / "gdl").mkdir()
    (tmp_path / "gdl" / "__init__.py").write_text("import math\n")
    git("add", "--all")
    git("commit", "--quiet", "--message=second")
    monkeypatch.setattr(gate, "ROOT", tmp_path)
    monkeypatch.setattr(gate, "TREES", tmp_path / ".asv" / "gate")
    return tmp_path


@pytest.mark.parametrize(
    ("before", "after", "ratio"),
    [
        ([2, 2, 2], [2, 2, 2], 1),
        ([1, 1, 1], [1.2, 1.2, 1.2], 1.2),
        ([1, 2, 4], [1.5, 3, 6], 1.5),  # the machine slows down, for both
        ([1, 1, 1], [1.1, 1.5, 1.5], 1.1),  # the shortest says less than the median
        ([1, 2, 2], [1.5, 2.2, 2.2], 1.1),  # the median says less than the shortest
        ([1, 1, 1], [0.9, 1.5, 1.5], 1),  # they disagree
        ([1, 1, 1], [0.5, 0.5, 0.5], 0.5),
        ([0, 0, 0], [0, 0, 0], 1),
        ([0, 0, 0], [1, 1, 1], float("inf")),
    ],
)
def test_ratio(before, after, ratio):
    assert gate.ratio_of(before, after) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("looks", "instructions", "verdict"),
    [
        ([1.09], None, "same"),
        ([0.95], None, "same"),
        ([1.2], None, None),
        ([1.2, 1.02], None, "same: moved once, not again"),
        ([1.2, 0.8], None, "same: moved once, not again"),
        ([1.2, 1.15], None, "regression"),
        ([1.2, 1.15], 1.2, "regression, instructions x1.20"),
        ([1.2, 1.15], 1.001, None),
        ([1.2, 1.15], 0.9, None),
        ([1.2, 1.15, 1.01], 1.001, "same: moved once, not again"),
        ([1.2, 1.15, 1.2], 1.001, "regression, not by instructions (x1.00)"),
        ([0.8], None, None),
        ([0.8, 0.8], None, "faster"),
        ([0.8, 1.0], None, "same: moved once, not again"),
    ],
)
def test_verdict(looks, instructions, verdict):
    assert gate.judge(looks, instructions, 1.1) == verdict


def scripted(monkeypatch, looks, counts=None):
    """Let looks have the given ratios, and say how many were taken."""
    taken = []

    def look(case, trees, rounds, number=0):
        taken.append(looks[len(taken)] if len(taken) < len(looks) else looks[-1])
        return [1.0] * rounds, [taken[-1]] * rounds

    monkeypatch.setattr(gate, "look", look)
    monkeypatch.setattr(gate, "instruction_ratio", lambda case, trees: counts)
    return taken


@pytest.mark.parametrize(
    ("looks", "counts", "verdict", "taken"),
    [
        ([1.0], None, "same", 1),
        ([1.3, 1.0, 1.0, 1.0], None, "same: moved once, not again", 4),
        ([1.3], None, "regression", 4),
        ([1.3], 1.3, "regression, instructions x1.30", 4),
        ([1.3], 1.0, "regression, not by instructions (x1.00)", 7),
        ([1.3, 1.3, 1.3, 1.3, 1.0], 1.0, "same: moved once, not again", 7),
        ([1.3, 1.3, 1.0, 1.3, 1.3], None, "regression", 4),  # one of three pairs may be unlucky
    ],
)
def test_what_moves_is_looked_at_again(monkeypatch, looks, counts, verdict, taken):
    done = scripted(monkeypatch, looks, counts)
    row = gate.measure(CASE, (None, None), 1.1, lambda line: None)
    assert row[-1] == verdict
    assert len(done) == taken


def test_only_some_are_counted(monkeypatch, repository):
    scripted(monkeypatch, [1.3], 1.3)
    monkeypatch.setattr(gate, "chosen", lambda pattern: [CASE] * 5)
    counted = ["regression, instructions x1.30"] * gate.MOST_COUNTED
    assert [row[-1] for row in gate.compare("HEAD", "HEAD")] == counted + ["regression"] * (5 - gate.MOST_COUNTED)


def test_the_ratio_shown_is_the_least_of_all_looks(monkeypatch):
    scripted(monkeypatch, [1.3, 1.2])
    assert gate.measure(CASE, (None, None), 1.1, lambda line: None)[3] == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (["same", "faster", "skipped: no device"], 0),
        (["same", "regression"], 1),
        (["regression, instructions x1.20", "fails: it died"], 1),
        (["same", "fails: it died"], 2),
        (["same: moved once, not again"], 0),
        ([], 0),
    ],
)
def test_exit_status(verdicts, status):
    assert gate.status_of(verdicts) == status


def test_table():
    rows = [[CASE, 1e-3, 1.2e-3, 1.2, "regression"], ["memory.Memory.peakmem_call(x)", 2e8, 2e8, 1.0, "same"]]
    assert gate.table([*rows, [CASE, None, None, None, "skipped: no device"]]).split("\n") == [
        "| benchmark | before | after | ratio | verdict |",
        "|---|---|---|---|---|",
        f"| {CASE} | 1 ms | 1.2 ms | 1.20 | regression |",
        "| memory.Memory.peakmem_call(x) | 200 MB | 200 MB | 1.00 | same |",
        f"| {CASE} | - | - | - | skipped: no device |",
    ]


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [(2.5, "timeraw", "2.5 s"), (2.5e-5, "time", "25 us"), (3e-8, "time", "0.03 us"), (0.92, "track", "0.92")],
)
def test_amount(value, kind, text):
    assert gate.amount(value, kind) == text


def test_a_commit_is_taken_out_once_and_whole(repository):
    tree = gate.tree_of(gate.commit_of("main"))
    assert (tree / "gdl" / "__init__.py").read_text() == "import math\n"
    assert gate.tree_of(gate.commit_of("HEAD")) == tree
    assert [path.name for path in gate.TREES.iterdir()] == [tree.name]


def test_unknown_commit(repository):
    with pytest.raises(gate.RequestError, match=r"^'nowhere' is not a commit of this repository\.$"):
        gate.compare("main", "nowhere")
    assert not gate.TREES.exists()


def test_a_commit_without_gdl(repository):
    with pytest.raises(gate.RequestError, match=r"^Commit \w{10} has no gdl to measure\.$"):
        gate.compare("HEAD~1", "HEAD")
    assert not gate.TREES.exists()


def test_dirty_tree(repository):
    (repository / "gdl" / "__init__.py").write_text("import random\n")
    with pytest.raises(gate.RequestError, match=r"^The working tree has changes .*gdl/__init__.py\): commit them\.$"):
        gate.compare("HEAD", "HEAD")
    assert not gate.TREES.exists()


def test_untracked_files_do_not_matter(repository):
    (repository / "notes").write_text("a")
    gate.check_clean()


def test_no_valgrind(monkeypatch):
    monkeypatch.setattr(gate.shutil, "which", lambda tool: None)
    assert gate.why_no_counts().startswith("valgrind is not installed: ")
    assert gate.instruction_ratio(CASE, (None, None)) is None


def test_another_processor(monkeypatch):
    monkeypatch.setattr(gate.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(gate.platform, "machine", lambda: "aarch64")
    assert gate.why_no_counts() == "Instructions are counted on x86-64 only, not on aarch64."


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("no such thing", r"^No benchmark matches --bench 'no such thing'\.$"), ("(", "is not a regular expression: ")],
)
def test_bad_pattern(monkeypatch, pattern, message):
    monkeypatch.setattr(gate, "all_cases", lambda: [CASE])
    with pytest.raises(gate.RequestError, match=message):
        gate.chosen(pattern)


def test_an_older_commit_without_the_function(repository):
    """The other side of the pipe is real: the second commit's gdl holds nothing."""
    tree = gate.tree_of(gate.commit_of("HEAD"))
    (tree / "asv_bench").symlink_to(ROOT / "asv_bench")  # the suite that asks
    row = gate.measure("startup.FirstCall.timeraw_warm_cache(KMeans)", (tree, tree), 1.1, lambda line: None)
    assert row[-1] == "skipped: before: This commit has no gdl.KMeans."
    assert row[1:4] == [None, None, None]


def test_a_benchmark_that_does_not_exist_fails(repository):
    tree = gate.tree_of(gate.commit_of("HEAD"))
    (tree / "asv_bench").symlink_to(ROOT / "asv_bench")
    row = gate.measure("startup.Nothing.timeraw_import()", (tree, tree), 1.1, lambda line: None)
    assert row[-1].startswith("fails: before: AttributeError: ")


def test_every_one_of_the_dozen_exists():
    assert len(gate.DOZEN) == 12
    code = "from asv_bench.gate import DOZEN, all_cases; print(set(DOZEN) - set(all_cases()))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "asv_bench.gate", "HEAD", "nowhere"], "'nowhere' is not a commit"),
        (["-m", "asv_bench", "history", "nowhere..HEAD"], "'nowhere' is not a commit"),
    ],
)
def test_one_sentence_and_status_2(arguments, message):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    # While somebody works on the tree it is dirty, which is the other reason to refuse.
    assert message in done.stderr or "changes that no commit holds" in done.stderr
    assert len(done.stderr.strip().split("\n")) == 1
    assert done.returncode == 2


def test_no_results_no_page(monkeypatch, tmp_path):
    monkeypatch.setattr(commands, "RESULTS", tmp_path)
    with pytest.raises(gate.RequestError, match=r"^There are no results yet: "):
        commands.page(8080, serve=False)


def test_no_asv(monkeypatch):
    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(gate.RequestError, match=r"^asv is not installed: "):
        commands.asv("publish")


def test_results_that_are_no_branch_are_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(commands, "RESULTS", tmp_path)
    with pytest.raises(gate.RequestError, match="is no working tree of the branch asv-results"):
        commands.open_results()


def test_nothing_half_written_in_the_results(monkeypatch, tmp_path):
    """asv fails in the middle: what it wrote is gone, and the results are as they were."""

    def fail(*arguments, configuration, **variables):
        machine = configuration.parent / "results" / "machine"
        machine.mkdir(parents=True)
        (machine / "0123456789-env.json").write_text("{")
        return 1

    monkeypatch.setattr(commands, "asv", fail)
    monkeypatch.setattr(commands, "PLACE", tmp_path)
    monkeypatch.setattr(commands, "RESULTS", tmp_path / "results")
    pytest.importorskip("asv")
    assert commands.measure("0123456789", "short", None) == 1
    assert list(tmp_path.iterdir()) == []

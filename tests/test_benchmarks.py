"""The speed tracking suite: nothing is left out, and nothing is timed cold or unchecked. No time is asserted."""

import ast
import importlib
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gdl.kernels import cpu

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "asv_bench" / "benchmarks"
MODULES = sorted(path.stem for path in SUITE.glob("*.py") if path.stem not in ("__init__", "common"))
KINDS = ("time_", "timeraw_", "track_", "peakmem_")

pytestmark = pytest.mark.compiled


@pytest.fixture(scope="module")
def suite():
    """The benchmarks' modules by name; to import them sets threads for this process, which is undone."""
    before = dict(os.environ)
    path = list(sys.path)
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("NUMBA_CACHE_DIR", "")  # where kernels are kept anyway
    import threadpoolctl
    from numba import config

    threads = config.NUMBA_NUM_THREADS
    with threadpoolctl.threadpool_limits():
        yield {name: importlib.import_module(f"asv_bench.benchmarks.{name}") for name in [*MODULES, "common"]}
    config.NUMBA_NUM_THREADS = threads
    os.environ.clear()
    os.environ.update(before)
    sys.path[:] = path


def classes(module):
    """Classes in which asv finds benchmarks."""
    found = [value for name, value in vars(module).items() if name[0] != "_" and inspect.isclass(value)]
    return [value for value in found if not inspect.isabstract(value) and rows(value)]


def rows(benchmark, kinds=KINDS):
    return [name for name in dir(benchmark) if name.startswith(kinds)]


def all_classes(suite):
    return [pytest.param(c, id=f"{name}.{c.__name__}") for name in MODULES for c in classes(suite[name])]


def test_every_file_that_was_asked_for_is_there():
    asked = {"dense", "kmeans", "predict", "startup", "memory", "quality", "scaling", "peers", "cuda"}
    assert asked <= set(MODULES)


def test_every_kernel_has_a_row():
    """A benchmark calls it, as ``cpu.name`` or as ``kernels.name`` where several sets are called alike."""
    called = set()
    for name in ("dense", "kmeans"):
        for node in ast.walk(ast.parse((SUITE / f"{name}.py").read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                called |= {node.attr} if node.value.id in ("cpu", "kernels") else set()
    kernels = {name for name in cpu.__all__ if not inspect.isclass(getattr(cpu, name))}
    assert kernels - called == set(), "kernels without a benchmark"


def test_every_time_warms_up_in_setup(suite):
    """By ``Measured.setup``, which calls what is timed and checks it; raw code fills the caches it wants filled."""
    measured = suite["common"].Measured
    timed = [c for name in MODULES for c in classes(suite[name]) if rows(c, ("time_",))]
    assert timed
    for benchmark in timed:
        assert issubclass(benchmark, measured), benchmark
        assert benchmark.setup is measured.setup, benchmark


def test_every_time_has_a_minimum_and_a_ratio_beside_it(suite):
    for name in MODULES:
        for benchmark in classes(suite[name]):
            if rows(benchmark, ("time_",)):
                assert {"track_microseconds", "track_over_peer"} <= set(rows(benchmark)), benchmark


def test_a_common_base_is_no_benchmark(suite):
    assert classes(suite["common"]) == []
    assert not [name for name in vars(suite["common"]) if name.startswith(KINDS)]


def test_names_and_parameters_match(suite):
    for name in MODULES:
        for benchmark in classes(suite[name]):
            assert len(getattr(benchmark, "params", ())) == len(getattr(benchmark, "param_names", ())), benchmark


def summing(measured, equal=True):
    """Return a benchmark that notes what is called."""

    class Sum(measured):
        params, param_names = ([3],), ("n",)

        def prepare(self, n):
            self.calls, self.X = [], np.ones(n)

        def ours(self):
            self.calls.append("ours")
            self.mine = self.X.sum()

        def theirs(self):
            self.other = len(self.X) + (not equal)

        def check(self, n):
            self.calls.append("check")
            self.theirs()
            assert self.mine == self.other

    return Sum()


def test_setup_calls_checks_and_warms_up_once(suite):
    benchmark = summing(suite["common"].Measured)
    benchmark.setup(3)
    benchmark.setup(3)  # asv does so before each sample
    assert benchmark.calls == ["ours", "check", "ours"]


def test_no_figure_without_equal_work(suite):
    with pytest.raises(AssertionError):
        summing(suite["common"].Measured, equal=False).setup(3)


def test_what_a_commit_lacks_skips_the_benchmark(suite):
    lacking = suite["common"].Optional("gdl.kernels.cpu")
    assert lacking.softmax is cpu.softmax
    with pytest.raises(NotImplementedError, match=r"^This commit has no gdl.kernels.cpu.perceive\.$"):
        lacking.perceive  # noqa: B018
    with pytest.raises(NotImplementedError, match=r"^This commit has no gdl.kernels.abacus.add\.$"):
        suite["common"].Optional("gdl.kernels.abacus").add  # noqa: B018


def test_more_threads_than_cores_skip_the_benchmark(suite):
    with pytest.raises(NotImplementedError, match="fewer than 100000 cores"):
        suite["common"].use_threads(100_000)


def test_functions_take_turns(suite):
    order = []
    best = suite["common"].best_of(lambda: order.append("a"), lambda: order.append("b"), seconds=0, rounds=1)
    assert len(best) == 2
    assert [name for name, _ in itertools.groupby(order)][-2:] == ["a", "b"]


def test_exponent(suite):
    assert suite["scaling"].exponent([1, 2, 4, 8], [5, 20, 80, 320]) == pytest.approx(2)


@pytest.mark.parametrize("name", ["dense.Elementwise", "kmeans.Kernels"])
def test_rows_by_name_do_equal_work(suite, name):
    """The smoke run takes only the first of them."""
    module, _, benchmark = name.partition(".")
    for parameters in itertools.product(*getattr(suite[module], benchmark).params):
        if parameters[-1] == "float32":
            instance = getattr(suite[module], benchmark)()
            instance.setup(*parameters)
            instance.time_calls(*parameters)


def test_the_halves_of_the_smoke_run_are_the_suite(suite):
    halves = importlib.import_module("asv_bench.__main__").SMOKE
    for name in MODULES:
        assert [bool(re.search(half, f"{name}.Class.time_calls")) for half in halves].count(True) == 1, name


def test_absent_peers_are_skipped(suite):
    benchmark = suite["peers"].Dense()
    seconds = {"tiny-4-8-3": {"gdl": 1.0, "sklearn": 4.0}}
    benchmark.setup(seconds, "tiny-4-8-3", "sklearn")
    assert benchmark.track_over_peer(seconds, "tiny-4-8-3", "sklearn") == 0.25
    assert benchmark.track_over_peer(seconds, "tiny-4-8-3", "best") == 0.25
    with pytest.raises(NotImplementedError, match="PyTorch is not installed"):
        benchmark.setup(seconds, "tiny-4-8-3", "torch")
    with pytest.raises(NotImplementedError, match="No peer is installed"):
        benchmark.setup({"tiny-4-8-3": {"gdl": 1.0}}, "tiny-4-8-3", "best")


def test_peers_start_as_users_start_them(suite, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with suite["peers"].as_users_start_it():
        assert "OMP_NUM_THREADS" not in os.environ
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_without_a_device_cuda_is_skipped(suite, monkeypatch):
    benchmark = suite["cuda"].Assign()
    monkeypatch.setattr(suite["cuda"].importlib, "import_module", lambda name: 1 / 0)
    with pytest.raises(NotImplementedError, match="CUDA cannot be used here"):
        benchmark.setup("100000x64x100")


def test_profiles_are_checked():
    code = "import asv_bench.benchmarks.common"
    environment = os.environ | {"GDL_BENCH": "quick", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "GDL_BENCH='quick' must be 'full', 'short' or 'smoke'." in done.stderr


def configuration():
    text = (ROOT / "asv_bench" / "asv.conf.json").read_text()
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))


def test_configuration_pins_everything():
    settings = configuration()
    assert settings["environment_type"] == "virtualenv"
    pins = settings["matrix"]["req"]
    assert {"numpy", "numba", "scikit-learn", "pip+asv_runner"} <= set(pins)
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for versions in pins.values() for version in versions)
    assert all(len(versions) == 1 for versions in pins.values())
    assert (ROOT / "asv_bench" / settings["benchmark_dir"]).is_dir()
    assert (ROOT / "asv_bench" / settings["repo"]).resolve() == ROOT


def test_runner_is_the_one_of_the_extra():
    extra = re.search(r'"asv_runner==([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert configuration()["matrix"]["req"]["pip+asv_runner"] == [extra]


def test_other_work_fails_and_does_not_count(monkeypatch, capsys):
    """Beside peers: a row of a higher inertia, and the mean is that of the others."""
    peers = importlib.import_module("asv_bench.peers")
    results = {
        "blobs-1M-2-10": {"gdl": (1.0, 1.06), "sklearn": (9.0, 1.0)},
        "uniform-60k-784-10": {"gdl": (1.0, 1.04), "sklearn": (3.0, 1.0), "sklearnex": (2.0, 1.2)},
        "uniform-2M-3-100": {"gdl": (1.0, 1.0), "sklearn": (9.0, 1.06)},
    }
    monkeypatch.setattr(peers, "race", lambda kind, name, *_: dict(results[name]))
    with pytest.raises(SystemExit, match="blobs-1M-2-10"):
        peers.compare("kmeans", list(results), 1)
    first, second, third, mean = capsys.readouterr().out.splitlines()
    assert first.endswith("other work")
    assert second.endswith("ratio 3.00")
    assert "ratio" not in third
    assert mean == "geometric mean 3.00, worst 3.00"
    peers.compare("kmeans", list(results)[1:], 1)


def test_ten_lines_for_your_own_script(tmp_path):
    """The page's suite, copied into an empty repository, and its commands."""
    pytest.importorskip("asv")
    page = (ROOT / "docs" / "benchmarks" / "your-own-script.md").read_text()
    blocks = dict(re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    suite, settings, commands = blocks["python"], blocks["json"], blocks[""]
    assert len([line for line in suite.splitlines() if line]) <= 10
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "clusters.py").write_text(suite)
    (tmp_path / "asv.conf.json").write_text(settings)
    commands = commands.replace("asv run", "asv run --quick").replace(" && asv preview", "")  # it would serve for ever
    identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | identity | {"HOME": str(tmp_path), "ASV_PYTHONPATH": str(ROOT)}
    environment.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # compiled kernels
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    script = f"set -e\ngit init --quiet --initial-branch=main\n{commands}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "html" / "index.html").exists()
    (result,) = (path for path in tmp_path.glob("results/*/*.json") if path.name != "machine.json")
    assert {"clusters.Clusters.time_fit", "clusters.Clusters.track_inertia"} <= set(
        json.loads(result.read_text())["results"]
    )

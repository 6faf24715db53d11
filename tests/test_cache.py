"""Compiled kernels on disk are never stale and never in the way."""

import ast
import ctypes
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import zipfile

import pytest
from numba.core import config
from numba.extending import intrinsic

from gdl.kernels import _cache
from gdl.kernels._jit import njit

KERNELS = pathlib.Path(_cache.__file__).parent

# A package with the real mechanism and one toy kernel, whose helper and constant live in another file.
KERNEL = """
from gdl.kernels._jit import njit
from gdl.kernels.helper import scale

@njit
def total(X):
    result = 0.0
    for x in X:
        result += scale(x)
    return result
"""
HELPER = """
from gdl.kernels._jit import njit
FACTOR = 2.0

@njit
def scale(x):
    return FACTOR * x
"""
CALL = """
import sys
import numpy as np
from gdl.kernels.toy import total
X = np.ones(12, sys.argv[1])
sys.stdin.read(1)
print(total(X), sum(total.stats.cache_hits.values()))
"""


@pytest.fixture
def root(tmp_path):
    """A folder with the toy package."""
    kernels = tmp_path / "site" / "gdl" / "kernels"
    kernels.mkdir(parents=True)
    for name in ("_cache.py", "_inner.py", "_jit.py"):
        shutil.copy(KERNELS / name, kernels)
    for package in (kernels, kernels.parent):
        (package / "__init__.py").touch()
    (kernels / "toy.py").write_text(KERNEL)
    (kernels / "helper.py").write_text(HELPER)
    return tmp_path


def start(root, site="site", dtype="float64", **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_"))}
    environment |= {"PYTHONPATH": str(root / site), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"NUMBA_CACHE_DIR": str(root / "cache")} | variables
    environment = {k: v for k, v in environment.items() if v is not None}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-W", "error", "-c", CALL, dtype]
    return subprocess.Popen(command, cwd=root, env=environment, text=True, **pipes)


def answer(process):
    """What the toy kernel said, and how often it came from disk."""
    out, err = process.communicate("\n")
    assert process.returncode == 0, err
    assert err == ""
    value, hits = out.split()
    return float(value), int(hits)


def test_a_second_process_loads_and_an_edit_in_a_helper_compiles(root):
    assert answer(start(root)) == (24.0, 0)
    assert answer(start(root)) == (24.0, 1)
    helper = root / "site/gdl/kernels/helper.py"
    times = helper.stat().st_atime_ns, helper.stat().st_mtime_ns
    helper.write_text(HELPER.replace("2.0", "3.0"))
    os.utime(helper, ns=times)  # neither time nor size tells
    assert answer(start(root)) == (36.0, 0)
    assert answer(start(root)) == (36.0, 1)


def test_an_upgrade_over_old_caches_compiles(root):
    """An installer overwrites the files that it knows and leaves all else, older files with newer caches."""
    in_tree = str(root / "site/gdl/kernels/__pycache__")
    assert answer(start(root, NUMBA_CACHE_DIR=in_tree)) == (24.0, 0)
    helper = root / "site/gdl/kernels/helper.py"
    helper.write_text(HELPER.replace("FACTOR * x", "FACTOR * x + 1"))
    os.utime(helper, (315532800, 315532800))  # the date that wheels give their files
    assert answer(start(root, NUMBA_CACHE_DIR=in_tree)) == (36.0, 0)
    kept = [path for path in pathlib.Path(in_tree).rglob("*") if path.is_file()]
    assert len(kept) == 2  # overwritten, not added to: total and scale


@pytest.mark.parametrize(
    "variables",
    [
        {"NUMBA_CACHE_DIR": "/dev/null/cache"},
        {"NUMBA_CACHE_DIR": None, "HOME": "/dev/null"},
        {"NUMBA_CACHE_DIR": None, "HOME": "nowhere"},
    ],
    ids=["cache directory", "home", "relative home"],
)
def test_nowhere_to_write_costs_compile_time_only(root, variables):
    before = sorted(root.iterdir())
    assert answer(start(root, **variables)) == (24.0, 0)
    assert sorted(root.iterdir()) == before


def test_the_cache_goes_to_the_user_where_no_directory_is_named(root):
    variables = {"NUMBA_CACHE_DIR": None, "HOME": str(root / "home"), "LOCALAPPDATA": str(root / "home")}
    assert answer(start(root, **variables)) == (24.0, 0)
    assert answer(start(root, **variables)) == (24.0, 1)
    assert len(list((root / "home").rglob("gdl.kernels.toy.total-*.kernel"))) == 1


def test_processes_that_start_at_once_agree(root):
    processes = [start(root, dtype=dtype) for dtype in ("float32", "float64", "float64")]
    assert [answer(process)[0] for process in processes] == [24.0] * 3
    assert [answer(start(root, dtype=dtype)) for dtype in ("float32", "float64")] == [(24.0, 1)] * 2
    assert {path.suffix for path in (root / "cache").rglob("*.*")} == {".kernel"}  # no drafts are left


def test_sources_in_an_archive_work_without_a_cache(root):
    with zipfile.ZipFile(root / "site.zip", "w") as archive:
        for path in (root / "site").rglob("*.py"):
            archive.write(path, path.relative_to(root / "site"))
    assert answer(start(root, site="site.zip")) == (24.0, 0)
    assert not (root / "cache").exists()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Make kernels of this file cached ones, in a fresh directory."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(config, "DISABLE_JIT", 0)
    monkeypatch.setattr(_cache, "KERNELS", pathlib.Path(__file__).parent)
    return tmp_path


def add_one(x):
    return x + 1


def hits(kernel):
    return sum(kernel.stats.cache_hits.values())


def test_the_same_function_compiled_anew_comes_from_disk(here):
    first, second = njit(add_one), njit(add_one)
    assert first(1) == second(1) == 2
    assert (hits(first), hits(second)) == (0, 1)
    assert second(1.5) == 2.5
    assert hits(second) == 1
    assert first.stats.cache_path.startswith(str(here))


@pytest.mark.parametrize("damage", [b"", b"no kernel", None], ids=["empty", "other", "cut"])
def test_a_damaged_file_is_compiled_again(here, damage):
    njit(add_one)(1)
    (path,) = here.rglob("*.kernel")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if damage is None else damage)
    second, third = njit(add_one), njit(add_one)
    assert second(1) == third(1) == 2
    assert (hits(second), hits(third)) == (0, 1)


def test_a_stamp_of_other_sources_does_not_match(here, monkeypatch):
    njit(add_one)(1)
    monkeypatch.setattr(_cache, "STAMP", "other sources")
    second = njit(add_one)
    assert second(1) == 2
    assert hits(second) == 0
    assert len(list(here.rglob("*.kernel"))) == 1


def add(n, helper):
    def kernel(x):
        return helper(x) + n

    return kernel


def multiply(n):
    @intrinsic
    def times(typing_context, x):
        def generate(context, builder, signature, arguments):
            return builder.mul(arguments[0], context.get_constant(x, n))

        return x(x), generate

    return times


def test_kernels_that_close_over_different_things_are_different(here):
    kernels = [njit(add(n, multiply(m))) for n in (1, 2) for m in (10, 20)]
    assert [kernel(3) for kernel in kernels] == [31, 61, 32, 62]
    nested = [njit(add(0, kernel)) for kernel in kernels]
    assert [kernel(3) for kernel in nested] == [31, 61, 32, 62]
    again = [njit(add(n, multiply(m))) for n in (1, 2) for m in (10, 20)]
    assert [kernel(3) for kernel in again] == [31, 61, 32, 62]
    again += [njit(add(0, kernel)) for kernel in again]
    assert [kernel(3) for kernel in again] == [31, 61, 32, 62] * 2
    assert [hits(kernel) for kernel in again] == [1] * 8


def scale_by(factors):
    return lambda x: factors[1] * x


def test_numbers_that_kernels_close_over(here):
    kernels = [njit(scale_by(factors)) for factors in ((1, 2), (1, 3), (1, 2))]
    assert [kernel(5) for kernel in kernels] == [10, 15, 10]
    assert [hits(kernel) for kernel in kernels] == [0, 0, 1]


def test_flags_and_settings_are_part_of_the_key(here, monkeypatch):
    njit(add_one)(1.0)
    for options in ({"fastmath": {"nsz", "arcp"}}, {"error_model": "python"}):
        kernel, again = njit(**options)(add_one), njit(**options)(add_one)
        assert kernel(1.0) == again(1.0) == 2.0
        assert (hits(kernel), hits(again)) == (0, 1)
    monkeypatch.setattr(config, "BOUNDSCHECK", 1)
    kernel = njit(add_one)
    kernel(1.0)
    assert hits(kernel) == 0


def apply(function, x):
    return function(x)


def test_what_cannot_be_named_is_not_kept(here, monkeypatch):
    """A function as argument, a closure over a module, a kernel elsewhere, ``cache=False``."""
    helper = njit(cache=False)(add_one)
    assert njit(apply)(helper, 1) == 2
    assert njit(add(1, threading.Lock())) is not None
    assert njit(cache=False)(add_one)(1) == 2
    monkeypatch.setattr(_cache, "KERNELS", KERNELS)
    kernel = njit(add_one)
    assert kernel(1) == 2
    assert kernel.stats.cache_path is None
    assert not list(here.rglob("*.kernel"))


def test_addresses_of_this_process_are_not_kept(here):
    strlen = ctypes.CDLL(None).strlen
    strlen.argtypes, strlen.restype = [ctypes.c_void_p], ctypes.c_size_t
    text = ctypes.create_string_buffer(b"gdl")
    kernel = njit(lambda address: strlen(address))
    assert kernel(ctypes.addressof(text)) == 3
    assert not list(here.rglob("*.kernel"))


def test_recompiled_kernels_are_not_kept(here, monkeypatch):
    kernel = njit(add_one)
    kernel(1)
    (path,) = here.rglob("*.kernel")
    path.unlink()
    kernel.recompile()
    assert kernel(1) == 2
    assert not path.exists()


def test_no_home_no_directory(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(_cache.Path, "home", staticmethod(no_home))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert _cache.directory() is None


@pytest.mark.parametrize(
    ("system", "expected"),
    [("linux", "/home/ada/.cache"), ("darwin", "/home/ada/Library/Caches"), ("win32", "/home/ada/AppData/Local")],
)
def test_the_directory_follows_the_system(monkeypatch, system, expected):
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(_cache.sys, "platform", system)
    monkeypatch.setattr(_cache.Path, "home", staticmethod(lambda: pathlib.Path("/home/ada")))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert _cache.directory().parent == pathlib.Path(expected, "gdl")


def test_a_folder_without_sources_has_no_stamp(tmp_path):
    assert _cache.source_stamp(tmp_path) is None
    (tmp_path / "kernel.py").touch()
    stamp = _cache.source_stamp(tmp_path)
    (tmp_path / "kernel.py").rename(tmp_path / "other.py")
    assert stamp != _cache.source_stamp(tmp_path)
    (tmp_path / "unreadable.py").mkdir()
    assert _cache.source_stamp(tmp_path) is None


def test_kernels_import_nothing_above_them():
    """The stamp covers gdl/kernels; what is compiled must not depend on any other file of gdl."""
    modules = []
    for path in KERNELS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules.append("." * node.level + (node.module or ""))
    assert [name for name in modules if f"{name}.".startswith(".")] == []
    ours = {name for name in modules if f"{name}.".startswith("gdl.")}
    assert {name for name in ours if not f"{name}.".startswith("gdl.kernels.")} == set()

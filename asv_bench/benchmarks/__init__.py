"""Runs first in every process, before Numba is imported.

* One thread unless a benchmark asks for more, so that numbers compare; NumPy, which asv may have imported
  already, is told by hand.
* Compiled kernels of each state of the sources in a place of their own, so that going back and forth
  between two commits compiles each of them once.
* Fresh interpreters that benchmarks start import the same gdl.
"""

import hashlib
import importlib.util
import os
import pathlib
import tempfile

import threadpoolctl

for _name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
threadpoolctl.threadpool_limits(int(os.environ["OPENBLAS_NUM_THREADS"]))

_spec = importlib.util.find_spec("gdl")
assert _spec is not None
assert _spec.origin is not None
_package = pathlib.Path(_spec.origin).parent

if "NUMBA_CACHE_DIR" not in os.environ:
    _digest = hashlib.sha256()
    for _path in sorted(_package.rglob("*.py")):
        _digest.update(_path.read_bytes())
    _place = pathlib.Path(os.environ.get("ASV_ENV_DIR") or tempfile.gettempdir(), "gdl-kernels")
    os.environ["NUMBA_CACHE_DIR"] = str(_place / _digest.hexdigest()[:16])

if "-packages" not in _package.parent.name:  # not installed: fresh interpreters have to find the same gdl
    _paths = [str(_package.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(_paths)

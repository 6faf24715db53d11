"""How long a user waits before the first result, by family of estimators. Every sample is a fresh interpreter."""

import subprocess
import sys
from time import perf_counter

from .common import PROFILE, few

DATA = [
    "import warnings",
    "warnings.simplefilter('ignore')",
    "import numpy as np",
    "X = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)",
    "y = np.arange(64) % 3",
]
# family: its import, and its first call
FAMILIES = {
    "MLPClassifier": ("from gdl import MLPClassifier", "MLPClassifier((16,), max_iter=1).fit(X, y)"),
    "KMeans": ("from gdl import KMeans", "KMeans(3, n_init=1).fit(X)"),
    "MiniBatchKMeans": ("from gdl import MiniBatchKMeans", "MiniBatchKMeans(3, n_init=1).fit(X)"),
}
COLD = "import os, tempfile; t = tempfile.TemporaryDirectory(); os.environ['NUMBA_CACHE_DIR'] = t.name; "
DEPENDENCIES = "import numba, sklearn.base"


def lines(family):
    """Return what comes before the first call, in one line: asv puts it into another program's string."""
    need(family)
    return "; ".join([*DATA, FAMILIES[family][0]])


def need(family):
    """Skip what the measured commit lacks."""
    import gdl

    if not hasattr(gdl, family):
        raise NotImplementedError(f"This commit has no gdl.{family}.")


def run(code):
    subprocess.run([sys.executable, "-c", code], check=True)


class _Startup:
    number, rounds, warmup_time = 1, 1, 0
    repeat = (2, 4, 12.0)
    timeout = 300


class Import(_Startup):
    def timeraw_import(self):
        return "import gdl"

    def timeraw_import_beyond_dependencies(self):
        return "import gdl", DEPENDENCIES

    def track_import_over_dependencies(self):
        """A process that imports gdl, over one that imports what gdl stands on: shortest of each, in turn."""
        best = {"import gdl": float("inf"), DEPENDENCIES: float("inf")}
        for _ in range(1 if PROFILE == "smoke" else 6):
            for code in best:
                start = perf_counter()
                run(code)
                best[code] = min(best[code], perf_counter() - start)
        return best["import gdl"] / best[DEPENDENCIES]

    track_import_over_dependencies.unit = "x its dependencies"


class FirstCall(_Startup):
    params = (few(FAMILIES, None, smoke=1),)
    param_names = ("family",)

    def setup(self, family):
        need(family)

    def timeraw_warm_cache(self, family):
        before = lines(family)
        fill = f'import subprocess, sys; subprocess.run([sys.executable, "-c", "{before}; {FAMILIES[family][1]}"], '
        return FAMILIES[family][1], fill + "check=True); " + before

    def track_warm_process(self, family):
        """Seconds of a whole process, from the start of Python to the first result: the shortest."""
        code = f"{lines(family)}; {FAMILIES[family][1]}"
        best = float("inf")
        for _ in range(1 if PROFILE == "smoke" else 5):
            start = perf_counter()
            run(code)
            best = min(best, perf_counter() - start)
        return best

    track_warm_process.unit = "seconds"


class Compilation(_Startup):
    """The first call of a new installation: everything that it needs is compiled."""

    params = (few(FAMILIES, 1),)
    param_names = ("family",)
    repeat = (2, 2, 30.0)

    def setup(self, family):
        need(family)

    def timeraw_cold_cache(self, family):
        return FAMILIES[family][1], COLD + lines(family)

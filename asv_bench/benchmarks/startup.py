"""How long a user waits before the first epoch. Every sample is a fresh interpreter."""

# Lines joined by semicolons: asv puts them into another program's string.
IMPORTS = "; ".join(
    [
        "import warnings",
        "warnings.simplefilter('ignore')",
        "import numpy as np",
        "from gdl import MLPClassifier",
        "X = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)",
        "y = np.arange(64) % 3",
        "model = MLPClassifier((16,), max_iter=1)",
    ]
)
COLD = "import os, tempfile; t = tempfile.TemporaryDirectory(); os.environ['NUMBA_CACHE_DIR'] = t.name; "
WARM = f'import subprocess, sys; subprocess.run([sys.executable, "-c", "{IMPORTS}; model.fit(X, y)"], check=True); '


class Startup:
    number = 1
    rounds = 1
    repeat = (3, 5, 20.0)
    warmup_time = 0
    timeout = 300

    def timeraw_import(self):
        return "import gdl"

    def timeraw_import_beyond_numba_and_scikit_learn(self):
        return "import gdl", "import numba, sklearn.base"

    def timeraw_first_fit_cold_cache(self):
        return "model.fit(X, y)", COLD + IMPORTS

    def timeraw_first_fit_warm_cache(self):
        return "model.fit(X, y)", WARM + IMPORTS

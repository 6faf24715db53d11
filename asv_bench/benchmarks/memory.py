"""Memory, on arrays of 256 MB: peak of the process, and what a call adds to it."""

import multiprocessing
import resource
import sys
import warnings

import numpy as np

from .common import PROFILE, Optional, few

gdl = Optional("gdl")
# float32: 256 MB
N_SAMPLES, N_FEATURES = 50_000 if PROFILE == "smoke" else 1_000_000, 64


def peak():
    """Return the most memory that this process ever had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def fit_network(X, y):
    return gdl.MLPClassifier((32,), batch_size=1000, max_iter=1, random_state=0).fit(X, y)


def fit_kmeans(X, y):
    return gdl.KMeans(8, init=X[:8], n_init=1, max_iter=2, random_state=0).fit(X)


def fit_mini_batch(X, y):
    return gdl.MiniBatchKMeans(8, init=X[:8], n_init=1, max_iter=1, batch_size=1000, random_state=0).fit(X)


# call: what is fitted on a few rows before, and the call itself
CALLS = {
    "MLPClassifier.fit": (fit_network, lambda model, X, y: fit_network(X, y)),
    "MLPClassifier.predict": (fit_network, lambda model, X, y: model.predict(X)),
    "KMeans.fit": (fit_kmeans, lambda model, X, y: fit_kmeans(X, y)),
    "KMeans.predict": (fit_kmeans, lambda model, X, y: model.predict(X)),
    "MiniBatchKMeans.fit": (fit_mini_batch, lambda model, X, y: fit_mini_batch(X, y)),
}


def compile_elsewhere(function, call):
    """Make a call in another process, which keeps what it compiles on disk: the compiler takes 40 MB and more."""
    getattr(gdl, call.partition(".")[0])  # skips what the commit lacks
    child = multiprocessing.get_context("fork").Process(target=function, args=(call,))
    child.start()
    child.join()
    assert child.exitcode == 0, f"{call} failed in another process"


class Memory:
    params = (few(CALLS, None, smoke=2),)
    param_names = ("call",)
    timeout = 300
    ready = False

    def setup(self, call):
        if self.ready:
            return
        warnings.simplefilter("ignore")
        self.X = np.empty((N_SAMPLES, N_FEATURES), np.float32)
        np.random.default_rng(0).random(dtype=np.float32, out=self.X)
        self.y = np.arange(N_SAMPLES) % 2
        self.call = CALLS[call][1]
        compile_elsewhere(self.warm_up, call)
        self.warm_up(call)  # all that is made once is made
        self.ready = True

    def warm_up(self, call):
        few_rows = slice(0, 50_000)  # enough to compile for many
        self.model = CALLS[call][0](self.X[few_rows], self.y[few_rows])
        self.call(self.model, self.X[few_rows], self.y[few_rows])

    def peakmem_call(self, call):
        self.call(self.model, self.X, self.y)

    def track_beyond_the_data(self, call):
        """Megabytes that the call adds to the peak, the data's 256 being there before."""
        before = peak()
        self.call(self.model, self.X, self.y)
        return (peak() - before) / 1e6

    track_beyond_the_data.unit = "MB"


class Footprint:
    """What gdl itself takes: a process that has fitted once, on next to nothing."""

    params = (few(["MLPClassifier.fit", "KMeans.fit"], 2),)
    param_names = ("call",)

    def setup(self, call):
        warnings.simplefilter("ignore")
        compile_elsewhere(self.peakmem_small_fit, call)

    def peakmem_small_fit(self, call):
        X = np.random.default_rng(0).random((100, 4), dtype=np.float32)
        CALLS[call][0](X, np.arange(100) % 2)

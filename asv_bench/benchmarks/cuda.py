"""Kernels on an NVIDIA GPU, by CUDA's own events: the host's clock would measure the launch.

Skipped where the commit has no such kernels or the machine no device. The kernels keep the contract of the CPU's, so
each row is checked against the NumPy reference first.
"""

import importlib

import numpy as np

from .common import TOLERANCES, Optional, few

cuda, reference = Optional("gdl.kernels.cuda"), Optional("gdl.kernels.reference")
layout = Optional("gdl.kernels.layout")
ROUNDS = 30


def device():
    """Return ``numba.cuda``, or skip."""
    try:
        module = importlib.import_module("numba.cuda")
        if module.is_available():
            return module
    except Exception as error:  # drivers and toolkits fail in many ways, all of which mean the same here
        raise NotImplementedError(f"CUDA cannot be used here: {error}") from None
    raise NotImplementedError("This machine has no CUDA device.")


def shortest(numba_cuda, call, rounds=ROUNDS):
    """Return the shortest time of a call in seconds, between two events on the device."""
    start, end = (numba_cuda.event(timing=True) for _ in range(2))
    best = float("inf")
    for _ in range(rounds):
        start.record()
        call()
        end.record()
        end.synchronize()
        best = min(best, numba_cuda.event_elapsed_time(start, end) / 1e3)
    return best


class _Device:
    timeout = 300
    dtype = "float32"

    def setup(self, *parameters):
        self.name, self.numba_cuda = getattr(self, "kernel", None) or parameters[0], device()
        kernel = getattr(cuda, self.name)
        arguments = self.arguments(*parameters)
        expected = [value.copy() if isinstance(value, np.ndarray) else value for value in arguments]
        getattr(reference, self.name)(*expected)
        there = [self.numba_cuda.to_device(v) if isinstance(v, np.ndarray) else v for v in arguments]
        kernel(*there)
        tolerance = 10 * TOLERANCES[self.dtype]
        out = there[-1].copy_to_host()
        np.testing.assert_allclose(out, expected[-1], rtol=tolerance, atol=tolerance * np.abs(expected[-1]).max())
        self.call = lambda: kernel(*there)
        self.call()

    def track_microseconds(self, *parameters):
        return shortest(self.numba_cuda, self.call) * 1e6

    track_microseconds.unit = "us on the device"


class Dense(_Device):
    params = (
        ["dense_forward", "dense_input_gradient", "dense_weight_gradient"],
        few(["4096x784x512", "256x512x1024"]),
    )
    param_names = ("kernel", "n_samples x n_in x n_out")

    def arguments(self, kernel, shape):
        m, n_in, n_out = map(int, shape.split("x"))
        rng = np.random.default_rng(0)
        X, dZ, W, b = (rng.standard_normal(s).astype(self.dtype) for s in ((m, n_in), (m, n_out), (n_in, n_out), n_out))
        return {
            "dense_forward": lambda: (X, W, b, layout.ACTIVATIONS["relu"], np.empty_like(dZ)),
            "dense_input_gradient": lambda: (dZ, W, np.empty_like(X)),
            "dense_weight_gradient": lambda: (X, dZ, np.empty_like(W)),
        }[kernel]()


class Assign(_Device):
    kernel = "assign_labels"
    params = (few(["100000x64x100", "1000000x16x256"]),)
    param_names = ("n_samples x n_features x n_clusters",)

    def arguments(self, shape):
        n, d, k = map(int, shape.split("x"))
        # Samples close to their centers: labels cannot differ by rounding.
        rng = np.random.default_rng(0)
        centers = rng.uniform(-10, 10, (k, d)).astype(self.dtype)
        X = centers[rng.integers(k, size=n)] + rng.uniform(-0.01, 0.01, (n, d)).astype(self.dtype)
        return X, np.zeros(d, self.dtype), centers, np.empty(n, np.int32)

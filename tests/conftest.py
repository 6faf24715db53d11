"""What all tests share: seeded numbers, the kernel sets, tolerances."""

import os
import signal

import numpy as np
import pytest

from gdl import kernels as kernel_sets

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def pytest_collection_modifyitems(items):
    """Leave out what only compiled code can do where kernels run as Python."""
    skip = pytest.mark.skip(reason="needs compiled kernels (NUMBA_DISABLE_JIT is set)")
    for item in items:
        if INTERPRETED and item.get_closest_marker("compiled"):
            item.add_marker(skip)


@pytest.fixture
def rng():
    """Random numbers; any GDL_TEST_SEED must pass."""
    return np.random.default_rng(int(os.environ.get("GDL_TEST_SEED", "0")))


@pytest.fixture(params=kernel_sets.DEVICES)
def kernels(request):
    """Each kernel set that is measured against the reference."""
    return kernel_sets.load(request.param)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Each type that kernels compute in."""
    return np.dtype(request.param)


@pytest.fixture
def tolerance(dtype):
    """Arguments of ``assert_allclose`` for results of a few thousand operations."""
    return {"float32": {"rtol": 2e-5, "atol": 2e-5}, "float64": {"rtol": 1e-11, "atol": 1e-11}}[dtype.name]


# A shell starts what it runs in the background with Ctrl-C ignored; the tests of Ctrl-C are not about that.
signal.signal(signal.SIGINT, signal.default_int_handler)

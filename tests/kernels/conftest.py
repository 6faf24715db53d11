"""Fixtures of the kernel tests: here the reference is judged too."""

import pytest

from gdl.kernels import DEVICES, load


@pytest.fixture(params=["reference", *DEVICES])
def kernels(request):
    """Each kernel set in turn; a set that cannot be imported is a failure."""
    return load(request.param)


@pytest.fixture(params=DEVICES)
def fast_kernels(request):
    """The sets that promise more than the reference: the same bits for a row whatever its batch."""
    return load(request.param)


@pytest.fixture
def rtol(tolerance):
    """The relative part of the tolerance alone, where small numbers must be right too."""
    return tolerance["rtol"]

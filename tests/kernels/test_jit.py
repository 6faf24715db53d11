"""How kernels are compiled."""

import gc

import pytest
from numba.core.compiler import Flags

from gdl.kernels._inner import KernelFlags
from gdl.kernels._jit import inner, njit

pytestmark = pytest.mark.compiled


@inner
def twice(n):
    return 2 * n


@inner
def four_times(n):
    return twice(twice(n))


def kernel():
    @njit(cache=False)
    def compute(n):
        return four_times(n) + twice(3) + twice(n=n)

    return compute


def test_inner_functions_of_inner_functions_are_linked():
    assert kernel()(5) == 20 + 6 + 10


def test_a_constant_is_an_integer_like_any_other():
    kernel()(5)
    assert len(twice.signatures) == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_afterwards_as_before(enabled):
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        kernel()(5)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_kernel_flags_are_equal_to_numba_s():
    plain, other = Flags(), Flags()
    other.nrt = True
    kernel = KernelFlags(plain)
    assert kernel == plain == kernel.copy() == KernelFlags(plain)
    assert hash(kernel) == hash(plain) == hash(KernelFlags(other))
    assert kernel != other != kernel
    assert KernelFlags(other) != kernel
    kernel.nrt = True
    assert kernel == other

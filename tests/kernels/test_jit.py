"""How kernels are compiled."""

import gc
import operator

import numba
import numpy as np
import pytest
from numba import types
from numba.core.compiler import Flags
from numba.core.typing import Context
from numba.extending import overload

from gdl.kernels._inner import KernelFlags, TypingContext
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


def test_numba_is_asked_once_what_a_call_comes_to(monkeypatch):
    asked, resolve = [], Context.resolve_function_type

    def resolve_function_type(context, function, args, kws):
        asked.append((getattr(function, "typing_key", None), args))
        return resolve(context, function, args, kws)

    @inner
    def times(a, b):
        return a * b

    def products():
        @njit(cache=False)
        def compute(a, b):
            return times(a, b) * b

        return compute

    monkeypatch.setattr(TypingContext, "_found", {})
    monkeypatch.setattr(Context, "resolve_function_type", resolve_function_type)
    multiplied = []
    for _ in range(2):
        results = products()(3, 5), products()(3, 0.5), products()(np.float32(3), np.float32(0.5))
        assert [(type(result), result) for result in results] == [(int, 75), (float, 0.75), (float, 0.75)]
        multiplied.append({args for key, args in asked if key is operator.mul})
        asked.clear()
    float64, float32, int64 = types.float64, types.float32, types.int64
    assert multiplied == [{(int64, int64), (int64, float64), (float64, float64), (float32, float32)}, set()]


def test_an_overload_is_taken_as_it_is_for_a_kernel():
    """Whoever had it compiled in the meantime: division by zero gives a number in kernels, and raises elsewhere."""

    def divide(a, b):
        return a // b

    @overload(divide)
    def overload_of_divide(a, b):
        return lambda a, b: a // b

    def by_zero(compiler):
        @compiler
        def compute(a):
            return divide(a, 0)

        return compute(1)

    expected = by_zero(njit(cache=False))
    with pytest.raises(ZeroDivisionError):
        by_zero(numba.njit)
    assert by_zero(njit(cache=False)) == expected


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

"""The one place where compiler flags are chosen."""

from __future__ import annotations

import functools
from typing import Any

import numba
from numba import config, types

from gdl.kernels._cache import KernelCache
from gdl.kernels._inner import InnerCompiler, KernelCompiler

# No fastmath: "nnan" and "ninf" would remove the checks for NaN and infinity, and "reassoc" and "contract"
# would round the vector body of a loop differently from its remainder, so that bits would depend on where
# a row stands. Contraction is written down, as fma. The GIL is released, so that two threads can compute at
# once; division by zero gives infinity, as in NumPy.
FLAGS = {"nogil": True, "error_model": "numpy", "pipeline_class": KernelCompiler}


def njit(function: Any = None, *, cache: bool = True, **options: Any) -> Any:
    """Compile a kernel when it is first called, and keep it on disk. ``options`` are those of ``numba.njit``."""
    if function is None:
        return functools.partial(njit, cache=cache, **options)
    options = FLAGS | options
    kernel = numba.njit(**options)(function)
    if cache and kernel is not function:  # the same function comes back where NUMBA_DISABLE_JIT is set
        kernel._cache = KernelCache(function, options)
    return kernel


# For what only other kernels call: without wrappers for Python, and kept on disk within its callers. Without
# reference counts, too: whoever called the kernel holds the arrays. What makes an array says ``_nrt=True``.
INNER_FLAGS: dict[str, Any] = {
    "cache": False,
    "pipeline_class": InnerCompiler,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "_nrt": False,
}


def inner(function: Any = None, **options: Any) -> Any:
    """Compile a kernel for its callers alone, once for all integers: Numba would do it again for each constant."""
    if function is None:
        return functools.partial(inner, **options)
    kernel = njit(function, **(INNER_FLAGS | options))
    if kernel is not function:
        template = kernel.get_call_template
        kernel.get_call_template = lambda args, kws: template(
            tuple(types.unliteral(arg) for arg in args), {name: types.unliteral(arg) for name, arg in kws.items()}
        )
    return kernel


_compiled: dict[tuple[Any, ...], Any] = {}


def compiled_for(kernel: Any, *arguments: Any) -> Any:
    """Return a kernel as it is compiled for numbers and contiguous vectors like these; it looks at no type any more.

    Where caches are cold, after a large step of training, that takes 2 us less a call.
    """
    if config.DISABLE_JIT:
        return kernel
    key = kernel, *[getattr(argument, "dtype", type(argument)) for argument in arguments]
    if key not in _compiled:  # to ask Numba takes 70 us
        _compiled[key] = kernel.compile(tuple(numba.typeof(argument) for argument in arguments))
    return _compiled[key]

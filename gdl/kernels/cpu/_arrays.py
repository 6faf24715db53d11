"""Arrays as the compiled functions take them: flat, writable by type, and scratch memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from gdl.kernels.cpu._simd import VECTOR_BYTES

_local = threading.local()


class _Memory:
    """The memory of an array, without its read-only flag."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def writable(array: Any) -> Any:
    """The array, or a view of it that Numba types as writable: read-only input must not compile all again.

    Kernels do not write to their inputs; the contract test holds them to it.
    """
    return array if array.flags.writeable else np.asarray(_Memory(array))


def contiguous(array: Any) -> Any:
    """The array in C order, writable by type; compiled code sees it flat."""
    if array.flags.carray:  # both, asked at once
        return array
    return writable(array if array.flags.c_contiguous else np.ascontiguousarray(array))


def flat(array: Any) -> Any:
    """A 1-D view, writable by type."""
    return writable(array).reshape(-1)


def scratch(name: str, n: int, dtype: Any) -> Any:
    """Scratch memory of this thread: n elements, beginning on a cache line.

    Kept from call to call: fresh pages cost time, which small steps would feel.
    """
    key = name, np.dtype(dtype)
    buffers = _local.__dict__.setdefault("buffers", {})
    buffer = buffers.get(key)
    if buffer is None or buffer.size < n:
        new = aligned(n, dtype)
        _local.place = object()  # first: Ctrl-C may come after it, and the old memory is gone after the next line
        buffer = buffers[key] = new
    return buffer[:n]


def address(array: Any) -> int:
    """Where an array begins; ``array.ctypes.data`` takes twice as long to say so."""
    start: int = array.__array_interface__["data"][0]
    return start


def aligned(n: int, dtype: Any) -> Any:
    """New memory for n elements, beginning on a cache line."""
    padded = np.empty(n + 128 // np.dtype(dtype).itemsize, dtype)
    start = -address(padded) % max(VECTOR_BYTES, 64) // padded.itemsize
    return padded[start : start + n]


def scratch_place() -> Any:
    """An object that stands for the addresses of this thread's scratch memory: another as soon as one is new."""
    return getattr(_local, "place", None)

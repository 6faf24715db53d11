"""Arithmetic on arrays that are already right.

The contract that every kernel keeps:

* A kernel set is a module. ``reference``, ``cpu`` (and ``cuda``) hold the same files with the same
  names and parameters; a test compares them. Full docstrings are in ``reference``.
* Floating arrays of one call are all float32 or all float64, C-contiguous and finite; kernels check
  nothing. Indices are int64, labels of clusters int32. Capital letters are matrices, rows are samples.
* Inputs come first, then scalars, then outputs. Inputs are only read. Outputs are overwritten, never
  added to, and may hold anything before; what is updated in place says so.
* Kernels return None. A number over all samples is written into a float64 array of shape (1,).
* The same arguments give the same bits, for any number of threads.
"""

from __future__ import annotations

import importlib
from types import ModuleType

DEVICES = ("cpu",)


def load(device: str) -> ModuleType:
    """Return the kernel set that computes on ``device``."""
    return importlib.import_module(f"gdl.kernels.{device}")

"""Compiled kernels on disk: never stale, never in the way.

Numba's own cache asks only whether the one file that a kernel lives in has changed, so an edit in a helper
file, or an upgrade that leaves ``__pycache__`` behind, runs the old machine code. It also numbers its data
files, so that two processes that start at once can exchange them, and it refuses to work where nothing can
be written. Here a kernel is one file a signature, complete in itself: it says what it was compiled from,
and whatever does not match, cannot be read or is damaged is compiled again.

The files lie in ``NUMBA_CACHE_DIR``, else in the user's cache directory, in one directory an installation,
and are overwritten in place. Where nothing can be written, kernels are compiled in every process.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import re
import sys
import uuid
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

KERNELS = Path(__file__).resolve().parent
# What changes the machine code without changing its source.
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")


def source_stamp(root: Path) -> str | None:
    """Digest of every source file below ``root`` and of the compiler; None if there are no files to read."""
    digest = hashlib.sha256()
    try:
        paths = sorted(root.rglob("*.py"))
        for path in paths:
            source = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()} {len(source)} ".encode() + source)
    except OSError:
        return None
    versions = sys.version, platform.machine(), numba.__version__, llvmlite.__version__, np.__version__
    digest.update(repr(versions).encode())
    return digest.hexdigest() if paths else None


# Taken before any kernel is imported: an edit while the process runs can only make the stamp too old.
STAMP = source_stamp(KERNELS)


def directory() -> Path | None:
    """Where this installation's kernels are kept, or None if there is no such place."""
    try:
        if config.CACHE_DIR:
            base = Path(config.CACHE_DIR).absolute()
        elif sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except (OSError, RuntimeError):  # there is no home
        return None
    installation = hashlib.sha256(str(KERNELS).encode()).hexdigest()[:16]
    return base / "gdl" / installation if base.is_absolute() else None


class KernelCache(NullCache):
    """The on-disk cache of one kernel, as Numba's dispatcher uses it."""

    def __init__(self, function: FunctionType, options: dict[str, Any]) -> None:
        self._name = re.sub(r"[^\w.]", "", f"{function.__module__}.{function.__qualname__}")
        self._code = hashlib.sha256(function.__code__.co_code).hexdigest()
        source = Path(function.__code__.co_filename).resolve()
        self._usable = STAMP is not None and source.is_relative_to(KERNELS)  # the stamp says nothing of others
        try:
            self._variant = _describe(function), _describe(options)
        except Exception:  # it closes over what cannot be written down
            self._usable = False

    @property
    def cache_path(self) -> str | None:
        """Where the kernel's files are, None if it is not cached."""
        place = directory() if self._usable else None
        return None if place is None else str(place)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled kernel for a signature, or None."""
        target_context.refresh()
        try:
            path, key = self._entry(sig, target_context.codegen())
            blob = path.read_bytes()
            if hashlib.sha256(blob[32:]).digest() != blob[:32]:
                return None
            stored_key, payload = pickle.loads(blob[32:])
            if stored_key != key:
                return None
            return CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # whatever is wrong with the file, compiling again is right
            return None

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Keep a compiled kernel, if it can be kept."""
        if cres.library.has_dynamic_globals or any(not lifted.can_cache for lifted in cres.lifted):
            return
        try:
            path, key = self._entry(sig, cres.codegen)
            body = pickle.dumps((key, dumps(cres._reduce())), pickle.HIGHEST_PROTOCOL)
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{uuid.uuid4().hex}")
            try:
                draft.write_bytes(hashlib.sha256(body).digest() + body)
                draft.replace(path)  # at once: nobody reads half a file
            finally:
                draft.unlink(missing_ok=True)
        except OSError:  # read-only, full or in use: go on without
            pass

    def flush(self) -> None:
        """Forget: ``recompile`` asks for this, and then what is compiled need not be what the files say."""
        self._usable = False

    def _entry(self, sig: Any, codegen: Any) -> tuple[Path, tuple[Any, ...]]:
        """File of a signature, and what must be written in it for its code to be right."""
        place = directory()
        types = str(sig)
        if not self._usable or place is None or " at 0x" in types:  # a function as argument: not the same again
            raise FileNotFoundError
        settings = tuple(getattr(config, name, None) for name in SETTINGS)
        variant = self._name, self._variant, types, codegen.magic_tuple(), settings, sys.version_info[:2]
        path = place / f"{self._name[-80:]}-{hashlib.sha256(repr(variant).encode()).hexdigest()[:16]}.kernel"
        return path, (STAMP, self._code, *variant)


def _describe(value: Any) -> Any:
    """What a function closes over, down to plain values, the same in every process."""
    function = getattr(value, "py_func", getattr(value, "_defn", value))  # of a dispatcher, of an intrinsic
    if isinstance(function, FunctionType):
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        inner = *cells, *(function.__defaults__ or ())
        return function.__module__, function.__qualname__, *map(_describe, inner)
    if isinstance(value, dict):
        return tuple(sorted((name, _describe(part)) for name, part in value.items()))
    if isinstance(value, set | frozenset):
        return tuple(sorted(value))
    if isinstance(value, list | tuple):
        return tuple(map(_describe, value))
    return dumps(value)

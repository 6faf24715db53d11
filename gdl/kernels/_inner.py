"""How kernels are compiled: what only other kernels call to LLVM's code, the outermost function to the machine's.

Numba optimizes every function, turns it into machine code, links it with all that it calls, and does so again in each
of its callers. A training step is a tree of ninety functions, seven deep: compiling it took 13.9 s that way, and on a
slower machine 14.3 s with inner functions that are linked and no more, 11.5 s with inner functions left alone until
the outermost links them all, once, and optimizes the whole.
"""

from __future__ import annotations

import gc
from typing import Any, ClassVar

from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, Flags
from numba.core.targetconfig import ConfigStack
from numba.core.typed_passes import InlineOverloads, NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes

NOT_NEEDED = {InlineClosureLikes, InlineOverloads, NopythonRewrites}


class KernelLibrary(JITCodeLibrary):
    """The code of a kernel and of all that it calls."""

    _linking_libraries: list[Any]

    def finalize(self) -> None:
        """Link the inner functions that the inner functions call, which they have not done themselves."""
        found: list[Any] = list(self._linking_libraries)
        for library in found:  # grows while it is gone through
            if isinstance(library, InnerLibrary):
                found += (below for below in library._linking_libraries if below not in found)
        self._linking_libraries = found
        super().finalize()


class InnerLibrary(JITCodeLibrary):
    """The code of an inner function, to be linked into the kernels that call it and optimized there."""

    def _optimize_functions(self, ll_module: Any) -> None:
        """Leave it to the kernel."""

    def finalize(self) -> None:
        """Link nothing, optimize nothing and make no machine code."""
        self._raise_if_finalized()
        self._finalize_dynamic_globals()
        self._finalized = True

    @property
    def codegen(self) -> Any:
        """The code generator, which is asked to fill in an environment that is not in memory."""
        return _WithoutEnvironments(self._codegen)


class _WithoutEnvironments:
    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing: kernels have no Python objects to look up."""


class KernelFlags(Flags):
    """Compiler flags that are compared in no time.

    They are part of the key under which Numba looks up what it has compiled of its own functions, 12,000 times for a
    training step, and it reads all of them each time.
    """

    __slots__ = ()
    _HASH = hash(Flags())  # one for all: Numba's own is of the names, not of the values

    def __hash__(self) -> int:
        return self._HASH

    def __eq__(self, other: object) -> bool:
        if self is other or (type(other) is KernelFlags and self._values == other._values):
            return True
        same: bool = super().__eq__(other)
        return same


class TypingContext:
    """Numba's typing context, which remembers what a call of one of Numba's own functions with certain types comes to.

    All ninety functions of a training step add integers and index vectors, and Numba goes through its rules each time:
    3,800 times for 195 different calls. To remember them saves a first fit 8 % of its calls of Python functions, and a
    tenth of its time (the median of nine pairs in turn, 11 to 18 s each).
    """

    _found: ClassVar[dict[Any, Any]] = {}

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, function: Any, args: Any, kws: Any) -> Any:
        """Return the signature of a call; None if there is no such function."""
        if type(function) is not types.Function or kws or not all(each.is_precise() for each in args):
            return self._context.resolve_function_type(function, args, kws)
        key = function, args, ConfigStack.top_or_none()
        if key in self._found:
            signature, implementation = self._found[key]
            # Others may have had it compiled with other flags since, and Numba takes the version that it notes here.
            vars(function)["_impl_keys"][signature.args] = implementation
            return signature
        signature = self._context.resolve_function_type(function, args, kws)
        if signature is not None:
            self._found[key] = signature, function.get_impl_key(signature)
        return signature


class KernelCompiler(CompilerBase):
    """Numba's ordinary pipeline, into a ``KernelLibrary``."""

    library: type[JITCodeLibrary] = KernelLibrary

    def __init__(self, typing: Any, target: Any, library: Any, args: Any, result: Any, flags: Any, local: Any) -> None:
        super().__init__(TypingContext(typing), target, library, args, result, KernelFlags(flags), local)

    def compile_extra(self, function: Any) -> Any:
        """Compile a function, without looking for garbage in the meantime: that takes 5 % of it."""
        enabled = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(function)
        finally:
            if enabled:
                gc.enable()

    def define_pipelines(self) -> list[Any]:
        """Return the pipeline of nopython mode."""
        if self.state.library is None:
            self.state.library = self.library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
            self.state.library.enable_object_caching()
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


class InnerCompiler(KernelCompiler):
    """A shorter pipeline into an ``InnerLibrary``: inner functions have no closures and no arithmetic on arrays."""

    library = InnerLibrary

    def define_pipelines(self) -> list[Any]:
        """Return the pipeline without the passes that would find nothing to do."""
        (pipeline,) = super().define_pipelines()
        pipeline.passes = [each for each in pipeline.passes if each[0] not in NOT_NEEDED]
        pipeline.finalize()
        return [pipeline]

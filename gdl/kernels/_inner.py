"""How a kernel that only other kernels call is compiled: to LLVM's code, not to the machine's.

Numba optimizes every function, turns it into machine code, and does both again in each of its callers. A
training step is a tree of seventy functions, seven deep: compiling it took 13.9 s that way and 10.3 s this
way, since the outermost function optimizes all that is below it.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder


class InnerLibrary(JITCodeLibrary):
    """The code of an inner function, to be linked into its callers and optimized there."""

    def _optimize_final_module(self) -> None:
        """Leave it to the caller."""

    def _finalize_final_module(self) -> None:
        """Make no machine code."""
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


class InnerCompiler(CompilerBase):
    """Numba's ordinary pipeline, into an ``InnerLibrary``."""

    def define_pipelines(self) -> list[Any]:
        """Return the pipeline of nopython mode."""
        if self.state.library is None:
            self.state.library = InnerLibrary(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]

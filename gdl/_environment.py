"""Facts of the machine that gdl runs on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

# What decides the vector kernels, the widest first.
VECTOR_FEATURES = ("avx512f", "avx2", "fma", "sve", "neon", "sse4.2")
# A folder for each card that the driver runs.
GPUS = Path("/proc/driver/nvidia/gpus")


def environment() -> dict[str, str]:
    """Return what gdl runs on, by name, in the order of a report."""
    import llvmlite
    import numba
    import numpy as np
    import sklearn

    from gdl import __version__
    from gdl.kernels import _cache
    from gdl.kernels.cpu._team import n_threads

    cache = None if _cache.STAMP is None else _cache.directory()
    return {
        "gdl": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "Numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "scikit-learn": sklearn.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "CPU": cpu_name(),
        "vectors": ", ".join(vector_features()) or "none",
        "cores": str(n_cores()),
        "threads": str(n_threads()),
        "NVIDIA GPU": nvidia_gpu() or "none",
        "compiled kernels": str(cache) if cache else "not kept",
    }


def cpu_name() -> str:
    """Name of the processor, as its maker calls it where the system knows."""
    name = ""
    if sys.platform == "darwin":
        name = _output("sysctl", "-n", "machdep.cpu.brand_string")
    elif sys.platform != "win32":
        name = _field(Path("/proc/cpuinfo"), "model name")
    return name or platform.processor() or platform.machine()


def vector_features() -> list[str]:
    """Vector instructions that the compiler may use."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    return [name for name in VECTOR_FEATURES if features.get(name)]


def n_cores() -> int:
    """Number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def nvidia_gpu() -> str:
    """Name of the first NVIDIA GPU, or an empty string. Asks the driver's files, not CUDA: that takes longer."""
    for path in sorted(GPUS.glob("*/information")):
        if name := _field(path, "Model"):
            return name
    if shutil.which("nvidia-smi"):
        return _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").partition("\n")[0]
    return ""


def _field(path: Path, name: str) -> str:
    """Value of the first line ``name : value`` of a file, or an empty string."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == name), "")


def _output(*command: str) -> str:
    """What a command prints, or an empty string."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()

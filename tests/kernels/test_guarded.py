"""Nothing outside of the arrays that kernels are given is read."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.compiled
@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded by POSIX calls")
@pytest.mark.parametrize("kernels", ["clustering", "dense"])
def test_nothing_outside_of_the_array_is_read(kernels):
    """In a process of its own, which dies of reading a page that may not be read, behind or before the array."""
    script = Path(__file__).with_name("guarded.py")
    done = subprocess.run([sys.executable, script, kernels], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

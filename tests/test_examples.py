"""The examples run, and say what they are there to say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.compiled
EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name):
    """What an example prints, run as its reader runs it."""
    return subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, check=True).stdout


def test_streetlights_prints_the_published_numbers():
    printed = run("streetlights.py")
    pairs = re.findall(r"^  (?:try|step|time) +\d+   (\S+) +(\S+)$", printed, re.MULTILINE)
    assert len(pairs) == 13
    for here, published in pairs:
        assert float(here) == pytest.approx(float(published), rel=1e-12)
    assert "the middle light decides" in printed


def test_stop_and_look_leaves_no_trace():
    printed = run("stop_and_look.py")
    losses = re.findall(r"loss of the epochs: (.*)", printed)
    assert losses[0] == losses[2] != losses[1]
    assert "to the last bit: True" in printed
    assert "Stop." in printed


def test_every_example_is_tested():
    tested = re.findall(r'run\("(\w+\.py)"\)', Path(__file__).read_text())
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(tested)

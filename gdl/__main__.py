"""``python -m gdl``: read and sort digits, beside scikit-learn; ``python -m gdl info``: what gdl runs on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gdl import _digits
from gdl._environment import environment


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of ``python -m gdl`` and return its exit status."""
    options = command_line().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        return 130
    return 0


def command_line() -> argparse.ArgumentParser:
    """Return what understands the command line; each command sets ``run`` to the function that does it."""
    parser = argparse.ArgumentParser(
        prog="python -m gdl",
        description="Dense neural networks and k-means as Numba kernels under scikit-learn's interface.",
        epilog="Without a command: digits.",
    )
    parser.set_defaults(run=digits, epochs=None)
    commands = parser.add_subparsers(title="commands", metavar="command")
    command = commands.add_parser("digits", help="learn to read and to sort handwritten digits, beside scikit-learn")
    command.add_argument("--epochs", type=_positive, metavar="N", help="times to see all digits (default: 20)")
    command.set_defaults(run=digits)
    command = commands.add_parser("info", help="say what gdl runs on")
    command.set_defaults(run=info)
    return parser


def digits(options: argparse.Namespace) -> None:
    """Learn to read and to sort digits."""
    _digits.read_digits(options.epochs or 20)


def info(options: argparse.Namespace) -> None:
    """Print what gdl runs on, a line a fact."""
    for name, value in environment().items():
        print(f"{name:<18}{value}")


def _positive(text: str) -> int:
    """Return a positive integer that a user typed."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

"""A small table, as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

#: Digits that a number shows of what differs within its column.
DIGITS = 3
#: Numbers from here on are written with an exponent, and so are those that are this small.
HUGE, TINY = 1e12, 1e-6


class Table(NamedTuple):
    """Cells as text; all columns stand to the right but those in ``left``."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    left: Sequence[int] = ()

    def as_text(self) -> str:
        """Return lines of aligned columns, and the note below."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [
            "  ".join(
                f"{cell:<{width}}" if number in self.left else f"{cell:>{width}}"
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (self.header, *self.rows)
        ]
        return "\n".join([*lines, "", self.note] if self.note else lines)

    def as_html(self) -> str:
        """Return an HTML table, and the note as a paragraph below."""
        header = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.header)
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{cells}</tr>" for cells in rows)
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>{note}"


def numbers(values: Sequence[float], scale: float | None = None) -> list[str]:
    """Return numbers of one column with the same decimals; ``-`` where there is none.

    ``scale`` is the size of which three digits are to be seen, by default the column's spread.

    >>> numbers([1234567.8, 2.0]), numbers([5.006, 5.936, float("nan")]), numbers([3e-9, 2e-9])
    (['1,234,568', '2'], ['5.006', '5.936', '-'], ['3.00e-09', '2.00e-09'])
    """
    known = [value for value in values if math.isfinite(value)]
    largest = max((abs(value) for value in known), default=0.0)
    if scale is None:
        scale = max(known, default=0.0) - min(known, default=0.0)
    if scale <= 1e-9 * largest:  # all alike but for rounding
        scale = largest
    has_exponent = largest >= HUGE or 0 < largest < TINY
    n_decimals = 0 if scale == 0 else max(0, DIGITS - 1 - math.floor(math.log10(scale)))
    form = f".{DIGITS - 1}e" if has_exponent else f",.{n_decimals}f"
    return ["-" if math.isnan(value) else f"{_without_minus_zero(value, n_decimals):{form}}" for value in values]


def short(text: str, width: int) -> str:
    """Return text in one line of at most ``width`` characters.

    >>> short("petal length (cm)", 10), short("a  b", 10)
    ('petal l...', 'a b')
    """
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _without_minus_zero(value: float, n_decimals: int) -> float:
    """Return 0 for what would be shown as -0.00."""
    return value if round(value, n_decimals) else 0.0

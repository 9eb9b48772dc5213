"""What small plots show: lines over an axis, round numbers beside it, names below."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Values = npt.NDArray[np.float64]
MORE_WORDS = "..."
"""Stands for the names of a legend that there is no room for."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot.

    Parameters
    ----------
    name : str
        What it shows.
    x, y : array of float
        Its points, from left to right; where `y` is not finite, the line has a gap.
    color : str
        As ``#rrggbb``.
    style : Qt.PenStyle
        How it is dashed.
    is_marked : bool
        Whether each point gets a dot.
    is_listed : bool
        Whether it stands in the legend.
    """

    name: str
    x: Values
    y: Values
    color: str
    style: Qt.PenStyle = Qt.PenStyle.SolidLine
    is_marked: bool = False
    is_listed: bool = True


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over one axis.

    Parameters
    ----------
    title : str
        What is above it.
    lines : tuple of Line
        What it shows.
    span : tuple of float or None
        Least and greatest value of the axis upward; None = as the lines need.
    """

    title: str
    lines: tuple[Line, ...] = ()
    span: tuple[float, float] | None = None


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Return the round numbers of an axis: multiples of 1, 2 or 5 times a power of ten.

    Parameters
    ----------
    low, high : float
        Ends of the axis.
    most : int
        At most as many.
    whole : bool
        Whether there are whole numbers only.

    Examples
    --------
    >>> ticks(0, 7, 4), ticks(0, 1, 4, whole=True)
    ([0.0, 2.0, 4.0, 6.0], [0.0, 1.0])
    """
    if not high > low:
        return [low]
    power = math.floor(math.log10((high - low) / most))
    for step in (
        factor * 10.0**exponent for exponent in (power, power + 1) for factor in (1, 2, 5)
    ):
        if whole and step < 1:
            continue
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [round(k * step, 12) for k in range(first, last + 1)]
    return [low, high]


def thinned(x: Sequence[float], y: Sequence[float], most: int) -> tuple[Values, Values]:
    """Return at most `most` points: means of groups of neighbors, each at the last one's place.

    What is not finite does not count in a mean; a group without any other value is a gap.
    """
    places, values = np.asarray(x, float), np.asarray(y, float)
    group = -(-len(values) // most)
    if group <= 1:
        return places, values
    starts = np.arange(0, len(values), group)
    known = np.isfinite(values)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    counts = np.add.reduceat(known.astype(float), starts)
    means = np.full(len(starts), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return places[np.minimum(starts + group, len(values)) - 1], means


def legend_rows(widths: dict[str, float], room: float, most: int) -> list[list[str]]:
    """Return the names of a legend by rows; what does not fit into `most` rows is left out.

    Parameters
    ----------
    widths : dict
        Pixels that each name takes.
    room : float
        Pixels of a row.
    most : int
        Rows; where names are left out, the last one ends with three dots.
    """
    rows: list[list[str]] = []
    left = 0.0
    for name, width in widths.items():
        if not rows or width > left:
            if len(rows) == most:
                rows[-1][-1] = MORE_WORDS
                break
            rows.append([])
            left = room
        rows[-1].append(name)
        left -= width
    return rows


def listed(plots: Sequence[Plot]) -> dict[str, Line]:
    """Return the lines of a legend by their names: of each name the first."""
    found: dict[str, Line] = {}
    for plot in plots:
        for line in plot.lines:
            if line.is_listed:
                found.setdefault(line.name, line)
    return found


def has_points(plot: Plot) -> bool:
    """Return whether there is anything to draw."""
    return any(np.isfinite(line.y).any() for line in plot.lines)


def x_range_of(plots: Sequence[Plot]) -> tuple[float, float]:
    """Return the ends of the axis that plots side by side have in common; it begins at 0."""
    ends = [float(line.x.max()) for plot in plots for line in plot.lines if line.x.size]
    return 0.0, max(ends, default=0.0) or 1.0


def y_range_of(lines: Sequence[Line]) -> tuple[float, float]:
    """Return the ends of an axis upward that holds all points of some lines."""
    values = [line.y[np.isfinite(line.y)] for line in lines]
    known = np.concatenate([*values, np.empty(0)])
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin


def tick_labels(values: Sequence[float]) -> list[str]:
    """Return numbers with as many decimals as the finest of them has.

    Examples
    --------
    >>> tick_labels([0.0, 0.5, 1.0]), tick_labels([0.0, 200000.0])
    (['0.0', '0.5', '1.0'], ['0', '200000'])
    """
    if any(value and not 1e-3 <= abs(value) < 1e9 for value in values):
        return [f"{value:g}" for value in values]
    texts = [f"{value:.6f}".rstrip("0").rstrip(".") for value in values]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [f"{value:.{decimals}f}" for value in values]

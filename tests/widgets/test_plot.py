"""Plots: the right points at the right places, in the right colors, and said in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPointF
from superqt.utils import qimage_to_array

from napari_unet.widgets._plot import Inks, PlotView
from napari_unet.widgets._plot_lines import (
    MORE_WORDS,
    Line,
    Plot,
    legend_rows,
    thinned,
    tick_labels,
    ticks,
    y_range_of,
)

if TYPE_CHECKING:
    import numpy.typing as npt

RED, GREEN = "#ff0000", "#00ff00"


def line(name: str, x: Any, y: Any, color: str = RED, **options: Any) -> Line:
    """Return a line through points."""
    return Line(name, np.asarray(x, float), np.asarray(y, float), color, **options)


@pytest.fixture
def view(qtbot: Any) -> PlotView:
    """Return a view of 300 pixels width without plots."""
    view = PlotView(210)
    view.empty_words = "nothing yet"
    qtbot.addWidget(view)
    view.resize(300, 210)
    return view


def pixels(view: PlotView) -> npt.NDArray[np.uint8]:
    """Return what is drawn, (y, x, rgb)."""
    found: npt.NDArray[np.uint8] = np.asarray(qimage_to_array(view.grab().toImage()))[..., :3]
    return found


def places_of(view: PlotView, color: str) -> npt.NDArray[np.intp]:
    """Return where something of nearly a color is drawn, (n, 2)."""
    wanted = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
    return np.argwhere((np.abs(pixels(view).astype(int) - wanted) < 60).all(-1))


@pytest.mark.parametrize(
    ("low", "high", "most", "whole"),
    [
        (0, 1, 4, False),
        (0.13, 0.97, 4, False),
        (-2e-4, 3e-4, 5, False),
        (1e6, 1e6 + 3, 6, False),
        (0, 5231, 4, True),
        (0, 1, 4, True),
        (0, 3, 4, True),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, most: int, whole: bool) -> None:
    found = ticks(low, high, most, whole=whole)
    assert 1 <= len(found) <= most
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    steps = np.diff(np.asarray(found))
    np.testing.assert_allclose(steps, steps[:1].repeat(len(steps)))
    if len(steps):
        mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
        assert round(mantissa) in (1, 2, 5, 10)
    assert not whole or all(value == int(value) for value in found)
    assert len(set(tick_labels(found))) == len(found)


def test_many_points_become_means_and_gaps_stay() -> None:
    y = np.arange(1000.0) % 2
    y[100:200], y[500] = np.nan, np.nan
    x, means = thinned(list(range(1, 1001)), list(y), 100)
    np.testing.assert_array_equal(x, np.arange(10, 1001, 10))
    assert np.isnan(means[10:20]).all()
    # One that is not known does not count.
    np.testing.assert_allclose(means[[0, 9, 20, 50]], [0.5, 0.5, 0.5, 5 / 9])
    few = thinned([1, 2, 3], [3.0, 4.0, 5.0], 3)
    np.testing.assert_array_equal(few, [[1, 2, 3], [3, 4, 5]])
    # The last group may be small; the newest point is in it.
    x, means = thinned(list(range(7)), [0, 0, 0, 0, 0, 0, 8], 3)
    np.testing.assert_array_equal([x, means], [[2, 5, 6], [0, 0, 8]])


def test_an_axis_holds_all_points_also_equal_ones() -> None:
    assert y_range_of([]) == (0.0, 1.0)
    low, high = y_range_of([line("a", [0], [3.0])])
    assert low < 3 < high
    low, high = y_range_of([line("a", [0, 1], [0.0, np.inf]), line("b", [0], [2.0])])
    assert low < 0 < 2 < high < 3


def test_the_legend_says_when_names_are_left_out() -> None:
    widths = dict.fromkeys("abcdef", 40.0)
    assert legend_rows(widths, 100, 3) == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert legend_rows(widths, 100, 2) == [["a", "b"], ["c", MORE_WORDS]]
    assert legend_rows({"long": 500.0}, 100, 2) == [["long"]]


def test_lines_are_drawn_where_their_values_are(view: PlotView) -> None:
    rising = line("up", [0, 10], [0, 1])
    level = line("level", [0, 10], [0.5, 0.5], GREEN, is_listed=False)
    view.show_plots(
        [Plot("left", (rising,), (0, 1)), Plot("right", (level,), (0, 1))], "step", Inks()
    )
    up, across = places_of(view, RED), places_of(view, GREEN)
    # The legend's sample lies below.
    up = up[up[:, 0] < 170]
    assert up[:, 1].max() < 150 < across[:, 1].min()
    assert np.asarray(np.corrcoef(up.T))[0, 1] < -0.99
    assert np.ptp(across[:, 0]) <= 2
    assert abs(across[:, 0].mean() - (up[:, 0].min() + up[:, 0].max()) / 2) < 3
    assert view.names() == ["up"]


def test_a_gap_is_left_and_a_point_alone_is_seen(view: PlotView) -> None:
    gap = line(
        "a", range(9), [0.5, 0.5, 0.5, np.nan, np.nan, np.nan, 0.5, 0.5, 0.5], is_listed=False
    )
    view.show_plots([Plot("p", (gap,), (0, 1))], "step", Inks())
    columns = np.unique(places_of(view, RED)[:, 1])
    assert np.diff(columns).max() > 50
    alone = line("a", [5], [0.5], is_listed=False)
    view.show_plots([Plot("p", (alone,), (0, 1))], "step", Inks())
    assert 4 <= len(places_of(view, RED)) <= 40


def test_without_points_there_are_words_and_nothing_to_tell(view: PlotView) -> None:
    view.show_plots(
        [Plot("p", (line("a", [1], [np.nan]),))], "step", Inks("#ffffff", RED, "#000000")
    )
    drawn = pixels(view)
    assert drawn.max() > 200
    assert drawn[:80].max() == drawn[130:].max() == 0
    assert view.words_at(QPointF(150, 100)) == ""


def test_the_values_under_the_cursor_are_said(view: PlotView) -> None:
    loss = line("loss", [10, 20, 30], [0.9, 0.1234567, np.nan])
    rare = line("held out", [0, 30], [0.8, 0.4])
    view.show_plots([Plot("loss", (loss, rare)), Plot("F1", ())], "step", Inks())
    view.grab()
    area = view._frames[0].area
    place = QPointF(area.left() + 0.7 * area.width(), area.center().y())
    assert view.words_at(place) == "step 20\nloss: 0.123\nheld out: 0.4"
    # Beside the axes, and over a plot without lines, there is nothing to say.
    assert view.words_at(QPointF(2, 80)) == view.words_at(QPointF(280, 80)) == ""

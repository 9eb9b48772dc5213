"""The curves of a training: points, gaps, the model before, steps or time, the theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QFocusEvent
from qtpy.QtWidgets import QApplication

from napari_unet.widgets._curves import BEFORE_NAME, EMPTY_WORDS, MAX_POINTS, CurvesView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.widgets._plot_lines import Line

COLORS = {"membrane": "#e8a33d", "rest": "#3d8ee8"}


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def view(qtbot: Any, clock: Clock) -> Iterator[CurvesView]:
    """Return the curves of a training that has just begun."""
    view = CurvesView(ViewerModel(), clock)
    qtbot.addWidget(view)
    view.resize(300, 210)
    view.restart(COLORS, ["membrane"])
    yield view
    view.close_view()


def lines(view: CurvesView) -> dict[str, Line]:
    """Return all lines by their names."""
    view.draw()
    return {line.name: line for plot in view.plot.plots for line in plot.lines}


def test_many_steps_are_averaged_and_the_theme_is_followed(view: CurvesView, qtbot: Any) -> None:
    for step in range(1, 2 * MAX_POINTS + 1):
        view.add_step(step, float(step % 2))
    loss = lines(view)["loss"]
    # Pairs of steps are averaged.
    np.testing.assert_array_equal(loss.y, np.full(MAX_POINTS, 0.5))
    assert loss.color == get_theme("dark").text.as_hex()
    view._viewer.theme = "light"
    wanted = get_theme("light")
    qtbot.waitUntil(lambda: view.plot.inks.paper == wanted.background.as_hex(), timeout=3000)
    assert view.plot.plots[0].lines[0].color == view.plot.inks.text == wanted.text.as_hex()


def test_the_model_before_is_a_line_to_compare_with(view: CurvesView) -> None:
    view.add_scores(0, {"f1/membrane": 0.4, "iou/membrane": 0.25, "f1/rest": 0.1, "loss": 1.0})
    view.add_step(1, 0.7)
    view.add_step(2, 0.6)
    view.add_scores(2, {"f1/membrane": 0.5, "iou/membrane": 0.33, "f1/rest": 0.3, "loss": 0.9})
    found = lines(view)
    before = found["membrane, model before"]
    np.testing.assert_array_equal([before.x, before.y], [[0, 2], [0.4, 0.4]])
    assert before.color == found["membrane"].color == COLORS["membrane"]
    # It does not know the other class.
    assert "rest, model before" not in found
    np.testing.assert_array_equal(found["membrane, IoU"].y, [0.25, 0.33])
    np.testing.assert_array_equal(found["loss, held out"].y, [1.0, 0.9])
    assert view.plot.names() == ["loss, held out", "membrane", "rest", BEFORE_NAME]


def test_what_is_not_known_is_a_gap(view: CurvesView) -> None:
    for step, loss in enumerate([1.0, float("nan"), 0.5], start=1):
        view.add_step(step, loss)
        view.add_scores(step, {"f1/rest": None if step == 2 else loss})
    found = lines(view)
    for name in ("loss", "rest"):
        np.testing.assert_array_equal(found[name].y, [1, np.nan, 0.5])


def test_a_click_and_the_space_bar_change_between_steps_and_time(
    view: CurvesView, clock: Clock, qtbot: Any
) -> None:
    view.add_scores(0, {"f1/rest": 0.1})
    for step in (1, 2, 3):
        clock.now += 20
        view.add_step(step, 1.0)
    view.add_scores(3, {"f1/rest": 0.2})
    view.draw()
    assert view.plot.x_title == "step"
    qtbot.mouseClick(view.plot, Qt.MouseButton.LeftButton, pos=QPoint(80, 60))
    assert view.plot.x_title == "time (s)"
    found = {line.name: line for plot in view.plot.plots for line in plot.lines}
    np.testing.assert_array_equal(found["loss"].x, [20, 40, 60])
    np.testing.assert_array_equal(found["rest"].x, [0, 60])
    clock.now += 180
    view.add_step(4, 1.0)
    np.testing.assert_array_equal(lines(view)["loss"].x, [1 / 3, 2 / 3, 1, 4])
    assert view.plot.x_title == "time (min)"
    qtbot.keyClick(view, Qt.Key.Key_Space)
    assert view.plot.x_title == "step"


def test_keys_have_a_frame(view: CurvesView) -> None:
    # As sent to the active window; under Xvfb none is.
    for kind in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
        QApplication.sendEvent(view, QFocusEvent(kind))
        assert view.plot.has_focus_frame == (kind == QEvent.Type.FocusIn)
    # A click does not take the keys away from who has them.
    assert view.focusPolicy() == Qt.FocusPolicy.TabFocus


def test_another_training_begins_with_nothing(view: CurvesView) -> None:
    view.add_step(1, 1.0)
    view.add_scores(1, {"f1/rest": 0.5})
    view.restart(COLORS)
    assert [line.y.size for line in lines(view).values()] == [0]
    assert view.plot.empty_words == EMPTY_WORDS
    assert not view.seconds
    assert not view.scores


def test_it_asks_for_no_more_than_the_width_of_a_dock(view: CurvesView) -> None:
    view.add_step(1, 1.0)
    view.draw()
    assert view.minimumSizeHint().width() <= 300
    assert view.grab().width() == 300

"""Loss and scores of a running training, drawn as they come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.widgets._pace import window_pace
from napari_unet.widgets._plot import Inks, PlotView
from napari_unet.widgets._plot_lines import Line, Plot, thinned

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from qtpy.QtGui import QFocusEvent, QKeyEvent, QMouseEvent

REDRAW_MS = 500
"""Twice a second: whatever changes has the whole of napari's window put together anew."""

HEIGHT = 210
"""Pixels."""

MAX_POINTS = 400
"""More steps than this are averaged in groups; the panel has no more pixels."""

LONG_SECONDS = 180
"""A longer time is told in minutes."""

SOLID = Qt.PenStyle.SolidLine

BEFORE = ", model before"
BEFORE_NAME = "F1 of the model before"
BEFORE_STYLE = Qt.PenStyle.DashDotLine

EMPTY_WORDS = "The curves begin with the first step"

HINT = (
    "Loss of each step, and scores of the averaged weights on held-out strokes.\n"
    "A click, or Space, changes between steps and time."
)


class CurvesView(QWidget):
    """The loss of every step, and what validation found, against the steps or the time.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose theme is followed.
    clock : callable
        Tells seconds.
    """

    def __init__(self, viewer: Any, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._viewer, self._clock = viewer, clock
        self._began = clock()
        self._colors: dict[str, str] = {}
        self._known: frozenset[str] = frozenset()
        self._by_time = False
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.seconds: list[float] = []
        """When each step was done, since the training began."""
        self.scores: dict[str, list[tuple[int, float]]] = {}
        """Metric -> (step, value), in the order in which they came."""
        self._score_seconds: dict[int, float] = {}
        self.plot = PlotView(HEIGHT)
        self.plot.empty_words = EMPTY_WORDS
        self.plot.setToolTip(HINT)
        self.setAccessibleName("Loss and scores")
        self.setAccessibleDescription(HINT)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REDRAW_MS)
        self._timer.timeout.connect(self._draw_at_beat)
        self._is_due = False
        self._pace = window_pace()
        self._pace.beat.connect(self._on_beat)
        viewer.events.theme.connect(self._on_theme)

    def restart(self, colors: Mapping[str, str], known: Collection[str] = ()) -> None:
        """Forget all points; a training begins now.

        Parameters
        ----------
        colors : mapping
            Class name -> color, as ``#rrggbb``.
        known : collection of str
            Classes that the parent knows: their scores at step 0 are its own, and stay as lines
            to compare with.
        """
        self._began = self._clock()
        self._colors, self._known = dict(colors), frozenset(known)
        for points in (self.steps, self.losses, self.seconds):
            points.clear()
        self.scores.clear()
        self._score_seconds.clear()
        self.draw()

    def add_step(self, step: int, loss: float) -> None:
        """Add the loss of a step; one that is not finite leaves a gap."""
        self.steps.append(step)
        self.losses.append(loss)
        self.seconds.append(self._clock() - self._began)
        self._draw_soon()

    def add_scores(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Add what validation found after a step; None leaves a gap."""
        for name, value in metrics.items():
            known = float("nan") if value is None else value
            self.scores.setdefault(name, []).append((step, known))
        # What was found before the first step costs no time of the training.
        self._score_seconds[step] = self._clock() - self._began if step else 0.0
        self._draw_soon()

    def close_view(self) -> None:
        """Follow the theme no more."""
        self._timer.stop()
        self._pace.beat.disconnect(self._on_beat)
        self._viewer.events.theme.disconnect(self._on_theme)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Change between steps and time."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self._turn()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Change between steps and time by the space bar."""
        if event is not None and event.key() == Qt.Key.Key_Space:
            self._turn()
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent | None) -> None:
        """Show that keys are for the curves."""
        super().focusInEvent(event)
        self._show_focus(True)

    def focusOutEvent(self, event: QFocusEvent | None) -> None:
        """Show that keys are for something else."""
        super().focusOutEvent(event)
        self._show_focus(False)

    def _show_focus(self, shown: bool) -> None:
        self.plot.has_focus_frame = shown
        self.plot.update()

    def draw(self) -> None:
        """Draw everything anew, in the colors of the theme."""
        theme = get_theme(self._viewer.theme)
        text = theme.text.as_hex()
        inks = Inks(text, theme.secondary.as_hex(), theme.background.as_hex())
        title, unit = self._x_axis()
        plots = (self._loss(text, unit), self._class_scores(text, unit))
        self.plot.show_plots(plots, title, inks)

    def _turn(self) -> None:
        self._by_time = not self._by_time
        self.draw()

    def _draw_soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _draw_at_beat(self) -> None:
        self._is_due = True
        self._pace.want()

    def _on_beat(self) -> None:
        if self._is_due:
            self._is_due = False
            self.draw()

    def _on_theme(self, _: object = None) -> None:
        self._draw_soon()

    def _x_axis(self) -> tuple[str, float]:
        """Return what is told across, and how many seconds a unit of it has; 0 = steps."""
        if not self._by_time:
            return "step", 0.0
        longest = max([*self.seconds[-1:], *self._score_seconds.values()], default=0.0)
        return ("time (min)", 60.0) if longest > LONG_SECONDS else ("time (s)", 1.0)

    def _loss(self, text: str, unit: float) -> Plot:
        places = [each / unit for each in self.seconds] if unit else self.steps
        lines = [Line("loss", *thinned(places, self.losses, MAX_POINTS), text, is_listed=False)]
        # No color: those are of classes.
        lines += self._found("loss", "loss, held out", text, unit, Qt.PenStyle.DashLine)
        return Plot("loss", tuple(lines))

    def _class_scores(self, text: str, unit: float) -> Plot:
        lines: list[Line] = []
        for name, color in self._colors.items():
            lines += self._before(name, color, unit)
            lines += self._found(f"f1/{name}", name, color, unit)
            lines += self._found(f"iou/{name}", f"{name}, IoU", color, unit, Qt.PenStyle.DotLine)
        if any(line.name.endswith(BEFORE) for line in lines):
            lines.append(Line(BEFORE_NAME, np.empty(0), np.empty(0), text, BEFORE_STYLE))
        return Plot("F1, IoU dotted", tuple(lines), span=(0.0, 1.02))

    def _before(self, name: str, color: str, unit: float) -> list[Line]:
        """Return the line of the parent's F1 of a class, if the parent knows it."""
        points = self.scores.get(f"f1/{name}", [])
        if name not in self._known or not points or points[0][0] != 0:
            return []
        last = [*self.seconds[-1:], *self._score_seconds.values()] if unit else self.steps[-1:]
        ends = np.array([0.0, max(last, default=0) / (unit or 1)])
        values = np.full(2, points[0][1])
        return [Line(f"{name}{BEFORE}", ends, values, color, BEFORE_STYLE, is_listed=False)]

    def _found(
        self, metric: str, name: str, color: str, unit: float, style: Qt.PenStyle = SOLID
    ) -> list[Line]:
        """Return the line of what validation found; none where it found nothing."""
        points = self.scores.get(metric, [])
        if not points:
            return []
        steps, values = zip(*points, strict=True)
        places = [self._score_seconds[step] / unit for step in steps] if unit else steps
        is_dotted = style == Qt.PenStyle.DotLine
        x, y = thinned(places, values, MAX_POINTS)
        return [Line(name, x, y, color, style, is_marked=not is_dotted, is_listed=not is_dotted)]

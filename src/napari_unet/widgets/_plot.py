"""Small plots of lines side by side, drawn by Qt itself.

A library for plots draws the same in 100 ms and more, and a dock of napari gets a drawing every
half second while an engine works: that much of the GUI's time is not to be had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QHelpEvent, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_unet.widgets._plot_lines import (
    has_points,
    legend_rows,
    listed,
    tick_labels,
    ticks,
    x_range_of,
    y_range_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtCore import QPoint
    from qtpy.QtGui import QMouseEvent, QPaintEvent

    from napari_unet.widgets._plot_lines import Line, Plot

FONT_SHARE = 0.85
"""Size of the letters, of the panel's own."""

MARK_RADIUS = 1.8
"""Of the dot on a point that was measured by itself, in pixels."""

GAP = 4.0
"""Pixels between what is drawn side by side."""

SAMPLE = 14.0
"""Length of the line before a name of the legend, in pixels."""

LEGEND_SHARE = 0.35
"""What names may take of the height; those without room are told by the tooltip."""

FEWEST_PIXELS_A_TICK = 32.0


@dataclass(frozen=True, slots=True)
class Inks:
    """Colors of all that is no line, as ``#rrggbb``."""

    text: str = "#f0f1f2"
    frame: str = "#606770"
    paper: str = "#262930"


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the axes of a plot are, in pixels, and what they show."""

    plot: Plot
    area: QRectF
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def across(self, x: float) -> float:
        low, high = self.x_range
        return float(self.area.left() + (x - low) / (high - low) * self.area.width())

    def up(self, y: float) -> float:
        low, high = self.y_range
        return float(self.area.bottom() - (y - low) / (high - low) * self.area.height())

    def x_at(self, pixel: float) -> float:
        low, high = self.x_range
        return float(low + (pixel - self.area.left()) / self.area.width() * (high - low))


class PlotView(QWidget):
    """Draws plots side by side over a common axis, with one legend below.

    Parameters
    ----------
    height : int
        Pixels; the width is what there is.
    """

    def __init__(self, height: int) -> None:
        super().__init__()
        self.plots: tuple[Plot, ...] = ()
        self.x_title = ""
        self.empty_words = ""
        """What stands there as long as there is no point."""
        self.inks = Inks()
        self.has_focus_frame = False
        """Whether a frame says that keys are for this."""
        self._frames: list[_Frame] = []
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(height)
        self.setMouseTracking(True)

    def show_plots(self, plots: Sequence[Plot], x_title: str, inks: Inks) -> None:
        """Show other plots from the next drawing of the window on."""
        self.plots, self.x_title, self.inks = tuple(plots), x_title, inks
        self.update()

    def names(self) -> list[str]:
        """Return what the legend tells, each name once."""
        return list(listed(self.plots))

    def paintEvent(self, _: QPaintEvent | None) -> None:
        """Draw everything; some milliseconds."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), QColor(self.inks.paper))
        painter.setFont(self._small_font())
        painter.setPen(QColor(self.inks.text))
        if any(has_points(plot) for plot in self.plots):
            bottom = self.height() - self._draw_legend(painter)
            self._frames = self._framed(bottom)
            for frame in self._frames:
                self._draw_plot(painter, frame)
        else:
            self._frames = []
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self.empty_words)
        if self.has_focus_frame:
            painter.setPen(QPen(QColor(self.inks.text), 1, Qt.PenStyle.DotLine))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        painter.end()

    def words_at(self, place: QPointF) -> str:
        """Return what the lines say at a place of the widget, a row for each; empty = nothing."""
        for frame in self._frames:
            if frame.area.contains(place):
                return _words(frame, self.x_title, place.x())
        return ""

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Say the values under the cursor, without drawing the plots anew."""
        if event is not None:
            self._tell(event.position(), event.globalPosition().toPoint())

    def event(self, event: QEvent | None) -> bool:
        """Say the values instead of the widget's tooltip, where there are some."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            place = QPointF(event.pos())
            if self.words_at(place):
                self._tell(place, event.globalPos())
                return True
        return bool(super().event(event))

    def _tell(self, place: QPointF, on_screen: QPoint) -> None:
        words = self.words_at(place)
        if words:
            QToolTip.showText(on_screen, words, self)
        else:
            QToolTip.hideText()

    def _small_font(self) -> QFont:
        font = QFont(self.font())
        font.setPixelSize(max(round(FONT_SHARE * self.fontInfo().pixelSize()), 8))
        return font

    def _framed(self, bottom: float) -> list[_Frame]:
        """Return where each plot goes, above `bottom`."""
        metrics = QFontMetricsF(self._small_font())
        row = metrics.height()
        x_range = x_range_of(self.plots)
        width = self.width() / max(len(self.plots), 1)
        frames = []
        for number, plot in enumerate(self.plots):
            y_range = plot.span or y_range_of(plot.lines)
            labels = tick_labels(ticks(*y_range, 4))
            left = number * width + max(map(metrics.horizontalAdvance, labels), default=0) + 2 * GAP
            # Half a label reaches beyond the end of the axis.
            right = (number + 1) * width - 3 * GAP
            area = QRectF(left, row + 2 * GAP, right - left, bottom - 3 * row - 3 * GAP)
            frames.append(_Frame(plot, area, x_range, y_range))
        return frames

    def _draw_plot(self, painter: QPainter, frame: _Frame) -> None:
        self._draw_axes(painter, frame)
        painter.save()
        # A dot at the edge is drawn whole.
        margin = MARK_RADIUS + 1
        painter.setClipRect(frame.area.adjusted(-margin, -margin, margin, margin))
        for line in frame.plot.lines:
            _draw_line(painter, frame, line)
        painter.restore()

    def _draw_axes(self, painter: QPainter, frame: _Frame) -> None:
        area, metrics = frame.area, painter.fontMetrics()
        row = float(metrics.height())
        center, right = Qt.AlignmentFlag.AlignCenter, Qt.AlignmentFlag.AlignRight
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.setPen(QPen(QColor(self.inks.frame), 1))
        painter.drawRect(area)
        most = max(int(area.width() / FEWEST_PIXELS_A_TICK), 2)
        across, up = ticks(*frame.x_range, most, whole=True), ticks(*frame.y_range, 4)
        for x in across:
            painter.drawLine(QPointF(frame.across(x), area.bottom()), _below(frame, x))
        for y in up:
            level = frame.up(y)
            painter.drawLine(QPointF(area.left() - 3, level), QPointF(area.left(), level))
        painter.setPen(QColor(self.inks.text))
        for x, words in zip(across, tick_labels(across), strict=True):
            box = QRectF(frame.across(x) - 30, area.bottom() + 3, 60, row)
            painter.drawText(box, center, words)
        for y, words in zip(up, tick_labels(up), strict=True):
            box = QRectF(area.left() - 65, frame.up(y) - row / 2, 60, row)
            painter.drawText(box, right | middle, words)
        above = QRectF(area.left(), area.top() - row - GAP, area.width(), row)
        painter.drawText(above, center, frame.plot.title)
        below = QRectF(area.left(), area.bottom() + 3 + row, area.width(), row)
        painter.drawText(below, center, self.x_title)

    def _draw_legend(self, painter: QPainter) -> float:
        """Name all lines, as many to a row as there is room for, and return the height of it."""
        metrics = QFontMetricsF(painter.font())
        row = metrics.height()
        rows = legend_rows(
            {name: SAMPLE + 3 * GAP + metrics.horizontalAdvance(name) for name in self.names()},
            self.width(),
            max(int(LEGEND_SHARE * self.height() / row), 1),
        )
        lines = listed(self.plots)
        top = self.height() - row * len(rows)
        for number, names in enumerate(rows):
            x, y = GAP, top + number * row
            for name in names:
                width = min(metrics.horizontalAdvance(name), self.width() - SAMPLE - 3 * GAP)
                if name in lines:
                    painter.setPen(_pen(lines[name]))
                    level = y + row / 2
                    painter.drawLine(QPointF(x, level), QPointF(x + SAMPLE, level))
                painter.setPen(QColor(self.inks.text))
                words = metrics.elidedText(name, Qt.TextElideMode.ElideRight, width + 1)
                box = QRectF(x + SAMPLE + GAP, y, width + 1, row)
                painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, words)
                x += SAMPLE + 3 * GAP + width
        return float(row * len(rows))


def _below(frame: _Frame, x: float) -> QPointF:
    return QPointF(frame.across(x), frame.area.bottom() + 3)


def _pen(line: Line) -> QPen:
    pen = QPen(QColor(line.color), 1.2)
    pen.setStyle(line.style)
    return pen


def _draw_line(painter: QPainter, frame: _Frame, line: Line) -> None:
    known = np.isfinite(line.y)
    points = [
        QPointF(frame.across(x), frame.up(y)) if is_known else None
        for x, y, is_known in zip(line.x.tolist(), line.y.tolist(), known, strict=True)
    ]
    run: list[QPointF] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
            continue
        if run:
            painter.setPen(_pen(line))
            painter.drawPolyline(QPolygonF(run))
        if line.is_marked or len(run) == 1:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(line.color))
            for each in run:
                painter.drawEllipse(each, MARK_RADIUS, MARK_RADIUS)
            painter.setBrush(Qt.BrushStyle.NoBrush)
        run = []


def _words(frame: _Frame, x_title: str, pixel: float) -> str:
    """Return what the lines of a plot say next to a place, a row for each."""
    wanted = frame.x_at(pixel)
    rows: list[str] = []
    nearest: float | None = None
    for line in frame.plot.lines:
        known = np.isfinite(line.y)
        if not known.any():
            continue
        x, y = line.x[known], line.y[known]
        index = int(np.argmin(np.abs(x - wanted)))
        if nearest is None or abs(x[index] - wanted) < abs(nearest - wanted):
            nearest = float(x[index])
        rows.append(f"{line.name}: {y[index]:.3g}")
    return "" if nearest is None else "\n".join([f"{x_title} {nearest:.4g}", *rows])

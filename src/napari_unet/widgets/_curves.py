"""Loss and scores of a running training, drawn as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from napari.utils.theme import get_theme
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Mapping

REDRAW_MS = 500
"""Twice a second: a drawing takes some 50 ms of the GUI's thread."""

HEIGHT = 210
"""Pixels."""

MAX_POINTS = 1000
"""More steps than this are averaged in groups; the panel has no more pixels."""

FONT_SIZE = 7

LEGEND_ROW = 56
"""Characters of the legend that fit into a row of a dock 300 pixels wide."""

LEGEND_MARK = 6
"""What the line before a name takes, in characters."""


class CurvesView(QWidget):
    """The loss of every step, and what validation found, against the steps.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose theme is followed.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._colors: dict[str, str] = {}
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.scores: dict[str, list[tuple[int, float]]] = {}
        """Metric -> (step, value), in the order in which they came."""
        self.figure = Figure(layout="constrained")
        self.canvas: Any = FigureCanvasQTAgg(self.figure)  # type: ignore[no-untyped-call]  # it has no annotations
        # Else it asks for 640 pixels and widens the dock.
        self.canvas.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.canvas.setFixedHeight(HEIGHT)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REDRAW_MS)
        self._timer.timeout.connect(self.draw)
        viewer.events.theme.connect(self._on_theme)

    def restart(self, colors: Mapping[str, str]) -> None:
        """Forget all points; the classes have these colors from now on."""
        self._colors = dict(colors)
        self.steps.clear()
        self.losses.clear()
        self.scores.clear()
        self.draw()

    def add_step(self, step: int, loss: float) -> None:
        """Add the loss of a step."""
        self.steps.append(step)
        self.losses.append(loss)
        self._draw_soon()

    def add_scores(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add what validation found after a step."""
        for name, value in metrics.items():
            self.scores.setdefault(name, []).append((step, value))
        self._draw_soon()

    def close_view(self) -> None:
        """Follow the theme no more."""
        self._timer.stop()
        self._viewer.events.theme.disconnect(self._on_theme)

    def _draw_soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _on_theme(self, _: object = None) -> None:
        self._draw_soon()

    def draw(self) -> None:
        """Draw everything anew, in the colors of the theme."""
        theme = get_theme(self._viewer.theme)
        ink = theme.text.as_hex()
        self.figure.clear()
        self.figure.set_facecolor(theme.background.as_hex())
        loss = self.figure.add_subplot(1, 2, 1)
        scores = self.figure.add_subplot(1, 2, 2)
        self._draw_loss(loss, ink)
        self._draw_scores(scores, ink)
        for axes in (loss, scores):
            axes.set_facecolor(theme.background.as_hex())
            axes.tick_params(colors=ink, labelsize=FONT_SIZE)
            axes.set_xlabel("step", color=ink, fontsize=FONT_SIZE)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            for spine in axes.spines.values():
                spine.set_color(theme.secondary.as_hex())
        self._draw_legend(ink)
        self.canvas.draw_idle()

    def _draw_legend(self, ink: str) -> None:
        """Name all lines below both axes, where they hide none, a few to a row."""
        lines = {str(x.get_label()): x for axes in self.figure.axes for x in axes.lines}
        named = {label: line for label, line in lines.items() if not label.startswith("_")}
        if named:
            longest = max(map(len, named)) + LEGEND_MARK
            self.figure.legend(
                named.values(),
                named.keys(),
                loc="outside lower center",
                ncols=max(min(LEGEND_ROW // longest, len(named)), 1),
                fontsize=FONT_SIZE,
                labelcolor=ink,
                frameon=False,
                handlelength=1.5,
                columnspacing=1,
                borderpad=0,
            )

    def _draw_loss(self, axes: Any, ink: str) -> None:
        axes.set_title("loss", color=ink, fontsize=FONT_SIZE + 1)
        group = max(len(self.losses) // MAX_POINTS, 1)
        whole = len(self.losses) // group * group
        means = [sum(self.losses[i : i + group]) / group for i in range(0, whole, group)]
        axes.plot(self.steps[group - 1 : whole : group], means, color=ink, linewidth=0.8)
        # No color: those are of classes.
        self._plot(axes, "loss", "loss, held out", {"color": ink, "linestyle": "--"})

    def _draw_scores(self, axes: Any, ink: str) -> None:
        axes.set_title("F1, IoU dotted", color=ink, fontsize=FONT_SIZE + 1)
        axes.set_ylim(0, 1.02)
        for name, color in self._colors.items():
            self._plot(axes, f"f1/{name}", name, {"color": color})
            style = {"color": color, "linestyle": ":", "marker": ""}
            self._plot(axes, f"iou/{name}", "_", style)

    def _plot(self, axes: Any, metric: str, label: str, style: dict[str, Any]) -> None:
        points = self.scores.get(metric, [])
        if points:
            steps, values = zip(*points, strict=True)
            usual = {"marker": "o", "markersize": 3, "linewidth": 1}
            axes.plot(steps, values, label=label, **usual | style)

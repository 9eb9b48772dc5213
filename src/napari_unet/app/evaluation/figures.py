"""The figures of the report: curves as SVG that takes the colors of the page around it."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.metrics.calibration import reliability
from napari_unet.metrics.objects import AP_THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from napari_unet.metrics.curves import ProbabilityCounts
    from napari_unet.metrics.objects import ObjectScore

PALETTE = ("#3b8bc4", "#e08214", "#2aa876", "#c564a0", "#8d7bd1", "#a0762c")
"""Lines: told apart by color-blind readers too, and seen on white and on black."""

INK, FAINT = "#010203", "#010204"
"""Stand-ins for the colors of text and of grid lines, which follow the page."""

CURVE_POINTS = 400
"""Points of a drawn curve."""


def roc_figure(names: Sequence[str], counts: Sequence[ProbabilityCounts]) -> str:
    """Return the ROC curves of all classes that have one, as SVG; empty if none has."""
    curves = [(n, c.roc, c.auc) for n, c in zip(names, counts, strict=True)]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle=":", linewidth=1)
        for color, (name, curve, auc) in zip(_colors(len(curves)), curves, strict=True):
            if curve is not None and auc is not None:
                thin = curve.thinned(CURVE_POINTS)
                axes.plot(thin.x, thin.y, color=color, label=f"{name}, AUC {auc:.4f}")
        _unit_axes(axes, "false positive rate", "true positive rate")

    return _svg("roc", draw) if any(curve for _, curve, _ in curves) else ""


def precision_recall_figure(names: Sequence[str], counts: Sequence[ProbabilityCounts]) -> str:
    """Return the precision-recall curves of all classes that have one, as SVG."""
    curves = [
        (n, c.precision_recall, c.average_precision) for n, c in zip(names, counts, strict=True)
    ]

    def draw(axes: Axes) -> None:
        for color, (name, curve, area) in zip(_colors(len(curves)), curves, strict=True):
            if curve is not None and area is not None:
                thin = curve.thinned(CURVE_POINTS)
                axes.plot(
                    thin.x,
                    thin.y,
                    color=color,
                    drawstyle="steps-pre",
                    label=f"{name}, AP {area:.4f}",
                )
        _unit_axes(axes, "recall", "precision")

    return _svg("pr", draw) if any(curve for _, curve, _ in curves) else ""


def threshold_figure(names: Sequence[str], counts: Sequence[ProbabilityCounts]) -> str:
    """Return F1 against the threshold of the probability, as SVG."""
    thresholds = np.linspace(0, 1, 201)
    curves = [(n, c.f1_at(thresholds), c.best_f1) for n, c in zip(names, counts, strict=True)]

    def draw(axes: Axes) -> None:
        for color, (name, values, best) in zip(_colors(len(curves)), curves, strict=True):
            if values is not None and best is not None:
                text = f"{name}, best {best.f1:.4f} at {best.threshold:.3f}"
                axes.plot(thresholds, values, color=color, label=text)
                axes.plot([best.threshold], [best.f1], "o", color=color, markersize=4)
        _unit_axes(axes, "threshold", "F1")

    return _svg("thresholds", draw) if any(v is not None for _, v, _ in curves) else ""


def reliability_figure(names: Sequence[str], counts: Sequence[ProbabilityCounts]) -> str:
    """Return the reliability diagram of each class, and of the winning one (last), as SVG."""
    labels = [*names, "winning class"]
    diagrams = [reliability(each) for each in counts]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle=":", linewidth=1)
        for color, name, diagram in zip(_colors(len(labels)), labels, diagrams, strict=True):
            if diagram.expected_error is not None:
                axes.plot(
                    [point.probability for point in diagram.points],
                    [point.frequency for point in diagram.points],
                    "o-",
                    color=color,
                    markersize=3.5,
                    label=f"{name}, ECE {diagram.expected_error:.4f}",
                )
        _unit_axes(axes, "probability (mean of bin)", "share that is right")

    return _svg("reliability", draw) if any(d.points for d in diagrams) else ""


def overlap_figure(scores: Sequence[tuple[str, ObjectScore]]) -> str:
    """Return F1 and AP of objects against the threshold of their overlap, as SVG."""

    def draw(axes: Axes) -> None:
        for color, (name, score) in zip(_colors(len(scores)), scores, strict=True):
            f1 = [score.f1(t) for t in AP_THRESHOLDS]
            ap = [score.average_precision(t) for t in AP_THRESHOLDS]
            axes.plot(AP_THRESHOLDS, f1, "o-", color=color, markersize=3.5, label=f"{name}, F1")
            axes.plot(AP_THRESHOLDS, ap, "s--", color=color, markersize=3, label=f"{name}, AP")
        _unit_axes(axes, "intersection over union needed", "score", left=0.47)

    return _svg("overlap", draw)


def spread_figure(title: str, rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return the score of every image as a point, one line per prediction, as SVG."""

    def draw(axes: Axes) -> None:
        for color, (place, (_, values)) in zip(_colors(len(rows)), enumerate(rows), strict=True):
            # Spread by rank, so that equal scores are seen as several points.
            order = np.argsort(np.argsort(values)) % 7 - 3
            axes.plot(values, place + order * 0.06, "o", color=color, markersize=3.5, alpha=0.7)
            axes.plot([np.median(values)] * 2, [place - 0.3, place + 0.3], color=INK, linewidth=1.5)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(f"{title} of each image (line: median)")
        axes.grid(visible=True, axis="x", color=FAINT, linewidth=0.5)

    return _svg("spread", draw, size=(7.2, 0.9 + 0.6 * len(rows)), legend=False)


def _unit_axes(axes: Axes, x: str, y: str, *, left: float = -0.02) -> None:
    axes.set_xlim(left, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, color=FAINT, linewidth=0.5)


def _colors(count: int) -> list[str]:
    return [PALETTE[k % len(PALETTE)] for k in range(count)]


def _svg(
    name: str,
    draw: Callable[[Axes], Any],
    *,
    size: tuple[float, float] = (4.6, 4.0),
    legend: bool = True,
) -> str:
    """Return a figure as an SVG element without a background, its text in the page's color."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text: it can be searched, and has the page's font
        "svg.hashsalt": name,
        "font.size": 9,
        "lines.linewidth": 1.6,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK
        ),
    }
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if legend and axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper left", frameon=False, fontsize=8)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _inline(stream.getvalue(), name)


def _inline(text: str, name: str) -> str:
    """Return an SVG file as an element of a page: no prolog, ids of its own, colors of the page."""
    svg = text[text.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    return re.sub(r"font: (\d)", r"font: normal \1", svg)

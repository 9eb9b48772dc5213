"""The window of the storyboard: what is looked at, pictures of it, and how good labels are."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Qt
from qtpy.QtWidgets import QDockWidget, QScrollArea
from storyboard_hand import Hand, rest, wait_until
from storyboard_times import Times

from napari_unet.metrics.classes import confusion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

WINDOW = (1440, 1000)
DOCK_WIDTH = 400

LABEL_OF_INTERIOR, LABEL_OF_NEW = 1, 3


@dataclass(frozen=True, slots=True)
class Subject:
    """What the story is told with.

    Parameters
    ----------
    image : Path or None
        A stack of slices; None = the sample.
    painted : tuple of int
        Slices that are painted on; the first is looked at.
    truth : array of uint8, (z, y, x), or None
        The k-th class is k.
    scored : mapping
        Names of the classes that the truth knows -> their labels.
    lines : mapping
        Label -> how many simulated lines a slice gets; others get those by hand.
    rehearses : bool
        Whether the fine-tune goes on learning what its parent learned from.
    scored_from : int
        The first slice that is scored; those that are painted on are not.
    """

    image: Path | None
    painted: tuple[int, ...]
    truth: npt.NDArray[np.uint8] | None
    scored: Mapping[str, int] = field(default_factory=dict)
    lines: Mapping[int, int] = field(default_factory=dict)
    rehearses: bool = False
    scored_from: int = 0


class StoryWindow(QObject):
    """A napari window with the widget in it, and what can be done there at any time.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    subject : Subject
        What is looked at.
    pictures : Path or None
        Where pictures go; None = there are none.
    seed : int
        Of the lines.
    """

    def __init__(self, viewer: Any, subject: Subject, pictures: Path | None, seed: int) -> None:
        super().__init__()
        self.viewer, self.subject, self._pictures = viewer, subject, pictures
        self._rng = np.random.default_rng(seed)
        self.times = Times()
        self.hand = Hand(viewer)
        self._drawn = 0.0
        viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(
            self._on_drawn, position="last"
        )
        viewer.window.resize(*WINDOW)
        self.image = self._open()
        opened = time.perf_counter()
        _, self.dock = viewer.window.add_plugin_dock_widget("napari-unet", "Segment with U-Net")
        wait_until(lambda: self.dock.panel.runner.is_warm)
        self.times.note("panel opened, until its engine is warm", since=opened)
        frame = self.dock.parentWidget()
        if isinstance(frame, QDockWidget):
            self.dock._window.resizeDocks([frame], [DOCK_WIDTH], Qt.Orientation.Horizontal)
        rest(0.5)
        viewer.fit_to_view()
        rest(1)

    def _open(self) -> Any:
        if self.subject.image is None:
            layer = self.viewer.open_sample("napari-unet", "fib_sem_medulla")[0]
        else:
            layer = self.viewer.open(self.subject.image, plugin="napari")[0]
        self.look_at(layer, self.subject.painted[0])
        return layer

    def _on_drawn(self, _: object) -> None:
        self._drawn = time.perf_counter()

    def on_screen(self, since: float) -> float:
        """Return when the canvas was next drawn after a moment."""
        # It may have been drawn just before; one more time is what tells.
        self.hand.canvas.update()
        wait_until(lambda: self._drawn > since)
        return self._drawn

    def look_at(self, layer: Any, number: int) -> None:
        """Go to a slice."""
        depth = (number,) if layer.ndim > 2 else ()
        self.viewer.dims.set_point(0, layer.data_to_world((*depth, 0, 0))[0])

    def take(self, name: str) -> None:
        """Write a picture of the whole window, if pictures are wanted."""
        if self._pictures is not None:
            rest(0.4)
            self.viewer.screenshot(
                str(self._pictures / f"{name}.png"), canvas_only=False, flash=False
            )

    def close(self) -> None:
        """Close widget and window."""
        self.viewer.window.remove_dock_widget(self.dock)
        wait_until(lambda: not self.dock._is_open)
        self.viewer.close()

    def score(self, when: str, layer: Any) -> None:
        """Print scores of a finished result, on slices that were not painted on."""
        truth = self.subject.truth
        if truth is None:
            return
        slices = [
            number
            for number in range(self.subject.scored_from, len(truth))
            if number not in self.subject.painted
        ]
        self.print_scores(when, truth[slices], np.asarray(layer.data)[slices])

    def print_scores(self, when: str, truth: npt.NDArray[Any], found: npt.NDArray[Any]) -> None:
        """Print F1 and IoU of each class that the truth knows, at argmax, without tolerance."""
        known = int(truth.max())
        if known < LABEL_OF_NEW:
            # Mitochondria lie inside of cells, which is all that this truth knows of them.
            found = np.where(found == LABEL_OF_NEW, LABEL_OF_INTERIOR, found)
        table = confusion(truth, found, known)
        for name, label in self.subject.scored.items():
            f1, iou = table.f1[label - 1], table.iou[label - 1]
            if f1 is not None and iou is not None:
                print(f"{when}: {name} F1 {f1:.3f}, IoU {iou:.3f}", flush=True)

    def scroll_to(self, widget: Any) -> None:
        """Bring a part of the page into sight."""
        page = self.dock.pages.currentWidget()
        if isinstance(page, QScrollArea):
            rest(0.1)
            page.ensureWidgetVisible(widget, 0, 20)

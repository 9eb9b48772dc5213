"""Make the pictures of the documentation: the dock widget at work, driven by its real buttons.

Run it where a display is, or under Xvfb::

    xvfb-run -s "-screen 0 1500x1100x24" python docs/make_screenshots.py docs/images
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_unet.widgets._form import Region

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = (1280, 800)
TALL_WINDOW = (1280, 1020)
DOCK_WIDTH = 400
PATIENCE_S = 300.0

SLICES = (2, 5, 8, 11, 14)
"""Of the sample, that are painted on."""

BRUSH = 3

Strokes = tuple[tuple[tuple[int, int], ...], ...]

STROKES: dict[str, Strokes] = {
    "interior": (
        ((95, 60), (100, 90)),
        ((170, 108), (172, 140)),
        ((150, 165), (165, 195)),
        ((205, 150), (225, 180)),
        ((125, 155), (118, 163)),
        ((218, 28), (222, 50)),
        ((10, 42), (25, 55)),
        ((40, 140), (42, 170)),
        # Close to membranes, or they grow thick.
        ((140, 84), (152, 84), (165, 90), (176, 97)),
        ((150, 68), (168, 72)),
        ((125, 180), (130, 198), (147, 215), (163, 230)),
        ((76, 55), (77, 70), (78, 85)),
        ((20, 183), (24, 190), (18, 196)),
        ((49, 158), (48, 175), (46, 190)),
        ((190, 62), (187, 70), (191, 78)),
        ((125, 153), (132, 149), (136, 150)),
    ),
    "membrane": (
        ((137, 74), (150, 74), (167, 80), (183, 90)),
        ((120, 146), (132, 141), (143, 147)),
        ((119, 184), (123, 200), (140, 220), (157, 234)),
        ((69, 55), (70, 70), (71, 85)),
        ((15, 175), (28, 182), (34, 193), (23, 202)),
        ((55, 155), (57, 175), (55, 195)),
        ((184, 57), (181, 68), (184, 78)),
    ),
    "mitochondrion": (
        ((15, 85), (15, 110)),
        ((30, 80), (32, 108)),
        ((42, 75), (42, 95)),
        ((243, 132), (246, 142)),
        ((4, 10), (4, 22)),
    ),
}
"""Class -> strokes, each through some points (y, x)."""


def wait_until(condition: Callable[[], bool]) -> None:
    """Let the window live until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing happened for {PATIENCE_S:.0f} s")
        QApplication.processEvents()
        time.sleep(0.01)


def rest(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end)


def take(viewer: napari.Viewer, path: Path) -> None:
    """Write a picture of the whole window."""
    rest(0.3)
    viewer.screenshot(str(path), canvas_only=False, flash=False)


def open_image(viewer: napari.Viewer, path: Path | None) -> Any:
    """Show an image, or the sample that ships with the package."""
    if path is None:
        return viewer.open_sample("napari-unet", "fib_sem_medulla")[0]
    return viewer.open(path, plugin="napari")[0]


def segment(viewer: napari.Viewer, dock: Any, folder: Path) -> None:
    """Segment the image, and take pictures while it runs and when it is done."""
    panel = dock.panel
    wait_until(lambda: panel.runner.is_warm)
    panel.form.region_combo.setCurrentText(Region.ALL_SLICES.value)
    panel.segment_button.click()
    wait_until(lambda: len(viewer.layers) > 1 and bool(viewer.layers[-1].data[:].any()))
    wait_until(lambda: panel.progress_bar.value() > 0)
    take(viewer, folder / "segment-running.png")
    wait_until(lambda: not panel.is_running)
    viewer.layers[-1].opacity = 0.4
    take(viewer, folder / "segment-done.png")
    print(panel.message.toPlainText())
    viewer.layers.remove(viewer.layers[-1])


def paint(layer: Any, label: int, stroke: tuple[tuple[int, int], ...]) -> None:
    """Draw a stroke with the layer's own brush on some slices."""
    for (y0, x0), (y1, x1) in itertools.pairwise(stroke):
        for share in np.linspace(0, 1, max(abs(y1 - y0), abs(x1 - x0))):
            for z in SLICES:
                at = (z, round(y0 + share * (y1 - y0)), round(x0 + share * (x1 - x0)))
                layer.paint(at, label, refresh=False)


def fine_tune(viewer: napari.Viewer, dock: Any, folder: Path, minutes: float) -> None:
    """Paint, fine-tune and keep, with pictures; segment with what was kept."""
    dock.pages.setCurrentIndex(1)
    panel, form = dock.fine_tune, dock.fine_tune.form
    form.new_button.click()
    layer = form.annotation
    layer.brush_size = BRUSH
    for label, (name, strokes) in enumerate(STROKES.items(), start=1):
        if label > len(form.classes.classes):
            form.classes.add_button.click()
            form.classes.table.item(label - 1, 1).setText(name)
        form.classes.table.setCurrentCell(label - 1, 1)
        for stroke in strokes:
            paint(layer, label, stroke)
    layer.refresh()
    viewer.dims.set_point(0, layer.data_to_world((SLICES[2], 0, 0))[0])
    wait_until(lambda: panel.runner.is_warm)
    take(viewer, folder / "fine-tune-painted.png")
    form.options.minutes.setValue(minutes)
    panel.fine_tune_button.click()
    wait_until(lambda: "preview" in viewer.layers and panel.progress_bar.value() > 500)
    rest(1)
    take(viewer, folder / "fine-tune-running.png")
    wait_until(lambda: not panel.is_running)
    take(viewer, folder / "fine-tune-done.png")
    print(panel.message.toPlainText(), panel.outcome.verdict.text(), sep="\n")
    panel.outcome.name.setText("my-tissue")
    panel.outcome.keep_button.click()
    dock.pages.setCurrentIndex(0)
    dock.panel.form.region_combo.setCurrentText(Region.THIS_SLICE.value)
    dock.panel.segment_button.click()
    wait_until(lambda: not dock.panel.is_running)
    print(dock.panel.message.toPlainText())


def main(home: str) -> None:
    """Drive the real widget by its real buttons; models are kept in the folder `home`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--image", type=Path, help="another image than the sample, not fine-tuned")
    parser.add_argument("--model", type=Path, help="another model than the bundled one")
    parser.add_argument("--minutes", type=float, default=1.0, help="time of the fine-tune")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer()
    # After napari has found its icons: what is kept here is not to be the user's.
    os.environ |= {"XDG_DATA_HOME": home, "XDG_CACHE_HOME": home}
    viewer.window.resize(*WINDOW)
    image = open_image(viewer, options.image)
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet", "Segment with U-Net")
    frame = dock.parentWidget()
    if isinstance(frame, QDockWidget):
        rest(0.3)
        dock._window.resizeDocks([frame], [DOCK_WIDTH], Qt.Orientation.Horizontal)
    if options.model is not None:
        dock.panel.form.add_model_file(options.model)
    viewer.fit_to_view()
    segment(viewer, dock, options.folder)
    if options.image is None:
        viewer.window.resize(*TALL_WINDOW)
        viewer.layers.selection.active = image
        fine_tune(viewer, dock, options.folder, options.minutes)
    viewer.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        main(home)

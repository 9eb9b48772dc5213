"""A napari session that is killed while somebody paints; run by test_strokes_crash.

    python paint_until_killed.py IMAGE FOLDER STROKES SECONDS

Paints strokes with the mouse, and undoes some, without a rest in between. Then the brush stays
down, and paints on for SECONDS. After each edit, and after dabs of that last stroke, writes what
the layer holds then into FOLDER, and says ``stroke`` or ``held`` on stdout; at last ``end``.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
import zarr
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_unet.widgets._annotation_layer import PaintClass, new_annotation

LEFT = Qt.MouseButton.LeftButton
CLASSES = (PaintClass("cell", "#0000ff"), PaintClass("membrane", "#ffb000"))


def move(canvas: Any, place: Any) -> None:
    """Move the mouse with its button down, and let napari paint."""
    point = QPointF(*place)
    moved = QMouseEvent(
        QEvent.Type.MouseMove, point, QPointF(canvas.mapToGlobal(point.toPoint())),
        Qt.MouseButton.NoButton, LEFT, Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    QApplication.sendEvent(canvas, moved)
    QTest.qWait(20)


def draw(canvas: Any, rng: np.random.Generator) -> None:
    """Draw a stroke."""
    places = rng.uniform(0.3, 0.7, 2) * (canvas.width(), canvas.height())
    places = places + np.cumsum(rng.uniform(-12, 12, (6, 2)), axis=0)
    QTest.mousePress(canvas, LEFT, pos=QPoint(*places[0].astype(int).tolist()))
    for place in places:
        move(canvas, place)
    QTest.mouseRelease(canvas, LEFT, pos=QPoint(*places[-1].astype(int).tolist()))


def main(image_path: str, folder: Path, strokes: int, seconds: float) -> None:
    """Paint, and wait for the end."""
    viewer = napari.Viewer(show=True)
    image = viewer.add_image(zarr.open_array(image_path, mode="r"), name="em")
    layer = new_annotation(viewer, image, CLASSES)
    viewer.fit_to_view()
    QTest.qWait(500)
    canvas = viewer.window._qt_viewer.canvas.native
    rng = np.random.default_rng(3)
    numbers = itertools.count()

    def say(word: str) -> None:
        np.save(folder / f"{next(numbers)}.npy", layer.data.copy())
        sys.stdout.write(f"{word}\n")
        sys.stdout.flush()

    layer.brush_size = 20
    for number in range(strokes):
        layer.selected_label = 1 + number % 2
        if number % 5 == 4:
            layer.undo()
        else:
            draw(canvas, rng)
        say("stroke")
    middle = np.array((canvas.width(), canvas.height())) / 2
    QTest.mousePress(canvas, LEFT, pos=QPoint(*middle.astype(int).tolist()))
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        for place in middle + rng.uniform(-100, 100, (3, 2)):
            move(canvas, place)
        say("held")
    say("end")
    QTest.qWait(600_000)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))

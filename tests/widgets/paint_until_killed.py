"""A napari session that is killed while somebody paints; run by test_strokes_crash.

    python paint_until_killed.py IMAGE FOLDER EDITS

Paints strokes with the mouse, and undoes some. After each edit, writes what the layer holds then
into FOLDER, and says its number on stdout. In the last stroke the brush stays down.
"""

from __future__ import annotations

import sys
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

CLASSES = (PaintClass("cell", "#0000ff"), PaintClass("membrane", "#ffb000"))


def drag(canvas: Any, points: list[QPoint], is_last: bool) -> None:
    """Draw a stroke with the left button, which is let go of unless it is the last."""
    left = Qt.MouseButton.LeftButton
    QTest.mousePress(canvas, left, pos=points[0])
    for point in points:
        moved = QMouseEvent(
            QEvent.Type.MouseMove, QPointF(point), QPointF(canvas.mapToGlobal(point)),
            Qt.MouseButton.NoButton, left, Qt.KeyboardModifier.NoModifier,
        )  # fmt: skip
        QApplication.sendEvent(canvas, moved)
        QTest.qWait(20)
    if not is_last:
        QTest.mouseRelease(canvas, left, pos=points[-1])


def main(image_path: str, folder: Path, edits: int) -> None:
    """Paint, and wait for the end."""
    viewer = napari.Viewer(show=True)
    image = viewer.add_image(zarr.open_array(image_path, mode="r"), name="em")
    layer = new_annotation(viewer, image, CLASSES)
    viewer.fit_to_view()
    QTest.qWait(500)
    canvas = viewer.window._qt_viewer.canvas.native
    height, width = canvas.height(), canvas.width()
    rng = np.random.default_rng(3)
    layer.brush_size = 20
    for number in range(edits):
        layer.selected_label = 1 + number % 2
        if number % 5 == 4:
            layer.undo()
        else:
            start = rng.uniform(0.3, 0.7, 2) * (width, height)
            steps = start + np.cumsum(rng.uniform(-12, 12, (6, 2)), axis=0)
            points = [QPoint(int(x), int(y)) for x, y in steps]
            drag(canvas, points, is_last=number == edits - 1)
        np.save(folder / f"{number}.npy", layer.data.copy())
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        QTest.qWait(50)
    QTest.qWait(600_000)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

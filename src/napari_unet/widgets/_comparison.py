"""Three small pictures of other places: the image, and what old and new weights make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from napari_unet.widgets._place_view import PlaceView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Image

    from napari_unet.core.boxes import Box
    from napari_unet.core.train_events import ComparisonReady

PICTURE_EDGE = 82
"""Pixels; three of them fit into a dock that is 300 wide."""

COLOR_SHARE = 0.55
"""Of the color of a class in a picture; the rest is the image."""

COLUMNS = (("Image", "image"), ("Before", "old"), ("After", "new"))
"""Headings, and the names of the arrays."""


class ComparisonStrip(QWidget):
    """Shows what a fine-tune has changed elsewhere; a click on a picture goes there.

    Parameters
    ----------
    viewer : napari.Viewer
        Its camera and sliders are moved.
    image : callable
        Returns the image layer that was painted on; None = it is closed.
    view : PlaceView or None
        Frames the places, if others are framed by it, too.
    """

    went = Signal(object)
    """The `Box` that the view went to, (z, y, x)."""

    def __init__(
        self, viewer: Any, image: Callable[[], Image | None], view: PlaceView | None = None
    ) -> None:
        super().__init__()
        self._viewer, self._image = viewer, image
        self.view = PlaceView(viewer) if view is None else view
        self.buttons: list[QToolButton] = []
        """The pictures, row by row."""
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setTextFormat(Qt.TextFormat.PlainText)
        self._grid = QGridLayout()
        self._grid.setSpacing(2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._grid)
        layout.addWidget(self.note)
        self.hide()

    def show_comparison(self, event: ComparisonReady, classes: Sequence[tuple[str, str]]) -> None:
        """Show the pictures of a training, unless their file is gone.

        Parameters
        ----------
        event : ComparisonReady
            Says where they are.
        classes : sequence of (name, color)
            The k-th class has the label k.
        """
        self.clear()
        pictures = _read(event.path)
        if not pictures:
            return
        columns = [c for c in COLUMNS if f"{c[1]}0" in pictures]
        has_old = len(columns) == len(COLUMNS)
        for column, (heading, name) in enumerate(columns):
            # Without old weights there is no before, and so no after.
            word = "New model" if name == "new" and not has_old else heading
            self._grid.addWidget(QLabel(word), 0, column, Qt.AlignmentFlag.AlignHCenter)
        table = _color_table(classes)
        for row, box in enumerate(event.boxes):
            gray = pictures.get(f"image{row}")
            if gray is None:
                continue
            for column, (heading, name) in enumerate(columns):
                labels = None if name == "image" else pictures.get(f"{name}{row}")
                button = self._picture(_painted(gray, labels, table), box)
                button.setAccessibleName(f"{heading}, {_where(box)}")
                button.setToolTip(_tip(box, event.changed[row] if has_old else None))
                self._grid.addWidget(button, row + 1, column, Qt.AlignmentFlag.AlignHCenter)
        self.note.setText(event.note)
        self.show()

    def clear(self) -> None:
        """Show nothing any more, and take the frame away."""
        self.view.remove()
        self.buttons.clear()
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                # At once: a picture that is only to be deleted later would still be seen.
                widget.hide()
                widget.deleteLater()
        self.hide()

    def _picture(self, colors: Any, box: Box) -> QToolButton:
        button = QToolButton()
        button.setIcon(QIcon(_pixmap(colors)))
        button.setIconSize(QSize(PICTURE_EDGE, PICTURE_EDGE))
        button.setAutoRaise(True)
        button.setProperty("box", box)
        button.clicked.connect(self._on_clicked)
        self.buttons.append(button)
        return button

    def _on_clicked(self) -> None:
        button, image = self.sender(), self._image()
        if button is None or image is None or image not in self._viewer.layers:
            return
        box = button.property("box")
        self.view.go_to(image, box)
        self.view.show_frame(image, box)
        self.went.emit(box)


def _read(path: str) -> dict[str, Any]:
    """Return the arrays of a file of pictures; none if it is gone or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError):
        return {}


def _color_table(classes: Sequence[tuple[str, str]]) -> Any:
    """Return the colors (256, 3) of all labels; black where there is no class."""
    table = np.zeros((256, 3), np.float32)
    for label, (_, color) in enumerate(classes, start=1):
        table[label] = [int(color[k : k + 2], 16) for k in (1, 3, 5)]
    return table


def _painted(gray: Any, labels: Any, table: Any) -> Any:
    """Return the colors (y, x, 3), uint8, of an image under the colors of its classes."""
    base = np.repeat(gray[..., np.newaxis], 3, axis=2) if gray.ndim == 2 else gray
    if labels is None:
        return np.ascontiguousarray(base, np.uint8)
    mixed = COLOR_SHARE * table[labels] + (1 - COLOR_SHARE) * base
    return np.ascontiguousarray(np.where(labels[..., np.newaxis] > 0, mixed, base), np.uint8)


def _pixmap(colors: Any) -> QPixmap:
    height, width = colors.shape[:2]
    # A copy: Qt would read the array's memory when it may be gone.
    image = QImage(colors.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
    return QPixmap.fromImage(image).scaled(
        PICTURE_EDGE,
        PICTURE_EDGE,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )


def _where(box: Box) -> str:
    return f"slice {box.start[0]}, y {box.start[1]}, x {box.start[2]}"


def _tip(box: Box, changed: float | None) -> str:
    where = _where(box)
    words = where[:1].upper() + where[1:]
    if changed is not None:
        words += f"; {100 * changed:.0f} % of it changed its class"
    return f"{words}; click to go there"

"""The offer to move the window on strokes, where the view has left it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_unet.widgets._follow_view import REST_MS
from napari_unet.widgets._strokes_window import has_left_window, move_window

if TYPE_CHECKING:
    from napari.layers import Labels


class WindowOffer(QWidget):
    """Says that strokes cannot be painted here, and moves their window by a click.

    Hidden unless the middle of the view lies on the image, but beside the part that can be painted
    on: planes of large images are painted on in windows.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose camera and sliders are followed, from `open` to `close_offer`.
    """

    moved = Signal()
    """The window lies where the viewer looks now."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Labels | None = None
        self._is_open = False
        self.label = QLabel("You look beside the part that can be painted on; so large an image "
                            "is painted on part by part.")  # fmt: skip
        self.label.setWordWrap(True)
        self.button = QPushButton("Move it here")
        self.button.setToolTip(
            "Move the part that can be painted on to where you look; all strokes stay, and what "
            "was painted before cannot be undone any more"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label)
        layout.addWidget(self.button)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REST_MS)
        self._timer.timeout.connect(self._look)
        self.button.clicked.connect(self._on_clicked)
        self.hide()

    def open(self) -> None:
        """Follow the view."""
        if not self._is_open:
            self._is_open = True
            for emitter in self._emitters():
                emitter.connect(self._on_moved)

    def close_offer(self) -> None:
        """Follow nothing any more."""
        self._timer.stop()
        self.hide()
        if self._is_open:
            self._is_open = False
            for emitter in self._emitters():
                emitter.disconnect(self._on_moved)

    def watch(self, layer: Labels | None) -> None:
        """Offer it for this layer from now on; None = for none."""
        self._layer = layer
        self._look()

    def _emitters(self) -> tuple[Any, ...]:
        camera, dims = self._viewer.scene.camera.events, self._viewer.dims.events
        return (camera.center, dims.point, dims.ndisplay, dims.order)

    def _on_moved(self, _: object = None) -> None:
        self._timer.start()

    def _look(self) -> None:
        layer = self._layer
        there = layer is not None and layer in self._viewer.layers
        # What is looked at from all sides has no middle to paint on.
        flat = self._viewer.dims.ndisplay == 2
        self.setVisible(
            self._is_open and there and flat and has_left_window(self._layer, self._viewer)
        )

    def _on_clicked(self) -> None:
        if self._layer is not None and move_window(self._layer, self._viewer):
            self.moved.emit()
        self._look()

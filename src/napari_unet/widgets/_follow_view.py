"""Tells a running job where the user looks, when the camera or the sliders come to rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_unet.errors import TilingError
from napari_unet.widgets._view import as_spatial, visible_part

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_unet.widgets._runner import JobRunner

REST_MS = 150
"""A view counts as chosen once it has not moved for this long."""


class ViewFollower(QObject):
    """Sends the visible part of a layer to a job from now on until `close`.

    Parameters
    ----------
    parent : QObject
        Owner.
    viewer : napari.Viewer
        Whose camera and sliders to follow.
    layer : Image
        The image that is segmented.
    runner : JobRunner
        Runs the job.
    """

    def __init__(self, parent: QObject, viewer: Any, layer: Image, runner: JobRunner) -> None:
        super().__init__(parent)
        self._viewer, self._layer, self._runner = viewer, layer, runner
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REST_MS)
        self._timer.timeout.connect(self._send)
        for emitter in self._emitters():
            emitter.connect(self._on_moved)
        self._send()

    def close(self) -> None:
        """Follow no more."""
        self._timer.stop()
        for emitter in self._emitters():
            emitter.disconnect(self._on_moved)

    def _emitters(self) -> tuple[Any, ...]:
        camera, dims = self._viewer.scene.camera.events, self._viewer.dims.events
        return (camera.center, camera.zoom, dims.point, dims.ndisplay, dims.order)

    def _on_moved(self, _: object = None) -> None:
        self._timer.start()

    def _send(self) -> None:
        try:
            box = as_spatial(visible_part(self._viewer, self._layer))
        except TilingError:
            # Looking elsewhere, or at 3D: the job keeps the order it has.
            return
        self._runner.send_viewport(box)

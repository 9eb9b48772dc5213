"""The Labels layer over the array that the engine is writing, kept fresh as tiles finish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_unet.widgets._layers import class_options, labels_metadata, labels_options
from napari_unet.widgets._napari_private import PartialRefresh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Labels

    from napari_unet.core.boxes import Box
    from napari_unet.core.events import AlreadyDone, JobStarted
    from napari_unet.core.job import SegmentJob

REFRESH_MS = 100
"""At most ten refreshes a second keep the window smooth whatever the tiles' size."""

MAX_PLANE_EDGE = 16384
"""Longer planes exceed common textures; napari would show them downsampled."""


class ResultLayer(QObject):
    """A Labels layer that follows a running job.

    The layer reads from the array on disk and is not editable. Removing it from the viewer does
    not disturb the job.

    Parameters
    ----------
    parent : QObject
        Owner; when it is gone, the layer stays, but is refreshed no more.
    viewer : napari.Viewer
        Gets the layer.
    """

    def __init__(self, parent: QObject, viewer: Any) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Labels | None = None
        self._partial: PartialRefresh | None = None
        self._waiting: list[tuple[slice, ...]] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._flush)

    @property
    def layer(self) -> Labels | None:
        """The layer, once a job has started."""
        return self._layer

    def open(self, image: Image, job: SegmentJob, event: JobStarted | AlreadyDone) -> bool:
        """Add the layer for a job's output, on top of the image layer.

        Returns
        -------
        bool
            False if its planes are too large to be shown as one; no layer is added then.
        """
        # Imported on demand: the panel opens a third of a second sooner.
        import zarr

        array = zarr.open_array(event.labels, mode="r")
        if max(array.shape[-2:]) > MAX_PLANE_EDGE:
            return False
        self._layer = self._viewer.add_labels(
            array,
            name=f"{image.name}: {event.name}",
            metadata=labels_metadata(job, event.output, event.name, event.labels),
            multiscale=False,
            **labels_options(image, array.ndim),
            **class_options(event.classes),
        )
        # The engine is the array's one writer; painting gets a layer of its own.
        self._layer.editable = False
        self._partial = PartialRefresh(self._layer)
        return True

    def show(self, box: Box) -> None:
        """Show a written box (z, y, x), within a tenth of a second."""
        if self._is_there():
            self._waiting.append(box.slices[-self._layer_ndim() :])
            if not self._timer.isActive():
                self._timer.start()

    def close(self) -> None:
        """Show everything that is written, and follow no more."""
        self._timer.stop()
        self._waiting.clear()
        if self._layer is not None and self._is_there():
            # Also brings the thumbnail up to date, which partial refreshes leave alone.
            self._layer.refresh()
        self._partial = None

    def _flush(self) -> None:
        regions: Sequence[tuple[slice, ...]] = self._waiting
        self._waiting = []
        if self._partial is not None and self._is_there():
            self._partial.refresh(regions)

    def _layer_ndim(self) -> int:
        return 0 if self._layer is None else int(self._layer.ndim)

    def _is_there(self) -> bool:
        return self._layer is not None and self._layer in self._viewer.layers

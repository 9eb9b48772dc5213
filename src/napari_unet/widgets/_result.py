"""The Labels layer over the array that the engine is writing, kept fresh as tiles finish.

Planes longer than `MAX_PLANE_EDGE` are shown as a pyramid whose coarser levels fill as the blocks
are done (`GrowingLevels`); others as the one array that is written.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from napari.layers import Labels
from qtpy.QtCore import QCoreApplication, QObject

from napari_unet.core.events import JobStarted
from napari_unet.widgets._layers import class_options, labels_metadata, labels_options
from napari_unet.widgets._napari_private import (
    PartialRefresh,
    blank_like,
    put_data,
    spare_tools,
)
from napari_unet.widgets._pace import window_pace

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_unet.core.boxes import Box
    from napari_unet.core.events import AlreadyDone
    from napari_unet.core.job import SegmentJob
    from napari_unet.widgets._levels import GrowingLevels

MAX_PLANE_EDGE = 8192
"""A plane with a longer edge is no single texture on every computer, and slow on all of them."""


class LayerRefresher(QObject):
    """Redraws the parts of a Labels layer that have changed, some times a second.

    Parameters
    ----------
    parent : QObject
        Owner.
    layers : napari.components.LayerList
        Nothing is done once the layer is not among these any more.
    layer : Labels
        What to redraw.
    levels : GrowingLevels or None
        What it shows, if that is a pyramid: pieces of it are made in a thread, and drawn when they
        are there.
    """

    def __init__(
        self, parent: QObject | None, layers: Any, layer: Labels, levels: GrowingLevels | None
    ) -> None:
        super().__init__(parent)
        self._layers = weakref.ref(layers)
        self._layer, self._levels = layer, levels
        self._partial = PartialRefresh(layer)
        self._waiting: list[Box] = []
        self._pace = window_pace()
        self._pace.beat.connect(self._flush)
        if levels is not None:
            self._pace.want()

    def show(self, box: Box) -> None:
        """Show a written box (z, y, x) at the next beat."""
        if self._levels is not None:
            self._levels.changed(box)
        if self.is_needed:
            self._waiting.append(box)
            self._pace.want()

    def show_rest(self) -> None:
        """Show what still waits, where each box that was written has come by `show`."""
        if self._levels is not None:
            self.show_all()
        elif self.is_needed:
            self._flush()
            self._partial.refresh_thumbnail()

    def show_all(self) -> None:
        """Show everything that is written; the coarser levels as stored, if they are complete."""
        self._waiting.clear()
        if self._levels is not None:
            self._levels.look_whether_complete()
        if self.is_needed:
            # Also brings the thumbnail up to date, which partial refreshes leave alone.
            self._partial.refresh_all()

    @property
    def is_needed(self) -> bool:
        """Whether the viewer still has the layer."""
        layers = self._layers()
        return layers is not None and self._layer in layers

    def _flush(self) -> None:
        if not self.is_needed:
            self._pace.beat.disconnect(self._flush)
            self.deleteLater()
            return
        boxes, self._waiting = self._waiting, []
        if self._levels is not None:
            boxes += self._levels.take_filled()
            # Pieces of it are made whenever somebody looks elsewhere.
            self._pace.want()
        if boxes:
            ndim = int(self._layer.ndim)
            self._partial.refresh([box.slices[-ndim:] for box in boxes])


class ResultLayer(QObject):
    """A Labels layer that follows a running job.

    The layer reads from the array on disk and is not editable. Removing it from the viewer does
    not disturb the job.

    Parameters
    ----------
    parent : QObject
        Owner; when it is gone, the layer stays, but new tiles are shown no more.
    viewer : napari.Viewer
        Gets the layer.
    """

    def __init__(self, parent: QObject, viewer: Any) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Labels | None = None
        self._refresher: LayerRefresher | None = None

    @property
    def layer(self) -> Labels | None:
        """The layer, once a job has started."""
        return self._layer

    def open(self, image: Image, job: SegmentJob, event: JobStarted | AlreadyDone) -> bool:
        """Add the layer for a job's output, on top of the image layer.

        Returns
        -------
        bool
            Whether it was added; always, but older callers ask.

        Raises
        ------
        InputError
            If the output is damaged.
        """
        data, levels, ndim = open_labels(event.labels)
        self._layer = Labels(
            # napari reads a plane several times before it draws a new layer.
            data if levels is not None else blank_like(data),
            name=f"{image.name}: {event.name}",
            metadata=labels_metadata(job, event.output, event.name, event.labels),
            multiscale=levels is not None,
            **labels_options(image, ndim),
            **class_options(event.classes),
        )
        # The engine is the array's one writer; painting gets a layer of its own.
        self._layer.editable = False
        spare_tools(self._layer)
        self._viewer.add_layer(self._layer)
        if levels is None:
            put_data(self._layer, data, is_drawn=_is_fresh(event) and data.nchunks_initialized == 0)
        self._refresher = LayerRefresher(
            # Who looks elsewhere after the job's end asks for other pieces: with levels it lives
            # as long as the layer.
            self if levels is None else QCoreApplication.instance(),
            self._viewer.layers,
            self._layer,
            levels,
        )
        return True

    def show(self, box: Box) -> None:
        """Show a written box (z, y, x) at the next beat."""
        if self._refresher is not None:
            self._refresher.show(box)

    def close(self, *, all_told: bool = False) -> None:
        """Show everything that is written, and follow no more.

        Parameters
        ----------
        all_told : bool
            Whether `show` was told of all of it, so that it need not be read again.
        """
        if self._refresher is not None and all_told:
            self._refresher.show_rest()
        elif self._refresher is not None:
            self._refresher.show_all()
        self._refresher = None


def _is_fresh(event: JobStarted | AlreadyDone) -> bool:
    """Return whether a job has nothing done yet."""
    return isinstance(event, JobStarted) and event.pixels_done == 0


def open_labels(labels: str) -> tuple[Any, GrowingLevels | None, int]:
    """Return what a layer shows of a label image that is being written, and how many axes it has.

    Parameters
    ----------
    labels : str
        Path of its array of full resolution.

    Returns
    -------
    data : zarr.Array or list of LazyImage
        The array, or all levels where its planes are large.
    levels : GrowingLevels or None
        The levels, in the latter case.
    ndim : int
        Number of axes, 2 or 3.

    Raises
    ------
    InputError
        If the label image is damaged.
    """
    # Imported on demand: the panel opens a third of a second sooner.
    import zarr

    from napari_unet.widgets._levels import open_levels

    array = zarr.open_array(labels, mode="r")
    if max(array.shape[-2:]) > MAX_PLANE_EDGE:
        levels = open_levels(labels)
        if len(levels.shapes) > 1:
            return levels.views(), levels, array.ndim
    return array, None, array.ndim

"""Windows on strokes of images whose planes are too large to be shown, and painted on, as a whole.

All windows of an image lie over the same store. A window has all slices; it is translated onto its
part of the image, and moves when the view has left it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.annotation import BLOCK_SHAPE
from napari_unet.core.boxes import Box
from napari_unet.widgets._strokes_data import StrokesData

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.layers import Labels, Layer

    from napari_unet.core.boxes import Shape

LARGEST_PLANE_EDGE = 8192
"""Longer planes are painted on in windows: napari draws a whole plane of labels as one texture,
and reads all of it when something is undone."""

WINDOW_EDGE = 4096


def needs_window(shape: Shape) -> bool:
    """Return whether planes of an image (z, y, x) are too large to be one layer of strokes."""
    return max(shape[-2:]) > LARGEST_PLANE_EDGE


def window_around(center: Sequence[float] | npt.NDArray[Any], shape: Shape) -> Box:
    """Return the window of an image (z, y, x) whose middle is near a place (y, x)."""
    start, stop = [0], [shape[0]]
    for place, length, block in zip(center, shape[1:], BLOCK_SHAPE[1:], strict=True):
        edge = min(WINDOW_EDGE, length)
        # At the edge of a block: the fewer are cut, the fewer are read.
        first = int(place - edge / 2) // block * block
        start.append(min(max(first, 0), length - edge))
        stop.append(start[-1] + edge)
    return Box(tuple(start), tuple(stop))


def first_window(viewer: Any, image: Layer, shape: Shape) -> Box:
    """Return the window around what the viewer shows; the whole image if it needs none."""
    if not needs_window(shape):
        return Box.of_shape(shape)
    return window_around(_view_center(viewer, image), shape)


def has_left_window(layer: Labels, viewer: Any) -> bool:
    """Return whether the middle of the view lies beside a layer's window, but on its image."""
    data = layer.data
    if not isinstance(data, StrokesData) or data.window == Box.of_shape(data.image_shape):
        return False
    place = np.floor(np.add(_view_center(viewer, layer), data.window.start[1:]) + 0.5)
    inside = (place >= data.window.start[1:]) & (place < data.window.stop[1:])
    on_image = (place >= 0) & (place < data.image_shape[1:])
    return bool(on_image.all() and not inside.all())


def move_window(layer: Labels, viewer: Any) -> bool:
    """Move a layer's window to where the viewer looks; what is painted is kept, undo starts anew.

    Returns
    -------
    bool
        Whether it has moved; not if it is there already, or the layer shows a whole image.
    """
    data = layer.data
    if not isinstance(data, StrokesData) or data.window == Box.of_shape(data.image_shape):
        return False
    center = np.add(_view_center(viewer, layer), data.window.start[1:])
    window = window_around(center, data.image_shape)
    if window == data.window:
        return False
    by = np.subtract(window.start, data.window.start)[-data.ndim :]
    editable = layer.editable
    layer.data = StrokesData(data.strokes, window, data.ndim)
    shift(layer, by)
    # Older steps lie in the old window.
    forget_history(layer)
    layer.editable = editable
    return True


def shift(layer: Labels, by: Sequence[float] | npt.NDArray[Any]) -> None:
    """Move a layer by a number of its own voxels along each of its axes."""
    # Rotation and shear come before the translation, the affine transform after it.
    layer.translate = layer.affine.inverse(layer.data_to_world(by))


def forget_history(layer: Labels) -> None:
    """Let undo and redo of a layer start anew."""
    if not layer.editable:
        return
    mode = layer.mode
    # napari forgets it when a layer is locked.
    layer.editable = False
    layer.editable = True
    layer.mode = mode


def _view_center(viewer: Any, layer: Layer) -> tuple[float, float]:
    """Return the place (y, x) in a layer's voxels that the middle of the canvas shows."""
    point = np.array(viewer.dims.point, dtype=float)
    shown = list(viewer.dims.displayed)
    center = viewer.scene.camera.center
    point[shown] = center[-len(shown) :]
    y, x = np.asarray(layer.world_to_data(point), dtype=float)[-2:]
    return float(y), float(x)

"""What the user looks at, as a box of voxels of an image layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.boxes import Box
from napari_unet.errors import TilingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Layer


def level_zero_shape(layer: Layer) -> tuple[int, ...]:
    """Return the shape of a layer's full resolution data, without an RGB axis."""
    shape = layer.level_shapes[0] if layer.multiscale else layer.data.shape
    return tuple(int(n) for n in shape[: layer.ndim])


def current_slice(viewer: Any, layer: Layer) -> Box:
    """Return the plane of a layer that the viewer's sliders choose.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    layer : Layer
        One of its layers.

    Returns
    -------
    Box
        With the layer's own axes; full along the displayed axes, one voxel thick along the others.
        All of the layer while the display is 3D.

    Raises
    ------
    TilingError
        If the sliders stand outside the layer.
    """
    shape = level_zero_shape(layer)
    displayed = _displayed_axes(viewer, layer)
    point = np.asarray(layer.world_to_data(viewer.dims.point), dtype=float)[-layer.ndim :]
    start, stop = [0] * len(shape), list(shape)
    for axis in set(range(len(shape))) - displayed:
        # napari shows the voxel whose center is nearest.
        start[axis] = int(np.floor(point[axis] + 0.5))
        stop[axis] = start[axis] + 1
    box = Box(tuple(start), tuple(stop))
    if not Box.of_shape(shape).contains(box):
        raise TilingError(
            f"the viewer's sliders stand outside the layer {layer.name!r} of {shape} voxels; "
            "move them onto the layer, or choose the region 'all slices'"
        )
    return box


def visible_part(viewer: Any, layer: Layer) -> Box:
    """Return the part of a layer's current plane that the camera shows.

    Raises
    ------
    TilingError
        If the display is 3D, or no voxel of the layer is in view.
    """
    if viewer.dims.ndisplay != 2:
        raise TilingError(
            "the visible part is known in the 2D display only; switch to 2D, "
            "or choose the region 'all slices'"
        )
    corners = np.array([layer.world_to_data(p)[-layer.ndim :] for p in _view_corners(viewer)])
    plane = current_slice(viewer, layer)
    displayed = _displayed_axes(viewer, layer)
    # A voxel reaches half a unit to both sides of its center.
    first = np.floor(corners.min(axis=0) + 0.5).astype(int)
    last = np.floor(corners.max(axis=0) + 0.5).astype(int)
    seen = Box(
        tuple(int(first[d]) if d in displayed else plane.start[d] for d in range(layer.ndim)),
        tuple(int(last[d]) + 1 if d in displayed else plane.stop[d] for d in range(layer.ndim)),
    )
    visible = seen.intersection(plane)
    if visible.is_empty:
        raise TilingError(
            f"no part of the layer {layer.name!r} is in view; move the camera onto it, "
            "or choose the region 'this slice'"
        )
    return visible


def as_spatial(box: Box) -> Box:
    """Return a box of a layer's axes as (z, y, x): a plane lies at z = 0, extra axes are dropped.

    Examples
    --------
    >>> as_spatial(Box((2, 3), (4, 5)))
    Box(start=(0, 2, 3), stop=(1, 4, 5))
    """
    start, stop = (0, *box.start), (1, *box.stop)
    return Box(start[-3:], stop[-3:])


def _displayed_axes(viewer: Any, layer: Layer) -> set[int]:
    """Return the layer's own axes that lie in the canvas."""
    offset = viewer.dims.ndim - layer.ndim
    return {int(d) - offset for d in viewer.dims.displayed if d >= offset}


def _view_corners(viewer: Any) -> Sequence[Any]:
    """Return the world coordinates of the canvas's corners, one array per corner."""
    height, width = viewer.canvas.size
    camera = viewer.scene.camera
    row, column = list(viewer.dims.displayed)[-2:]
    corners = []
    for sign_y in (-0.5, 0.5):
        for sign_x in (-0.5, 0.5):
            point = np.array(viewer.dims.point, dtype=float)
            point[row] = camera.center[-2] + sign_y * height / camera.zoom
            point[column] = camera.center[-1] + sign_x * width / camera.zoom
            corners.append(point)
    return corners

"""Moves the view to a place of an image, and frames it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_unet.widgets._annotation_layer import ROLE
from napari_unet.widgets._layers import METADATA_KEY, class_options, labels_options, translation_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image

    from napari_unet.core.boxes import Box

FRAME = "frame"
"""Role of the layer with the frame: nobody paints on it, nothing segments it."""

FRAME_NAME, FRAME_COLOR = "paint here", "#ffd400"

FRAME_WIDTH = 2
"""Voxels."""

VISIBLE_SHARE = (0.1, 0.8)
"""Share of the canvas that a place may take up for the zoom to stay as it is."""

CHOSEN_SHARE = 0.3
"""Share that it gets else: it is seen with what is around it."""


class PlaceView:
    """Moves camera and sliders of a viewer to places; one of them is framed.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._frame: Labels | None = None
        self._framed_image: Image | None = None

    @property
    def frame(self) -> Labels | None:
        """The layer of the frame, if it is there."""
        there = self._frame is not None and self._frame in self._viewer.layers
        return self._frame if there else None

    def go_to(self, image: Image, box: Box) -> None:
        """Show a place, in the middle of the canvas but near an edge; a display in 3D becomes 2D.

        The canvas shows nothing beside the image, unless that is smaller than it.

        Parameters
        ----------
        image : Image
            The layer that it is a place of.
        box : Box
            The place, (z, y, x), in voxels of the layer at full resolution.
        """
        viewer, own = self._viewer, _own_axes(box.start, box.stop, image.ndim)
        viewer.dims.ndisplay = 2
        corners = _world_corners(image, *own)
        low, high = corners.min(axis=0), corners.max(axis=0)
        middle, offset = (low + high) / 2, viewer.dims.ndim - image.ndim
        displayed = [int(d) - offset for d in viewer.dims.displayed][-2:]
        for axis in set(range(image.ndim)) - set(displayed):
            viewer.dims.set_point(axis + offset, float(middle[axis]))
        self._set_zoom([float(high[a] - low[a]) if a >= 0 else 0.0 for a in displayed])
        camera = viewer.scene.camera
        whole = _world_corners(image, *_own_axes(*_ends(image), image.ndim))
        # Axes that the layer does not have stay where they are.
        center = list(camera.center)
        for place, axis in zip((-2, -1), displayed, strict=True):
            if axis >= 0:
                seen = viewer.canvas.size[place] / camera.zoom
                center[place] = _within(middle[axis], seen, whole[:, axis])
        camera.center = tuple(center)

    def show_frame(self, image: Image, box: Box) -> None:
        """Frame a place; the frame of another one vanishes, and the brush stays in hand."""
        ndim = min(image.ndim, len(box.start))
        data = _framed(box.shape[-ndim:])
        translate = translation_of(image, box.start[-ndim:])
        frame = self.frame
        if frame is not None and self._framed_image is image:
            # In place: a layer that comes or goes makes every list of layers anew.
            frame.data, frame.translate = data, translate
            return
        self.remove()
        self._add(image, data, translate)

    def _add(self, image: Image, data: Any, translate: Any) -> None:
        options = labels_options(image, data.ndim) | {"translate": translate}
        layer = Labels(
            data,
            name=FRAME_NAME,
            metadata={METADATA_KEY: {ROLE: FRAME}},
            **options,
            **class_options([(FRAME_NAME, FRAME_COLOR)]),
        )
        layer.editable = False
        layers = self._viewer.layers
        active = layers.selection.active
        layers.append(layer)
        # napari selects what is new, which would take the brush away.
        layers.selection.active = active
        self._frame, self._framed_image = layer, image

    def remove(self) -> None:
        """Take the frame away."""
        layer, self._frame, self._framed_image = self.frame, None, None
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _set_zoom(self, extent: Sequence[float]) -> None:
        """Keep the zoom, unless the place would be tiny or too large for the canvas."""
        canvas, camera = self._viewer.canvas.size, self._viewer.scene.camera
        shares = [length / max(n, 1) for length, n in zip(extent, canvas, strict=True)]
        share = max(shares)
        if share <= 0:
            return
        least, most = VISIBLE_SHARE
        if not least <= share * camera.zoom <= most:
            camera.zoom = CHOSEN_SHARE / share


def _own_axes(start: Sequence[int], stop: Sequence[int], ndim: int) -> Any:
    """Return both corners with as many axes as a layer has; others have one voxel."""
    missing = max(ndim - len(start), 0)
    return (
        np.array([*(0,) * missing, *start[-ndim:]], float),
        np.array([*(1,) * missing, *stop[-ndim:]], float),
    )


def _ends(image: Image) -> tuple[Sequence[int], Sequence[int]]:
    """Return the first voxel of a layer and the one past its last, along its axes."""
    full = image.data[0] if image.multiscale else image.data
    return (0,) * image.ndim, tuple(full.shape[: image.ndim])


def _within(middle: float, seen: float, ends: Any) -> float:
    """Return the middle of what is seen, nearest to where it should be, that stays on an image."""
    low, high = float(ends.min()), float(ends.max())
    if seen >= high - low:
        return (low + high) / 2
    return float(min(max(middle, low + seen / 2), high - seen / 2))


def _world_corners(image: Image, start: Any, stop: Any) -> Any:
    """Return the world coordinates of a box's corners, which lie between voxels."""
    ends = np.stack([start - 0.5, stop - 0.5])
    picks = itertools.product((0, 1), repeat=len(start))
    corners = [ends[list(pick), range(len(start))] for pick in picks]
    return np.array([image.data_to_world(corner) for corner in corners])


def _framed(shape: tuple[int, ...]) -> Any:
    """Return zeros with a border of ones in every slice."""
    data = np.ones(shape, np.uint8)
    rows, columns = (slice(FRAME_WIDTH, max(n - FRAME_WIDTH, FRAME_WIDTH)) for n in shape[-2:])
    data[..., rows, columns] = 0
    return data

"""The Labels layer that a person paints on: aligned with its image, with the classes it tells.

Its classes are kept in its metadata, so that every layer has its own; the painted value k is the
k-th class, 0 = not annotated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.errors import AnnotationError
from napari_unet.widgets._layers import (
    METADATA_KEY,
    class_options,
    labels_options,
    spatial_data,
    spatial_shape,
)
from napari_unet.widgets._progress import format_count
from napari_unet.widgets._result import MAX_PLANE_EDGE
from napari_unet.widgets._view import level_zero_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Layer

    from napari_unet.core.boxes import Box

MAX_DENSE_VOXELS = 2**31
"""Most voxels of a painted layer, one byte each. Untouched pages of it take no memory on Linux and
macOS, but Windows sets all of it aside, and looking for strokes reads all of it (1 s)."""

BRUSH_SIZE = 4
"""Pixels; wide enough to be seen, narrow enough for a membrane of electron microscopy."""

ROLE = "role"
"""Entry of our metadata: what a layer is for."""

PREVIEW = "preview"
"""Role of the layer that shows what a running training predicts."""

_ANNOTATION = "annotation"
_CLASSES = "classes"


@dataclass(frozen=True, slots=True)
class PaintClass:
    """One class that is painted.

    Parameters
    ----------
    name : str
        What it is called.
    color : str
        ``#rrggbb``.
    origin : str or None
        What the model that it was taken from calls it; None = it was added here.
    """

    name: str
    color: str
    origin: str | None = None


def new_annotation(viewer: Any, image: Image, classes: Sequence[PaintClass]) -> Labels:
    """Add an empty layer to paint on, exactly over an image layer, with the brush in hand.

    Raises
    ------
    AnnotationError
        If the image is too large for a layer in memory; the message names a way around.
    AxesError
        If the image cannot be segmented either.
    """
    shape = spatial_shape(image)
    voxels = math.prod(shape)
    if voxels > MAX_DENSE_VOXELS or max(shape[-2:]) > MAX_PLANE_EDGE:
        raise AnnotationError(
            f"the image {image.name!r} of {shape} has {format_count(voxels)} voxels, too many to "
            f"be painted on as a whole (at most {format_count(MAX_DENSE_VOXELS)}, and planes of "
            f"{MAX_PLANE_EDGE} pixels); add a part of it as a layer of its own, such as "
            "viewer.add_image(layer.data[z0:z1, y0:y1, x0:x1]), and paint on that"
        )
    layer = Labels(
        np.zeros(shape, dtype=np.uint8),
        name=f"annotation of {image.name}",
        **labels_options(image, len(shape)),
    )
    layer.brush_size = BRUSH_SIZE
    # Before it is added: whoever hears of it finds its classes.
    store_classes(layer, classes)
    viewer.add_layer(layer)
    take_brush(viewer, layer, FIRST_CLASS)
    return layer


def take_brush(viewer: Any, layer: Labels, label: int) -> None:
    """Make a layer the active one and its brush paint a label, unless a tool is chosen already."""
    viewer.layers.selection.active = layer
    layer.selected_label = label
    if layer.mode == "pan_zoom" and layer.editable:
        layer.mode = "paint"


def can_be_painted(layer: Layer) -> bool:
    """Return whether a layer may hold an annotation: labels, but not what a network predicted."""
    if not isinstance(layer, Labels) or layer.multiscale:
        return False
    ours = layer.metadata.get(METADATA_KEY)
    if not isinstance(ours, dict):
        return True
    return "job" not in ours and ours.get(ROLE, _ANNOTATION) == _ANNOTATION


def stored_classes(layer: Labels) -> tuple[PaintClass, ...] | None:
    """Return the classes that a layer is painted with; None = it does not say."""
    found = (layer.metadata.get(METADATA_KEY) or {}).get(_CLASSES)
    return None if found is None else tuple(PaintClass(*item) for item in found)


def store_classes(layer: Labels, classes: Sequence[PaintClass]) -> None:
    """Let a layer know and show its classes."""
    ours = layer.metadata.setdefault(METADATA_KEY, {ROLE: _ANNOTATION})
    ours[_CLASSES] = [(each.name, each.color, each.origin) for each in classes]
    options = class_options([(each.name, each.color) for each in classes])
    layer.colormap = options["colormap"]
    layer.features = options["features"]


def remove_label(layer: Labels, label: int) -> None:
    """Erase a label from a layer and number the ones above it down; undo starts anew."""
    data, ndim = spatial_data(layer), layer.ndim
    # Plane by plane: most of a layer is untouched, and is to stay so.
    for index in np.ndindex(*data.shape[: ndim - 2]):
        plane = np.asarray(data[index])
        if plane.max(initial=0) >= label:
            data[index] = np.where(plane == label, 0, plane - (plane > label))
    mode = layer.mode
    # Older steps know the old numbers; napari forgets them when a layer is locked.
    layer.editable = False
    layer.editable = True
    layer.mode = mode
    layer.refresh()


def check_fits(layer: Labels, image: Image) -> None:
    """Refuse an annotation that does not lie on an image voxel by voxel.

    Raises
    ------
    AnnotationError
        Naming both shapes.
    """
    ours, theirs = level_zero_shape(layer), spatial_shape(image)
    if ours[-len(theirs) :] != theirs or math.prod(ours) != math.prod(theirs):
        raise AnnotationError(
            f"the annotation {layer.name!r} of {ours} does not fit the image {image.name!r} of "
            f"{theirs}; choose the annotation of that image, or press 'New annotation layer'"
        )


def read_labels(data: Any, box: Box) -> Any:
    """Return the labels of a box (z, y, x) from a layer's array, which may be a plane."""
    ndim = min(data.ndim, 3)
    leading = (0,) * (data.ndim - ndim)
    return np.asarray(data[(*leading, *box.slices[-ndim:])]).reshape(box.shape)


def renamed(classes: Sequence[PaintClass], parent: Sequence[str]) -> dict[str, str]:
    """Return which of a parent's classes are called something else here: old name -> new name."""
    own = {each.name for each in classes}
    return {
        each.origin: each.name
        for each in classes
        if each.origin is not None
        and each.origin in parent
        and each.origin not in own
        and each.name not in parent
    }


def new_to(classes: Sequence[PaintClass], parent: Sequence[str]) -> list[str]:
    """Return the names of the classes that a parent does not know, also not by another name."""
    known = {*parent, *renamed(classes, parent).values()}
    return [each.name for each in classes if each.name not in known]

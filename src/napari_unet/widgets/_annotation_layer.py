"""The Labels layer that a person paints on: aligned with its image, with the classes it tells.

Its classes are kept in its metadata, so that every layer has its own; the painted value k is the
k-th class, 0 = not annotated. What is painted on a layer made here lies on disk, see
`napari_unet.app.annotations`; a Labels layer that a person made herself is in memory, and is taken
as an annotation, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.utils.notifications import show_warning

from napari_unet.app.annotations import create_strokes, look_at_strokes
from napari_unet.app.annotations import find_strokes as find_stored_strokes
from napari_unet.app.annotations import open_strokes as open_stored_strokes
from napari_unet.core.classes import FIRST_CLASS, ClassInfo
from napari_unet.errors import AnnotationError, LockedError
from napari_unet.widgets._layers import (
    METADATA_KEY,
    class_options,
    labels_options,
    spatial_data,
    spatial_shape,
)
from napari_unet.widgets._painted_image import painted_image
from napari_unet.widgets._strokes_data import StrokesData
from napari_unet.widgets._strokes_keeper import keep
from napari_unet.widgets._strokes_window import (
    first_window,
    forget_history,
    move_window,
    needs_window,
    shift,
)
from napari_unet.widgets._view import level_zero_shape

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari.layers import Image, Layer

    from napari_unet.app.annotations import OpenStrokes, PaintedImage, StoredStrokes
    from napari_unet.core.boxes import Box

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

    What is painted is stored as it is painted. On an image with planes too large to be shown, the
    layer is a window around the view; if there is one, it is moved there and returned.

    Raises
    ------
    StorageError
        If the strokes cannot be stored; the message names a way around.
    AxesError
        If the image cannot be segmented either.
    """
    painted = painted_image(image)
    layer = None
    if needs_window(painted.shape):
        layer = _layer_on(viewer, painted)
    if layer is not None:
        move_window(layer, viewer)
    else:
        infos = [ClassInfo(name=each.name, color=each.color) for each in classes]
        strokes = create_strokes(painted, infos, [each.origin for each in classes])
        layer = _add(viewer, image, strokes, classes)
    take_brush(viewer, layer, FIRST_CLASS)
    return layer


def find_strokes(image: Image) -> list[StoredStrokes]:
    """Return the strokes that were painted on an image before, those that changed last first.

    Raises
    ------
    AxesError
        If the image cannot be segmented either.
    """
    return find_stored_strokes(painted_image(image))


def open_strokes(viewer: Any, image: Image, stored: StoredStrokes) -> Labels:
    """Add a layer with strokes that were painted before, to go on with.

    Strokes that are open elsewhere are shown, cannot be painted on, and a warning says so.

    Raises
    ------
    AnnotationError
        If the strokes were painted on an image of another shape.
    InputError, StorageError
        If they are damaged, or their folder cannot be written.
    """
    shape = painted_image(image).shape
    if stored.image.shape != shape:
        raise AnnotationError(
            f"the strokes in {stored.folder} were painted on an image of {stored.image.shape}, and "
            f"{image.name!r} has {shape}; choose the image that they belong to"
        )
    try:
        strokes = open_stored_strokes(stored)
    except LockedError as error:
        show_warning(f"{error}. Here they are shown, and cannot be painted on.")
        strokes = look_at_strokes(stored)
    buffer = strokes.buffer
    origins = (*buffer.origins, *(None,) * len(buffer.classes))
    classes = [
        PaintClass(info.name, info.color, origin)
        for info, origin in zip(buffer.classes, origins, strict=False)
    ]
    layer = _add(viewer, image, strokes, classes)
    take_brush(viewer, layer, FIRST_CLASS)
    return layer


def strokes_path(layer: Layer | None) -> Path | None:
    """Return the annotation store that a layer's strokes lie in; None = they are in memory."""
    data = None if layer is None else layer.data
    return data.strokes.path if isinstance(data, StrokesData) else None


def _add(viewer: Any, image: Image, strokes: OpenStrokes, classes: Sequence[PaintClass]) -> Labels:
    try:
        ndim = len(spatial_shape(image))
        data = StrokesData(strokes, first_window(viewer, image, strokes.buffer.shape), ndim)
        name = f"annotation of {image.name}"
        layer = Labels(data, name=name, **labels_options(image, ndim))
        shift(layer, data.window.start[-ndim:])
        layer.brush_size = BRUSH_SIZE
        # Before it is added: whoever hears of it finds its classes.
        store_classes(layer, classes)
        keep(viewer, layer)
        viewer.add_layer(layer)
    except BaseException:
        strokes.close()
        raise
    return layer


def _layer_on(viewer: Any, painted: PaintedImage) -> Labels | None:
    """Return the layer with strokes of an image that is among a viewer's."""
    for layer in viewer.layers:
        data = layer.data if isinstance(layer, Labels) else None
        if isinstance(data, StrokesData) and data.strokes.image.key == painted.key:
            return layer
    return None


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
    if isinstance(layer.data, StrokesData) and layer.data.strokes.is_writable:
        infos = [ClassInfo(name=each.name, color=each.color) for each in classes]
        layer.data.strokes.buffer.set_classes(infos, [each.origin for each in classes])


def remove_label(layer: Labels, label: int) -> None:
    """Erase a label from a layer and number the ones above it down; undo starts anew.

    The class of a label of stored strokes is forgotten at once, with its labels and in one step.
    """
    if isinstance(layer.data, StrokesData):
        layer.data.strokes.buffer.remove_class(label)
    else:
        _remove_in_memory(layer, label)
    # Older steps know the old numbers.
    forget_history(layer)
    layer.refresh()


def _remove_in_memory(layer: Labels, label: int) -> None:
    data, ndim = spatial_data(layer), layer.ndim
    # Plane by plane: most of a layer is untouched, and is to stay so.
    for index in np.ndindex(*data.shape[: ndim - 2]):
        plane = np.asarray(data[index])
        if plane.max(initial=0) >= label:
            data[index] = np.where(plane == label, 0, plane - (plane > label))


def check_fits(layer: Labels, image: Image) -> None:
    """Refuse an annotation that does not lie on an image voxel by voxel.

    Raises
    ------
    AnnotationError
        Naming both shapes.
    """
    theirs = spatial_shape(image)
    # Windows fit the image that they are a part of.
    ours = (
        layer.data.image_shape if isinstance(layer.data, StrokesData) else level_zero_shape(layer)
    )
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

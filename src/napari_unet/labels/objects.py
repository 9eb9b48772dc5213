"""Classes from numbered objects, so that a network of classes keeps touching objects apart.

::

    objects      border         gap
    1 1 1 2 2    2 3 2 2 2      2 2 1 1 2      1 = background, 2 = border or interior, 3 = interior

Each slice is taken by itself, as the network sees it. What lies beyond the image is not known and
makes no border.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from napari_unet.core.boxes import Box
from napari_unet.core.class_labels import check_whole_numbers
from napari_unet.core.classes import FIRST_CLASS
from napari_unet.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape
    from napari_unet.core.label_kinds import Separation

BACKGROUND, BORDER, INTERIOR = FIRST_CLASS, FIRST_CLASS + 1, FIRST_CLASS + 2
"""Classes of objects with a border; with a gap, the interior is the second class."""


def objects_to_classes(
    objects: npt.NDArray[Any], separation: Separation, width: float
) -> npt.NDArray[np.uint8]:
    """Return the classes of numbered objects; every voxel is annotated.

    Parameters
    ----------
    objects : numpy.ndarray
        (z, y, x) whole numbers: 0 = background, one number per object.
    separation : {"border", "gap"}
        "border": 1 = background, 2 = border (pixels of an object at most `width` from a pixel
        that is not of it), 3 = interior. "gap": 1 = background, also where a pixel of an object is
        at most `width` from another object; 2 = interior.
    width : float
        Euclidean distance between pixel centers in a slice, in pixels, at least 1.

    Returns
    -------
    numpy.ndarray
        (z, y, x) uint8. An object thinner than `width` has a border and no interior; with a gap it
        may vanish where it touches another.

    Raises
    ------
    AnnotationError
        If the objects are not whole numbers from 0.
    """
    check_objects(objects)
    # scipy compares in float64, where large numbers such as 2**53 and 2**53 + 1 are the same.
    used, places = np.unique(np.append(objects.dtype.type(0), objects), return_inverse=True)
    numbers = places[1:].reshape(objects.shape)
    disk = _disk(width)
    highest = maximum_filter(numbers, footprint=disk, mode="nearest")
    inside = numbers > 0
    if separation == "border":
        lowest = minimum_filter(numbers, footprint=disk, mode="nearest")
        edge = inside & ((highest != numbers) | (lowest != numbers))
        return np.where(edge, BORDER, np.where(inside, INTERIOR, BACKGROUND)).astype(np.uint8)
    lowest = minimum_filter(np.where(inside, numbers, len(used)), footprint=disk, mode="nearest")
    alone = inside & (highest == numbers) & (lowest == numbers)
    return np.where(alone, BACKGROUND + 1, BACKGROUND).astype(np.uint8)


def read_object_classes(
    read: Callable[[Box], npt.NDArray[Any]],
    box: Box,
    shape: Shape,
    rule: tuple[Separation, float],
) -> npt.NDArray[np.uint8]:
    """Return the part of `objects_to_classes` of a whole image that lies in a box of it.

    Parameters
    ----------
    read : callable
        Gives the objects (z, y, x) of a box of the image.
    box : Box
        What is wanted.
    shape : tuple of int
        Shape of the image.
    rule : (separation, width)
        As for `objects_to_classes`.

    Raises
    ------
    AnnotationError
        As `objects_to_classes` does.
    """
    separation, width = rule
    reach = (0, math.floor(width), math.floor(width))
    around = Box(
        tuple(a - r for a, r in zip(box.start, reach, strict=True)),
        tuple(b + r for b, r in zip(box.stop, reach, strict=True)),
    ).intersection(Box.of_shape(shape))
    classes = objects_to_classes(read(around), separation, width)
    return classes[box.relative_to(around.start).slices]


def check_objects(objects: npt.NDArray[Any]) -> None:
    """Refuse what are no numbered objects.

    Raises
    ------
    AnnotationError
        Naming the type or the value.
    """
    check_whole_numbers(objects)
    if objects.size and objects.min() < 0:
        raise AnnotationError(
            f"{objects.min()} is no number of an object; use 0 for background and 1, 2, ... for "
            "objects"
        )


def _disk(width: float) -> npt.NDArray[np.bool_]:
    """Return the pixels at most `width` from the middle one, (1, y, x)."""
    reach = math.floor(width)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk: npt.NDArray[np.bool_] = (y * y + x * x <= width * width)[np.newaxis]
    return disk

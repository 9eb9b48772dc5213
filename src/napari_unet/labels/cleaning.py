"""Leaving out small objects and those at the rim, and filling holes.

What goes is decided from global numbers (sizes, what touches what), apart from the work on voxels:
so an image larger than memory is cleaned block by block with the same decisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.boxes import Box, Shape


def object_sizes(
    objects: npt.NDArray[np.integer[Any]],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return the numbers of the objects of an array, sorted, and their voxels; without 0."""
    raise NotImplementedError


def small_objects(
    numbers: npt.NDArray[np.uint64], sizes: npt.NDArray[np.int64], minimum: int
) -> npt.NDArray[np.uint64]:
    """Return the objects of fewer than `minimum` voxels."""
    raise NotImplementedError


def touching_border(
    objects: npt.NDArray[np.integer[Any]], box: Box, shape: Shape, axes: tuple[int, ...]
) -> npt.NDArray[np.uint64]:
    """Return the objects of a block that touch the border of the image.

    Parameters
    ----------
    objects : numpy.ndarray
        Objects of the block.
    box : Box
        Where it lies in the image.
    shape : tuple of int
        Shape of the image.
    axes : tuple of int
        Axes whose two ends are a border: all for volumes, y and x for planes.
    """
    raise NotImplementedError


def without_objects(
    objects: npt.NDArray[np.integer[Any]], numbers: npt.NDArray[np.uint64]
) -> npt.NDArray[np.integer[Any]]:
    """Return the objects, 0 where one of `numbers` was."""
    raise NotImplementedError


def fill_holes(
    objects: npt.NDArray[np.integer[Any]], *, per_plane: bool
) -> npt.NDArray[np.integer[Any]]:
    """Return the objects with their holes filled.

    A hole is a part of the background that hangs together by faces, touches one object and no
    border of the array. What lies between an object and another one inside it is no hole.

    Parameters
    ----------
    objects : numpy.ndarray
        (Y, X) or (Z, Y, X), 0 = background.
    per_plane : bool
        Whether holes are those of each plane, or those of the volume.
    """
    raise NotImplementedError

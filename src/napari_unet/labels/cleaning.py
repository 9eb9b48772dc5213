"""Leaving out small objects and those at the rim, and filling holes.

What goes is decided from global numbers (sizes, what touches what), apart from the work on voxels:
so an image larger than memory is cleaned block by block with the same decisions.

::

    1 1 1 1 . .        a hole: touches one object and        1 1 1 1 . .
    1 . . 1 . .        no border of the image                1 1 1 1 . .
    1 1 1 1 1 1                                              1 1 1 1 1 1
    1 . . . . 1   ->                                    ->   1 . . . . 1
    1 . 2 2 . 1        no hole: around an object             1 . 2 2 . 1
    1 . . . . 1        inside another                        1 . . . . 1
    1 1 1 1 1 1                                              1 1 1 1 1 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import fastremap
import numpy as np

from napari_unet.labels.seeds import number_parts

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.boxes import Box, Shape

Number = TypeVar("Number", bound=np.integer[Any])


def object_sizes(
    objects: npt.NDArray[np.integer[Any]],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return the numbers of the objects of an array, sorted, and their voxels; without 0."""
    numbers, sizes = fastremap.unique(objects, return_counts=True)
    inside = numbers != 0
    return numbers[inside].astype(np.uint64), sizes[inside].astype(np.int64)


def small_objects(
    numbers: npt.NDArray[np.uint64], sizes: npt.NDArray[np.int64], minimum: int
) -> npt.NDArray[np.uint64]:
    """Return the objects of fewer than `minimum` voxels.

    Parameters
    ----------
    numbers, sizes : numpy.ndarray
        Objects of the whole image and their voxels. Sizes of parts add up.
    minimum : int
        In voxels.
    """
    found: npt.NDArray[np.uint64] = numbers[sizes < minimum]
    return found


def touching_border(
    objects: npt.NDArray[np.integer[Any]],
    box: Box | None = None,
    shape: Shape | None = None,
    *,
    axes: tuple[int, ...] | None = None,
) -> npt.NDArray[np.uint64]:
    """Return the objects of a block that touch the border of the image, sorted.

    What touches the border in any block goes: unite the answers of all blocks.

    Parameters
    ----------
    objects : numpy.ndarray
        Objects of the block.
    box : Box or None
        Where it lies in the image; None for the whole image.
    shape : tuple of int or None
        Shape of the image; None for that of `objects`.
    axes : tuple of int or None
        Axes whose two ends are a border; None for all. Planes of a stack have y and x, (1, 2).
    """
    start = (0,) * objects.ndim if box is None else box.start
    whole = objects.shape if shape is None else shape
    found = [np.empty(0, dtype=np.uint64)]
    for axis in range(objects.ndim) if axes is None else axes:
        ends = (start[axis] == 0, start[axis] + objects.shape[axis] == whole[axis])
        for is_end, index in zip(ends, (0, -1), strict=True):
            if is_end and objects.size:
                face = np.take(objects, index, axis=axis)
                found.append(np.unique(face[face != 0]).astype(np.uint64))
    return np.unique(np.concatenate(found))


def without_objects(
    objects: npt.NDArray[Number], numbers: npt.NDArray[np.uint64]
) -> npt.NDArray[Number]:
    """Return a copy of the objects that is 0 where one of `numbers` was."""
    found: npt.NDArray[Number] = fastremap.mask(objects, numbers.tolist(), in_place=False)
    return found


def fill_holes(objects: npt.NDArray[Number], *, per_plane: bool = False) -> npt.NDArray[Number]:
    """Return the objects with their holes filled.

    A hole is a part of the background that hangs together by faces, touches one object by faces
    and no border. What lies between an object and another one inside it is no hole.

    Parameters
    ----------
    objects : numpy.ndarray
        (Y, X) or (Z, Y, X) numbered objects, 0 = background.
    per_plane : bool
        Whether holes are those of each plane (its border is y and x), or those of the volume.
    """
    if per_plane and objects.ndim == 3:
        return np.stack([fill_holes(plane) for plane in objects])
    parts = number_parts(objects == 0)
    holes, owners = enclosed_parts(part_neighbors(parts, objects), touching_border(parts))
    of_part = np.zeros(int(parts.max(initial=0)) + 1, dtype=objects.dtype)
    of_part[holes] = owners.astype(objects.dtype)
    return objects + of_part[parts]


def part_neighbors(
    parts: npt.NDArray[np.integer[Any]], objects: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.uint64]:
    """Return which parts of the background touch which objects by a face of a voxel.

    Parameters
    ----------
    parts : numpy.ndarray
        Numbers of the parts of the background, 0 on objects.
    objects : numpy.ndarray
        Numbers of the objects, 0 on the background; same shape. A block is given with one more
        voxel on the upper side of each axis; then the answers of all blocks are those of the image.

    Returns
    -------
    numpy.ndarray
        (n, 2) uint64 pairs (part, object), each once, sorted.
    """
    found = [np.empty((0, 2), dtype=np.uint64)]
    for axis in range(parts.ndim):
        lower = tuple(slice(None, -1) if i == axis else slice(None) for i in range(parts.ndim))
        upper = tuple(slice(1, None) if i == axis else slice(None) for i in range(parts.ndim))
        for here, there in ((lower, upper), (upper, lower)):
            touch = (parts[here] != 0) & (objects[there] != 0)
            pairs = np.stack([parts[here][touch], objects[there][touch]], axis=1)
            found.append(np.unique(pairs.astype(np.uint64), axis=0))
    return np.unique(np.concatenate(found), axis=0)


def enclosed_parts(
    neighbors: npt.NDArray[np.uint64], at_border: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return the parts of the background that are holes, sorted, and the object around each.

    Parameters
    ----------
    neighbors : numpy.ndarray
        Pairs of `part_neighbors` of the whole image, each once.
    at_border : numpy.ndarray
        Parts that touch the border of the image.
    """
    parts, first, counts = np.unique(neighbors[:, 0], return_index=True, return_counts=True)
    holes = (counts == 1) & ~np.isin(parts, at_border)
    return parts[holes], neighbors[first[holes], 1]

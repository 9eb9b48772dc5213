"""Connected components of classes, in memory or block by block with the same result.

::

    a block and its margin of one voxel        x and its neighbor o lie in different blocks, but
         . . . |                               in one margin: that of the block at the upper left.
         . . . | o                             Its label joins both, also where neither is its own.
         ------+--
             x | .                             connectivity 1: not connected; 2 and 3: connected

Every two neighboring voxels lie in some block with its margin, so the blocks miss no contact; and
what a block sees as one object is one. Blocks that share a face compare the voxels that both have
labeled, where every object has one number in each.

Labeling is cc3d's [1]_.

References
----------
.. [1] W. Silversmith, "cc3d: Connected components on multilabel 3D & 2D images",
   https://github.com/seung-lab/connected-components-3d
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import cc3d
import fastremap
import numpy as np

from napari_unet.core.class_labels import check_whole_numbers
from napari_unet.core.component_options import ComponentOptions
from napari_unet.errors import AnnotationError
from napari_unet.labels.stitching import stitch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy.typing as npt

    from napari_unet.core.boxes import Box
    from napari_unet.labels.block_grid import BlockGrid, Schedule
    from napari_unet.labels.numbering import Pairs
    from napari_unet.labels.stitching import BlockStitched, OpenOutput, Scratch

_Neighbors = Literal[4, 6, 8, 18, 26]
_NEIGHBORS_3D: dict[int, _Neighbors] = {1: 6, 2: 18, 3: 26}
_NEIGHBORS_2D: dict[int, _Neighbors] = {1: 4, 2: 8, 3: 8}


def components(
    classes: npt.NDArray[Any], options: ComponentOptions | None = None
) -> npt.NDArray[np.uint32]:
    """Return the connected components of a class image in memory.

    Parameters
    ----------
    classes : numpy.ndarray
        (Y, X) or (Z, Y, X) whole numbers or bool.
    options : ComponentOptions or None
        What makes one object; None = the defaults.

    Returns
    -------
    numpy.ndarray
        uint32 of the same shape, 0 = background. Objects are 1, 2, ... in the order of their first
        voxels in C order.

    Raises
    ------
    AnnotationError
        If the array is not 2D or 3D or holds no whole numbers.
    """
    if classes.ndim not in (2, 3):
        raise AnnotationError(
            f"no components of classes of shape {classes.shape}; give (y, x) or (z, y, x)"
        )
    volume = classes if classes.ndim == 3 else classes[np.newaxis]
    labels = _label(volume, options or ComponentOptions())
    if labels.size:
        # cc3d numbers in this order too, as far as was seen, but does not promise it.
        labels, _ = fastremap.renumber(labels, in_place=True)
    return labels.astype(np.uint32, copy=False).reshape(classes.shape)


def label_components(
    read: Callable[[Box], npt.NDArray[Any]],
    grid: BlockGrid,
    options: ComponentOptions | None = None,
    *,
    open_output: OpenOutput,
    scratch: Scratch | None = None,
    schedule: Schedule | None = None,
) -> Generator[BlockStitched, None, int]:
    """Write the connected components of a class image larger than memory, block by block.

    Parameters
    ----------
    read : callable
        Gives the classes (z, y, x) of a box: whole numbers or bool. Called by several threads if
        there are several workers.
    grid : BlockGrid
        The blocks; the margin is set here.
    options : ComponentOptions or None
        What makes one object; None = the defaults.
    open_output, scratch, schedule
        As for `stitch`. Without scratch the classes are read and labeled twice.

    Yields
    ------
    BlockStitched
        As `stitch` does.

    Returns
    -------
    int
        Number of objects. What is written equals `components` of the whole, number by number,
        whatever the blocks, their order and the workers.

    Raises
    ------
    AnnotationError
        If the classes are no whole numbers; and what `stitch` raises.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_unet.labels.block_grid import BlockGrid
    >>> from napari_unet.labels.stitching import finish
    >>> classes = np.array([[[1, 1, 0, 2], [0, 1, 1, 2]]], dtype=np.uint8)
    >>> out = np.zeros(classes.shape, dtype=np.uint32)
    >>> finish(
    ...     label_components(
    ...         lambda box: classes[box.slices],
    ...         BlockGrid(classes.shape, (1, 2, 2)),
    ...         open_output=lambda count: lambda box, found: out.__setitem__(box.slices, found),
    ...     )
    ... )
    2
    >>> out[0].tolist()
    [[1, 1, 0, 2], [0, 1, 1, 2]]
    """
    settings = options or ComponentOptions()
    across = 0 if settings.per_slice else 1
    return stitch(
        replace(grid, margin=((0, across), (0, 1), (0, 1))),
        _ComponentLabeling(read, settings),
        open_output=open_output,
        scratch=scratch,
        schedule=schedule,
    )


def same_voxels(
    lower: npt.NDArray[np.uint32], upper: npt.NDArray[np.uint32]
) -> npt.NDArray[np.int64]:
    """Return the pairs of numbers that two labelings give to the same voxel, each pair once.

    Parameters
    ----------
    lower, upper : numpy.ndarray
        uint32 of one shape; voxels that are 0 in either make no pair.

    Returns
    -------
    numpy.ndarray
        (n, 2) int64, sorted.
    """
    both = (lower != 0) & (upper != 0)
    keys = lower[both].astype(np.uint64) << np.uint64(32) | upper[both]
    keys = np.unique(keys)
    return np.stack([keys >> np.uint64(32), keys & np.uint64(2**32 - 1)], axis=1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _ComponentLabeling:
    read: Callable[[Box], npt.NDArray[Any]]
    options: ComponentOptions

    def label(self, box: Box) -> npt.NDArray[np.uint32]:
        return _label(self.read(box), self.options)

    def join(self, box: Box, lower: npt.NDArray[np.uint32], upper: npt.NDArray[np.uint32]) -> Pairs:
        return same_voxels(lower, upper)


def _label(volume: npt.NDArray[Any], options: ComponentOptions) -> npt.NDArray[np.uint32]:
    """Return the components of (z, y, x) classes, numbered from 1."""
    wanted = _foreground(volume, options)
    if len(wanted) == 1:
        neighbors = _NEIGHBORS_2D[options.connectivity]
        return _connected(wanted[0], neighbors)[np.newaxis]
    if not options.per_slice:
        return _connected(wanted, _NEIGHBORS_3D[options.connectivity])
    labels = np.zeros(wanted.shape, dtype=np.uint32)
    used = 0
    for plane, out in zip(wanted, labels, strict=True):
        found = _connected(plane, _NEIGHBORS_2D[options.connectivity])
        np.add(found, used, out=out, where=found > 0)
        used += int(found.max(initial=0))
    return labels


def _connected(image: npt.NDArray[Any], neighbors: _Neighbors) -> npt.NDArray[np.uint32]:
    if image.size == 0:
        return np.zeros(image.shape, dtype=np.uint32)
    # cc3d takes the machine's own byte order only.
    native = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))
    labels = cc3d.connected_components(native, connectivity=neighbors, out_dtype=np.uint32)
    return labels.astype(np.uint32, copy=False)


def _foreground(volume: npt.NDArray[Any], options: ComponentOptions) -> npt.NDArray[Any]:
    """Return the classes with 0 for what is no foreground, and 1 for it where all is alike.

    Never bool: with bool, cc3d 4.1.1 takes another way that reads beyond arrays of odd edges (8
    neighbors) and fails on thin ones (26 neighbors); for numbers it is right, and as quick.
    """
    if volume.dtype == np.bool_:
        volume = volume.view(np.uint8)
    check_whole_numbers(volume)
    if options.foreground is None:
        return (volume != 0).view(np.uint8) if options.merge_classes else volume
    high = np.iinfo(volume.dtype).max
    values = np.array([v for v in options.foreground if v <= high], dtype=volume.dtype)
    mask = volume == values[0] if len(values) == 1 else np.isin(volume, values)
    if options.merge_classes or len(values) <= 1:
        return mask.view(np.uint8)
    return np.where(mask, volume, volume.dtype.type(0))

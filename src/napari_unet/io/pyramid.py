"""Pyramids: which levels an output has, and how a coarse voxel comes from fine ones."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.classes import UNLABELED

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Shape

MAX_COARSEST_EDGE = 2048
"""A pyramid that we plan ends at the first level that is no larger in y and x."""


def plan_levels(source: ImageSource) -> tuple[PyramidLevel, ...]:
    """Return the levels of an output: the source's own, or y and x halved until they are small.

    Parameters
    ----------
    source : ImageSource
        The image that the output lies over.

    Returns
    -------
    tuple of PyramidLevel
        From fine to coarse; the first has the source's shape. z is never reduced by us.
    """
    levels = source.levels
    if len(levels) > 1:
        return levels
    planned = [levels[0]]
    while max(planned[-1].shape[1:]) > MAX_COARSEST_EDGE:
        planned.append(_halve(planned[-1]))
    return tuple(planned)


def _halve(level: PyramidLevel) -> PyramidLevel:
    depth, height, width = level.shape
    size, (z, y, x) = level.voxel_size, level.translation
    halved = (depth, -(-height // 2), -(-width // 2))
    # The center of a voxel made of two lies half a fine voxel after the center of the first.
    return PyramidLevel(
        halved,
        VoxelSize(size.z, size.y * 2, size.x * 2, size.unit),
        (z, y + size.y / 2, x + size.x / 2),
    )


@dataclass(frozen=True, slots=True)
class Reduction:
    """How the voxels of one level are made of those of the finer one.

    Parameters
    ----------
    fine, coarse : tuple of int
        Shapes (z, y, x) of the two levels.

    Notes
    -----
    Every coarse index has a window of fine ones; the windows abut. Where the coarse length is the
    fine one divided by a whole number, rounded up or down, windows have that length. Otherwise
    (pyramids of other programs) they are as equal as they can be.
    """

    fine: Shape
    coarse: Shape

    def starts(self, axis: int, first: int, last: int) -> npt.NDArray[np.intp]:
        """Return where the windows of coarse indices ``first .. last`` begin, both inclusive.

        The start of the index after the coarse level's last is the end of the last window.
        """
        fine, coarse = self.fine[axis], self.coarse[axis]
        index = np.arange(first, last + 1, dtype=np.int64)
        factor = max(1, round(fine / coarse))
        if coarse in (fine // factor, -(-fine // factor)):
            starts = index * factor
            # Rounded down: what is left over at the far end belongs to the last window.
            starts[index == coarse] = fine
        else:
            starts = index * fine // coarse
        bounded: npt.NDArray[np.intp] = np.minimum(starts, fine - (index < coarse)).astype(np.intp)
        return bounded

    def touched(self, region: Box) -> Box:
        """Return the coarse box whose windows hold every voxel of a fine region."""
        start, stop = [], []
        for axis, (a, b) in enumerate(zip(region.start, region.stop, strict=True)):
            starts = self.starts(axis, 0, self.coarse[axis] - 1)
            start.append(int(np.searchsorted(starts, a, side="right")) - 1)
            stop.append(int(np.searchsorted(starts, b, side="left")))
        return Box(tuple(start), tuple(stop))

    def window(self, target: Box) -> Box:
        """Return the fine box that a coarse box is made of."""
        ends = [
            self.starts(axis, a, b)[[0, -1]]
            for axis, (a, b) in enumerate(zip(target.start, target.stop, strict=True))
        ]
        return Box(
            tuple(int(end[0]) for end in ends),
            tuple(max(int(end[1]), int(end[0]) + 1) for end in ends),
        )

    def labels(self, target: Box, fine: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return a coarse box of classes from its window of fine ones, (z, y, x).

        The class of the window's middle voxel; where that is not computed yet, of the first voxel
        that is. A mean would invent classes, a vote would let thin membranes vanish.
        """
        candidates = [self._candidates(axis, target) for axis in range(3)]
        out: npt.NDArray[np.uint8] = np.zeros(target.shape, np.uint8)
        for offset in np.ndindex(*(len(c) for c in candidates)):
            values = fine[np.ix_(*(c[o] for c, o in zip(candidates, offset, strict=True)))]
            np.copyto(out, values, where=out == UNLABELED)
            if (out != UNLABELED).all():
                break
        return out

    def objects(self, target: Box, fine: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a coarse box of objects from its window of fine ones, (z, y, x), same type.

        The object of the window's middle voxel: 0 is background there, a value like any other.
        """
        middle = [self._candidates(axis, target)[0] for axis in range(3)]
        coarse: npt.NDArray[Any] = fine[np.ix_(*middle)]
        return coarse

    def probabilities(self, target: Box, fine: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the mean probabilities (class, z, y, x) over the computed voxels of each window.

        A voxel whose probabilities are all 0 is not computed yet and does not count.
        """
        total = fine.astype(np.float32)
        count = (total.sum(axis=0, keepdims=True) > 0).astype(np.float32)
        for axis in range(3):
            first, last = target.start[axis], target.stop[axis]
            starts = self.starts(axis, first, last - 1)
            local = starts - starts[0]
            total = np.add.reduceat(total, local, axis=axis + 1, dtype=np.float32)
            count = np.add.reduceat(count, local, axis=axis + 1, dtype=np.float32)
        mean: npt.NDArray[np.float32] = total / np.maximum(count, 1)
        return mean

    def _candidates(self, axis: int, target: Box) -> list[npt.NDArray[np.intp]]:
        """Return, in order of preference, an index into the window for every coarse index."""
        bounds = self.starts(axis, target.start[axis], target.stop[axis])
        starts = bounds[:-1] - bounds[0]
        lengths = np.maximum(bounds[1:] - bounds[:-1], 1)
        return [starts + (lengths // 2 + offset) % lengths for offset in range(int(lengths.max()))]


def split_box(box: Box, fine_voxels_per_voxel: float, max_voxels: int) -> list[Box]:
    """Return boxes that cover `box`, each made of at most about `max_voxels` fine ones."""
    if box.size * fine_voxels_per_voxel <= max_voxels or box.size <= 1:
        return [box]
    axis = max(range(len(box.shape)), key=lambda a: box.shape[a])
    middle = box.start[axis] + math.ceil(box.shape[axis] / 2)
    low = Box(box.start, (*box.stop[:axis], middle, *box.stop[axis + 1 :]))
    high = Box((*box.start[:axis], middle, *box.start[axis + 1 :]), box.stop)
    return [
        part for half in (low, high) for part in split_box(half, fine_voxels_per_voxel, max_voxels)
    ]


def object_boxes(region: Box, edges: Shape, shape: Shape) -> Iterator[Box]:
    """Yield the stored objects, cut to the array, that touch a region."""
    ranges = [
        range(a // edge, -(-b // edge))
        for a, b, edge in zip(region.start, region.stop, edges, strict=True)
    ]
    for index in itertools.product(*ranges):
        start = tuple(i * edge for i, edge in zip(index, edges, strict=True))
        stop = tuple(min(a + edge, n) for a, edge, n in zip(start, edges, shape, strict=True))
        yield Box(start, stop)

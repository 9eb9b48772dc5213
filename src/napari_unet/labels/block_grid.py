"""The blocks that objects are found in, and in what order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.boxes import Box, Shape
from napari_unet.errors import ConfigError, TilingError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """Blocks that cover an array once, and the margin that each is labeled with.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array (or of the region that is taken for the whole), (z, y, x).
    block_shape : tuple of int
        Edges of a block. The last on an axis is cut to the array.
    margin : tuple of (int, int)
        Voxels that a block is labeled with beyond its own, towards the origin and away from it, per
        axis; cut to the array. Empty = none.

    Raises
    ------
    TilingError
        If lengths differ, an edge is not positive, a margin is negative, or the array is empty.

    Examples
    --------
    >>> grid = BlockGrid((1, 5, 7), (1, 4, 4), ((0, 0), (0, 1), (0, 1)))
    >>> grid.count, grid.box(0).shape, grid.extended(0).shape
    (4, (1, 4, 4), (1, 5, 5))
    """

    shape: Shape
    block_shape: Shape
    margin: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        margin = self.margin or ((0, 0),) * len(self.shape)
        if not len(self.shape) == len(self.block_shape) == len(margin):
            raise TilingError(
                f"array shape {self.shape}, block shape {self.block_shape} and margin {margin} "
                "differ in length; give one number or pair per axis"
            )
        if min(*self.shape, *self.block_shape) < 1 or min(map(min, margin)) < 0:
            raise TilingError(
                f"no blocks of {self.block_shape} with a margin of {margin} in an array of "
                f"{self.shape}; edges must be at least 1 and margins at least 0"
            )
        object.__setattr__(self, "margin", margin)

    @property
    def cells(self) -> Shape:
        """Number of blocks per axis."""
        return tuple(-(-n // e) for n, e in zip(self.shape, self.block_shape, strict=True))

    @property
    def count(self) -> int:
        """Number of blocks; they are numbered from 0, the last axis fastest."""
        return math.prod(self.cells)

    def box(self, block: int) -> Box:
        """Return the voxels that a block owns."""
        start = tuple(i * e for i, e in zip(self._place(block), self.block_shape, strict=True))
        stop = tuple(a + e for a, e in zip(start, self.block_shape, strict=True))
        return Box(start, stop).intersection(Box.of_shape(self.shape))

    def extended(self, block: int) -> Box:
        """Return the voxels that a block is labeled with: its own and its margin."""
        box = self.box(block)
        wide = Box(
            tuple(a - low for a, (low, _) in zip(box.start, self.margin, strict=True)),
            tuple(b + high for b, (_, high) in zip(box.stop, self.margin, strict=True)),
        )
        return wide.intersection(Box.of_shape(self.shape))

    def faces(self, block: int) -> Iterator[tuple[int, int]]:
        """Yield the pairs (lower, upper) of blocks that share a face, of which one is `block`."""
        place, cells = self._place(block), self.cells
        for axis, (index, cell_count) in enumerate(zip(place, cells, strict=True)):
            step = math.prod(cells[axis + 1 :])
            if index > 0:
                yield block - step, block
            if index + 1 < cell_count:
                yield block, block + step

    def _place(self, block: int) -> Shape:
        return tuple(int(i) for i in np.unravel_index(block, self.cells))


@dataclass(frozen=True, slots=True)
class Schedule:
    """In what order and by how many threads blocks are labeled; changes no result.

    Parameters
    ----------
    workers : int
        Number of threads. 1 = the caller's own thread and no other. They share what waits for
        files or NumPy; cc3d 4.1 keeps Python's lock while it labels.
    order : tuple of int or None
        Every block once. None = the order of the grid, which keeps the fewest faces waiting.
    """

    workers: int = 1
    order: tuple[int, ...] | None = None

    def of(self, grid: BlockGrid) -> tuple[int, ...]:
        """Return the blocks of a grid in order.

        Raises
        ------
        ConfigError
            If there is no worker, or the order does not name every block once.
        """
        if self.workers < 1:
            raise ConfigError(f"{self.workers} workers cannot label blocks; give 1 or more")
        every = tuple(range(grid.count))
        if self.order is None:
            return every
        if tuple(sorted(self.order)) != every:
            raise ConfigError(
                f"an order of {len(self.order)} blocks does not name each of 0..{grid.count - 1} "
                "once; leave it out for the order of the grid"
            )
        return self.order

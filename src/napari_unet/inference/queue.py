"""Which block comes next: the visible ones first, and the user may look elsewhere any time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.tiling import Block, Tile, TileGrid


class BlockQueue:
    """The blocks of a region that are still to do, nearest to the viewport first.

    Without a viewport they come in C order. Order changes what is seen first, never the result.
    Eight bytes are kept per block, so a terabyte of them costs a few megabytes.

    Parameters
    ----------
    grid : TileGrid
        Where blocks lie.
    region : Box
        What to segment.
    viewport : Box or None
        What the user is looking at.
    done : collection of tuple of int
        Indices of blocks that are left out.
    share : range or None
        Numbers of the blocks, in C order, that are taken; None = all.
    """

    def __init__(
        self,
        grid: TileGrid,
        region: Box,
        viewport: Box | None = None,
        done: Collection[Shape] = (),
        share: range | None = None,
    ) -> None:
        self._grid = grid
        self._region = region
        self._ranges = grid.block_ranges(region)
        self._lock = threading.Lock()
        self._viewport = viewport
        self._pending = self._sorted(self._all_but(done, share))

    def __len__(self) -> int:
        return len(self._pending)

    def look_at(self, viewport: Box | None) -> None:
        """Put what is left into the order of its distance to `viewport`."""
        with self._lock:
            if viewport != self._viewport:
                self._viewport = viewport
                self._pending = self._sorted(np.sort(self._pending))

    def pop(self) -> Block | None:
        """Return the next block, or None when all are taken."""
        with self._lock:
            if not len(self._pending):
                return None
            number, self._pending = self._pending[0], self._pending[1:]
        offsets = np.unravel_index(number, [len(r) for r in self._ranges])
        index = tuple(r[int(k)] for r, k in zip(self._ranges, offsets, strict=True))
        return self._grid.block(index, self._region)

    def tiles_of(self, block: Block) -> list[Tile]:
        """Return a block's tiles, nearest to the viewport first."""
        tiles = list(self._grid.tiles_of(block))
        viewport = self._viewport
        if viewport is not None:
            tiles.sort(key=lambda tile: _nearness(tile.write.distance_to(viewport)))
        return tiles

    def _all_but(self, done: Collection[Shape], share: range | None) -> npt.NDArray[np.intp]:
        """Return the numbers of the blocks that are not done."""
        wanted = range(self._grid.count_blocks(self._region)) if share is None else share
        numbers = np.arange(wanted.start, wanted.stop)
        if not done:
            return numbers
        starts = np.array([r.start for r in self._ranges])
        counts = np.array([len(r) for r in self._ranges])
        offsets = np.array(list(done)) - starts
        inside = offsets[((offsets >= 0) & (offsets < counts)).all(axis=1)]
        return np.setdiff1d(numbers, np.ravel_multi_index(tuple(inside.T), tuple(counts)))

    def _sorted(self, pending: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        if self._viewport is None:
            return pending
        offsets = np.unravel_index(pending, [len(r) for r in self._ranges])
        gaps = []
        for axis, (offset, r) in enumerate(zip(offsets, self._ranges, strict=True)):
            edge = self._grid.block_shape[axis]
            start = (offset + r.start) * edge
            first, stop = self._viewport.start[axis], self._viewport.stop[axis]
            # +1 tells neighbours that merely touch (1) from those that overlap (0).
            gaps.append(np.maximum(np.maximum(start - stop, first - start - edge) + 1, 0))
        slices = gaps[0]
        in_plane = sum(np.square(gap) for gap in gaps[1:])
        # Slices by distance, and within a slice outward; lexsort is stable, so ties keep C order.
        return pending[np.lexsort((in_plane, slices))]


def _nearness(gap: tuple[int, ...]) -> tuple[int, int]:
    return gap[0], sum(g * g for g in gap[1:])

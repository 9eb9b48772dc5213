"""Places that an image is divided into, and parts of a tile's size that hold some of them.

::

    |  place  |  place  |  place  |  place  |  place  |     one slice, along one axis
    |           window            |      window       |     what is looked at together

Places are one slice thick. They cover a region once, with edges as equal as whole voxels can be,
so none overlaps another. Nothing is listed: places and windows are numbered in C order and made
from their numbers, so an image may have any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.boxes import Box, Shape
from napari_unet.errors import TilingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class PlaceGrid:
    """The places of a region of an image.

    Parameters
    ----------
    region : Box
        What is divided, (z, y, x), not empty.
    edge : int
        About how long the edges of a place are in y and x, in voxels.

    Raises
    ------
    TilingError
        If the region is empty or the edge is not positive.

    Examples
    --------
    >>> grid = PlaceGrid(Box((3, 0, 0), (5, 200, 100)), 96)
    >>> len(grid), grid.box(1)
    (4, Box(start=(3, 100, 0), stop=(4, 200, 100)))
    """

    region: Box
    edge: int

    def __post_init__(self) -> None:
        if self.region.is_empty or self.edge < 1:
            raise TilingError(
                f"the region {self.region.start}..{self.region.stop} cannot be divided into places "
                f"of {self.edge} voxels; give a region with voxels and a positive edge"
            )

    @property
    def counts(self) -> Shape:
        """Places along each axis."""
        depth, height, width = self.region.shape
        return (depth, *(max(round(n / self.edge), 1) for n in (height, width)))

    def __len__(self) -> int:
        """Return how many places there are."""
        return math.prod(self.counts)

    def box(self, number: int) -> Box:
        """Return the place with a number, from 0 in C order."""
        index = [int(k) for k in np.unravel_index(number, self.counts)]
        return self._box(index, [k + 1 for k in index])

    def numbers(self, window: int, across: int) -> list[int]:
        """Return the numbers of the places in a window that is `across` places wide."""
        first, stop = self._window(window, across)
        rows, columns = (range(a, b) for a, b in zip(first[1:], stop[1:], strict=True))
        cells = [(first[0], row, column) for row in rows for column in columns]
        found = np.ravel_multi_index(tuple(np.transpose(cells)), self.counts)
        return [int(k) for k in found]

    def window_box(self, window: int, across: int) -> Box:
        """Return the box of a window, numbered from 0 in C order."""
        return self._box(*self._window(window, across))

    def count_windows(self, across: int) -> int:
        """Return how many windows there are."""
        return math.prod(self._windows(across))

    def windows_across(self, tile_edge: int) -> int:
        """Return how many places wide a window can be for one tile to cover it; at least 1."""
        longest = max(
            -(-n // parts) for n, parts in zip(self.region.shape[1:], self.counts[1:], strict=True)
        )
        return max(tile_edge // longest, 1)

    def _windows(self, across: int) -> Shape:
        depth, rows, columns = self.counts
        return depth, -(-rows // across), -(-columns // across)

    def _window(self, number: int, across: int) -> tuple[list[int], list[int]]:
        """Return the first and one past the last place of a window, along each axis."""
        z, row, column = (int(k) for k in np.unravel_index(number, self._windows(across)))
        first = [z, row * across, column * across]
        last = [z + 1, (row + 1) * across, (column + 1) * across]
        return first, [min(k, n) for k, n in zip(last, self.counts, strict=True)]

    def _box(self, first: Sequence[int], stop: Sequence[int]) -> Box:
        """Return the box of the places from `first` to before `stop`."""
        shape = self.region.shape
        start, end = (
            tuple(
                a + k * n // parts
                for a, k, n, parts in zip(
                    self.region.start, corner, shape, self.counts, strict=True
                )
            )
            for corner in (first, stop)
        )
        return Box(start, end)


def centers(boxes: Sequence[Box]) -> npt.NDArray[np.float64]:
    """Return the centers (n, 3) of boxes, in voxels."""
    corners = np.array([(*box.start, *box.stop) for box in boxes], np.float64).reshape(-1, 6)
    middle: npt.NDArray[np.float64] = (corners[:, :3] + corners[:, 3:] - 1) / 2
    return middle

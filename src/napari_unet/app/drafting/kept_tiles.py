"""The features of what was looked at, as many as memory is given for."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.boxes import Box

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from napari_unet.app.drafting.feature_tile import FeatureTile
    from napari_unet.core.boxes import Shape

CELL_EDGE = 64
"""Edge of the grid on which features are kept, in pixels of the network's grid.

Every stride fits into it. Finer than a tile, so that little is computed twice when the view moves.
"""


class KeptTiles:
    """Tiles of features, the longest unused of which are dropped.

    Parameters
    ----------
    shape : tuple of int
        Shape (z, y, x) of the network's grid.
    max_bytes : int
        Of their features.

    Attributes
    ----------
    in_use : Box or None
        Tiles that touch it are kept whatever they take.
    """

    def __init__(self, shape: Shape, max_bytes: int) -> None:
        self._grid = Box.of_shape(shape)
        self.max_bytes = max_bytes
        self._tiles: OrderedDict[Box, FeatureTile | None] = OrderedDict()
        self.in_use: Box | None = None

    @property
    def size(self) -> int:
        """Bytes of all features."""
        return sum(0 if tile is None else tile.size for tile in self._tiles.values())

    def add(self, box: Box, tile: FeatureTile | None) -> None:
        """Keep what is known of a box of whole cells; None = it cannot be computed."""
        self._tiles[box] = tile
        excess = self.size - self.max_bytes
        for place, old in list(self._tiles.items()):
            if excess <= 0:
                break
            if self.in_use is None or place.intersection(self.in_use).is_empty:
                excess -= 0 if old is None else old.size
                del self._tiles[place]

    def touching(self, box: Box) -> Iterator[tuple[Box, FeatureTile | None]]:
        """Yield what is known of parts of a box: the part, and its tile; they are now in use."""
        for place in list(self._tiles):
            part = place.intersection(box)
            if not part.is_empty:
                self._tiles.move_to_end(place)
                yield part, self._tiles[place]

    def items(self) -> list[tuple[Box, FeatureTile | None]]:
        """Return the boxes and tiles that are kept."""
        return list(self._tiles.items())

    def missing(self, box: Box, edge: float) -> list[Box]:
        """Return boxes of whole cells that cover what is not known of a box, one slice thick.

        Parameters
        ----------
        box : Box
            Inside the network's grid.
        edge : float
            Largest edge of what is returned, in pixels; at least that of a cell.

        Returns
        -------
        list of Box
            Those nearest to the middle of the box first.
        """
        cells = cells_of(box)
        known = np.zeros(cells.shape, bool)
        for part, _ in self.touching(box):
            known[cells_of(part).relative_to(cells.start).slices] = True
        found = [
            pixels_of(Box((box.start[0], *a), (box.stop[0], *b)), self._grid)
            for a, b in rectangles(~known[0], cells.start[1:], _in_cells(edge))
        ]
        middle = [(a + b) / 2 for a, b in zip(box.start, box.stop, strict=True)]
        return sorted(found, key=lambda each: _distance(each, middle))


def _in_cells(edge: float) -> int | None:
    """Return an edge in whole cells, at least one; None = any."""
    return None if math.isinf(edge) else max(int(edge) // CELL_EDGE, 1)


def cells_of(box: Box) -> Box:
    """Return the cells that touch a box, in numbers of cells; z stays."""
    return Box(
        (box.start[0], *(a // CELL_EDGE for a in box.start[1:])),
        (box.stop[0], *(-(-b // CELL_EDGE) for b in box.stop[1:])),
    )


def pixels_of(cells: Box, grid: Box) -> Box:
    """Return the pixels of a box of cells, cut to the grid."""
    return Box(
        (cells.start[0], *(a * CELL_EDGE for a in cells.start[1:])),
        (cells.stop[0], *(b * CELL_EDGE for b in cells.stop[1:])),
    ).intersection(grid)


def rectangles(
    wanted: npt.NDArray[np.bool_], origin: Shape, edge: int | None
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return rectangles that cover wanted cells once, and nothing else.

    Parameters
    ----------
    wanted : numpy.ndarray
        (rows, columns).
    origin : tuple of int
        Of its first cell.
    edge : int or None
        Largest edge of a rectangle; None = any.
    """
    left, found = wanted.copy(), []
    while left.any():
        y, x = (int(n) for n in np.unravel_index(int(left.argmax()), left.shape))
        longest = max(left.shape) if edge is None else edge
        row = left[y, x : x + longest]
        width = len(row) if row.all() else int(row.argmin())
        rows = left[y : y + longest, x : x + width]
        column = rows.min(axis=1)
        height = len(column) if column.all() else int(column.argmin())
        left[y : y + height, x : x + width] = False
        first = (y + origin[0], x + origin[1])
        found.append((first, (first[0] + height, first[1] + width)))
    return found


def _distance(box: Box, point: list[float]) -> float:
    return sum(((a + b) / 2 - p) ** 2 for a, b, p in zip(box.start, box.stop, point, strict=True))

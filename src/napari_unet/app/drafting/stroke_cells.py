"""What was painted, in small cells, with the features of its pixels as far as they are known."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.app.drafting.head import StrokeFeatures
from napari_unet.app.drafting.kept_tiles import CELL_EDGE, cells_of, pixels_of
from napari_unet.core.boxes import Box
from napari_unet.core.classes import FIRST_CLASS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt
    from torch import Tensor

    from napari_unet.app.drafting.feature_tile import FeatureTile
    from napari_unet.app.drafting.network_image import NetworkImage
    from napari_unet.core.boxes import Shape

MAX_ROWS = 8192
"""Pixels that a head is fitted to; their neighbors say nearly the same."""

MAX_PER_CELL = 64
"""Pixels of one class in a cell whose features are kept: a stroke across it has about as many."""

MAX_STROKE_BYTES = 128 * 2**20
"""Of the features of stroke pixels; those longest untouched are forgotten first."""

MAX_CELLS = 8192
"""Cells with strokes; of more, those longest untouched are left out, so that memory is bounded."""

PIECE_CELLS = 16
"""Edge of what is read of the strokes at once, in cells."""

SURROUNDINGS = 64
"""How far around a cell its surroundings reach, in pixels, as far as its tile does."""

SURROUNDING_STEP = 16
"""Distance of the pixels that stand for the surroundings."""

UNPAINTED_STEP = 8
"""Distance of the pixels in a cell that stand for what is not painted in it."""

MAX_UNPAINTED = 1024
"""Pixels that are not painted, of all cells, that a head may be held to."""

_MIXER = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio: multiples of it are spread evenly (Knuth, TAOCP 3, 6.4)."""


@dataclass(slots=True, eq=False)
class Cell:
    """The strokes of one cell.

    Parameters
    ----------
    box : Box
        On the network's grid, one slice thick.
    positions : numpy.ndarray
        (n,) numbers of voxels of the image, in C order.
    labels : numpy.ndarray
        (n,) their labels.
    rows : numpy.ndarray
        Which of them stand for all, by class; those of a class are in an order of chance.
    unpainted : numpy.ndarray
        Which pixels of the cell's grid (`_grid`) have no label.
    features : Tensor or None
        Of `rows`; None = not known: not yet, or the network cannot tell, or they were forgotten.
    surroundings : Tensor or None
        (2, features) mean of features, and of their squares, in the cell and around it.
    grid : Tensor or None
        Features of the pixels of the cell's grid.
    """

    box: Box
    positions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.intp]
    unpainted: npt.NDArray[np.bool_]
    features: Tensor | None = None
    surroundings: Tensor | None = None
    grid: Tensor | None = None

    @property
    def size(self) -> int:
        """Bytes of its features."""
        known = (self.features, self.surroundings, self.grid)
        return sum(0 if tensor is None else tensor.nbytes for tensor in known)

    def take_from(self, tile: FeatureTile, image: NetworkImage) -> None:
        """Learn the features from a tile that holds the cell."""
        self.features = tile.features(*_places(self.positions[self.rows], image))
        grown = Box(
            (self.box.start[0], *(a - SURROUNDINGS for a in self.box.start[1:])),
            (self.box.stop[0], *(b + SURROUNDINGS for b in self.box.stop[1:])),
        ).intersection(tile.box)
        around = tile.features(*_grid(grown, SURROUNDING_STEP)).double()
        self.surroundings = torch.stack([around.mean(dim=0), around.square().mean(dim=0)])
        self.grid = tile.features(*_grid(self.box, UNPAINTED_STEP))

    def forget(self) -> None:
        """Forget all features."""
        self.features = self.surroundings = self.grid = None


@dataclass(slots=True, eq=False)
class Change:
    """Pixels of a cell that got another label, not 0.

    Parameters
    ----------
    box : Box
        The cell, on the network's grid.
    labels : numpy.ndarray
        (n,) the new labels.
    y, x : numpy.ndarray
        (n,) where they lie on the network's grid.
    """

    box: Box
    labels: npt.NDArray[np.uint8]
    y: npt.NDArray[np.intp]
    x: npt.NDArray[np.intp]


@dataclass(slots=True, eq=False)
class StrokeCells:
    """All strokes of an image.

    Parameters
    ----------
    image : NetworkImage
        What they lie on.
    """

    image: NetworkImage
    _cells: dict[Shape, Cell] = field(default_factory=dict)
    _unknown: dict[Shape, Cell] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all features."""
        return sum(cell.size for cell in self._cells.values())

    def pieces(self, box: Box) -> Iterator[Box]:
        """Yield boxes of the image that together hold all cells which a box touches.

        Each is to be read anew and given to `update`.
        """
        inside = box.intersection(Box.of_shape(self.image.image_shape))
        if inside.is_empty:
            return
        cells, grid = cells_of(self.image.seen(inside)), Box.of_shape(self.image.shape)
        for z in range(cells.start[0], cells.stop[0]):
            for y in range(cells.start[1], cells.stop[1], PIECE_CELLS):
                for x in range(cells.start[2], cells.stop[2], PIECE_CELLS):
                    piece = Box((z, y, x), (z + 1, y + PIECE_CELLS, x + PIECE_CELLS))
                    extent = self.image.extent(pixels_of(piece.intersection(cells), grid))
                    if not extent.is_empty:
                        yield extent

    def update(self, box: Box, labels: npt.NDArray[np.uint8]) -> list[Change]:
        """Take the labels of a piece; return what is new in it.

        Features that are known already stay known.
        """
        where = np.nonzero(labels)
        values = labels[where]
        z, y, x = (index + first for index, first in zip(where, box.start, strict=True))
        positions = np.ravel_multi_index((z, y, x), self.image.image_shape).astype(np.int64)
        rows, columns = self.image.places(y, x)
        found = _groups(rows // CELL_EDGE, columns // CELL_EDGE, box.start[0])
        for key in self._touching(cells_of(self.image.seen(box))):
            found.setdefault(key, np.zeros(0, np.intp))
        changes = []
        for key, some in found.items():
            cell = self._new_cell(key, positions[some], values[some])
            old = self._cells.pop(key, None)
            self._unknown.pop(key, None)
            fresh = _fresh(old, cell)
            if fresh.any():
                where = _places(cell.positions[fresh], self.image)
                changes.append(Change(cell.box, cell.labels[fresh], *where))
            if len(cell.positions):
                if old is not None:
                    _pass_on(old, cell)
                self._cells[key] = cell
                if cell.features is None:
                    self._unknown[key] = cell
        for key in list(self._cells)[: max(len(self._cells) - MAX_CELLS, 0)]:
            del self._cells[key]
            self._unknown.pop(key, None)
        return changes

    def extents(self) -> list[Box]:
        """Return the boxes of the image that the cells hold."""
        return [self.image.extent(cell.box) for cell in self._cells.values()]

    def unknown(self) -> list[Box]:
        """Return the boxes of cells whose features have to be computed, the newest first."""
        return [cell.box for cell in reversed(self._unknown.values())]

    def take_from(self, box: Box, tile: FeatureTile | None) -> bool:
        """Learn the features of cells in a box; None = they cannot be computed.

        Returns
        -------
        bool
            Whether something was learnt.
        """
        found = [key for key, cell in self._unknown.items() if box.contains(cell.box)]
        for key in found:
            cell = self._unknown.pop(key)
            if tile is not None:
                cell.take_from(tile, self.image)
        if tile is None or not found:
            return False
        excess = self.size - MAX_STROKE_BYTES
        for cell in self._cells.values():
            if excess <= 0:
                break
            excess -= cell.size
            cell.forget()
        return True

    def features(self, classes: int) -> StrokeFeatures | None:
        """Return what a head of so many classes is fitted to; None = nothing is known.

        It depends on the strokes, not on the order in which they came.
        """
        known = [self._cells[key] for key in sorted(self._cells)]
        known = [cell for cell in known if cell.features is not None]
        counts = [_counts(cell.labels[cell.rows], classes) for cell in known]
        if not sum(int(c.sum()) for c in counts):
            return None
        quota = _quota(np.concatenate(counts))
        rows, labels, around, beside, total = [], [], [], [], 0
        for cell in known:
            total += int(_counts(cell.labels, classes).sum())
            some = cell.labels[cell.rows]
            chosen = _first_of_each(some, quota) & (some < classes + FIRST_CLASS)
            if (
                cell.features is not None
                and cell.surroundings is not None
                and cell.grid is not None
            ):
                rows.append(cell.features[torch.from_numpy(chosen)])
                around.append(cell.surroundings)
                labels.append(some[chosen])
                beside.append(cell.grid[torch.from_numpy(cell.unpainted)])
        found = torch.from_numpy(np.concatenate(labels).astype(np.int64) - FIRST_CLASS)
        mean, square = torch.stack(around).mean(dim=0)
        spread = (square - mean.square()).clamp_min(0).sqrt()
        unpainted = torch.cat(beside)
        held = unpainted[:: max(1, math.ceil(len(unpainted) / MAX_UNPAINTED))]
        return StrokeFeatures(torch.cat(rows), found, mean.float(), spread.float(), total, held)

    def _touching(self, cells: Box) -> list[Shape]:
        """Return the known ones of a few cells."""
        ranges = (range(a, b) for a, b in zip(cells.start, cells.stop, strict=True))
        return [key for key in itertools.product(*ranges) if key in self._cells]

    def _new_cell(
        self,
        key: Shape,
        positions: npt.NDArray[np.int64],
        labels: npt.NDArray[np.uint8],
    ) -> Cell:
        box = pixels_of(Box(key, tuple(k + 1 for k in key)), Box.of_shape(self.image.shape))
        painted = np.zeros(box.shape[1:], bool)
        y, x = _places(positions, self.image)
        painted[y - box.start[1], x - box.start[2]] = True
        rows, columns = _grid(box.relative_to(box.start), UNPAINTED_STEP)
        return Cell(box, positions, labels, _drawn(positions, labels), ~painted[rows, columns])


def read_pieces(
    cells: StrokeCells, box: Box, read: Callable[[Box], npt.NDArray[np.uint8]]
) -> list[Change]:
    """Read anew every cell that a box of the image touches; return what is new."""
    changes = []
    for piece in cells.pieces(box):
        changes += cells.update(piece, read(piece))
    return changes


def _groups(
    y: npt.NDArray[np.intp], x: npt.NDArray[np.intp], z: int
) -> dict[Shape, npt.NDArray[np.intp]]:
    """Return the cells of pixels of a slice, and which pixels are in each, in their order."""
    if not len(y):
        return {}
    width = int(x.max()) + 1
    number = y * width + x
    order = np.argsort(number, kind="stable")
    ends = np.flatnonzero(np.diff(number[order])) + 1
    return {(z, int(y[some[0]]), int(x[some[0]])): some for some in np.split(order, ends)}


def _drawn(positions: npt.NDArray[np.int64], labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return at most `MAX_PER_CELL` pixels of each class, by class, in an order of chance."""
    chance = (positions.astype(np.uint64) + np.uint64(1)) * _MIXER >> np.uint64(32)
    order = np.lexsort((chance, labels))
    return order[_first_of_each(labels[order], MAX_PER_CELL)]


def _first_of_each(labels: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.bool_]:
    """Return which labels are among the first so many of their kind, given sorted labels."""
    first = np.searchsorted(labels, labels, side="left")
    chosen: npt.NDArray[np.bool_] = np.arange(len(labels)) - first < count
    return chosen


def _counts(labels: npt.NDArray[np.uint8], classes: int) -> npt.NDArray[np.int64]:
    """Return the pixels of each class; labels of classes that there are not do not count."""
    return np.bincount(labels, minlength=classes + FIRST_CLASS)[FIRST_CLASS : classes + FIRST_CLASS]


def _quota(counts: npt.NDArray[np.int64]) -> int:
    """Return the largest number of pixels per cell and class that are few enough in all."""
    quota = MAX_PER_CELL
    while quota > 1 and int(np.minimum(counts, quota).sum()) > MAX_ROWS:
        quota -= 1
    return quota


def _fresh(old: Cell | None, new: Cell) -> npt.NDArray[np.bool_]:
    """Return which pixels have another label than before."""
    before = np.zeros_like(new.labels)
    if old is not None and len(old.positions):
        at = np.searchsorted(old.positions, new.positions).clip(max=len(old.positions) - 1)
        same = old.positions[at] == new.positions
        before[same] = old.labels[at[same]]
    fresh: npt.NDArray[np.bool_] = before != new.labels
    return fresh


def _grid(box: Box, step: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return pixels of a box at equal distances, (y, x); at least one."""
    y, x = np.meshgrid(
        *(
            np.arange(min(a + step // 2, b - 1), b, step)
            for a, b in zip(box.start[1:], box.stop[1:], strict=True)
        ),
        indexing="ij",
    )
    return y.ravel(), x.ravel()


def _places(
    positions: npt.NDArray[np.int64], image: NetworkImage
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where voxels of the image lie on the network's grid, (y, x)."""
    _, y, x = np.unravel_index(positions, image.image_shape)
    return image.places(y, x)


def _pass_on(old: Cell, new: Cell) -> None:
    """Give a cell the features that the one before it knew, if it knew those of all its pixels."""
    if old.features is None:
        return
    had = old.positions[old.rows]
    order = np.argsort(had)
    at = np.searchsorted(had[order], new.positions[new.rows]).clip(max=len(had) - 1)
    if np.array_equal(had[order][at], new.positions[new.rows]):
        new.features = old.features[torch.from_numpy(order[at])]
        new.surroundings, new.grid = old.surroundings, old.grid

r"""Annotations as pieces that go to one part of a split as a whole, in blocks of a grid.

::

    block              block
    +------------------+------------------+   A place, such as a stroke, is one piece. It belongs to
    |   ---            |                  |   the block that holds its middle, also where it reaches
    |        \         |        /         |   into the next one. Only a place that is larger than a
    |         \      --|---    /          |   part can hold, such as a slice that is labeled
    |                  |                  |   everywhere, is cut: at block borders, and within
    +------------------+------------------+   blocks on a finer grid, so that gaps can be left out.

Blocks are columns through all slices, or, in a stack that is thick enough, cut along z too: what
lies at one place of neighboring slices is never in two blocks of one column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.core.connected import connect_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_unet.core.annotation import Annotation
    from napari_unet.core.boxes import Shape

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

TARGET_BLOCKS = 64
"""Blocks that are aimed at: an eighth of them is enough to be judged by."""

ENOUGH_SHARE = 0.75
"""Of the blocks aimed at. Where fewer are annotated, they are made smaller if that gives more."""

CLASS_BLOCKS = 5
"""Blocks of a class that are aimed at: of so many alike two can be held out, and 60 % are learnt
from."""

EDGE_STEP = 0.75
"""How much smaller."""

LEAST_EDGE = 4.0
"""Pixels: blocks are not made smaller than about this."""

LEAST_CUT_EDGE = 64
"""Pixels. A place smaller than a square of this edge in a slice, and than a cube, is never cut."""

FINE_PER_BLOCK = 8
"""Fine boxes along an edge of a column: the grain in which gaps are left out of cut places."""

FINE_PER_CUBE = 4
"""The same for blocks that are cut along z too."""

MAX_SINGLE_PLACES = 4096
"""More whole places than this go in groups, one per fine box, to bound time and memory."""

VOLUME, Z, Y, X0, X1, CLASS = range(6)
"""Columns of runs."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedRuns:
    """All annotated voxels of some volumes, as runs of one class along x.

    Parameters
    ----------
    runs : numpy.ndarray
        (r, 6) int64: volume, z, y, x0, x1 (half-open) and class, from 0.
    place : numpy.ndarray
        (r,) int64: connected place of each run, counted through all volumes.
    num_classes : int
        K.
    """

    runs: Ints
    place: Ints
    num_classes: int

    @property
    def sizes(self) -> Ints:
        """Voxels of each run."""
        return self.runs[:, X1] - self.runs[:, X0]

    @property
    def classes(self) -> Ints:
        """Classes that are annotated, from 0, ascending."""
        return np.unique(self.runs[:, CLASS])

    def only(self, wanted: Bools) -> AnnotatedRuns:
        """Return some of the runs."""
        place = np.unique(self.place[wanted], return_inverse=True)[1]
        return AnnotatedRuns(self.runs[wanted], place, self.num_classes)


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """What goes to one part as a whole, sorted by block.

    Parameters
    ----------
    runs : numpy.ndarray
        (r, 6) int64, as in `AnnotatedRuns`, cut where places are cut.
    piece : numpy.ndarray
        (r,) int64: the piece of each run.
    low, high : numpy.ndarray
        (n, 4) int64: the smallest box around each piece, (volume, z, y, x), half-open.
    counts : numpy.ndarray
        (n, K) int64: its voxels of each class.
    block : numpy.ndarray
        (n,) int64: its block, from 0, through all volumes; ascending.
    """

    runs: Ints
    piece: Ints
    low: Ints
    high: Ints
    counts: Ints
    block: Ints

    @property
    def num_blocks(self) -> int:
        """Blocks with some label."""
        return int(self.block[-1]) + 1 if len(self.block) else 0

    @property
    def block_counts(self) -> Ints:
        """(B, K) voxels of each class in each block."""
        return np.add.reduceat(self.counts, np.searchsorted(self.block, np.arange(self.num_blocks)))


def annotated_runs(annotations: Sequence[Annotation]) -> AnnotatedRuns:
    """Return all annotated voxels of volumes with the same classes."""
    parts, places, count = [np.empty((0, 6), np.int64)], [np.empty(0, np.int64)], 0
    num_classes = len(annotations[0].class_names) if annotations else 0
    for volume, annotation in enumerate(annotations):
        found = [_class_runs(labels, box.start, volume) for box, labels in annotation.blocks()]
        if found:
            runs = np.concatenate(found)
            place = connect_runs(runs[:, Z : X1 + 1], annotation.shape) + count
            count = int(place.max()) + 1
            parts.append(runs)
            places.append(place)
    return AnnotatedRuns(np.concatenate(parts), np.concatenate(places), num_classes)


def has_large_places(found: AnnotatedRuns, cut_above: float) -> bool:
    """Return whether `make_pieces` would cut some place."""
    return bool(_large_places(found, cut_above).any())


def whole_volumes(found: AnnotatedRuns) -> Pieces:
    """Return the pieces and blocks that the annotated volumes are as wholes."""
    block = np.zeros((len(found.runs), 3), np.int64)
    keys = _keys(found.runs[:, VOLUME], block, 0, block)
    return _sorted_pieces(found.runs, keys, found.num_classes)


def make_pieces(
    found: AnnotatedRuns,
    stack: tuple[float, int],
    *,
    cut_above: float,
    target: int = TARGET_BLOCKS,
) -> Pieces:
    """Return the pieces, in about as many blocks as wanted or in as many as there can be.

    Parameters
    ----------
    found : AnnotatedRuns
        At least one run.
    stack : (float, int)
        Distance of two slices, in pixels; and slices of the least gap: only a stack much thicker
        has blocks that are cut along z.
    cut_above : float
        Share of all annotated voxels above which a place is cut, if it is not smaller than
        `LEAST_CUT_EDGE` allows.
    target : int
        Blocks wanted.
    """
    large = _large_places(found, cut_above)
    volumes = [found.runs[found.runs[:, VOLUME] == v] for v in np.unique(found.runs[:, VOLUME])]
    extents = [np.ptp(_corners(runs), axis=0) for runs in volumes]
    edge = float(np.sqrt(sum(np.prod(extent[1:]) for extent in extents) / target))
    # A thick stack is cut along z too: larger blocks are enough.
    while sum(_Grid(edge, *stack).count(e) for e in extents) > 2 * target + len(extents):
        edge /= EDGE_STEP
    best = _pieces(found, large, _Grid(edge, *stack))
    while edge > LEAST_EDGE and not _is_fine_enough(best, ENOUGH_SHARE * target):
        edge *= EDGE_STEP
        finer = _pieces(found, large, _Grid(edge, *stack))
        if finer.num_blocks > best.num_blocks:
            best = finer
    return best


@dataclass(frozen=True, slots=True)
class _Grid:
    """Blocks of one edge; every volume has its own, which begins where it is annotated."""

    edge: float
    anisotropy: float
    gap_slices: int

    def fine_and_ratio(self, extent: Ints) -> tuple[Ints, Ints]:
        """Return edges of a fine box and fine boxes per block, (z, y, x), for what is annotated."""
        block = np.ceil(extent / self._number(extent)).astype(np.int64)
        is_column = block[0] >= extent[0]
        fine = np.maximum(block // (FINE_PER_BLOCK if is_column else FINE_PER_CUBE), 1)
        if is_column:
            fine[0] = block[0]
        return fine, -(-block // fine)

    def count(self, extent: Ints) -> int:
        """Return how many blocks there are in what is annotated."""
        return int(np.prod(self._number(extent)))

    def _number(self, extent: Ints) -> Ints:
        edges = np.array([self.edge / self.anisotropy, self.edge, self.edge])
        if extent[0] < 4 * max(edges[0], self.gap_slices + 1):
            edges[0] = extent[0]
        number: Ints = np.maximum(np.round(extent / edges), 1).astype(np.int64)
        return number


def _pieces(found: AnnotatedRuns, large: Bools, grid: _Grid) -> Pieces:
    is_cut = large[found.place]
    low, high = _bounds(found.runs, found.place, len(large))
    few = np.count_nonzero(~large) <= MAX_SINGLE_PLACES
    runs, keys = [], []
    for volume in np.unique(found.runs[:, VOLUME]):
        here = found.runs[:, VOLUME] == volume
        corners = _corners(found.runs[here])
        origin = corners.min(axis=0)
        fine, ratio = grid.fine_and_ratio(corners.max(axis=0) - origin)
        place = found.place[here & ~is_cut]
        at = ((low + high - 1)[place, 1:] // 2 - origin) // fine
        runs.append(found.runs[here & ~is_cut])
        keys.append(_keys(volume, at // ratio, 0, place[:, np.newaxis] if few else at))
        inner = _cut_along_x(found.runs[here & is_cut], int(origin[2]), int(fine[2]))
        at = (inner[:, Z : X0 + 1] - origin) // fine
        runs.append(inner)
        keys.append(_keys(volume, at // ratio, 1, at))
    return _sorted_pieces(
        np.concatenate(runs),
        np.concatenate(keys),
        found.num_classes,
    )


def _keys(volume: int | Ints, block: Ints, kind: int, own: Ints) -> Ints:
    """Return rows (volume, block z, y, x, kind, and up to three numbers of its own)."""
    keys = np.zeros((len(block), 8), np.int64)
    keys[:, 0], keys[:, 1:4], keys[:, 4] = volume, block, kind
    keys[:, 5 : 5 + own.shape[1]] = own
    return keys


def _sorted_pieces(runs: Ints, keys: Ints, num_classes: int) -> Pieces:
    """Return the pieces whose runs share a key; its first four numbers are those of the block."""
    piece, first = _numbered(keys)
    block = _numbered(keys[first][:, :4])[0]
    count = len(first)
    low, high = _bounds(runs, piece, count)
    counts = np.zeros((count, num_classes), np.int64)
    np.add.at(counts, (piece, runs[:, CLASS]), runs[:, X1] - runs[:, X0])
    return Pieces(runs, piece, low, high, counts, block)


def _numbered(rows: Ints) -> tuple[Ints, Ints]:
    """Return the rank of each row among the different rows, and where each is found first."""
    order = np.lexsort(rows.T[::-1])
    ranked = rows[order]
    is_new = np.ones(len(rows), bool)
    is_new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    number = np.empty(len(rows), np.int64)
    number[order] = np.cumsum(is_new) - 1
    return number, order[is_new]


def _is_fine_enough(pieces: Pieces, enough: float) -> bool:
    """Return whether there are enough blocks, and of each class that has enough pieces.

    It is true too if every piece has a block of its own.
    """
    if pieces.num_blocks == len(pieces.block):
        return True
    of_class = (pieces.counts > 0).sum(axis=0)
    blocks_of_class = (pieces.block_counts > 0).sum(axis=0)
    return bool(
        pieces.num_blocks >= enough
        and (blocks_of_class >= np.minimum(of_class, CLASS_BLOCKS)).all()
    )


def _large_places(found: AnnotatedRuns, cut_above: float) -> Bools:
    size = np.bincount(found.place, weights=found.sizes)
    low, high = _bounds(found.runs, found.place, len(size))
    area = size / np.maximum(high - low, 1)[:, 1]
    is_large = (area > LEAST_CUT_EDGE**2) | (size > LEAST_CUT_EDGE**3)
    return np.asarray(is_large & (size > cut_above * size.sum()), dtype=bool)


def _bounds(runs: Ints, group: Ints, count: int) -> tuple[Ints, Ints]:
    """Return the corners (volume, z, y, x) of the boxes around the runs of each group."""
    low = np.full((count, 4), np.iinfo(np.int64).max // 4)
    high = np.zeros((count, 4), np.int64)
    if len(runs):
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        names = group[order][starts]
        first = runs[order][:, [VOLUME, Z, Y, X0]]
        last = runs[order][:, [VOLUME, Z, Y, X1]] + np.array([1, 1, 1, 0])
        low[names] = np.minimum.reduceat(first, starts)
        high[names] = np.maximum.reduceat(last, starts)
    return low, high


def _corners(runs: Ints) -> Ints:
    """Return points (z, y, x) whose bounding box is that of the runs, half-open."""
    first = runs[:, [Z, Y, X0]]
    return np.concatenate([first, runs[:, [Z, Y, X1]] + np.array([1, 1, 0])])


def _cut_along_x(runs: Ints, origin: int, edge: int) -> Ints:
    """Return the runs cut at ``origin + k * edge``."""
    first = (runs[:, X0] - origin) // edge
    number = (runs[:, X1] - 1 - origin) // edge - first + 1
    result = np.repeat(runs, number, axis=0)
    step = np.arange(len(result)) - np.repeat(np.cumsum(number) - number, number)
    border = origin + (np.repeat(first, number) + step) * edge
    result[:, X0] = np.maximum(result[:, X0], border)
    result[:, X1] = np.minimum(result[:, X1], border + edge)
    return result


def _class_runs(labels: npt.NDArray[np.uint8], origin: Shape, volume: int) -> Ints:
    """Return the runs of a stored block, as rows of `AnnotatedRuns`."""
    depth, height, width = labels.shape
    padded = np.zeros((depth, height, width + 2), np.uint8)
    padded[:, :, 1:-1] = labels
    flat = padded.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    # The row ends with a zero, so that every run ends where something else begins.
    is_run = flat[changes] != UNLABELED
    first, last = changes[is_run], changes[1:][is_run[:-1]]
    row, x = np.divmod(first, width + 2)
    runs = np.empty((len(first), 6), np.int64)
    runs[:, VOLUME] = volume
    runs[:, Z], runs[:, Y] = row // height + origin[0], row % height + origin[1]
    runs[:, X0] = x - 1 + origin[2]
    runs[:, X1] = runs[:, X0] + last - first
    runs[:, CLASS] = flat[first].astype(np.int64) - FIRST_CLASS
    return runs

"""The levels of a label image that is being written, before its writer makes the coarser ones.

The writer makes them when all blocks are done. Until then they are made here, piece by piece, of
what level 0 holds, and kept in memory::

    level 0   |   cell   |   cell   |    1024 x 1024 voxels of a slice, read from the disk
    level 1   |  piece   |  piece   |    the voxels whose windows begin in the cell
    level 2   |  piece   |  piece   |

Together the pieces of a level hold each of its voxels once.
"""

from __future__ import annotations

import functools
import itertools
import logging
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.boxes import Box
from napari_unet.errors import InputError
from napari_unet.io.damage import input_errors
from napari_unet.io.ome_documents import OURS, read_group
from napari_unet.io.ome_metadata import ome_attributes
from napari_unet.io.pyramid import Reduction
from napari_unet.widgets._lazy_image import LazyImage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import zarr

    from napari_unet.core.boxes import Shape

    Labels = npt.NDArray[np.uint8]
    Key = tuple[int, Shape]

logger = logging.getLogger(__name__)

CELL_SHAPE = (1, 1024, 1024)
"""Voxels of level 0 (z, y, x) that are read for a piece: some milliseconds."""

LEVEL_BYTES = 64 * 2**20
"""Pieces of a level that are kept: many times what a screen shows of it."""

PIECE_BYTES = 256
"""What a piece costs at least, also where nothing is stored."""

KEPT_BOXES = 8192
"""Boxes of pieces that are remembered: those of some screens full."""

_REMEDY = "segment that part again"


class GrowingLevels:
    """All levels of a label image of classes, at any moment of its making.

    Each is the downsampling (`napari_unet.io.pyramid.Reduction.labels`) of level 0 as it was at the
    last `changed`; once the writer has made them, they are read as stored. Safe to be read from
    several threads.

    Parameters
    ----------
    arrays : sequence of zarr.Array
        The stored levels, from fine to coarse, (z, y, x) or (y, x).
    waits : bool
        Whether reading waits for pieces that are still to be made. If not, they are made in a
        thread, and what is read meanwhile is what was there before, or 0 = not computed.
    """

    def __init__(self, arrays: Sequence[zarr.Array[Any]], *, waits: bool = False) -> None:
        from napari_unet.io.zarr_chunks import StoredChunks

        self._arrays = tuple(arrays)
        self.waits = waits
        self.shapes: tuple[Shape, ...] = tuple(
            (1,) * (3 - array.ndim) + tuple(array.shape) for array in arrays
        )
        self._reductions = tuple(
            Reduction(fine, coarse) for fine, coarse in itertools.pairwise(self.shapes)
        )
        self._starts = self._window_starts()
        # Asked again at every redraw.
        self._owned = functools.lru_cache(KEPT_BOXES)(self._find_owned)
        self._stored = StoredChunks(arrays[0])
        self._pieces: list[OrderedDict[Shape, Labels | None]] = [OrderedDict() for _ in arrays]
        self._sizes = [0] * len(arrays)
        # A level that is shown whole must fit, or its pieces would drive each other out.
        plane = int(np.prod(self.shapes[-1][-2:], dtype=np.int64))
        self._limit = max(LEVEL_BYTES, 2 * plane)
        self._stale: set[Key] = set()
        self._begun: dict[Key, bool] = {}
        self._wanted: dict[Key, None] = {}
        self._filled: list[Box] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_complete = False

    @property
    def spatial_axes(self) -> str:
        """Axes of the arrays: "zyx" or "yx"."""
        return "zyx"[-self._arrays[0].ndim :]

    def views(self) -> list[LazyImage]:
        """Return the levels as arrays that napari shows."""
        return [LazyImage(_Level(self, number)) for number in range(len(self.shapes))]

    def read(self, level: int, box: Box) -> Labels:
        """Return the classes of a box (z, y, x) of a level.

        Raises
        ------
        InputError
            If what is stored is damaged.
        """
        if level == 0 or self._is_complete:
            return self._read_stored(level, box)
        out = np.zeros(box.shape, np.uint8)
        for cell in self._cells(level, box):
            piece = self._piece(level, cell)
            if piece is not None:
                owned = self._owned(level, cell)
                common = owned.intersection(box)
                here = common.relative_to(box.start).slices
                out[here] = piece[common.relative_to(owned.start).slices]
        return out

    def changed(self, box: Box) -> None:
        """Take note that a box (z, y, x) of level 0 was written."""
        with self._lock:
            for level in range(1, len(self.shapes)):
                for cell in self._cells(level, self._touched(level, box)):
                    key = (level, cell)
                    if cell in self._pieces[level]:
                        self._stale.add(key)
                    if key in self._begun:
                        self._begun[key] = True

    def look_whether_complete(self) -> bool:
        """Read the stored levels from now on, if the output says that all of them are there."""
        if not self._is_complete and is_complete(self._folder):
            self._is_complete = True
            with self._lock:
                self._wanted.clear()
                self._stale.clear()
                self._pieces = [OrderedDict() for _ in self._arrays]
        return self._is_complete

    def take_filled(self) -> list[Box]:
        """Return the boxes (z, y, x) of level 0 whose coarser voxels were made since last asked."""
        with self._lock:
            filled, self._filled = self._filled, []
        return filled

    def settle(self) -> None:
        """Return when nothing that was asked for is still to be made."""
        while (thread := self._thread) is not None:
            thread.join()

    @property
    def _folder(self) -> Path:
        array = self._arrays[0]
        return (Path(str(array.store.root)) / array.path).parent  # type: ignore[attr-defined]  # a LocalStore

    def _window_starts(self) -> list[tuple[npt.NDArray[np.intp], ...]]:
        """Return, per level and axis, where in level 0 the window of each voxel begins."""
        starts = [tuple(np.arange(n, dtype=np.intp) for n in self.shapes[0])]
        for reduction in self._reductions:
            starts.append(
                tuple(
                    starts[-1][axis][reduction.starts(axis, 0, reduction.coarse[axis] - 1)]
                    for axis in range(3)
                )
            )
        return starts

    def _cells(self, level: int, box: Box) -> Iterator[Shape]:
        """Yield the cells whose pieces hold a box of a level."""
        if box.is_empty:
            return
        # Where windows are longer than a cell, some cells own nothing.
        indices = (
            np.unique(starts[a:b] // edge).tolist()
            for starts, a, b, edge in zip(
                self._starts[level], box.start, box.stop, CELL_SHAPE, strict=True
            )
        )
        yield from itertools.product(*indices)

    def _cell_box(self, cell: Shape) -> Box:
        start = tuple(i * e for i, e in zip(cell, CELL_SHAPE, strict=True))
        stop = tuple(a + e for a, e in zip(start, CELL_SHAPE, strict=True))
        return Box(start, stop).intersection(Box.of_shape(self.shapes[0]))

    def _find_owned(self, level: int, cell: Shape) -> Box:
        """Return the voxels of a level whose windows begin in a cell."""
        box = self._cell_box(cell)
        starts = self._starts[level]
        return Box(
            tuple(int(np.searchsorted(s, a)) for s, a in zip(starts, box.start, strict=True)),
            tuple(int(np.searchsorted(s, b)) for s, b in zip(starts, box.stop, strict=True)),
        )

    def _touched(self, level: int, box: Box) -> Box:
        """Return the voxels of a level whose windows hold a part of a box of level 0."""
        starts = self._starts[level]
        first = (np.searchsorted(s, a, "right") - 1 for s, a in zip(starts, box.start, strict=True))
        last = (np.searchsorted(s, b) for s, b in zip(starts, box.stop, strict=True))
        return Box(tuple(int(i) for i in first), tuple(int(i) for i in last))

    def _piece(self, level: int, cell: Shape) -> Labels | None:
        """Return a piece as it is known; None = nothing is stored there, or not yet known."""
        key = (level, cell)
        with self._lock:
            pieces = self._pieces[level]
            if cell in pieces:
                pieces.move_to_end(cell)
            if cell in pieces and key not in self._stale:
                return pieces[cell]
            if not self.waits:
                self._want(key)
                return pieces.get(cell)
        self._make(key)
        with self._lock:
            return self._pieces[level].get(cell)

    def _want(self, key: Key) -> None:
        """Have a piece made in the thread; what was asked for last comes first."""
        self._wanted.pop(key, None)
        self._wanted[key] = None
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="label-levels", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        try:
            while (key := self._next()) is not None:
                try:
                    self._make(key)
                except InputError as error:
                    # Drawn as not computed; asked again, it would fail again.
                    logger.warning("a part of the labels cannot be shown: %s", error)
                    with self._lock:
                        self._keep(key, None)
                with self._lock:
                    self._filled.append(self._cell_box(key[1]))
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _next(self) -> Key | None:
        """Return what is to be made next; None = nothing, and the thread ends."""
        with self._lock:
            if self._wanted:
                return self._wanted.popitem()[0]
            # From here on another thread is begun for what is asked.
            self._thread = None
            return None

    def _make(self, key: Key) -> None:
        """Make a piece, and those of the other levels that come of the same voxels."""
        level, cell = key
        top = (len(self.shapes) - 1, cell)
        if top != key and not self._owned(*top).is_empty:
            self._compute(top)
        with self._lock:
            is_fresh = cell in self._pieces[level] and key not in self._stale
        if not is_fresh:
            self._compute(key)

    def _compute(self, key: Key) -> None:
        level, cell = key
        boxes = [self._owned(level, cell)]
        for reduction in reversed(self._reductions[:level]):
            boxes.insert(0, reduction.window(boxes[0]))
        keys = [(k, cell) for k in range(1, level + 1) if boxes[k] == self._owned(k, cell)]
        with self._lock:
            self._begun |= dict.fromkeys(keys, False)
        made: dict[Key, Labels | None] = dict.fromkeys(keys)
        try:
            if not self._is_blank(boxes[0]):
                data = self._read_stored(0, boxes[0])
                for k in range(1, level + 1):
                    data = self._reductions[k - 1].labels(boxes[k], data)
                    if (k, cell) in made:
                        made[k, cell] = data
        finally:
            with self._lock:
                changed = {each: self._begun.pop(each, False) for each in keys}
        with self._lock:
            for each, piece in made.items():
                self._keep(each, piece)
                if changed[each]:
                    self._stale.add(each)

    def _keep(self, key: Key, piece: Labels | None) -> None:
        """Keep a piece; those not used for longest make room."""
        level, cell = key
        pieces = self._pieces[level]
        self._drop(level, cell)
        pieces[cell] = piece
        self._sizes[level] += _size(piece)
        while self._sizes[level] > self._limit and len(pieces) > 1:
            self._drop(level, next(iter(pieces)))

    def _drop(self, level: int, cell: Shape) -> None:
        pieces = self._pieces[level]
        if cell in pieces:
            self._sizes[level] -= _size(pieces.pop(cell))
        self._stale.discard((level, cell))

    def _is_blank(self, box: Box) -> bool:
        """Return whether nothing of a box of level 0 was ever stored."""
        if box.is_empty:
            return True
        own = self._arrays[0].ndim
        ranges = (
            range(a // e, -(-b // e))
            for a, b, e in zip(box.start[-own:], box.stop[-own:], self._stored.edges, strict=True)
        )
        return not any(self._stored.exists(chunk) for chunk in itertools.product(*ranges))

    def _read_stored(self, level: int, box: Box) -> Labels:
        array = self._arrays[level]
        with input_errors(f"{array.store_path}: {box.start}..{box.stop} cannot be read", _REMEDY):
            return np.asarray(array[box.slices[-array.ndim :]]).reshape(box.shape)


class _Level:
    """One of the levels, as a `LazyImage` reads it."""

    def __init__(self, levels: GrowingLevels, number: int) -> None:
        self._levels, self._number = levels, number
        self.shape = levels.shapes[number]
        self.spatial_axes = levels.spatial_axes
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return the classes of a box, (1, z, y, x)."""
        return self._levels.read(self._number, box)[None]


def open_levels(labels: str, *, waits: bool = False) -> GrowingLevels:
    """Return the levels of a label image of classes, complete or not.

    Parameters
    ----------
    labels : str
        Path of its array of full resolution.
    waits : bool
        See `GrowingLevels`.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    # Imported on demand: the panel opens a third of a second sooner.
    import zarr

    folder = Path(labels).parent
    with input_errors(f"{folder}: the label image cannot be opened", _REMEDY):
        found = read_group(folder)
        if found is None:
            raise InputError(f"{folder} is no zarr group; {_REMEDY}")
        datasets = ome_attributes(found[1])["multiscales"][0]["datasets"]
        arrays = [zarr.open_array(folder / item["path"], mode="r") for item in datasets]
    levels = GrowingLevels(arrays, waits=waits)
    levels.look_whether_complete()
    return levels


def is_complete(folder: Path) -> bool:
    """Return whether the run over a label image, whose group is `folder`, has finished."""
    with input_errors(f"{folder}: the label image cannot be read", _REMEDY):
        found = read_group(folder)
    ours = {} if found is None else found[1].get(OURS)
    return isinstance(ours, dict) and ours.get("state") == "complete"


def _size(piece: Labels | None) -> int:
    return PIECE_BYTES + (0 if piece is None else piece.nbytes)

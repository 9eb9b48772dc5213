"""Objects larger than a block: blocks are labeled one by one, then what is one object is joined.

::

    pass 1   each block, with a margin          pass 2   each block again
             +---------+---------+                       +---------+---------+
             | 1 1     | .       |                       | 1 1     | .       |
             |   1 1 1 | 1 1   2 |    (0,1)=(1,1)        |   1 1 1 | 1 1   2 |
             | 2       | .     2 |    -- joined -->      | 3       | .     2 |
             +---------+---------+                       +---------+---------+
             numbers of the block                        numbers of the whole

Where the margins of two blocks make them label the same voxels, a rule says which numbers mean the
same object; the rule is the method's own, the rest is common to all methods. Objects are numbered
in the order of their first voxels (z, y, x), so labels that do not depend on the blocks have the
same numbers for all blocks, orders and workers: equal, not only equal up to a permutation.
"""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import fastremap
import numpy as np

from napari_unet.errors import TilingError
from napari_unet.labels.block_grid import BlockGrid, Schedule
from napari_unet.labels.numbering import NOWHERE, final_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    import numpy.typing as npt

    from napari_unet.core.boxes import Box, Shape
    from napari_unet.labels.numbering import Pairs

__all__ = [
    "BlockGrid",
    "BlockLabeling",
    "BlockStitched",
    "OpenOutput",
    "Schedule",
    "Scratch",
    "WriteBlock",
    "finish",
    "object_type",
    "stitch",
]

R = TypeVar("R")

WriteBlock: TypeAlias = "Callable[[Box, npt.NDArray[Any]], None]"
"""Stores the objects of a block, ``write(box, objects)``."""

OpenOutput: TypeAlias = "Callable[[int], WriteBlock]"
"""Is given the number of objects, opens the output and returns what writes its blocks."""


class BlockLabeling(Protocol):
    """How one block is labeled, and which of its objects are those of a neighbor."""

    def label(self, box: Box) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the objects of a block with its margin.

        Parameters
        ----------
        box : Box
            The block and its margin, inside the whole.

        Returns
        -------
        numpy.ndarray
            Unsigned, of the box's shape, 0 = background. Numbers begin at 1 and leave no large
            gaps: memory is kept for the largest. Depends on nothing but the box.
        """

    def join(self, box: Box, lower: npt.NDArray[np.uint32], upper: npt.NDArray[np.uint32]) -> Pairs:
        """Return which numbers of two blocks that share a face are one object.

        Parameters
        ----------
        box : Box
            The voxels that both blocks labeled.
        lower, upper : numpy.ndarray
            What each says of them; `lower` is the block nearer to the origin.

        Returns
        -------
        numpy.ndarray
            (n, 2) int64: a number of `lower` and one of `upper`.
        """


class Scratch(Protocol):
    """Where the labels of blocks wait for the second pass: a NumPy or zarr array of uint32."""

    def __getitem__(self, index: tuple[slice, ...], /) -> Any:
        """Return the labels of a box."""

    def __setitem__(self, index: tuple[slice, ...], labels: Any, /) -> None:
        """Store the labels of a block. Several threads store, each a block of its own."""


@dataclass(frozen=True, slots=True)
class BlockStitched:
    """A block is through a pass. `done` of `total`, where the blocks of both passes count."""

    box: Box
    done: int
    total: int


def stitch(
    grid: BlockGrid,
    labeling: BlockLabeling,
    *,
    open_output: OpenOutput,
    scratch: Scratch | None = None,
    schedule: Schedule | None = None,
) -> Generator[BlockStitched, None, int]:
    """Label all blocks and write the objects of the whole, yielding after every block.

    Parameters
    ----------
    grid : BlockGrid
        The blocks and the margin that the method needs.
    labeling : BlockLabeling
        The method.
    open_output : callable
        Is given the number of objects when it is known, and returns what each block is written by:
        ``write(box, objects)``, with objects of `object_type`. Called once; the writer is called
        once per block, by several threads if there are several workers.
    scratch : Scratch or None
        Keeps the labels of the blocks between the passes, in the shape of the grid. May be the
        array that the output is written to. None = every block is labeled twice, which for quick
        methods costs less than storing.
    schedule : Schedule or None
        Order and threads; None = the order of the grid, one thread.

    Yields
    ------
    BlockStitched
        After each block of each pass. Closing the generator ends the work after the blocks that
        are being worked on.

    Returns
    -------
    int
        Number of objects: they are 1, 2, ... in the order of their first voxels, without a gap.
        Read it with ``yield from`` or `finish`.

    Raises
    ------
    ConfigError, TilingError
        If schedule or labels do not fit the grid; and whatever reading and writing raise.

    Notes
    -----
    Memory: per worker, a block or two; per number of a block, 8 bytes (its first voxel) and, while
    the final numbers are found, about 50; per pair of numbers on a face, some dozens; and the
    faces, as thick as their margins, of blocks whose neighbor is not labeled yet: in the order of
    the grid, about one plane through the array.
    """
    plan = schedule or Schedule()
    order, total = plan.of(grid), 2 * grid.count
    first_pass = _FirstPass(grid, labeling, scratch)
    done = itertools.count(1)
    for labeled in _mapped(first_pass.label, order, plan.workers):
        first_pass.collect(labeled)
        yield BlockStitched(grid.box(labeled.block), next(done), total)
    offsets, numbers, count = first_pass.numbers()
    write = open_output(count)
    table_type = object_type(count)

    def rewrite(block: int) -> int:
        box = grid.box(block)
        labels = first_pass.labels_of(block) if scratch is None else scratch[box.slices]
        table = np.zeros(offsets[block + 1] - offsets[block] + 1, dtype=table_type)
        table[1:] = numbers[offsets[block] : offsets[block + 1]]
        objects = np.empty(box.shape, dtype=table_type)
        # Clipping is never needed, but spares NumPy a copy of the whole block.
        np.take(table, labels, out=objects, mode="clip")
        write(box, objects)
        return block

    for block in _mapped(rewrite, order, plan.workers):
        yield BlockStitched(grid.box(block), next(done), total)
    return count


def finish(steps: Generator[Any, None, R]) -> R:
    """Run a generator to its end and return what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: R = end.value
            return result


def object_type(count: int) -> np.dtype[Any]:
    """Return the type that holds `count` objects: uint32, or uint64 from 2**32 objects on."""
    return np.dtype(np.uint32 if count < 2**32 else np.uint64)


@dataclass(frozen=True, slots=True)
class _Labeled:
    """What is kept of a labeled block."""

    block: int
    first_voxels: npt.NDArray[np.int64]
    faces: dict[tuple[int, int], npt.NDArray[np.uint32]]


@dataclass(slots=True)
class _FirstPass:
    grid: BlockGrid
    labeling: BlockLabeling
    scratch: Scratch | None
    _firsts: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    _waiting: dict[tuple[int, int], npt.NDArray[np.uint32]] = field(default_factory=dict)
    _joined: list[tuple[int, int, Pairs]] = field(default_factory=list)

    def label(self, block: int) -> _Labeled:
        """Label a block and store its own voxels. Safe to call from several threads."""
        wide, box = self.grid.extended(block), self.grid.box(block)
        labels = self._label(wide)
        own = np.ascontiguousarray(labels[box.relative_to(wide.start).slices])
        if self.scratch is not None:
            self.scratch[box.slices] = own
        count = int(labels.max())
        firsts = _first_voxels(own, count, box, self.grid.shape)
        faces = {
            face: labels[self._common(face).relative_to(wide.start).slices].copy()
            for face in self.grid.faces(block)
            if not self._common(face).is_empty
        }
        return _Labeled(block, firsts, faces)

    def labels_of(self, block: int) -> npt.NDArray[np.uint32]:
        """Return the labels of a block's own voxels, computed anew."""
        wide, box = self.grid.extended(block), self.grid.box(block)
        return self._label(wide)[box.relative_to(wide.start).slices]

    def collect(self, labeled: _Labeled) -> None:
        """Take in a labeled block, and join it to the neighbors that are there."""
        self._firsts[labeled.block] = labeled.first_voxels
        for face, labels in labeled.faces.items():
            other = self._waiting.pop(face, None)
            if other is None:
                self._waiting[face] = labels
                continue
            lower, upper = (labels, other) if labeled.block == face[0] else (other, labels)
            pairs = self.labeling.join(self._common(face), lower, upper)
            if len(pairs):
                self._check(face, pairs)
                self._joined.append((*face, pairs))

    def numbers(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
        """Return where each block's numbers begin, the final number of each, and how many."""
        firsts = [self._firsts.pop(block) for block in range(self.grid.count)]
        offsets = np.zeros(len(firsts) + 1, dtype=np.int64)
        np.cumsum([len(f) for f in firsts], out=offsets[1:])
        # A number k of a block is the entry k - 1 after the block's offset.
        joined = [pairs + offsets[[low, up]] - 1 for low, up, pairs in self._joined]
        pairs = np.concatenate(joined) if joined else np.empty((0, 2), dtype=np.int64)
        self._joined.clear()
        numbers, count = final_numbers(np.concatenate(firsts), pairs)
        return offsets, numbers, count

    def _label(self, wide: Box) -> npt.NDArray[np.uint32]:
        labels = self.labeling.label(wide)
        if labels.shape != wide.shape or labels.dtype.kind != "u":
            raise TilingError(
                f"the block {wide.start}..{wide.stop} was labeled with {labels.dtype} of shape "
                f"{labels.shape}; a method must return unsigned numbers of shape {wide.shape}"
            )
        return labels.astype(np.uint32, copy=False)

    def _check(self, face: tuple[int, int], pairs: Pairs) -> None:
        highest = [len(self._firsts[block]) for block in face]
        if pairs.min() < 1 or (pairs.max(axis=0) > highest).any():
            raise TilingError(
                f"the blocks {face} have the numbers 1..{highest[0]} and 1..{highest[1]}, but were "
                f"joined by numbers from {pairs.min()} to {pairs.max()}; pairs name a number of "
                "each block, and 0 is background"
            )

    def _common(self, face: tuple[int, int]) -> Box:
        return self.grid.extended(face[0]).intersection(self.grid.extended(face[1]))


def _first_voxels(
    labels: npt.NDArray[np.uint32], count: int, box: Box, shape: Shape
) -> npt.NDArray[np.int64]:
    """Return the place of the first voxel of 1..count in the whole; `NOWHERE` = not in the box."""
    firsts = np.full(count, NOWHERE, dtype=np.int64)
    used, places = fastremap.unique(labels, return_index=True)
    here = used > 0
    index = np.unravel_index(places[here].astype(np.int64), box.shape)
    whole = [i + start for i, start in zip(index, box.start, strict=True)]
    firsts[used[here].astype(np.int64) - 1] = np.ravel_multi_index(whole, shape)
    return firsts


def _mapped(function: Callable[[int], R], blocks: Iterable[int], workers: int) -> Iterator[R]:
    """Yield the results in order, computed by threads with few results waiting."""
    if workers == 1:
        yield from map(function, blocks)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="napari-unet-blocks")
    running: deque[Any] = deque()
    try:
        for block in blocks:
            running.append(pool.submit(function, block))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

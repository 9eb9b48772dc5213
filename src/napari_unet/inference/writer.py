"""The one thread that writes: tiles are put together to blocks, blocks go to storage."""

from __future__ import annotations

import itertools
import queue
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_unet.inference.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from napari_unet.core.arrays import BlockJournal, LabelSink
    from napari_unet.core.boxes import Box
    from napari_unet.core.tiling import Block

    Outcome: TypeAlias = "tuple[Box, bool] | Box | BlockFault"


_NEVER = threading.Event()
"""What is computed is worth waiting for, also when the job is to end."""


@dataclass(frozen=True, slots=True)
class TileResult:
    """What the network says of a tile.

    Parameters
    ----------
    block : Block
        The block it belongs to.
    box : Box
        The voxels it decides.
    labels : numpy.ndarray
        uint8 (z, y, x).
    probabilities : numpy.ndarray or None
        float32 (class, z, y, x).
    nonfinite : int
        Voxels of the box that were NaN or infinite in the image.
    """

    block: Block
    box: Box
    labels: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32] | None
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class BlockFault:
    """A block that cannot be computed, and why."""

    block: Block
    cause: str


class BlockBuffer:
    """A block that is being put together: it begins with the box of its first tile's block.

    Parameters
    ----------
    result : TileResult
        Says which block, and whether there are probabilities; it is not yet added.
    """

    def __init__(self, result: TileResult) -> None:
        self.block = result.block
        self.box = result.block.write
        self.missing = self.box.size
        self.nonfinite = 0
        self.stored = 0
        self.labels = np.zeros(self.box.shape, np.uint8)
        self.probabilities: npt.NDArray[np.float32] | None = None
        if result.probabilities is not None:
            classes = result.probabilities.shape[0]
            self.probabilities = np.zeros((classes, *self.box.shape), np.float32)

    def add(self, result: TileResult) -> None:
        """Put a tile of the block where it belongs."""
        inside = result.box.relative_to(self.box.start).slices
        self.labels[inside] = result.labels
        if self.probabilities is not None and result.probabilities is not None:
            self.probabilities[(slice(None), *inside)] = result.probabilities
        self.missing -= result.box.size
        self.nonfinite += result.nonfinite


class BlockWriter:
    """Collects tiles into blocks and stores them, in a thread of its own.

    A tile that covers whole stored objects is stored at once, so that it can be seen; the others
    are stored with their block. So every stored object is written once, by one thread.

    Parameters
    ----------
    sink : LabelSink
        Where they go.
    depth : int
        Tiles that may wait before `put` blocks.
    journal : BlockJournal or None
        Told of every block, once it is stored or has failed.
    """

    def __init__(self, sink: LabelSink, depth: int, journal: BlockJournal | None = None) -> None:
        self._sink = sink
        self._journal = journal
        self._waiting: queue.Queue[TileResult | BlockFault | None] = queue.Queue(depth)
        self._finished: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._blocks: dict[tuple[int, ...], BlockBuffer] = {}
        self._failed_blocks: set[tuple[int, ...]] = set()
        self._error: BaseException | None = None
        self._failed = False
        self._thread = threading.Thread(target=self._work, name="block-writer", daemon=True)
        self._closed = False
        self._thread.start()

    def put(self, result: TileResult | BlockFault) -> None:
        """Hand over a tile, or say that its block fails; raises what an earlier write ran into.

        Of a block that fails nothing more is stored.
        """
        self._raise_error()
        self._waiting.put(result)

    def finished(self) -> Iterator[Outcome]:
        """Yield what has happened since the last call.

        A pair (box, stored) for a tile, a box for a block all of whose voxels are stored, a fault
        for a block that failed.
        """
        while not self._finished.empty():
            yield self._finished.get()

    def close(self) -> None:
        """Store everything handed over, also unfinished blocks, and end the thread."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._thread.join()
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        while (result := self._waiting.get()) is not None:
            # After an error the queue is still emptied: the other side must never hang.
            if not self._failed:
                self._guard(self._add, result)
        if not self._failed:
            self._guard(self._flush)

    def _guard(self, action: Callable[..., None], *arguments: TileResult | BlockFault) -> None:
        try:
            action(*arguments)
        except BaseException as error:  # noqa: BLE001  # re-raised in the thread that hands over
            self._error, self._failed = error, True

    def _add(self, result: TileResult | BlockFault) -> None:
        index = result.block.index
        if index in self._failed_blocks:
            return
        if isinstance(result, BlockFault):
            self._blocks.pop(index, None)
            self._failed_blocks.add(index)
            if self._journal is not None:
                self._journal.enter_failed(result.block, result.cause)
            self._finished.put(result)
            return
        buffer = self._blocks.get(index)
        if buffer is None:
            buffer = self._blocks[index] = BlockBuffer(result)
        buffer.add(result)
        at_once = buffer.missing > 0 and self._covers_whole_objects(result)
        if at_once:
            self._store(result.box, result.labels, result.probabilities)
            buffer.stored += result.box.size
        if buffer.missing == 0:
            del self._blocks[index]
            self._complete(buffer, result)
            self._enter(buffer)
        self._finished.put((result.box, at_once or buffer.missing == 0))
        if buffer.missing == 0:
            self._finished.put(buffer.box)

    def _complete(self, buffer: BlockBuffer, last: TileResult) -> None:
        """Store what the tiles of a block have not stored themselves."""
        others = buffer.box.size - buffer.stored
        if others == last.box.size:
            self._store(last.box, last.labels, last.probabilities)
        else:
            self._store(buffer.box, buffer.labels, buffer.probabilities)

    def _enter(self, buffer: BlockBuffer) -> None:
        """Enter a block that is stored.

        What a disk could not sync it may have dropped; so it is stored again before another try.
        """
        journal = self._journal
        if journal is None:
            return
        attempts = itertools.count()

        def attempt() -> None:
            if next(attempts):
                self._store(buffer.box, buffer.labels, buffer.probabilities)
            journal.enter_done(buffer.block, buffer.nonfinite)

        patiently(attempt, _NEVER)

    def _flush(self) -> None:
        for buffer in self._blocks.values():
            if buffer.stored < buffer.box.size - buffer.missing:
                self._store(buffer.box, buffer.labels, buffer.probabilities)
        self._blocks.clear()

    def _store(
        self,
        box: Box,
        labels: npt.NDArray[np.uint8],
        probabilities: npt.NDArray[np.float32] | None,
    ) -> None:
        if probabilities is not None:
            patiently(partial(self._sink.write_probabilities, box, probabilities), _NEVER)
        # Labels last: a label that is there says that the rest is there too.
        patiently(partial(self._sink.write_labels, box, labels), _NEVER)

    def _covers_whole_objects(self, result: TileResult) -> bool:
        owner = result.block.write
        return all(
            (a == low or a % edge == 0) and (b == high or b % edge == 0)
            for a, b, low, high, edge in zip(
                result.box.start,
                result.box.stop,
                owner.start,
                owner.stop,
                self._sink.chunk_shape,
                strict=True,
            )
        )

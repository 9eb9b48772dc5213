"""The overlap-tile engine: three stages side by side, joined by bounded queues.

::

    reader thread            caller's thread         writer thread
    next block, its tiles -> batch -> network ----> block buffer -> zarr
    read, mirror, normalize                          |
                             events <----------------'

Memory holds a few tiles and the blocks in flight, however large the volume is. Only
the writer touches the output, so no two threads ever write one chunk.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from napari_unet.core.events import BlockDone, BlockFailed, Paused, TileDone, Warned
from napari_unet.errors import InputError
from napari_unet.inference.fitting import fitted_results
from napari_unet.inference.patience import patiently
from napari_unet.inference.queue import BlockQueue
from napari_unet.inference.tile_input import TileInput, TileRun, read_tile
from napari_unet.inference.writer import BlockFault, BlockWriter, TileResult

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_unet.core.boxes import Box
    from napari_unet.inference.control import JobControl
    from napari_unet.inference.predictor import Predictor

__all__ = ["READ_AHEAD", "Tally", "TileRun", "run_tiles"]

READ_AHEAD = 2
"""Batches read before they are needed: one being read while one waits is enough to hide reading."""

POLL_SECONDS = 0.1
"""How often a waiting thread looks whether the job was stopped."""


@dataclass(slots=True)
class Tally:
    """What has been met so far; read it when the run has ended."""

    nonfinite: int = 0
    tiles: int = 0
    blocks: int = 0
    pixels: int = 0
    failed: dict[Box, str] = field(default_factory=dict)


def run_tiles(
    run: TileRun, predictor: Predictor, control: JobControl, tally: Tally
) -> Generator[TileDone | BlockDone | BlockFailed | Paused | Warned]:
    """Segment a region, yielding an event for every tile and block that is finished.

    Closing the generator, or ``control.stop()``, ends it at the next tile,
    ``control.wind_down()`` after the blocks that were begun; what is computed by then is written. A
    block whose part of the image is damaged, or to which the network answers with NaN, fails alone:
    nothing of it is taken for a result, and the others go on. Where the device has not enough
    memory, less is computed at once from then on (`napari_unet.inference.fitting`).

    Parameters
    ----------
    run : TileRun
        What to compute and where it goes.
    predictor : Predictor
        The network on its device; in the end its `batch_size` and `largest_tile` are what fits.
    control : JobControl
        Stop, pause and viewport.
    tally : Tally
        Counts, updated as the run goes on.

    Yields
    ------
    TileDone, BlockDone, BlockFailed, Paused, Warned
        In the order in which things happen.

    Raises
    ------
    StorageError, BackendError
        What writing or computing ran into; everything finished before is written.
    """
    reader = _Reader(run, control, depth=READ_AHEAD * predictor.batch_size)
    writer = BlockWriter(run.sink, READ_AHEAD * predictor.batch_size, run.journal)
    try:
        for batch in _batches(reader, predictor.batch_size):
            yield from _pauses(control)
            if control.stopped:
                break
            for answer in _answers(run, predictor, batch):
                if isinstance(answer, Warned):
                    yield answer
                    continue
                tally.nonfinite += answer.nonfinite if isinstance(answer, TileResult) else 0
                writer.put(answer)
            yield from _count(writer.finished(), tally)
        writer.close()
        yield from _count(writer.finished(), tally)
    finally:
        reader.close()
        writer.close()


def _answers(
    run: TileRun, predictor: Predictor, batch: list[TileInput] | BlockFault
) -> Iterator[TileResult | BlockFault | Warned]:
    """Yield what becomes of tiles of one shape."""
    if isinstance(batch, BlockFault):
        yield batch
    else:
        yield from fitted_results(run, predictor, batch)


def _pauses(control: JobControl) -> Iterator[Paused]:
    if control.paused:
        yield Paused(True)
        control.wait_while_paused()
        if not control.ending:
            yield Paused(False)


def _count(
    results: Iterator[tuple[Box, bool] | Box | BlockFault], tally: Tally
) -> Iterator[TileDone | BlockDone | BlockFailed]:
    for result in results:
        if isinstance(result, BlockFault):
            tally.failed[result.block.write] = result.cause
            yield BlockFailed(result.block.write, result.cause)
        elif isinstance(result, tuple):
            box, written = result
            tally.tiles += 1
            tally.pixels += box.size
            yield TileDone(box, written, tally.tiles, tally.pixels)
        else:
            tally.blocks += 1
            yield BlockDone(result, tally.blocks)


def _batches(reader: _Reader, size: int) -> Iterator[list[TileInput] | BlockFault]:
    """Yield batches of tiles of one shape, and faults, as they come."""
    batch: list[TileInput] = []
    for item in reader:
        if isinstance(item, BlockFault):
            yield item
            continue
        if batch and item.image.shape != batch[0].image.shape:
            yield batch
            batch = []
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _Reader:
    """A thread that reads, mirrors and normalizes tiles ahead of the network."""

    def __init__(self, run: TileRun, control: JobControl, depth: int) -> None:
        self._run = run
        self._control = control
        self._ready: queue.Queue[TileInput | BlockFault | BaseException | None]
        self._ready = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tile-reader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[TileInput | BlockFault]:
        while True:
            item = self._ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """End the thread; tiles read ahead are dropped."""
        self._closed.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            for item in self._tiles():
                if not self._offer(item):
                    return
            self._offer(None)
        except BaseException as error:  # noqa: BLE001  # re-raised in the thread that consumes
            self._offer(error)

    def _offer(self, item: TileInput | BlockFault | BaseException | None) -> bool:
        while not self._closed.is_set():
            try:
                self._ready.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _tiles(self) -> Iterator[TileInput | BlockFault]:
        run = self._run
        blocks = BlockQueue(run.grid, run.region, self._control.viewport, run.done, run.share)
        while not self._control.ending:
            blocks.look_at(self._control.viewport)
            block = blocks.pop()
            if block is None:
                return
            try:
                for tile in blocks.tiles_of(block):
                    yield patiently(partial(read_tile, run, block, tile), self._closed)
            except InputError as error:
                yield BlockFault(block, str(error))

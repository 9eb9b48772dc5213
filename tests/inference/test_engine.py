"""The engine: once per pixel, visible first, cancelled at the next tile, errors never swallowed."""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.inference.conftest import MemoryImage
from tests.nets import lively_net

from napari_unet.core.boxes import Box
from napari_unet.core.events import BlockDone, BlockFailed, Paused, TileDone
from napari_unet.core.normalization import Normalization
from napari_unet.core.tiling import TileGrid
from napari_unet.errors import BackendError, InputError, StorageError
from napari_unet.inference import patience
from napari_unet.inference.control import JobControl
from napari_unet.inference.device import choose_backend
from napari_unet.inference.engine import Tally, TileRun, run_tiles
from napari_unet.inference.memory import MemorySink
from napari_unet.inference.predictor import Predictor
from napari_unet.inference.queue import BlockQueue
from napari_unet.model.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_unet.core.tiling import Block

UNIT = Normalization(offset=(0.0,), scale=(1.0,))


class CountingSink(MemorySink):
    """Counts how often each voxel is written, and by which threads."""

    def __init__(self, shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.writes = np.zeros(shape, int)
        self.threads: set[int] = set()
        self._chunk = chunk

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        return self._chunk

    def write_labels(self, box: Box, labels: npt.NDArray[np.uint8]) -> None:
        super().write_labels(box, labels)
        self.writes[box.slices] += 1
        self.threads.add(threading.get_ident())


def start(
    array: npt.NDArray[Any],
    sink: MemorySink,
    *,
    tile: int = 16,
    block: int = 32,
    region: Box | None = None,
    control: JobControl | None = None,
    tally: Tally | None = None,
    source: MemoryImage | None = None,
    net: UNet | None = None,
    batch: int = 1,
    **options: Any,
) -> Generator[TileDone | BlockDone | BlockFailed | Paused]:
    net = net or lively_net(0, depth=1, base_channels=2)
    geometry = net.architecture.geometry()
    source = source or MemoryImage(array)
    grid = TileGrid(source.shape, geometry, (1, tile, tile), (1, block, block))
    run = TileRun(source, sink, grid, region or grid.extent, UNIT, False, **options)
    predictor = Predictor(net, geometry, choose_backend("cpu"), batch)
    return run_tiles(run, predictor, control or JobControl(), tally or Tally())


@pytest.mark.parametrize("chunk", [(1, 1, 1), (1, 16, 16), (1, 32, 32), (1, 24, 24)])
def test_every_voxel_of_the_region_is_written_once_by_one_thread(chunk: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=(1, 2, 70, 50))
    region = Box((0, 5, 3), (2, 66, 50))
    sink = CountingSink(array.shape[1:], chunk)
    tally = Tally()
    events = list(start(array, sink, region=region, tally=tally))
    expected = np.zeros(array.shape[1:], int)
    expected[region.slices] = 1
    if chunk == (1, 24, 24):
        # Tiles that share a chunk with others wait for their block; some go with it once more.
        assert ((sink.writes > 0) == (expected > 0)).all()
    else:
        np.testing.assert_array_equal(sink.writes, expected)
    assert len(sink.threads) == 1
    tiles = [event for event in events if isinstance(event, TileDone)]
    blocks = [event for event in events if isinstance(event, BlockDone)]
    covered = np.zeros(array.shape[1:], int)
    for event in tiles:
        covered[event.box.slices] += 1
    np.testing.assert_array_equal(covered, expected)
    assert tally.tiles == tiles[-1].tiles_done == len(tiles)
    assert tally.blocks == blocks[-1].blocks_done == len(blocks)
    assert tally.pixels == tiles[-1].pixels_done == region.size
    assert sum(event.box.size for event in blocks) == region.size


def test_a_tile_is_said_to_be_written_only_when_it_is() -> None:
    array = np.random.default_rng(0).normal(size=(1, 1, 64, 64))
    for chunk in ((1, 1, 1), (1, 32, 32)):
        sink = CountingSink(array.shape[1:], chunk)
        for event in start(array, sink):
            if isinstance(event, BlockDone) or event.written:
                assert (sink.labels[event.box.slices] > 0).all()


def test_the_visible_part_comes_first() -> None:
    array = np.zeros((1, 3, 128, 128), np.uint8)
    control = JobControl()
    control.viewport = Box((1, 70, 70), (2, 90, 90))
    events = start(array, MemorySink(array.shape[1:]), control=control)
    boxes = [event.box for event in events if isinstance(event, TileDone)]
    assert all(box.start[0] == 1 for box in boxes[:64]), "the visible slice first"
    visible = [box for box in boxes if not box.intersection(control.viewport).is_empty]
    assert set(boxes[: len(visible)]) == set(visible), "and in it the visible tiles"
    blocks = [tuple(s // 32 for s in box.start[1:]) for box in boxes[:64:4]]
    away = [max(abs(y - 2), abs(x - 2)) for y, x in blocks]
    assert away == sorted(away), "then outward"


def test_looking_elsewhere_reorders_what_is_left() -> None:
    net = lively_net(0, depth=1)
    grid = TileGrid((1, 64, 640), net.architecture.geometry(), (1, 32, 32), (1, 64, 64))
    queue = BlockQueue(grid, grid.extent)
    first = queue.pop()
    assert first is not None
    assert first.index == (0, 0, 0)
    queue.look_at(Box((0, 0, 500), (1, 64, 520)))
    order = []
    while (block := queue.pop()) is not None:
        order.append(block.index[2])
    assert order[0] == 7 or order[0] == 8
    assert sorted(order) == list(range(1, 10)), "each block once"
    assert order[-1] == 1, "the farthest one last"


def test_stopping_ends_at_the_next_tile_and_keeps_what_is_computed() -> None:
    array = np.random.default_rng(0).normal(size=(1, 8, 64, 64))
    control = JobControl()
    sink = CountingSink(array.shape[1:], (1, 32, 32))
    tally = Tally()
    seen = 0
    for event in start(array, sink, control=control, tally=tally):
        if isinstance(event, TileDone) and (seen := seen + 1) == 6:
            control.stop()
    assert 6 <= tally.tiles <= 16, "it stopped long before all 128 tiles"
    assert (sink.labels > 0).sum() == tally.pixels


def test_closing_the_generator_leaves_no_thread_and_keeps_what_is_computed() -> None:
    before = threading.active_count()
    array = np.random.default_rng(0).normal(size=(1, 8, 64, 64))
    sink = CountingSink(array.shape[1:], (1, 32, 32))
    events = start(array, sink)
    boxes = [event.box for event in (next(events) for _ in range(7)) if isinstance(event, TileDone)]
    events.close()
    assert threading.active_count() == before
    for box in boxes:
        assert (sink.labels[box.slices] > 0).all()


def test_a_paused_job_waits_and_goes_on() -> None:
    array = np.zeros((1, 4, 64, 64), np.uint8)
    control = JobControl()
    events = start(array, MemorySink(array.shape[1:]), control=control)
    next(events)
    control.pause()
    timer = threading.Timer(0.3, control.resume)
    timer.start()
    began = time.monotonic()
    rest = list(events)
    assert time.monotonic() - began >= 0.25
    assert [event.paused for event in rest if isinstance(event, Paused)] == [True, False]
    assert sum(isinstance(event, TileDone) for event in rest) >= 4 * 16 - 8


class Kept:
    """A journal in memory."""

    def __init__(self) -> None:
        self.done: dict[tuple[int, ...], int] = {}
        self.failed: dict[tuple[int, ...], str] = {}

    def enter_done(self, block: Block, nonfinite: int) -> None:
        self.done[block.index] = nonfinite

    def enter_failed(self, block: Block, cause: str) -> None:
        self.failed[block.index] = cause


class Damaged(MemoryImage):
    """One voxel cannot be read, near the border of the image: one block needs it."""

    def read(self, box: Box) -> npt.NDArray[Any]:
        if not box.intersection(Box((2, 10, 1), (3, 11, 2))).is_empty:
            raise InputError("stack.zarr: chunk c/2/0/0 is damaged")
        return super().read(box)


def test_a_block_that_cannot_be_read_fails_alone() -> None:
    array = np.random.default_rng(0).normal(size=(1, 4, 32, 64))
    whole, sink, journal = MemorySink(array.shape[1:]), MemorySink(array.shape[1:]), Kept()
    list(start(array, whole))
    before, tally = threading.active_count(), Tally()
    events = list(start(array, sink, source=Damaged(array), tally=tally, journal=journal))
    failed = [event for event in events if isinstance(event, BlockFailed)]
    assert [event.box for event in failed] == list(tally.failed) == [Box((2, 0, 0), (3, 32, 32))]
    assert "c/2/0/0" in failed[0].cause
    assert journal.failed == {(2, 0, 0): failed[0].cause}
    assert set(journal.done) == {(z, 0, x) for z in range(4) for x in range(2)} - {(2, 0, 0)}
    assert (sink.labels[2, :, :32] == 0).all()
    sink.labels[2, :, :32] = whole.labels[2, :, :32]
    np.testing.assert_array_equal(sink.labels, whole.labels)
    assert threading.active_count() == before


class Picky(UNet):
    """Answers with NaN where the image is bright."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x.amax(dim=(1, 2, 3), keepdim=True) > 50
        return torch.where(bright, torch.nan, super().forward(x))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_block_that_the_network_has_no_answer_to_fails_alone(batch: int) -> None:
    array = np.random.default_rng(0).normal(size=(1, 2, 32, 64))
    whole, sink, journal = MemorySink(array.shape[1:]), MemorySink(array.shape[1:]), Kept()
    list(start(array, whole))
    bright = array.copy()
    bright[0, 1, 0, 0] = 99
    net = lively_net(0, depth=1, base_channels=2)
    net.__class__ = Picky
    list(start(bright, sink, net=net, batch=batch, journal=journal))
    assert list(journal.failed) == [(1, 0, 0)]
    assert "NaN" in journal.failed[1, 0, 0]
    # Tiles of one batch are computed again one by one; nothing of the good ones is lost.
    np.testing.assert_array_equal(sink.labels[0], whole.labels[0])
    np.testing.assert_array_equal(sink.labels[1, :, 32:], whole.labels[1, :, 32:])
    assert len(journal.done) == 3


def test_what_is_done_is_not_computed_again() -> None:
    array = np.random.default_rng(0).normal(size=(1, 3, 70, 50))
    whole, sink, journal, source = (
        MemorySink(array.shape[1:]), MemorySink(array.shape[1:]), Kept(), MemoryImage(array),
    )  # fmt: skip
    list(start(array, whole))
    done = frozenset({(0, 0, 0), (1, 1, 1), (2, 2, 0), (9, 9, 9)})
    list(start(array, sink, source=source, done=done, journal=journal))
    assert (
        set(journal.done)
        == {(z, y, x) for z in range(3) for y in range(3) for x in range(2)} - done
    )
    assert (sink.labels[0, :32, :32] == 0).all()
    sink.labels[0, :32, :32] = whole.labels[0, :32, :32]
    sink.labels[1, 32:64, 32:] = whole.labels[1, 32:64, 32:]
    sink.labels[2, 64:, :32] = whole.labels[2, 64:, :32]
    np.testing.assert_array_equal(sink.labels, whole.labels)


def test_winding_down_finishes_the_blocks_that_were_begun() -> None:
    array = np.random.default_rng(0).normal(size=(1, 9, 64, 64))
    control, journal, sink = JobControl(), Kept(), MemorySink(array.shape[1:])
    for event in start(array, sink, block=64, control=control, journal=journal):
        if isinstance(event, TileDone):
            control.wind_down()
    assert 1 <= len(journal.done) < 9
    for z in range(9):
        assert (sink.labels[z] > 0).all() == ((z, 0, 0) in journal.done)
        assert (sink.labels[z] == 0).all() == ((z, 0, 0) not in journal.done)


def test_a_drive_that_refuses_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES_S", (0.0, 0.0, 0.0))

    class Flaky(MemoryImage):
        def __init__(self, array: npt.NDArray[Any], code: int, times: int) -> None:
            super().__init__(array)
            self.code, self.times = code, times

        def read(self, box: Box) -> npt.NDArray[Any]:
            self.times -= 1
            if self.times >= 0:
                raise InputError("chunk 0 cannot be read") from OSError(self.code, "refused")
            return super().read(box)

    array = np.zeros((1, 1, 32, 32))
    for code, times, fails in ((errno.EIO, 3, 0), (errno.EIO, 4, 1), (errno.ENOENT, 1, 1)):
        journal = Kept()
        source = Flaky(array, code, times)
        list(start(array, MemorySink((1, 32, 32)), source=source, journal=journal))
        assert len(journal.failed) == fails


def test_what_writing_runs_into_reaches_the_caller() -> None:
    class Full(MemorySink):
        def write_labels(self, box: Box, labels: npt.NDArray[np.uint8]) -> None:
            raise StorageError("disk full")

    array = np.zeros((1, 4, 64, 64), np.uint8)
    before = threading.active_count()
    with pytest.raises(StorageError, match="disk full"):
        list(start(array, Full(array.shape[1:])))
    assert threading.active_count() == before


def test_nonfinite_voxels_are_counted_once_and_do_not_spread() -> None:
    array = np.random.default_rng(0).normal(size=(1, 2, 50, 50)).astype(np.float32)
    clean = MemorySink(array.shape[1:])
    replaced = array.copy()
    replaced[0, 0, 15:18, 15] = 0  # what the mean normalizes to
    list(start(replaced, clean))
    array[0, 0, 15:18, 15] = [np.nan, np.inf, -np.inf]
    tally = Tally()
    sink = MemorySink(array.shape[1:])
    list(start(array, sink, tally=tally))
    assert tally.nonfinite == 3
    np.testing.assert_array_equal(sink.labels, clean.labels)


def test_a_nonfinite_answer_is_an_error() -> None:
    net = lively_net(0, depth=1)
    with torch.no_grad():
        net.head.bias[0] = float("nan")
    predictor = Predictor(net, net.architecture.geometry(), choose_backend("cpu"))
    with pytest.raises(BackendError, match="NaN or infinity"):
        predictor(
            [np.zeros((1, 1, 48, 48), np.float32)], [Box.of_shape((1, 32, 32))], probabilities=False
        )


def test_running_out_of_memory_names_the_remedy() -> None:
    class Hungry(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    geometry = lively_net(0, depth=1).architecture.geometry()
    predictor = Predictor(Hungry(), geometry, choose_backend("cpu"))
    with pytest.raises(BackendError, match="--tile-size"):
        predictor(
            [np.zeros((1, 1, 48, 48), np.float32)], [Box.of_shape((1, 32, 32))], probabilities=False
        )


@pytest.mark.parametrize(("name", "message"), [("cuda:99", "CUDA devices"), ("mps", "Metal")])
def test_a_device_that_is_not_there_is_refused(name: str, message: str) -> None:
    if name == "mps" and torch.backends.mps.is_available():
        assert choose_backend(name).device.type == "mps"
        return
    with pytest.raises(BackendError, match=message):
        choose_backend(name)


def test_reading_never_asks_for_more_than_a_tile_needs() -> None:
    array = np.zeros((1, 1, 400, 400), np.uint8)
    source = MemoryImage(array)
    list(
        start(
            array,
            MemorySink(array.shape[1:]),
            tile=64,
            block=128,
            source=source,
            region=Box((0, 200, 200), (1, 260, 260)),
        )
    )
    halo = 8
    assert max(box.shape[1] for box in source.boxes_read) <= 64 + 2 * halo
    for box in source.boxes_read:
        assert box.start[1] >= 192 - halo
        assert box.stop[1] <= 320 + halo

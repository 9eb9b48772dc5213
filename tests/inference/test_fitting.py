"""A device with too little memory: less at once, the same answer, and an end that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.inference.conftest import MemoryImage
from tests.inference.test_rescaled_law import assert_same, reference
from tests.inference.test_tile_law import Answer, assert_law, tiled, whole
from tests.nets import lively_net

from napari_unet.core.boxes import Box
from napari_unet.core.events import BlockDone, BlockFailed, TileDone, Warned
from napari_unet.core.normalization import measure_normalization
from napari_unet.core.receptive import unet_geometry
from napari_unet.core.resampling import Resampling
from napari_unet.core.tiling import TileGrid
from napari_unet.errors import OutOfMemoryError
from napari_unet.inference.control import JobControl
from napari_unet.inference.device import choose_backend
from napari_unet.inference.engine import Tally, TileRun, run_tiles
from napari_unet.inference.fitting import parts_of, smaller_tile
from napari_unet.inference.memory import MemorySink
from napari_unet.inference.predictor import Predictor
from napari_unet.inference.tile_input import read_tile

if TYPE_CHECKING:
    from napari_unet.model.unet import UNet

CPU = choose_backend("cpu")


class Hungry(torch.nn.Module):
    """A net on a device with memory for so many pixels at once."""

    def __init__(self, net: UNet, pixels: int, error: BaseException | None = None) -> None:
        super().__init__()
        self.net = net
        self.pixels = pixels
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")
        self.refused = 0
        self.largest = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        count = image.shape[0] * image.shape[2] * image.shape[3]
        if count > self.pixels:
            self.refused += 1
            raise self.error
        self.largest = max(self.largest, count)
        answer: torch.Tensor = self.net(image)
        return answer


class Outcome:
    """What a run on a small device gives."""

    def __init__(self, run: TileRun, predictor: Predictor, sink: MemorySink) -> None:
        self.tally, self.predictor = Tally(), predictor
        self.events = list(run_tiles(run, predictor, JobControl(), self.tally))
        assert sink.probabilities is not None
        self.answer = Answer(sink.labels, sink.probabilities)

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Warned)]


def tight(
    hungry: Hungry,
    array: npt.NDArray[Any],
    tile: tuple[int, int],
    *,
    block: int = 64,
    batch: int = 1,
    average: str = "none",
    context: int = 0,
    region: Box | None = None,
    factors: tuple[float, float] | None = None,
) -> Outcome:
    source = MemoryImage(array)
    architecture = hungry.net.architecture
    geometry = unet_geometry(architecture.depth, padding=architecture.padding, context=context)
    resampling = None if factors is None else Resampling(source.shape, factors)
    grid = TileGrid(source.shape, geometry, (1, *tile), (1, block, block), resampling)
    sink = MemorySink(source.shape)
    normalization = measure_normalization(source, resampling=resampling)
    run = TileRun(source, sink, grid, region or grid.extent, normalization, True)
    outcome = Outcome(run, Predictor(hungry, geometry, CPU, batch, average), sink)  # type: ignore[arg-type]  # a word
    assert outcome.tally.pixels == run.region.size
    assert outcome.tally.tiles == grid.count_tiles(run.region), "tiles are those of the plan"
    return outcome


def image_of(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 255, shape, dtype=np.uint8)


def edge_of(net: UNet, tile: int) -> int:
    return net.architecture.geometry().axes[1].input_size(tile)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_fits_the_answer_is_that_of_the_whole_image(data: Any) -> None:
    depth = data.draw(st.sampled_from([1, 2, 3]), label="depth")
    context = data.draw(st.sampled_from([0, 0, 1]), label="context")
    net = lively_net(
        data.draw(st.integers(0, 3), label="seed"),
        depth=depth,
        in_channels=2 * context + 1,
        num_classes=data.draw(st.sampled_from([2, 3]), label="classes"),
        padding=data.draw(st.sampled_from(["valid", "same"]), label="padding"),
    )
    shape = (1, 2, data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90)))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape[1:])
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape[1:], strict=True))
    block = 32 * data.draw(st.integers(1, 3), label="block")
    tile = 2**depth * data.draw(st.integers(1, block // 2**depth), label="tile")
    average = data.draw(st.sampled_from(["none", "none", "d4"]), label="average")
    room = edge_of(net, 2**depth * data.draw(st.integers(1, 4), label="room"))
    array = image_of(*shape)
    outcome = tight(
        Hungry(net, room * room),
        array,
        (tile, tile),
        block=block,
        batch=data.draw(st.integers(1, 3), label="batch"),
        average=average,
        context=context,
        region=Box(start, stop),
    )
    assert_law(outcome.answer, whole(net, array, average, context), Box(start, stop))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_rescaled_image_keeps_the_law_in_parts(data: Any) -> None:
    choice = st.sampled_from([0.37, 0.5, 1.0, 2.0, 3.3])
    factors = (data.draw(choice, label="factor y"), data.draw(choice, label="factor x"))
    average = data.draw(st.sampled_from(["none", "none", "rotate"]), label="average")
    net = lively_net(1, depth=data.draw(st.sampled_from([1, 2]), label="depth"), num_classes=3)
    shape = (1, 1, data.draw(st.integers(1, 45)), data.draw(st.integers(1, 45)))
    array = image_of(*shape)
    room = edge_of(net, 4 * data.draw(st.integers(3, 5), label="room"))
    outcome = tight(
        Hungry(net, room * room),
        array,
        (data.draw(st.integers(8, 40)), data.draw(st.integers(8, 40))),
        block=data.draw(st.sampled_from([23, 40, 64]), label="block"),
        batch=data.draw(st.integers(1, 3), label="batch"),
        average=average,
        factors=factors,
    )
    assert_same(outcome.answer, reference(net, array, factors, average), Box.of_shape(shape[1:]))


def test_the_batch_is_halved_first_and_then_the_tile() -> None:
    net = lively_net(0)
    hungry = Hungry(net, edge_of(net, 16) ** 2)
    outcome = tight(hungry, image_of(1, 2, 64, 64), (32, 32), batch=4)
    first, second, third = outcome.warnings
    assert "with 4 inputs of 72 x 72 pixels at once; the run goes on with 2 tiles at" in first
    assert "with 2 inputs of 72 x 72 pixels at once; the run goes on with 1 tile at" in second
    assert "with 1 input of 72 x 72" in third
    assert "goes on with tiles of 16 x 16 pixels" in third
    assert outcome.predictor.batch_size == 1
    assert outcome.predictor.largest_tile == (1, 16, 16)
    assert hungry.refused == 3, "no attempt is repeated"
    assert hungry.largest == hungry.pixels


def test_a_batch_that_fits_in_halves_keeps_its_tiles() -> None:
    net = lively_net(0)
    array = image_of(1, 3, 64, 64)
    outcome = tight(Hungry(net, 2 * edge_of(net, 32) ** 2), array, (32, 32), batch=5)
    assert outcome.predictor.batch_size == 2
    assert outcome.predictor.largest_tile is None
    assert len(outcome.warnings) == 1
    plain = tiled(net, array, 32, batch=2)
    assert outcome.answer.probabilities.tobytes() == plain.probabilities.tobytes()


@pytest.mark.parametrize("region", [None, Box((0, 13, 7), (2, 77, 100))])
def test_the_bytes_are_those_of_a_run_with_the_smaller_tile(region: Box | None) -> None:
    net = lively_net(2)
    array = image_of(1, 2, 83, 110)
    hungry = Hungry(net, edge_of(net, 16) ** 2)
    outcome = tight(hungry, array, (64, 64), region=region)
    planned = tiled(net, array, 16, region=region)
    assert outcome.answer.probabilities.tobytes() == planned.probabilities.tobytes()
    assert outcome.answer.labels.tobytes() == planned.labels.tobytes()


def test_when_the_smallest_tile_does_not_fit_it_is_said() -> None:
    net = lively_net(0)
    outcome: list[Any] = []
    source = MemoryImage(image_of(1, 1, 64, 64))
    geometry = net.architecture.geometry()
    grid = TileGrid(source.shape, geometry, (1, 64, 64), (1, 64, 64))
    run = TileRun(
        source, MemorySink(source.shape), grid, grid.extent, measure_normalization(source), False
    )
    predictor = Predictor(Hungry(net, 10), geometry, CPU, 2)
    message = r"out of memory on cpu .* 1 input of \d+ x \d+ pixels.*no smaller tile; .*--device"
    with pytest.raises(OutOfMemoryError, match=message):
        outcome.extend(run_tiles(run, predictor, JobControl(), Tally()))
    assert predictor.largest_tile == (1, 4, 4)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("could not create a primitive"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
    ids=str,
)
def test_every_way_of_having_no_memory_is_known(error: BaseException) -> None:
    net = lively_net(0)
    array = image_of(1, 1, 64, 64)
    outcome = tight(Hungry(net, edge_of(net, 32) ** 2, error), array, (64, 64))
    assert_law(outcome.answer, whole(net, array), Box.of_shape((1, 64, 64)))
    assert len(outcome.warnings) == 1


def test_memory_that_runs_out_behind_the_network_counts_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    softmax = torch.softmax

    def refused(logits: torch.Tensor, dim: int) -> torch.Tensor:
        if logits.shape[-1] > 32 + 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return softmax(logits, dim=dim)

    net = lively_net(0)
    array = image_of(1, 1, 64, 64)
    expected = whole(net, array)
    monkeypatch.setattr(torch, "softmax", refused)
    outcome = tight(Hungry(net, 10**9), array, (64, 64))
    assert_law(outcome.answer, expected, Box.of_shape((1, 64, 64)))
    assert outcome.predictor.largest_tile == (1, 32, 32)


def test_what_the_allocator_kept_is_given_back_before_the_next_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = lively_net(0)
    hungry = Hungry(net, edge_of(net, 16) ** 2)
    released: list[int] = []
    monkeypatch.setattr(Predictor, "release_memory", lambda self: released.append(hungry.refused))
    tight(hungry, image_of(1, 1, 64, 64), (64, 64))
    assert released == [1, 2]


def test_a_part_that_answers_with_nan_fails_its_block_alone() -> None:
    class Poisoned(Hungry):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            answer = super().forward(image)
            return answer * float("nan") if image.max() > 50 else answer

    net = lively_net(0, depth=1)
    array = image_of(1, 1, 128, 128)
    source = MemoryImage(array.astype(np.float32) / 255)
    source.array[0, 0, 20, 20] = 1e4
    geometry = net.architecture.geometry()
    grid = TileGrid(source.shape, geometry, (1, 64, 64), (1, 64, 64))
    unit = measure_normalization(MemoryImage(np.array([[[[0, 1]]]], np.float32)))
    run = TileRun(source, MemorySink(source.shape), grid, grid.extent, unit, False)
    predictor = Predictor(Poisoned(net, edge_of(net, 32) ** 2), geometry, CPU, 2)
    events = list(run_tiles(run, predictor, JobControl(), Tally()))
    (failed,) = (event for event in events if isinstance(event, BlockFailed))
    assert failed.box == Box((0, 0, 0), (1, 64, 64))
    assert sum(isinstance(event, BlockDone) for event in events) == 3
    assert sum(isinstance(event, TileDone) for event in events) == 3


def test_nonfinite_voxels_are_counted_once() -> None:
    net = lively_net(0)
    array = image_of(1, 1, 64, 64).astype(np.float32)
    array[0, 0, [3, 40, 63], [3, 41, 0]] = np.nan
    outcome = tight(Hungry(net, edge_of(net, 16) ** 2), array, (64, 64))
    assert outcome.tally.nonfinite == 3


@pytest.mark.parametrize("factors", [None, (0.37, 2.0)])
def test_parts_see_what_tiles_of_their_size_would_read(
    factors: tuple[float, float] | None,
) -> None:
    source = MemoryImage(image_of(1, 1, 83, 110))
    geometry = unet_geometry(2)
    resampling = None if factors is None else Resampling(source.shape, factors)
    normalization = measure_normalization(source, resampling=resampling)
    region = Box((0, 5, 9), (1, 80, 101))
    grid = TileGrid(source.shape, geometry, (1, 48, 48), (1, 96, 96), resampling)
    run = TileRun(source, MemorySink(source.shape), grid, region, normalization, False)
    covered = np.zeros(source.shape, int)
    for block in grid.blocks(region):
        for tile in grid.tiles_of(block):
            for part in parts_of(grid, (1, 16, 16), read_tile(run, block, tile)):
                again = read_tile(run, block, part.tile)
                np.testing.assert_array_equal(part.image, again.image)
                covered[part.tile.write.slices] += 1
    expected = np.zeros(source.shape, int)
    expected[region.slices] = 1
    np.testing.assert_array_equal(covered, expected)


@pytest.mark.parametrize(
    ("edges", "factors", "expected"),
    [
        (
            (1, 512, 512),
            None,
            [(1, 256, 256), (1, 128, 128), (1, 64, 64), (1, 32, 32), (1, 16, 16)],
        ),
        ((1, 80, 48), None, [(1, 32, 16), (1, 16, 16)]),
        ((1, 7, 600), None, [(1, 16, 304), (1, 16, 144), (1, 16, 64), (1, 16, 32), (1, 16, 16)]),
        ((1, 100, 100), (0.5, 2.0), [(1, 50, 50), (1, 32, 25), (1, 32, 12), (1, 32, 8)]),
        ((1, 5, 5), (0.5, 2.0), []),
    ],
)
def test_tiles_shrink_on_the_legal_grid_and_end(
    edges: tuple[int, ...],
    factors: tuple[float, float] | None,
    expected: list[tuple[int, ...]],
) -> None:
    shape = (1, 2000, 2000)
    resampling = None if factors is None else Resampling(shape, factors)
    grid = TileGrid(shape, unet_geometry(4), (1, 1024, 1024), (1, 1024, 1024), resampling)
    found, current = [], smaller_tile(grid, edges)
    while current is not None:
        found.append(current)
        TileGrid(shape, grid.net, current, grid.block_shape, resampling)
        current = smaller_tile(grid, current)
    assert found == expected

"""The tile law: any tile size, batch, order or region gives the answer of the whole image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.inference.conftest import MemoryImage
from tests.nets import lively_net

from napari_unet.core.architecture import Architecture
from napari_unet.core.boxes import Box
from napari_unet.core.normalization import Normalization, measure_normalization
from napari_unet.core.receptive import unet_geometry
from napari_unet.core.tiling import TileGrid
from napari_unet.inference.control import JobControl
from napari_unet.inference.device import choose_backend
from napari_unet.inference.engine import Tally, TileRun, run_tiles
from napari_unet.inference.memory import MemorySink
from napari_unet.inference.predictor import Predictor

if TYPE_CHECKING:
    from napari_unet.model.unet import UNet

TOLERANCE = 1e-5
MARGIN = 1e-4
UNIT = Normalization(offset=(0.0,), scale=(1.0,))
CPU = choose_backend("cpu")


class Passes(torch.nn.Module):
    """A net of depth 0 that answers "class 2" where one of its inputs is positive."""

    architecture = Architecture(in_channels=10, depth=0)

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        inner = image[:, self.channel, 2:-2, 2:-2]
        return torch.stack([torch.zeros_like(inner), inner], dim=1)


@dataclass(frozen=True)
class Answer:
    labels: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]


def tiled(
    net: UNet | Passes,
    array: npt.NDArray[Any],
    tile: int,
    *,
    block: int = 64,
    batch: int = 1,
    region: Box | None = None,
    viewport: Box | None = None,
    average: str = "none",
    context: int = 0,
) -> Answer:
    source = MemoryImage(array)
    settings = net.architecture
    geometry = unet_geometry(settings.depth, padding=settings.padding, context=context)
    grid = TileGrid(source.shape, geometry, (1, tile, tile), (1, block, block))
    sink = MemorySink(source.shape)
    control = JobControl()
    control.viewport = viewport
    predictor = Predictor(net, geometry, choose_backend("cpu"), batch, average)
    run = TileRun(source, sink, grid, region or grid.extent, measure_normalization(source), True)
    tally = Tally()
    for _ in run_tiles(run, predictor, control, tally):
        pass
    assert tally.pixels == (region or grid.extent).size
    assert sink.probabilities is not None
    return Answer(sink.labels, sink.probabilities)


VERSIONS = {
    "none": [lambda a: a],
    "mirror": [lambda a: a, np.fliplr, np.flipud, lambda a: np.flipud(np.fliplr(a))],
    "rotate": [lambda a, k=k: np.rot90(a, k) for k in range(4)],
    "d4": [lambda a, k=k: np.rot90(a, k) for k in range(4)]
    + [lambda a, k=k: np.rot90(a, k).T for k in range(4)],
}


def inverse_of(version: Any, shape: tuple[int, int]) -> npt.NDArray[np.intp]:
    """Where each pixel goes under a version of an image, by moving the pixels' numbers."""
    return np.argsort(version(np.arange(np.prod(shape)).reshape(shape)).ravel())


def whole(net: UNet, array: npt.NDArray[Any], average: str = "none", context: int = 0) -> Answer:
    """The reference, without any of the engine's code: each slice at once, mirrored by NumPy."""
    axis = net.architecture.geometry().axes[1]
    height, width = array.shape[2:]
    pads = [(0, 0)]
    for n in (height, width):
        full = axis.input_size(-(-n // axis.stride) * axis.stride)
        pads.append((axis.halo, full - n - axis.halo))
    values = array.astype(np.float64)
    mean = values.mean(axis=(1, 2, 3), keepdims=True)
    std = values.std(axis=(1, 2, 3), keepdims=True)
    values = (values - mean) / np.where(std > 0, std, 1)
    stack = np.pad(values, [(0, 0), (context, context), (0, 0), (0, 0)], mode="reflect")
    planes = []
    for z in range(array.shape[1]):
        seen = np.concatenate([channel[z : z + 2 * context + 1] for channel in stack])
        padded = np.pad(seen, [(0, 0), *pads[1:]], mode="reflect").astype(np.float32)
        shape = tuple(n - 2 * axis.halo for n in padded.shape[1:])
        total = np.zeros((net.architecture.num_classes, *shape))
        for version in VERSIONS[average]:
            image = np.stack([version(channel) for channel in padded])
            with torch.inference_mode():
                logits = net(torch.from_numpy(np.ascontiguousarray(image))[None])[0]
            if net.architecture.padding == "same":
                logits = logits[:, axis.halo : -axis.halo, axis.halo : -axis.halo]
            chances = torch.softmax(logits, dim=0).numpy()
            order = inverse_of(version, shape)
            total += chances.reshape(len(chances), -1)[:, order].reshape(total.shape)
        planes.append(total[:, :height, :width] / len(VERSIONS[average]))
    probabilities = np.stack(planes, axis=1).astype(np.float32)
    return Answer((probabilities.argmax(axis=0) + 1).astype(np.uint8), probabilities)


def assert_law(answer: Answer, reference: Answer, box: Box) -> None:
    got, want = (a.probabilities[(slice(None), *box.slices)] for a in (answer, reference))
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)
    top = np.sort(want, axis=0)
    clear = top[-1] - top[-2] > MARGIN
    labels, expected = answer.labels[box.slices], reference.labels[box.slices]
    assert (labels[clear] == expected[clear]).all()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_tiling_of_any_random_net_gives_the_answer_of_the_whole_image(data: Any) -> None:
    depth = data.draw(st.sampled_from([1, 2, 3]), label="depth")
    channels = data.draw(st.sampled_from([1, 2]), label="channels")
    context = data.draw(st.sampled_from([0, 0, 1, 2]), label="context")
    net = lively_net(
        data.draw(st.integers(0, 5), label="seed"),
        depth=depth,
        in_channels=channels * (2 * context + 1),
        num_classes=data.draw(st.sampled_from([2, 3]), label="classes"),
        padding=data.draw(st.sampled_from(["valid", "same"]), label="padding"),
        residual=data.draw(st.sampled_from([None, "shared"]), label="residual"),
    )
    shape = (
        channels,
        data.draw(st.integers(1, 3), label="z"),
        data.draw(st.integers(1, 90), label="y"),
        data.draw(st.integers(1, 90), label="x"),
    )
    array = np.random.default_rng(depth).integers(0, 255, shape, dtype=np.uint8)
    stride = 2**depth
    block = 32 * data.draw(st.integers(1, 3), label="block")
    tile = stride * data.draw(st.integers(1, block // stride), label="tile")
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape[1:])
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape[1:], strict=True))
    region = Box(start, stop)
    average = data.draw(st.sampled_from(["none", "none", "mirror", "rotate", "d4"]))
    answer = tiled(
        net,
        array,
        max(tile, 8),
        block=block,
        batch=data.draw(st.integers(1, 3), label="batch"),
        region=region,
        viewport=Box((0, 0, 0), (1, 20, 20)) if data.draw(st.booleans()) else None,
        average=average,
        context=context,
    )
    assert_law(answer, whole(net, array, average, context), region)
    outside = np.ones(array.shape[1:], bool)
    outside[region.slices] = False
    assert (answer.labels[outside] == 0).all(), "nothing outside the region may be written"


def test_the_reference_varies_enough_to_notice_a_shift(rng: np.random.Generator) -> None:
    array = rng.integers(0, 255, (1, 1, 80, 80), dtype=np.uint8)
    probabilities = whole(lively_net(0, depth=3), array).probabilities
    assert probabilities.std() > 0.1
    assert 0.1 < (probabilities[0] > 0.5).mean() < 0.9


@pytest.mark.parametrize("depth", [2, 3])
def test_a_grid_shifted_by_one_pixel_breaks_the_law(rng: np.random.Generator, depth: int) -> None:
    """The twin: if this passed, the law above could not notice a wrong grid."""
    net = lively_net(0, depth=depth)
    array = rng.integers(0, 255, (1, 1, 81, 81), dtype=np.uint8)
    reference = whole(net, array)
    shifted = tiled(net, array[:, :, 1:, 1:], 16 * depth, block=96)
    difference = np.abs(shifted.probabilities - reference.probabilities[:, :, 1:, 1:])
    # Away from the border: there the mirrored surroundings differ as well.
    halo = net.architecture.geometry().halo[1]
    inner = difference[:, :, halo:-halo, halo:-halo] if halo < 40 else difference
    assert inner.max() > 100 * TOLERANCE


def test_order_and_region_give_the_same_bytes(rng: np.random.Generator) -> None:
    net = lively_net(1)
    array = rng.integers(0, 255, (1, 2, 100, 130), dtype=np.uint8)
    plain = tiled(net, array, 32, batch=2)
    reordered = tiled(net, array, 32, batch=2, viewport=Box((1, 60, 70), (2, 90, 100)))
    assert plain.probabilities.tobytes() == reordered.probabilities.tobytes()
    region = Box((1, 13, 7), (2, 77, 111))
    part = tiled(net, array, 32, batch=2, region=region)
    inside = (slice(None), *region.slices)
    assert part.probabilities[inside].tobytes() == plain.probabilities[inside].tobytes()
    assert part.labels[region.slices].tobytes() == plain.labels[region.slices].tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2), (17, 16), (95, 1)])
def test_images_smaller_than_the_halo(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    net = lively_net(2, depth=4, base_channels=2)
    array = rng.normal(100, 20, (1, 1, *shape)).astype(np.float32)
    assert_law(tiled(net, array, 32), whole(net, array), Box.of_shape((1, *shape)))


def test_a_slice_is_seen_with_its_neighbors_mirrored_at_the_ends(
    rng: np.random.Generator,
) -> None:
    """A net that passes on one of its inputs shows which slice that is."""
    stack = rng.integers(0, 2, (2, 4, 20, 24), dtype=np.uint8)
    values = (stack - stack.mean((1, 2, 3), keepdims=True)) / stack.std((1, 2, 3), keepdims=True)
    seen = {-2: [2, 1, 0, 1], -1: [1, 0, 1, 2], 0: [0, 1, 2, 3], 1: [1, 2, 3, 2], 2: [2, 3, 2, 1]}
    for channel, offset in [(0, -2), (0, 1), (1, -1), (1, 0), (1, 2)]:
        answer = tiled(Passes(channel * 5 + offset + 2), stack, 16, block=32, context=2)
        expected = (values[channel][seen[offset]] > 0) + 1
        np.testing.assert_array_equal(answer.labels, expected)


def test_a_plane_is_its_own_neighbor(rng: np.random.Generator) -> None:
    plane = rng.integers(0, 255, (1, 1, 40, 40), dtype=np.uint8)
    net = lively_net(0, in_channels=3)
    alone, thrice = tiled(net, plane, 16, context=1), tiled(net, plane.repeat(3, axis=0), 16)
    assert alone.probabilities.tobytes() == thrice.probabilities.tobytes()


def test_only_the_slices_that_a_tile_sees_are_read() -> None:
    source = MemoryImage(np.zeros((1, 9, 40, 40), np.uint8))
    geometry = unet_geometry(2, context=2)
    grid = TileGrid(source.shape, geometry, (1, 32, 32), (1, 32, 32))
    net = lively_net(0, in_channels=5)
    run = TileRun(source, MemorySink(source.shape), grid, grid.extent, UNIT, False)
    source.boxes_read.clear()
    for _ in run_tiles(run, Predictor(net, geometry, CPU), JobControl(), Tally()):
        pass
    assert {box.shape[0] for box in source.boxes_read} == {3, 4, 5}


@pytest.mark.parametrize("average", ["mirror", "rotate", "d4"])
def test_averages_are_symmetric_where_one_prediction_is_not(
    rng: np.random.Generator, average: str
) -> None:
    """Mirroring (turning) the image mirrors (turns) the averaged answer, on the stride grid."""
    net = lively_net(3)
    array = rng.integers(0, 255, (1, 1, 64, 64), dtype=np.uint8)

    def turn(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.rot90(image, 1, (-2, -1)) if average == "rotate" else image[..., ::-1]

    turned = np.ascontiguousarray(turn(array))
    for kind, symmetric in ((average, True), ("none", False)):
        there = turn(tiled(net, array, 32, average=kind).probabilities)
        here = tiled(net, turned, 32, average=kind).probabilities
        assert (np.abs(there - here).max() < TOLERANCE) == symmetric

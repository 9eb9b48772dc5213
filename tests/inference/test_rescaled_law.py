"""The tile law on a resampled grid: tiles, blocks and regions do not show in the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.inference.conftest import MemoryImage
from tests.inference.test_tile_law import Answer, assert_law, whole
from tests.nets import lively_net

from napari_unet.core.boxes import Box
from napari_unet.core.normalization import measure_normalization
from napari_unet.core.receptive import unet_geometry
from napari_unet.core.resampling import Resampling
from napari_unet.core.tiling import TileGrid
from napari_unet.inference.control import JobControl
from napari_unet.inference.device import choose_backend
from napari_unet.inference.engine import Tally, TileRun, run_tiles
from napari_unet.inference.memory import MemorySink
from napari_unet.inference.predictor import Predictor

if TYPE_CHECKING:
    from napari_unet.model.unet import UNet

Factors = tuple[float, float]


class OnceSink(MemorySink):
    """Counts how often each voxel is written."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.writes = np.zeros(shape, int)

    def write_labels(self, box: Box, labels: npt.NDArray[np.uint8]) -> None:
        super().write_labels(box, labels)
        self.writes[box.slices] += 1


def tiled(
    net: UNet,
    array: npt.NDArray[Any],
    factors: Factors,
    tile: tuple[int, int],
    *,
    block: int = 50,
    region: Box | None = None,
    average: str = "none",
    context: int = 0,
    tally: Tally | None = None,
) -> Answer:
    source = MemoryImage(array)
    geometry = unet_geometry(net.architecture.depth, context=context)
    resampling = Resampling(source.shape, factors)
    grid = TileGrid(source.shape, geometry, (1, *tile), (1, block, block), resampling)
    sink, tally = OnceSink(source.shape), tally or Tally()
    normalization = measure_normalization(source, resampling=resampling)
    run = TileRun(source, sink, grid, region or grid.extent, normalization, True)
    predictor = Predictor(net, geometry, choose_backend("cpu"), 2, average)
    for _ in run_tiles(run, predictor, JobControl(), tally):
        pass
    expected = np.zeros(source.shape, int)
    expected[run.region.slices] = 1
    np.testing.assert_array_equal(sink.writes, expected)
    assert tally.pixels == run.region.size
    assert tally.tiles == grid.count_tiles(run.region)
    assert sink.probabilities is not None
    return Answer(sink.labels, sink.probabilities)


def resampled(line: npt.NDArray[np.float64], factor: float) -> npt.NDArray[np.float64]:
    """One row or column: means over what overlaps, or NumPy's interpolation."""
    size = len(line)
    count = int(np.ceil(round(size * factor, 6)))
    edges = np.arange(count + 1) / factor
    if factor >= 1:
        return np.interp((edges[:-1] + edges[1:]) / 2 - 0.5, np.arange(size), line)
    voxel = np.arange(size)
    overlap = np.minimum(edges[1:, None], voxel + 1) - np.maximum(edges[:-1, None], voxel)
    overlap = np.maximum(overlap, 0)
    return np.asarray(overlap @ line / overlap.sum(axis=1))


def reference(
    net: UNet, array: npt.NDArray[Any], factors: Factors, average: str = "none", context: int = 0
) -> Answer:
    """The whole image resampled, segmented at once and interpolated by NumPy."""
    image = array.astype(np.float64)
    for axis, factor in zip((2, 3), factors, strict=True):
        image = np.apply_along_axis(resampled, axis, image, factor)
    seen = whole(net, image, average, context)
    labels, chances = seen.labels, seen.probabilities
    for axis, factor in zip((1, 2), factors, strict=True):
        size, count = array.shape[axis + 1], image.shape[axis + 1]
        centers = (np.arange(size) + 0.5) * factor
        chances = np.apply_along_axis(
            lambda line, at, known: np.interp(at, known, line),
            axis + 1,
            chances,
            centers - 0.5,
            np.arange(count),
        )
        labels = labels.take(np.minimum(centers.astype(int), count - 1), axis=axis)
    return Answer(labels, chances.astype(np.float32))


def assert_same(answer: Answer, wanted: Answer, box: Box) -> None:
    got, expected = (a.probabilities[(slice(None), *box.slices)] for a in (answer, wanted))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    # Classes are those of the nearest resampled voxel, so ties are not seen in the probabilities.
    same = answer.labels[box.slices] == wanted.labels[box.slices]
    assert same.mean() > 0.999 or (~same).sum() <= 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_tiling_gives_the_answer_of_the_whole_resampled_image(data: Any) -> None:
    choice = st.sampled_from([0.37, 0.5, 1.0, 2.0, 3.3])
    factors = (data.draw(choice, label="factor y"), data.draw(choice, label="factor x"))
    channels = data.draw(st.sampled_from([1, 2]), label="channels")
    context = data.draw(st.sampled_from([0, 0, 1]), label="context")
    average = data.draw(st.sampled_from(["none", "none", "d4"]), label="average")
    net = lively_net(
        data.draw(st.integers(0, 3), label="seed"),
        depth=data.draw(st.sampled_from([1, 2]), label="depth"),
        in_channels=channels * (2 * context + 1),
        num_classes=3,
    )
    shape = (channels, data.draw(st.integers(1, 2)), *(data.draw(st.integers(1, 45)) for _ in "yx"))
    array = np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape[1:])
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape[1:], strict=True))
    region = Box(start, stop)
    answer = tiled(
        net,
        array,
        factors,
        (data.draw(st.integers(8, 40)), data.draw(st.integers(8, 40))),
        block=data.draw(st.sampled_from([23, 40, 64]), label="block"),
        region=region,
        average=average,
        context=context,
    )
    assert_same(answer, reference(net, array, factors, average, context), region)
    outside = np.ones(array.shape[1:], bool)
    outside[region.slices] = False
    assert (answer.labels[outside] == 0).all(), "nothing outside the region may be written"


@pytest.mark.parametrize("factors", [(0.37, 0.37), (0.5, 0.5), (2.0, 2.0), (3.3, 3.3), (0.5, 1.7)])
def test_labels_are_identical_at_different_tile_sizes(
    rng: np.random.Generator, factors: Factors
) -> None:
    net = lively_net(1)
    array = rng.integers(0, 255, (1, 1, 71, 53), dtype=np.uint8)
    plain = tiled(net, array, factors, (71, 53), block=80)
    for tile, block in [((16, 16), 32), ((25, 7), 50)]:
        other = tiled(net, array, factors, tile, block=block)
        np.testing.assert_array_equal(other.labels, plain.labels)
        np.testing.assert_allclose(other.probabilities, plain.probabilities, rtol=0, atol=1e-5)


def test_a_region_gives_the_same_bytes(rng: np.random.Generator) -> None:
    net = lively_net(1)
    array = rng.integers(0, 255, (1, 2, 70, 90), dtype=np.uint8)
    full = tiled(net, array, (0.46, 0.46), (25, 25))
    region = Box((1, 13, 7), (2, 57, 81))
    part = tiled(net, array, (0.46, 0.46), (25, 25), region=region)
    inside = (slice(None), *region.slices)
    assert part.probabilities[inside].tobytes() == full.probabilities[inside].tobytes()
    assert part.labels[region.slices].tobytes() == full.labels[region.slices].tobytes()


@pytest.mark.parametrize("factors", [(0.37, 0.37), (3.3, 3.3), (0.1, 10.0)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (3, 2)])
def test_images_of_a_few_pixels(
    rng: np.random.Generator, shape: tuple[int, int], factors: Factors
) -> None:
    net = lively_net(2, depth=3, base_channels=2)
    array = rng.normal(100, 20, (1, 1, *shape)).astype(np.float32)
    answer = tiled(net, array, factors, (9, 9))
    assert_same(answer, reference(net, array, factors), Box.of_shape((1, *shape)))


def test_a_factor_of_one_is_no_rescaling(rng: np.random.Generator) -> None:
    net = lively_net(0)
    array = rng.integers(0, 255, (1, 1, 50, 60), dtype=np.uint8)
    answer = tiled(net, array, (1.0, 1.0), (17, 23))
    assert_law(answer, whole(net, array), Box.of_shape((1, 50, 60)))


@pytest.mark.parametrize("factor", [0.3, 2.5])
def test_nonfinite_voxels_are_counted_once_and_count_as_the_mean(factor: float) -> None:
    net = lively_net(0)
    array = np.random.default_rng(0).normal(size=(1, 1, 60, 60)).astype(np.float32)
    damaged = array.copy()
    places = (0, 0, [0, 24, 25, 59], [0, 24, 25, 30])
    damaged[places] = [np.nan, np.inf, -np.inf, np.nan]
    tally = Tally()
    answer = tiled(net, damaged, (factor, factor), (25, 25), tally=tally)
    assert tally.nonfinite == 4
    assert np.isfinite(answer.probabilities).all()
    clean = tiled(net, array, (factor, factor), (25, 25))
    far = np.abs(answer.probabilities - clean.probabilities)[..., 48:]
    assert far.max() < 0.2, "what is far from them hardly changes"


def test_memory_is_bounded_by_the_tile() -> None:
    """A tile reads its own part of a large image, whatever the factor."""
    net = lively_net(0, depth=1, base_channels=2)
    for factor in (0.25, 4.0):
        source = MemoryImage(np.zeros((1, 1, 2000, 2000), np.uint8))
        geometry = net.architecture.geometry()
        resampling = Resampling(source.shape, (factor, factor))
        grid = TileGrid(source.shape, geometry, (1, 40, 40), (1, 80, 80), resampling)
        region = Box((0, 1000, 1000), (1, 1080, 1080))
        normalization = measure_normalization(source, max_voxels=100)
        run = TileRun(source, MemorySink(source.shape), grid, region, normalization, False)
        source.boxes_read.clear()
        for _ in run_tiles(
            run, Predictor(net, geometry, choose_backend("cpu")), JobControl(), Tally()
        ):
            pass
        reach = 2 + (geometry.halo[-1] + 2 * geometry.stride[-1]) / factor
        assert max(box.shape[1] for box in source.boxes_read) <= 40 + 2 * reach

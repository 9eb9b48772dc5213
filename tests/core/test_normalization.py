"""Normalization against plain numpy, for every type of image and both byte orders."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_unet.core.boxes import Box
from napari_unet.core.normalization import Normalization, measure_normalization, normalize
from napari_unet.core.resampling import Resampling
from napari_unet.errors import ConfigError, InputError

if TYPE_CHECKING:
    from napari_unet.core.arrays import PyramidLevel
    from napari_unet.core.boxes import Shape

DTYPES = [
    "?",
    *("u1", "i1"),
    *(f"{order}{kind}" for order in "<>" for kind in ("u2", "i2", "u4", "i4", "u8", "i8")),
    *(f"{order}{kind}" for order in "<>" for kind in ("f2", "f4", "f8")),
]


@dataclass
class ArraySource:
    """An image in memory whose sample is given box by box."""

    array: npt.NDArray[Any]
    boxes: tuple[Box, ...]
    name: str = "array"
    spatial_axes: str = "zyx"
    levels: tuple[PyramidLevel, ...] = ()

    @property
    def shape(self) -> Shape:
        return self.array.shape[1:]

    @property
    def num_channels(self) -> int:
        return self.array.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def read(self, box: Box) -> npt.NDArray[Any]:
        return self.array[(slice(None), *box.slices)]

    def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
        assert max_voxels > 0
        return self.boxes

    def count_missing_chunks(self, box: Box) -> int:
        return 0

    def identity(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def slabs(shape: Shape, edges: tuple[int, ...]) -> tuple[Box, ...]:
    cuts = [0, *edges, shape[0]]
    return tuple(Box((a, 0, 0), (b, *shape[1:])) for a, b in itertools.pairwise(cuts))


def image_of(dtype: str, rng: np.random.Generator, shape: Shape = (2, 5, 8, 9)) -> npt.NDArray[Any]:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (rng.normal(3, 20, shape)).astype(kind)
    if kind.kind == "b":
        return rng.random(shape) < 0.3
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    return rng.integers(low, high, shape, dtype=kind.newbyteorder("="), endpoint=True).astype(kind)


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_one_linear_map_per_channel(dtype: str, rng: np.random.Generator) -> None:
    image = image_of(dtype, rng)
    before = image.copy()
    values = image.astype(np.float64)
    offset = values.mean(axis=(1, 2, 3))
    scale = values.std(axis=(1, 2, 3))
    out = normalize(image, Normalization(offset=tuple(offset), scale=tuple(scale)))
    wanted = (values - offset.reshape(-1, 1, 1, 1)) / scale.reshape(-1, 1, 1, 1)
    assert out.image.dtype == np.float32
    assert out.image.dtype.isnative
    assert out.bad is None
    np.testing.assert_allclose(out.image, wanted, rtol=1e-5, atol=1e-6)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_measured_statistics_are_numpys(dtype: str, rng: np.random.Generator) -> None:
    image = image_of(dtype, rng)
    source = ArraySource(image, slabs(image.shape[1:], (1, 3)))
    measured = measure_normalization(source)
    values = image.astype(np.float64).reshape(2, -1)
    np.testing.assert_allclose(measured.offset, values.mean(axis=1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(measured.scale, values.std(axis=1), rtol=1e-10)
    assert measured.source == "measured"
    assert measured.sample_voxels == 5 * 8 * 9


def test_digits_survive_a_large_offset(rng: np.random.Generator) -> None:
    image = rng.integers(0, 100, (1, 2, 20, 20)) + 10**12
    source = ArraySource(image, slabs(image.shape[1:], (1,)))
    measured = measure_normalization(source)
    values = (image - 10**12).astype(float)
    assert measured.scale[0] == pytest.approx(values.std(), rel=1e-6)
    wanted = (values - values.mean()) / values.std()
    np.testing.assert_allclose(normalize(image, measured).image, wanted, atol=1e-3)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
def test_what_is_not_finite_becomes_the_mean_and_is_reported(
    dtype: str, rng: np.random.Generator
) -> None:
    image = image_of(dtype, rng)
    places = [(0, 1, 2, 3), (0, 4, 7, 8), (1, 1, 2, 3), (1, 0, 0, 0)]
    for place, value in zip(places, (np.nan, np.inf, -np.inf, np.nan), strict=True):
        image[place] = value
    out = normalize(image, Normalization(offset=(3.0, 4.0), scale=(20.0, 10.0)))
    wanted = np.zeros(image.shape[1:], bool)
    for _, z, y, x in places:
        wanted[z, y, x] = True
    assert out.bad is not None
    assert np.array_equal(out.bad, wanted)
    assert all(out.image[place] == 0 for place in places)
    assert np.isfinite(out.image).all()
    # The other channel of a bad voxel keeps its value.
    assert out.image[0, 0, 0, 0] == pytest.approx((float(image[0, 0, 0, 0]) - 3) / 20, rel=1e-3)


def test_what_is_not_finite_does_not_count_in_statistics(rng: np.random.Generator) -> None:
    image = image_of("<f4", rng)
    image[0, 0, :4] = np.nan
    image[1, 3] = np.inf
    measured = measure_normalization(ArraySource(image, slabs(image.shape[1:], (2,))))
    good = [values[np.isfinite(values)].astype(float) for values in image]
    np.testing.assert_allclose(measured.offset, [v.mean() for v in good], rtol=1e-10)
    np.testing.assert_allclose(measured.scale, [v.std() for v in good], rtol=1e-10)


def test_numbers_beyond_float32_are_not_finite_to_the_network(rng: np.random.Generator) -> None:
    image = image_of("<f8", rng)
    image[0, 0, 0, 0] = 1e300
    image[0, 0, 0, 1] = -1.7e308
    measured = measure_normalization(ArraySource(image, slabs(image.shape[1:], ())))
    kept = image[0].ravel()[2:]
    assert measured.offset[0] == pytest.approx(kept.mean())
    assert measured.scale[0] == pytest.approx(kept.std())
    out = normalize(image, measured)
    assert out.bad is not None
    assert out.bad.sum() == 2
    assert np.isfinite(out.image).all()


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1, 1e-3, 1e9 / 3])
def test_a_constant_image_has_the_scale_one(value: float) -> None:
    image = np.full((1, 3, 101, 103), value)
    measured = measure_normalization(ArraySource(image, slabs(image.shape[1:], (1,))))
    assert measured.scale == (1.0,)
    assert measured.offset[0] == pytest.approx(value, rel=1e-12)
    assert np.abs(normalize(image, measured).image).max() < 1e-5


def test_a_small_contrast_on_a_large_offset_is_no_constant() -> None:
    image = 1000.0 + 1e-6 * (np.arange(1000).reshape(1, 10, 10, 10) % 2)
    measured = measure_normalization(ArraySource(image, slabs(image.shape[1:], ())))
    assert measured.scale[0] == pytest.approx(5e-7, rel=1e-3)


def test_of_an_image_without_a_finite_voxel_nothing_can_be_measured() -> None:
    image = np.full((2, 2, 3, 4), np.nan, np.float32)
    image[0, 1, 1, 1] = 5
    with pytest.raises(InputError, match=r"channel 1 .* NaN or infinite; .*--normalization"):
        measure_normalization(ArraySource(image, slabs(image.shape[1:], ())))


def test_given_intensities_make_it_zero_to_the_network() -> None:
    image = np.full((1, 2, 3, 4), np.nan, np.float32)
    out = normalize(image, Normalization(offset=(3.0,), scale=(2.0,)))
    assert out.bad is not None
    assert out.bad.all()
    assert not out.image.any()


def test_the_part_that_is_read_does_not_matter(rng: np.random.Generator) -> None:
    image = image_of("<u2", rng)
    normalization = Normalization(offset=(30000.0, 31000.0), scale=(18000.0, 17000.0))
    whole = normalize(image, normalization).image
    part = normalize(image[:, 1:3, 2:7, 3:5], normalization).image
    assert np.array_equal(part, whole[:, 1:3, 2:7, 3:5])


def test_the_number_of_channels_must_agree() -> None:
    with pytest.raises(ConfigError, match="has 1 channels, the image 2; give one offset"):
        normalize(np.zeros((2, 1, 4, 4)), Normalization(offset=(0.0,), scale=(1.0,)))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_positive_and_finite(scale: float) -> None:
    with pytest.raises(ConfigError, match="scale"):
        Normalization.parse({"offset": (0.0,), "scale": (scale,)}, source="job")


def test_the_resampled_image_is_measured_where_the_sample_lies(rng: np.random.Generator) -> None:
    """Halving white noise halves its deviation; what is no number stays out of the mean."""
    image = rng.normal(100, 20, (2, 3, 40, 60)).astype(np.float32)
    means = image.reshape(2, 3, 20, 2, 30, 2).mean(axis=(3, 5), dtype=np.float64)
    # Odd corners: of the resampled voxels, those that lie inside are taken.
    boxes = (Box((0, 0, 0), (1, 40, 21)), Box((2, 11, 30), (3, 40, 60)))
    inside = (means[:, 0, :, :10].reshape(2, -1), means[:, 2, 6:, 15:].reshape(2, -1))
    expected = np.concatenate(inside, axis=1)
    resampling = Resampling(image.shape[1:], (0.5, 0.5))
    got = measure_normalization(ArraySource(image, boxes), resampling=resampling)
    np.testing.assert_allclose(got.offset, expected.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(got.scale, expected.std(axis=1), rtol=1e-9)
    assert got.sample_voxels == expected.shape[1]
    assert max(got.scale) < 12
    image[0, 0, 0, 0], image[0, 2, 39, 59] = np.nan, np.inf
    damaged = measure_normalization(ArraySource(image, boxes), resampling=resampling)
    np.testing.assert_allclose(damaged.offset[0], expected[0, 1:-1].mean(), rtol=1e-9)
    assert damaged.offset[1] == got.offset[1]


def test_an_enlarged_sample_stays_within_the_bound(rng: np.random.Generator) -> None:
    image = rng.integers(0, 255, (1, 4, 100, 100), dtype=np.uint8)
    asked: list[int] = []

    class Asked(ArraySource):
        def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
            asked.append(max_voxels)
            return super().sample_boxes(max_voxels)

    source = Asked(image, slabs(image.shape[1:], (1, 2)))
    for factors, wanted in (((2.0, 2.5), 200), ((0.5, 0.5), 1000)):
        measure_normalization(source, 1000, Resampling(source.shape, factors))
        assert asked.pop() == wanted

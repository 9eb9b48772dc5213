"""Resampling against exact arithmetic and NumPy's interpolation, and box by box."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.boxes import Box
from napari_unet.core.resampling import AxisResampling, Resampling
from napari_unet.errors import TilingError

FACTORS = st.sampled_from([0.1, 0.37, 0.5, 2 / 3, 0.9, 1.0, 1.1, 2.0, 3.3, 10.0])
SIZES = st.integers(1, 40)


def resampled_exactly(values: npt.NDArray[Any], factor: float) -> npt.NDArray[np.float64]:
    """One axis: means over exact overlaps, or linear interpolation by NumPy."""
    size = len(values)
    count = AxisResampling(size, factor).resampled_size
    if factor >= 1:
        positions = (np.arange(count) + 0.5) / factor - 0.5
        return np.interp(positions, np.arange(size), values)
    means = []
    exact = Fraction(factor)
    for j in range(count):
        low, high = j / exact, min((j + 1) / exact, Fraction(size))
        overlaps = [max(min(high, i + 1) - max(low, i), Fraction(0)) for i in range(size)]
        total = sum(
            (o * Fraction(float(v)) for o, v in zip(overlaps, values, strict=True)), Fraction(0)
        )
        means.append(float(total / sum(overlaps, Fraction(0))))
    return np.array(means)


@given(SIZES, FACTORS)
def test_one_axis_is_resampled_exactly(size: int, factor: float) -> None:
    values = np.random.default_rng(size).normal(100, 20, size)
    resampling = Resampling((1, 1, size), (1.0, factor))
    everything = Box.of_shape(resampling.shape)
    assert Box.of_shape((1, 1, size)).contains(resampling.needed(everything))
    data = values[None, None, None][(..., resampling.needed(everything).slices[2])]
    got = resampling.resample(data, everything)[0, 0, 0]
    np.testing.assert_allclose(got, resampled_exactly(values, factor), rtol=1e-9)


@given(SIZES, FACTORS)
def test_the_way_back_is_nearest_for_classes_and_linear_for_probabilities(
    size: int, factor: float
) -> None:
    axis = AxisResampling(size, factor)
    count = axis.resampled_size
    values = np.random.default_rng(size).random(count).astype(np.float32)
    resampling = Resampling((1, size, 1), (factor, 1.0))
    box = Box.of_shape((1, size, 1))
    seen = resampling.support(box)
    given_ = values[seen.slices[1]]
    centers = (np.arange(size) + 0.5) * factor
    back = resampling.probabilities(given_[None, None, :, None], box)[0, 0, :, 0]
    np.testing.assert_allclose(back, np.interp(centers - 0.5, np.arange(count), values), rtol=1e-5)
    classes = resampling.labels(np.arange(count)[None, seen.slices[1], None], box)[0, :, 0]
    distance = np.abs(np.arange(count)[:, None] + 0.5 - centers)
    assert (distance[classes, np.arange(size)] <= distance.min(axis=0) + 1e-9).all()


@given(SIZES, FACTORS, st.data())
def test_a_voxel_does_not_depend_on_the_box_it_is_computed_with(
    size: int, factor: float, data: Any
) -> None:
    image = np.random.default_rng(size).normal(size=(2, 1, size, 7)).astype(np.float32)
    resampling = Resampling((1, size, 7), (factor, 0.5))
    everything = Box.of_shape(resampling.shape)
    whole = resampling.resample(
        image[(slice(None), *resampling.needed(everything).slices)], everything
    )
    first = data.draw(st.integers(0, everything.stop[1] - 1))
    last = data.draw(st.integers(first + 1, everything.stop[1]))
    box = Box((0, first, 1), (1, last, 4))
    needed = resampling.needed(box)
    part = resampling.resample(image[(slice(None), *needed.slices)], box)
    assert part.tobytes() == whole[:, :, first:last, 1:4].tobytes()
    for lengths in (needed.shape, box.shape):
        assert min(lengths) > 0


@given(SIZES, FACTORS, st.data())
def test_voxels_inside_a_box_need_hardly_more_than_the_box(
    size: int, factor: float, data: Any
) -> None:
    axis = AxisResampling(size, factor)
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    first, last = axis.inside(start, stop)
    assert 0 <= first < last <= axis.resampled_size
    low, high = axis.needed(first, last)
    reach = 1 if (stop - start) * factor >= 2 else 1 / factor + 1
    assert start - reach <= low < high <= stop + reach


def test_a_half_is_the_mean_of_two_and_what_is_left_over_stands_alone() -> None:
    image = np.arange(15, dtype=np.float32).reshape(1, 1, 3, 5)
    resampling = Resampling((1, 3, 5), (0.5, 0.5))
    got = resampling.resample(image, Box.of_shape((1, 2, 3)))[0, 0]
    np.testing.assert_array_equal(got, [[3, 5, 6.5], [10.5, 12.5, 14]])


def test_fine_structure_does_not_alias() -> None:
    stripes = np.tile([0.0, 1.0], 500)[None, None, None]
    resampling = Resampling((1, 1, 1000), (1.0, 0.37))
    got = resampling.resample(stripes, Box.of_shape(resampling.shape))
    assert np.abs(got - 0.5).max() < 0.2
    assert got.mean() == pytest.approx(0.5, abs=0.01)


def test_a_length_that_is_rounding_adds_no_voxel() -> None:
    assert AxisResampling(50, 0.46).resampled_size == 23
    assert AxisResampling(100, 1.1).resampled_size == 110


@pytest.mark.parametrize("factor", [0.0999, 10.1, float("nan"), -1.0])
def test_factors_out_of_bounds_are_refused(factor: float) -> None:
    with pytest.raises(TilingError, match=r"0\.1 to 10"):
        Resampling((1, 5, 5), (1.0, factor))

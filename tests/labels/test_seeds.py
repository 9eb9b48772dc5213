"""Seeds lie inside what is surely no boundary, and deep enough or at the top of the distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_unet.core.watershed_options import WatershedOptions
from napari_unet.errors import ConfigError
from napari_unet.labels.seeds import depth_of, find_seeds, number_parts

PROBABILITIES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=8),
    elements=st.sampled_from([0, 0.1, 0.3, 0.6, 1]),
)


def two_chambers(gap: int) -> np.ndarray:
    """Return the boundary around two square chambers of edge 15 with a gap between them."""
    boundary = np.ones((19, 35), dtype=np.float32)
    boundary[2:17, 2:17] = boundary[2:17, 18:33] = 0
    boundary[9 - gap // 2 : 9 - gap // 2 + gap, 17] = 0
    return boundary


@given(
    PROBABILITIES,
    st.sampled_from(["depth", "maxima"]),
    st.sampled_from([0.0, 1.5]),
    st.sampled_from([0.0, 0.7]),
    st.sampled_from([0.0, 1.0]),
)
def test_seeds_are_inside_and_deep_enough(
    boundary: np.ndarray, seeds: str, sigma: float, h: float, depth: float
) -> None:
    options = WatershedOptions.parse(
        {"threshold": 0.3, "seeds": seeds, "sigma": sigma, "h": h, "depth": depth}, source="test"
    )
    found = find_seeds(boundary, options)
    assert found.dtype == np.uint32
    assert (boundary[found > 0] <= 0.3).all()
    assert (depth_of(boundary <= 0.3, (1.0,) * boundary.ndim)[found > 0] > depth).all()
    # Each number is one part that hangs together by faces, and no two of them touch.
    assert np.array_equal(found, ndimage.label(found)[0])


@given(PROBABILITIES)
def test_depth_seeds_are_the_interior_that_scipy_finds_deep(boundary: np.ndarray) -> None:
    interior = boundary <= 0.3
    options = WatershedOptions(threshold=0.3, seeds="depth", depth=1)
    # Without a boundary scipy has no distance; one far outside stands in for it.
    distance = ndimage.distance_transform_edt(interior) if not interior.all() else interior * 9
    assert np.array_equal(find_seeds(boundary, options), ndimage.label(distance > 1)[0])


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=3, max_side=7)))
def test_parts_are_numbered_in_raster_order(mask: np.ndarray) -> None:
    assert np.array_equal(number_parts(mask), ndimage.label(mask)[0])


def test_the_depth_counts_edges_of_voxels() -> None:
    interior = np.zeros((7, 9, 9), dtype=bool)
    interior[1:6, 1:8, 1:8] = True
    expected = ndimage.distance_transform_edt(interior, sampling=(4, 1, 1))
    assert np.allclose(depth_of(interior, (4.0, 1.0, 1.0)), expected)


def test_without_a_boundary_the_depth_is_finite() -> None:
    assert np.array_equal(depth_of(np.ones((3, 4), bool), (1.0, 1.0)), np.full((3, 4), 5))


@pytest.mark.parametrize(("gap", "h", "count"), [(3, 0.5, 2), (3, 20, 1), (15, 0.5, 1)])
def test_a_maximum_counts_when_it_rises_by_h(gap: int, h: float, count: int) -> None:
    options = WatershedOptions(threshold=0.5, seeds="maxima", sigma=0, h=h)
    assert find_seeds(two_chambers(gap), options).max() == count


def test_h_between_the_rises_tells_how_many() -> None:
    # The chambers are 8 deep, the gap of 3 is 2 deep: each maximum rises by 6 over the saddle.
    for h, count in ((5.5, 2), (6.5, 1)):
        options = WatershedOptions(threshold=0.5, seeds="maxima", sigma=0, h=h)
        assert find_seeds(two_chambers(3), options).max() == count


def test_smoothing_removes_small_maxima(rng: np.random.Generator) -> None:
    # A channel whose walls are rough by a pixel.
    rough = np.ones((40, 80), dtype=np.float32)
    for x in range(2, 78):
        rough[10 + rng.integers(2) : 30 - rng.integers(2), x] = 0
    sharp = WatershedOptions(threshold=0.5, seeds="maxima", sigma=0, h=0)
    smooth = WatershedOptions(threshold=0.5, seeds="maxima", sigma=4, h=0)
    assert find_seeds(rough, smooth).max() < find_seeds(rough, sharp).max()


def test_smoothing_is_as_long_in_z_as_in_x() -> None:
    # Wide and narrow chambers in turn, in slices that are 20 pixels thick.
    y, x = np.mgrid[:25, :25]
    radius = np.where(np.arange(9) % 2, 3, 9)[:, np.newaxis, np.newaxis]
    boundary = (np.hypot(y - 12, x - 12) > radius).astype(np.float32)
    options = WatershedOptions(threshold=0.5, seeds="maxima", sigma=4, h=0)
    assert find_seeds(boundary, options, (20.0, 1.0, 1.0)).max() == 5


def test_one_level_is_one_seed_and_boundary_alone_has_none() -> None:
    for seeds in ("depth", "maxima"):
        options = WatershedOptions.parse({"seeds": seeds}, source="test")
        assert find_seeds(np.zeros((4, 5)), options).min() == 1
        assert find_seeds(np.ones((4, 5)), options).max() == 0


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, np.inf)])
def test_a_spacing_that_does_not_fit_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="one positive length for each axis"):
        find_seeds(np.zeros((4, 5)), WatershedOptions(), spacing)

"""The watershed fills every pixel and finds the cells that closed membranes separate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_unet.core.boxes import Box
from napari_unet.core.watershed_options import WatershedOptions
from napari_unet.errors import ConfigError
from napari_unet.labels.seeds import find_seeds
from napari_unet.labels.watershed import (
    watershed_block,
    watershed_objects,
    watershed_pieces,
    watershed_slices,
)


def honeycomb(cells: int = 4, edge: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return membranes of square cells and the true cells, 0 on the membranes."""
    y, x = np.mgrid[: cells * edge, : cells * edge]
    membrane = np.where((y % edge < 2) | (x % edge < 2), 0.9, 0.1)
    return membrane, np.where(membrane > 0.5, 0, 1 + y // edge * cells + x // edge)


def test_closed_cells_are_found() -> None:
    membrane, true = honeycomb()
    found = watershed_slices(membrane)
    assert found.dtype == np.int32
    assert found.min() == 1
    pairs = np.unique(np.stack([found[true > 0], true[true > 0]]), axis=1)
    assert pairs.shape[1] == true.max() == found.max()


def test_noise_does_not_split_cells(rng: np.random.Generator) -> None:
    membrane, true = honeycomb()
    noisy = np.clip(membrane + rng.normal(0, 0.1, membrane.shape), 0, 1)
    assert watershed_slices(noisy, threshold=0.5).max() == true.max()


def test_long_bent_cells_stay_whole() -> None:
    membrane = np.full((60, 60), 0.95)
    for index in ((slice(5, 55), slice(5, 12)), (slice(48, 55), slice(5, 55))):
        membrane[index] = 0.05
    membrane[5:40, 26:36] = 0.05
    membrane[20:24, 5:12] = 0.1
    assert watershed_slices(membrane).max() == 2


def test_small_gaps_in_a_membrane_do_not_merge() -> None:
    membrane, true = honeycomb()
    membrane[16:18, 7:9] = 0.1
    membrane[39:41, 32:34] = 0.3
    assert watershed_slices(membrane).max() == true.max()


def test_slices_are_independent_and_share_no_number() -> None:
    membrane, true = honeycomb()
    found = watershed_slices(np.stack([membrane, membrane.T]))
    assert np.intersect1d(found[0], found[1]).size == 0
    assert np.array_equal(found[0], watershed_slices(membrane))
    assert np.array_equal(found[1] - true.max(), watershed_slices(membrane.T))


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_slice_of_one_kind_is_one_object(probability: float) -> None:
    assert np.array_equal(watershed_slices(np.full((5, 6), probability)), np.ones((5, 6)))


def test_one_pixel_of_interior_is_enough() -> None:
    membrane = np.ones((7, 7))
    membrane[0, 0] = 0
    assert np.array_equal(watershed_slices(membrane), np.ones((7, 7)))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"give \(y, x\)"):
        watershed_slices(np.zeros(5))


OPTIONS = st.builds(
    WatershedOptions,
    threshold=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    seeds=st.sampled_from(["depth", "maxima"]),
    sigma=st.sampled_from([0.0, 1.0]),
    h=st.sampled_from([0.0, 0.5, 3.0]),
    depth=st.sampled_from([0.0, 1.0]),
    merge=st.sampled_from([0.0, 0.3, 1.0]),
)


@st.composite
def masked_boundaries(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=8))
    values = st.sampled_from([0, 0.1, 0.4, 0.7, 1])
    return draw(hnp.arrays(np.float32, shape, elements=values)), draw(hnp.arrays(np.bool_, shape))


@given(masked_boundaries(), OPTIONS)
def test_every_voxel_of_the_mask_is_in_an_object_and_no_other(
    case: tuple[np.ndarray, np.ndarray], options: WatershedOptions
) -> None:
    boundary, mask = case
    for find in (watershed_pieces, watershed_objects):
        found = find(boundary, options, mask=mask)
        assert found.dtype == np.uint32
        assert np.array_equal(found > 0, mask)
        # Numbers have no gap.
        assert np.array_equal(np.unique(np.append(found, 0)), np.arange(found.max() + 1))


@given(masked_boundaries(), OPTIONS)
def test_each_seed_is_in_a_piece_of_its_own(
    case: tuple[np.ndarray, np.ndarray], options: WatershedOptions
) -> None:
    boundary, _ = case
    seeds, pieces = find_seeds(boundary, options), watershed_pieces(boundary, options)
    assert np.array_equal(pieces[seeds > 0], seeds[seeds > 0])
    # Where there are seeds nothing but what grows from them is a piece; without any, all is one.
    assert pieces.max() == max(seeds.max(), 1)


@given(masked_boundaries(), OPTIONS)
def test_merging_joins_whole_pieces(
    case: tuple[np.ndarray, np.ndarray], options: WatershedOptions
) -> None:
    boundary, mask = case
    pieces = watershed_pieces(boundary, options, mask=mask)
    objects = watershed_objects(boundary, options, mask=mask)
    pairs = np.unique(np.stack([pieces.ravel(), objects.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(pieces))


def test_pieces_of_a_cell_are_merged_and_cells_are_not() -> None:
    membrane, true = honeycomb(edge=24)
    membrane[true == 6] = 0.1 + 0.3 * (np.arange((true == 6).sum()) % 7 == 0)
    options = WatershedOptions(threshold=0.2, sigma=0, h=0, merge=0)
    split = watershed_objects(membrane, options)
    assert split.max() > true.max()
    merged = watershed_objects(membrane, options.model_copy(update={"merge": 0.5}))
    pairs = np.unique(np.stack([merged[true > 0], true[true > 0]]), axis=1)
    assert pairs.shape[1] == true.max() == merged.max()


@pytest.mark.parametrize("seeds", ["maxima", "depth"])
def test_stretched_z_with_its_spacing_gives_the_same_objects(seeds: str) -> None:
    # Two balls that touch, at voxels of 1 x 1 x 1 and of 3 x 1 x 1.
    def balls(edge: int) -> np.ndarray:
        z, y, x = np.mgrid[0:27:edge, 0:27, 0:45]
        near = np.minimum(
            np.hypot(np.hypot(z - 12, y - 13), x - 12), np.hypot(np.hypot(z - 12, y - 13), x - 31)
        )
        return np.clip(near - 9, 0, 1)

    options = WatershedOptions.parse(
        {"threshold": 0.5, "seeds": seeds, "sigma": 1, "h": 1, "depth": 4, "merge": 0},
        source="test",
    )
    whole = watershed_objects(balls(1), options)
    thick = watershed_objects(balls(3), options, spacing=(30, 10, 10))
    assert whole.max() == thick.max() == 2
    inside = balls(3) < 0.5
    assert np.array_equal(whole[::3][inside], thick[inside])


def test_the_spacing_decides_how_deep_a_flat_object_is() -> None:
    boundary = np.ones((5, 11, 11))
    boundary[2, 1:10, 1:10] = 0
    options = WatershedOptions(threshold=0.5, seeds="depth", depth=2)
    assert find_seeds(boundary, options).max() == 0
    assert find_seeds(boundary, options, (40.0, 10.0, 10.0)).max() == 1


def test_a_block_is_a_function_of_what_was_read(rng: np.random.Generator) -> None:
    boundary = ndimage.gaussian_filter(rng.random((12, 40, 40)), 2)
    boundary = (boundary - boundary.min()) / np.ptp(boundary)
    options = WatershedOptions(merge=0)
    inner = Box((2, 8, 8), (10, 32, 32))
    block = watershed_block(boundary, inner, options)
    whole = watershed_pieces(boundary, options)[inner.slices]
    assert block.shape == inner.shape
    assert np.array_equal(np.unique(block), np.arange(1, block.max() + 1))
    pairs = np.unique(np.stack([block.ravel(), whole.ravel()]), axis=1)
    assert np.array_equal(pairs[0], np.arange(1, block.max() + 1))
    assert np.array_equal(pairs[1], np.unique(whole))


def test_a_seed_outside_the_mask_leaves_no_gap_in_the_numbers() -> None:
    boundary = np.zeros((5, 11))
    boundary[:, 5] = 1
    mask = np.zeros(boundary.shape, dtype=bool)
    mask[:, 7:] = True
    found = watershed_pieces(boundary, WatershedOptions(seeds="depth"), mask=mask)
    assert np.array_equal(found, mask)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match="give equal shapes"):
        watershed_pieces(np.zeros((4, 4)), WatershedOptions(), mask=np.ones((4, 5), bool))

"""The watershed fills every pixel and finds the cells that closed membranes separate."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.errors import ConfigError
from napari_unet.labels.watershed import watershed_slices


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

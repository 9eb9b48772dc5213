"""Thinned borders are lines between the cells that grew, and cells keep their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import watershed

from napari_unet.errors import ConfigError
from napari_unet.metrics.thinning import connected_cells, thin_borders


def blobs(rng: np.random.Generator, level: float = 0.47) -> np.ndarray:
    """Return a mask of a few smooth cells."""
    smooth = ndimage.gaussian_filter(rng.random((60, 70)), 3)
    return smooth > np.quantile(smooth, level)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_a_straight_border_becomes_its_middle_line(width: int) -> None:
    cells = np.ones((9, 21), bool)
    cells[:, 10 - width // 2 : 11 + width // 2] = False
    expected = np.repeat([1, 0, 2], [10, 1, 10])
    assert np.array_equal(thin_borders(cells), np.tile(expected, (9, 1)))
    assert np.array_equal(thin_borders(cells.T), np.tile(expected, (9, 1)).T)


def test_a_border_of_even_width_leaves_a_line() -> None:
    cells = np.ones((9, 20), bool)
    cells[:, 8:12] = False
    thin = thin_borders(cells)
    assert [set(row.tolist()) for row in thin] == [{0, 1, 2}] * 9
    assert ((thin == 0).sum(axis=1) == 1).all()


def test_cells_keep_their_pixels_and_stay_connected(rng: np.random.Generator) -> None:
    cells = blobs(rng)
    before, thin = connected_cells(cells), thin_borders(cells)
    assert np.array_equal(thin[cells], before[cells])
    assert before.max() > 3
    for number in range(1, before.max() + 1):
        assert ndimage.label(thin == number)[1] == 1


def test_what_remains_lies_between_cells(rng: np.random.Generator) -> None:
    cells = blobs(rng)
    thin = thin_borders(cells)
    assert 0 < (thin == 0).sum() < 0.3 * (~cells).sum()
    neighbors = np.stack([np.roll(np.pad(thin, 1), s, a) for a in (0, 1) for s in (-1, 1)])
    for y, x in np.argwhere(thin == 0):
        around = set(neighbors[:, y + 1, x + 1].tolist())
        assert len(around - {0}) > 1 or 0 in around


def test_agrees_with_another_watershed_but_for_the_lines(rng: np.random.Generator) -> None:
    cells = blobs(rng)
    thin = thin_borders(cells)
    other = watershed(~cells, connected_cells(cells), connectivity=1, watershed_line=True)
    both = (thin != 0) & (other != 0)
    assert both.mean() > 0.9
    assert (thin[both] == other[both]).mean() > 0.99


def test_no_cell_is_one_object_and_one_cell_fills_the_slice() -> None:
    empty = np.zeros((4, 5), bool)
    assert (thin_borders(empty) == 1).all()
    empty[2, 3] = True
    assert (thin_borders(empty) == 1).all()
    assert not connected_cells(np.zeros((4, 5), bool)).any()


def test_cells_are_connected_by_four_neighbors() -> None:
    assert connected_cells(np.eye(3, dtype=bool)).max() == 3


@pytest.mark.parametrize("function", [thin_borders, connected_cells])
def test_what_is_no_mask_of_a_slice_is_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(ConfigError, match=r"cells are float64 of shape \(3, 3\); give a mask"):
        function(np.ones((3, 3)))
    with pytest.raises(ConfigError, match=r"cells are bool of shape \(1, 3, 3\); give a mask"):
        function(np.ones((1, 3, 3), bool))

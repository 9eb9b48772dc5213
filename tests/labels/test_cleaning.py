"""Decisions from parts of an image are those from the whole; holes are what scipy calls so."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.segmentation import clear_border

from napari_unet.core.boxes import Box
from napari_unet.labels.cleaning import (
    enclosed_parts,
    fill_holes,
    object_sizes,
    part_neighbors,
    small_objects,
    touching_border,
    without_objects,
)
from napari_unet.labels.seeds import number_parts

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, max_side=7)
OBJECTS = hnp.arrays(np.uint32, SHAPES, elements=st.sampled_from([0, 0, 1, 2, 3, 70_000]))
MASKS = hnp.arrays(np.bool_, SHAPES)


def blocks(shape: tuple[int, ...], edge: int) -> list[Box]:
    """Return boxes that cover a shape."""
    starts = itertools.product(*(range(0, n, edge) for n in shape))
    whole = Box.of_shape(shape)
    return [Box(s, tuple(a + edge for a in s)).intersection(whole) for s in starts]


@given(OBJECTS, st.integers(0, 12))
def test_small_objects_are_those_of_fewer_voxels(objects: np.ndarray, minimum: int) -> None:
    found = small_objects(*object_sizes(objects), minimum)
    expected = [n for n in np.unique(objects[objects > 0]) if (objects == n).sum() < minimum]
    assert found.tolist() == expected
    kept = without_objects(objects, found)
    assert kept.dtype == objects.dtype
    assert np.array_equal(kept, np.where(np.isin(objects, expected), 0, objects))


@given(OBJECTS, st.integers(1, 4))
def test_blocks_tell_what_touches_the_border_of_the_image(objects: np.ndarray, edge: int) -> None:
    found = [
        touching_border(objects[b.slices], b, objects.shape) for b in blocks(objects.shape, edge)
    ]
    assert np.array_equal(np.unique(np.concatenate(found)), touching_border(objects))


@given(MASKS)
def test_clearing_the_border_equals_scikit_image(mask: np.ndarray) -> None:
    # scikit-image clears what hangs together; so does this where each such part has its number.
    objects = number_parts(mask)
    connectivity = ndimage.generate_binary_structure(mask.ndim, 1)
    expected = clear_border(ndimage.label(mask, connectivity)[0])
    assert np.array_equal(without_objects(objects, touching_border(objects)), expected)


def test_the_border_of_planes_has_no_z() -> None:
    objects = np.zeros((2, 5, 5), dtype=np.uint8)
    objects[:, 2, 2], objects[0, 0, 3] = 1, 2
    assert touching_border(objects).tolist() == [1, 2]
    assert touching_border(objects, axes=(1, 2)).tolist() == [2]


@given(MASKS)
def test_the_holes_of_one_object_are_those_of_scipy(mask: np.ndarray) -> None:
    assert np.array_equal(fill_holes(mask.astype(np.uint8)), ndimage.binary_fill_holes(mask))


@given(hnp.arrays(np.bool_, (3, 6, 6)))
def test_holes_per_plane_are_those_of_each_plane(mask: np.ndarray) -> None:
    expected = [ndimage.binary_fill_holes(plane) for plane in mask]
    assert np.array_equal(fill_holes(mask.astype(np.uint8), per_plane=True), expected)


@pytest.mark.parametrize("per_plane", [True, False])
def test_an_object_inside_another_keeps_what_lies_between(per_plane: bool) -> None:
    objects = np.zeros((7, 9, 9), dtype=np.uint64)
    objects[1:6, 1:8, 1:8] = 2**40
    objects[2:5, 2:7, 2:7] = 0
    objects[3, 4, 4] = 3
    filled = fill_holes(objects[3] if per_plane else objects)
    assert np.array_equal(filled, objects[3] if per_plane else objects)
    objects[3, 4, 4] = 0
    filled = fill_holes(objects)
    assert filled.dtype == np.uint64
    assert (filled[1:6, 1:8, 1:8] == 2**40).all()
    assert (filled > 0).sum() == 5 * 7 * 7


def test_a_cup_is_no_hole_in_3d_but_its_planes_are() -> None:
    cup = np.zeros((4, 5, 5), dtype=np.uint8)
    cup[:, 1:4, 1:4] = 1
    cup[1:, 2, 2] = 0
    assert np.array_equal(fill_holes(cup), cup)
    assert (fill_holes(cup, per_plane=True)[:, 1:4, 1:4] == 1).all()


@given(OBJECTS, st.integers(1, 4))
def test_blocks_tell_the_holes_of_the_image(objects: np.ndarray, edge: int) -> None:
    parts = number_parts(objects == 0)
    pairs, borders = [], []
    for box in blocks(objects.shape, edge):
        around = tuple(slice(a, b + 1) for a, b in zip(box.start, box.stop, strict=True))
        pairs.append(part_neighbors(parts[around], objects[around]))
        borders.append(touching_border(parts[box.slices], box, objects.shape))
    neighbors = np.unique(np.concatenate(pairs), axis=0)
    holes, owners = enclosed_parts(neighbors, np.unique(np.concatenate(borders)))
    filled = objects.copy()
    for hole, owner in zip(holes, owners, strict=True):
        filled[parts == hole] = owner
    assert np.array_equal(filled, fill_holes(objects))

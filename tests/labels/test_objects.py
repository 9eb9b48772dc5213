"""Classes from objects agree with their definition, pixel by pixel, and block by block."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.boxes import Box
from napari_unet.errors import AnnotationError
from napari_unet.labels.objects import objects_to_classes, read_object_classes

if TYPE_CHECKING:
    from napari_unet.core.label_kinds import Separation

SEPARATIONS: tuple[Separation, ...] = ("border", "gap")
Objects = npt.NDArray[np.int64]


def by_definition(objects: Objects, separation: Separation, width: float) -> Objects:
    """Return the classes by comparing all pairs of pixels of each slice."""
    result = np.ones(objects.shape, dtype=np.int64)
    for z, y, x in zip(*np.nonzero(objects), strict=True):
        rows, columns = np.indices(objects.shape[1:])
        near = np.hypot(rows - y, columns - x) <= width
        mine, others = objects[z, y, x], objects[z][near]
        if separation == "border":
            result[z, y, x] = 2 if (others != mine).any() else 3
        elif not ((others != mine) & (others != 0)).any():
            result[z, y, x] = 2
    return result


@st.composite
def blobs(draw: st.DrawFn) -> Objects:
    """Return slices with blocky objects that touch in all ways, some with huge numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    numbers = np.array([0, 0, 1, 2, 3, 2**53, 2**53 + 1, 2**62])
    grain = draw(st.integers(1, 4))
    small = rng.choice(numbers, (draw(st.integers(1, 2)), 3, 3))
    return small.repeat(grain, axis=1).repeat(grain, axis=2)[:, : draw(st.integers(1, 12))]


@given(blobs(), st.sampled_from(SEPARATIONS), st.sampled_from([1, 1.5, 2, 2.9, 5]))
def test_classes_of_objects_are_as_defined(
    objects: Objects, separation: Separation, width: float
) -> None:
    found = objects_to_classes(objects, separation, width)
    np.testing.assert_array_equal(found, by_definition(objects, separation, width))
    assert found.dtype == np.uint8


@given(blobs(), st.sampled_from(SEPARATIONS), st.sampled_from([1, 2.9]), st.integers(1, 5))
def test_blocks_give_what_the_whole_gives(
    objects: Objects, separation: Separation, width: float, edge: int
) -> None:
    whole = objects_to_classes(objects, separation, width)
    depth, height, width_x = objects.shape
    for z, y, x in itertools.product(range(depth), range(0, height, edge), range(0, width_x, edge)):
        box = Box((z, y, x), (z + 1, min(y + edge, height), min(x + edge, width_x)))
        part = read_object_classes(
            lambda b: objects[b.slices], box, objects.shape, (separation, width)
        )
        np.testing.assert_array_equal(part, whole[box.slices])


def test_touching_objects_become_two_parts_and_lone_ones_stay() -> None:
    objects = np.zeros((1, 6, 11), np.uint16)
    objects[0, 1:5, 1:4], objects[0, 1:5, 4:7], objects[0, 1:5, 8:11] = 7, 9, 7
    gap = objects_to_classes(objects, "gap", 1)[0]
    np.testing.assert_array_equal(gap[2], [1, 2, 2, 1, 1, 2, 2, 1, 2, 2, 2])
    border = objects_to_classes(objects, "border", 1)[0]
    np.testing.assert_array_equal(border[2], [1, 2, 3, 2, 2, 3, 2, 1, 2, 3, 3])


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (np.full((1, 2, 2), -1), "-1 is no number of an object"),
        (np.ones((1, 2, 2), bool), "type bool are not whole numbers; number its objects"),
        (np.ones((1, 2, 2), np.float32), "type float32 are not whole numbers; convert"),
    ],
)
def test_what_are_no_objects_is_refused(objects: Objects, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        objects_to_classes(objects, "border", 1)

"""Boxes are sets of voxels; every operation is compared with sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.boxes import Box, format_region, parse_region
from napari_unet.errors import TilingError

EDGES = st.tuples(st.integers(-4, 5), st.integers(0, 5))


@st.composite
def boxes(draw: st.DrawFn, ndim: int = 2) -> Box:
    edges = [draw(EDGES) for _ in range(ndim)]
    return Box(tuple(a for a, _ in edges), tuple(a + n for a, n in edges))


def voxels(box: Box) -> set[tuple[int, ...]]:
    return set(itertools.product(*[range(a, b) for a, b in zip(box.start, box.stop, strict=True)]))


@given(boxes(), boxes())
def test_a_box_is_the_set_of_its_voxels(a: Box, b: Box) -> None:
    assert a.size == len(voxels(a))
    assert a.is_empty == (not voxels(a))
    assert voxels(a.intersection(b)) == voxels(a) & voxels(b)
    assert a.intersection(b).is_empty == b.intersection(a).is_empty
    if not b.is_empty:
        assert a.contains(b) == (voxels(b) <= voxels(a))


@given(boxes(), st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_a_change_of_origin_moves_every_voxel(box: Box, origin: tuple[int, int]) -> None:
    moved = {(y - origin[0], x - origin[1]) for y, x in voxels(box)}
    assert voxels(box.relative_to(origin)) == moved
    assert box.relative_to(origin).shape == box.shape


@given(boxes(), boxes())
def test_the_distance_is_the_gap_on_each_axis(a: Box, b: Box) -> None:
    if a.is_empty or b.is_empty:
        return
    for axis, gap in enumerate(a.distance_to(b)):
        nearest = min(abs(p[axis] - q[axis]) for p in voxels(a) for q in voxels(b))
        assert gap == max(nearest - 1, 0)


def test_slices_select_the_box() -> None:
    array = np.arange(60).reshape(3, 4, 5)
    box = Box((1, 0, 2), (3, 2, 5))
    assert array[box.slices].shape == box.shape
    assert array[box.slices][0, 0, 0] == array[1, 0, 2]
    assert array[Box.of_shape(array.shape).slices].shape == array.shape


@given(st.data())
def test_a_region_is_read_back_as_it_was_written(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 20)) for _ in range(3))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    box = Box(start, stop)
    assert parse_region(format_region(box), shape) == box


@pytest.mark.parametrize(
    ("text", "start", "stop"),
    [
        (":,:,:", (0, 0, 0), (10, 20, 30)),
        ("4,:,:", (4, 0, 0), (5, 20, 30)),
        (" 2: , :5 , 7:9 ", (2, 0, 7), (10, 5, 9)),
        ("0:10,0:20,0:30", (0, 0, 0), (10, 20, 30)),
    ],
)
def test_bounds_may_be_left_out(text: str, start: tuple[int, ...], stop: tuple[int, ...]) -> None:
    assert parse_region(text, (10, 20, 30)) == Box(start, stop)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0:5,0:5", "has 2 ranges.*z0:z1,y0:y1,x0:x1"),
        ("", "has 1 ranges"),
        ("0:5,,0:5", "an empty range.*axis y, which has 20 voxels"),
        ("0:11,:,:", "'0:11' does not lie in axis z, which has 10 voxels"),
        ("5:5,:,:", "'5:5' does not lie"),
        ("7:3,:,:", "'7:3' does not lie"),
        ("-1:3,:,:", "'-1:3' does not lie"),
        ("10,:,:", "'10' does not lie"),
        ("a:3,:,:", "'a:3' is not a range of whole numbers"),
        ("0:5:2,:,:", "'0:5:2' is not a range"),
        ("0.5:3,:,:", "is not a range"),
    ],
)
def test_a_bad_region_is_named_with_what_would_be_right(text: str, problem: str) -> None:
    with pytest.raises(TilingError, match=problem):
        parse_region(text, (10, 20, 30))


def test_impossible_boxes_are_refused() -> None:
    with pytest.raises(TilingError, match="differ in length"):
        Box((0,), (1, 2))
    with pytest.raises(TilingError, match="ends before it starts"):
        Box((0, 5), (1, 4))

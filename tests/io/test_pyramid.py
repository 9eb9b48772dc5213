"""Pyramids: which levels, and laws of the reduction that hold for any shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.io.image import Selection, wrap_array
from napari_unet.io.pyramid import Reduction, plan_levels, split_box

edges = st.integers(1, 40)
shapes = st.tuples(st.integers(1, 5), edges, edges)


@st.composite
def reductions(draw: st.DrawFn) -> Reduction:
    fine = draw(shapes)
    return Reduction(fine, tuple(draw(st.integers(1, n)) for n in fine))


@st.composite
def boxes_in(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    return Box(start, tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)))


class BigArray:
    """An array that has a shape only."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype = shape, np.dtype(np.uint8)

    def __getitem__(self, index: object) -> object:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 2048, 100), [(3, 2048, 100)]),
        ((3, 2049, 100), [(3, 2049, 100), (3, 1025, 50)]),
        ((1, 100, 5001), [(1, 100, 5001), (1, 50, 2501), (1, 25, 1251)]),
        ((9000, 10, 10), [(9000, 10, 10)]),
        ((1, 1, 9000), [(1, 1, 9000), (1, 1, 4500), (1, 1, 2250), (1, 1, 1125)]),
    ],
)
def test_levels_of_a_plain_array(
    shape: tuple[int, int, int], expected: list[tuple[int, ...]]
) -> None:
    source = wrap_array(BigArray(shape), Selection(axes="zyx"), voxel_size=VoxelSize(5, 2, 2, "nm"))
    levels = plan_levels(source)
    assert [level.shape for level in levels] == expected
    for k, level in enumerate(levels):
        assert level.voxel_size == VoxelSize(5, 2 * 2**k, 2 * 2**k, "nm")
        assert level.translation == (0, 2**k - 1, 2**k - 1)


def test_levels_of_a_source_that_has_them_are_its_own() -> None:
    source = wrap_array(np.zeros((4, 4)))
    own = (*source.levels, PyramidLevel((1, 3, 3), VoxelSize()))
    source._levels = own  # type: ignore[attr-defined]
    assert plan_levels(source) == own


@given(reductions())
def test_windows_abut_and_cover(reduction: Reduction) -> None:
    for axis, (fine, coarse) in enumerate(zip(reduction.fine, reduction.coarse, strict=True)):
        starts = reduction.starts(axis, 0, coarse)
        assert starts[0] == 0
        assert starts[-1] == fine
        assert (np.diff(starts) > 0).all()


@given(st.data(), reductions())
def test_a_region_touches_exactly_the_voxels_made_of_it(
    data: st.DataObject, reduction: Reduction
) -> None:
    region = data.draw(boxes_in(reduction.fine))
    touched = reduction.touched(region)
    for axis, coarse in enumerate(reduction.coarse):
        starts = reduction.starts(axis, 0, coarse)
        made = [
            i
            for i in range(coarse)
            if starts[i] < region.stop[axis] and starts[i + 1] > region.start[axis]
        ]
        assert made == list(range(touched.start[axis], touched.stop[axis]))


@given(st.data(), reductions())
def test_reducing_in_parts_is_reducing_at_once(data: st.DataObject, reduction: Reduction) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    fine = rng.integers(0, 4, reduction.fine).astype(np.uint8)
    probable = rng.random((2, *reduction.fine)).astype(np.float32)
    whole = Box.of_shape(reduction.coarse)
    part = data.draw(boxes_in(reduction.coarse))
    window = reduction.window(part)
    np.testing.assert_array_equal(
        reduction.labels(part, fine[window.slices]), reduction.labels(whole, fine)[part.slices]
    )
    np.testing.assert_allclose(
        reduction.probabilities(part, probable[(slice(None), *window.slices)]),
        reduction.probabilities(whole, probable)[(slice(None), *part.slices)],
        rtol=1e-5,
    )


@given(st.data(), reductions())
def test_labels_are_one_of_their_window_and_computed_if_any_is(
    data: st.DataObject, reduction: Reduction
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    fine = rng.integers(0, 4, reduction.fine).astype(np.uint8) * (rng.random(reduction.fine) < 0.3)
    coarse = reduction.labels(Box.of_shape(reduction.coarse), fine.astype(np.uint8))
    for index in np.ndindex(*reduction.coarse):
        box = reduction.window(Box(index, tuple(i + 1 for i in index)))
        candidates = fine[box.slices]
        assert coarse[index] in candidates
        assert (coarse[index] != 0) == candidates.any()


@given(st.data(), reductions())
def test_probabilities_are_the_mean_of_computed_voxels(
    data: st.DataObject, reduction: Reduction
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    first = rng.uniform(0.1, 0.9, reduction.fine)
    fine = np.stack([first, 1 - first]) * (rng.random(reduction.fine) < 0.7)
    coarse = reduction.probabilities(Box.of_shape(reduction.coarse), fine)
    for index in np.ndindex(*reduction.coarse):
        box = reduction.window(Box(index, tuple(i + 1 for i in index)))
        values = fine[(slice(None), *box.slices)].reshape(2, -1)
        values = values[:, values.sum(0) > 0]
        expected = values.mean(1) if values.size else np.zeros(2)
        np.testing.assert_allclose(coarse[(slice(None), *index)], expected, rtol=1e-5, atol=1e-6)


def test_even_shapes_are_reduced_by_two_by_two() -> None:
    fine = np.arange(16, dtype=np.uint8).reshape(1, 4, 4) + 1
    reduction = Reduction((1, 4, 4), (1, 2, 2))
    coarse = reduction.labels(Box.of_shape((1, 2, 2)), fine)
    np.testing.assert_array_equal(coarse[0], [[6, 8], [14, 16]])


@given(boxes_in((30, 30, 30)), st.integers(1, 500))
def test_parts_of_a_box_cover_it_once(box: Box, limit: int) -> None:
    seen = np.zeros((30, 30, 30), int)
    for part in split_box(box, 1.0, limit):
        seen[part.slices] += 1
        assert part.size <= max(limit, 1)
    assert seen.sum() == box.size
    assert (seen[box.slices] == 1).all()


@given(st.data(), reductions())
def test_coarse_objects_are_middle_voxels_and_background_stays(
    data: st.DataObject, reduction: Reduction
) -> None:
    seed = data.draw(st.integers(0, 2**16))
    fine = np.random.default_rng(seed).integers(0, 3, reduction.fine, dtype=np.uint32)
    target = data.draw(boxes_in(reduction.coarse))
    coarse = reduction.objects(target, fine[reduction.window(target).slices])
    assert coarse.dtype == fine.dtype
    for index in np.ndindex(target.shape):
        at = tuple(a + i for a, i in zip(target.start, index, strict=True))
        window = reduction.window(Box(at, tuple(a + 1 for a in at)))
        middle = tuple(a + n // 2 for a, n in zip(window.start, window.shape, strict=True))
        assert coarse[index] == fine[middle]

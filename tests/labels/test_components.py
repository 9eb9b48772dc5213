"""Components of blocks are those of the whole, number by number, for all blocks and orders."""

from __future__ import annotations

import itertools
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.core.component_options import ComponentOptions
from napari_unet.errors import AnnotationError, ConfigError
from napari_unet.labels.block_grid import BlockGrid, Schedule
from napari_unet.labels.components import components, label_components, same_voxels
from napari_unet.labels.stitching import finish

Labels = npt.NDArray[np.uint32]


def by_blocks(
    classes: npt.NDArray[Any],
    block_shape: tuple[int, ...],
    options: ComponentOptions | None = None,
    *,
    schedule: Schedule | None = None,
    in_scratch: bool = False,
) -> Labels:
    """Return the components (z, y, x) that blocks of a shape give."""
    found = np.zeros(classes.shape, dtype=np.uint32)
    counts: list[int] = []

    def open_output(count: int) -> Any:
        counts.append(count)
        return lambda box, objects: found.__setitem__(box.slices, objects)

    steps = label_components(
        lambda box: classes[box.slices],
        BlockGrid(classes.shape, block_shape),
        options,
        open_output=open_output,
        scratch=found if in_scratch else None,
        schedule=schedule,
    )
    count = finish(steps)
    assert counts == [count]
    assert np.array_equal(np.unique(np.append(found, 0)), np.arange(count + 1))
    return found


def by_scipy(classes: npt.NDArray[Any], options: ComponentOptions) -> Labels:
    """Return the components of the whole as scipy finds them, one class after the other."""
    structure = ndimage.generate_binary_structure(3, options.connectivity)
    if options.per_slice:
        structure[[0, 2]] = False
    values = np.unique(classes[classes > 0]) if options.foreground is None else options.foreground
    masks = [classes == value for value in values]
    if options.merge_classes and masks:
        masks = [np.logical_or.reduce(masks)]
    found = np.zeros(classes.shape, dtype=np.int64)
    for mask in masks:
        labels, _ = ndimage.label(mask, structure)
        found[mask] = labels[mask] + found.max()
    return numbered_by_first_voxel(found)


def numbered_by_first_voxel(labels: npt.NDArray[Any]) -> Labels:
    ids, firsts = np.unique(labels, return_index=True)
    ids = ids[np.argsort(firsts)]
    numbers = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.uint32)
    numbers[ids[ids > 0]] = np.arange(1, np.count_nonzero(ids) + 1)
    return numbers[labels]


@st.composite
def class_images(draw: st.DrawFn) -> npt.NDArray[np.uint8]:
    shape = tuple(draw(st.integers(1, n)) for n in (5, 9, 9))
    seed = draw(st.integers(0, 2**32 - 1))
    background = draw(st.floats(0.1, 0.9))
    share = (1 - background) / 2
    rng = np.random.default_rng(seed)
    return rng.choice(3, shape, p=[background, share, share]).astype(np.uint8)


all_options = st.builds(
    ComponentOptions,
    foreground=st.sampled_from([None, (1,), (2,), (1, 2), (2, 300)]),
    connectivity=st.sampled_from([1, 2, 3]),
    merge_classes=st.booleans(),
    per_slice=st.booleans(),
)


@given(st.data(), class_images(), all_options)
def test_blocks_give_the_components_of_the_whole(
    data: st.DataObject, classes: npt.NDArray[np.uint8], options: ComponentOptions
) -> None:
    block_shape = tuple(data.draw(st.integers(1, n + 1)) for n in classes.shape)
    grid = BlockGrid(classes.shape, block_shape)
    order = data.draw(st.permutations(range(grid.count))) if grid.count < 60 else None
    schedule = Schedule(
        workers=data.draw(st.integers(1, 3)), order=None if order is None else tuple(order)
    )
    found = by_blocks(
        classes, block_shape, options, schedule=schedule, in_scratch=data.draw(st.booleans())
    )
    assert np.array_equal(found, by_scipy(classes, options))


@given(class_images(), all_options)
def test_components_in_memory_are_those_of_scipy(
    classes: npt.NDArray[np.uint8], options: ComponentOptions
) -> None:
    assert np.array_equal(components(classes, options), by_scipy(classes, options))


@pytest.mark.parametrize("connectivity", [1, 2, 3])
def test_large_blobs_are_those_of_cc3d(rng: np.random.Generator, connectivity: int) -> None:
    volume = (ndimage.gaussian_filter(rng.standard_normal((40, 61, 53)), 1) > 0).astype(np.uint8)
    plane = (ndimage.gaussian_filter(rng.standard_normal((1, 301, 257)), 1) > 0).astype(np.uint8)
    options = ComponentOptions(connectivity=connectivity)
    whole = cc3d.connected_components(volume, connectivity={1: 6, 2: 18, 3: 26}[connectivity])
    assert whole.max() > 5
    found = by_blocks(volume, (16, 17, 20), options, schedule=Schedule(workers=2))
    assert np.array_equal(found, numbered_by_first_voxel(whole))
    whole = cc3d.connected_components(plane[0], connectivity={1: 4, 2: 8, 3: 8}[connectivity])
    assert whole.max() > 50
    found = by_blocks(plane, (1, 64, 50), options)
    assert np.array_equal(found[0], numbered_by_first_voxel(whole))


def spiral(edge: int) -> npt.NDArray[np.uint8]:
    """Return one winding line whose turns keep a pixel apart."""
    image = np.zeros((1, edge, edge), dtype=np.uint8)
    y, x, dy, dx = 0, 0, 0, 1
    image[0, 0, 0] = 1
    while True:
        for _ in range(2):
            beyond = (y + 2 * dy, x + 2 * dx)
            inside = all(0 <= i < edge for i in beyond)
            ahead = (y + dy, x + dx)
            if all(0 <= i < edge for i in ahead) and not (inside and image[0][beyond]):
                break
            dy, dx = dx, -dy
        else:
            return image
        if image[0][ahead]:
            return image
        y, x = ahead
        image[0, y, x] = 1


def snake(edge: int) -> npt.NDArray[np.uint8]:
    """Return one line that goes through every block of a volume, slice by slice."""
    volume = np.zeros((5, edge, edge), dtype=np.uint8)
    volume[::2, ::2] = 1
    for z in (0, 2, 4):
        volume[z, 1::4, -1] = 1
        volume[z, 3::4, 0] = 1
    volume[1, -1, 0], volume[3, 0, 0] = 1, 1
    return volume


def ell() -> npt.NDArray[np.uint8]:
    image = np.zeros((1, 12, 12), dtype=np.uint8)
    image[0, :, 1], image[0, 10, 1:] = 1, 1
    return image


@pytest.mark.parametrize(
    "classes",
    [spiral(23), snake(11), ell(), np.ones((4, 9, 7), dtype=np.uint8)],
    ids=["spiral", "snake", "ell", "everything"],
)
@pytest.mark.parametrize("block_shape", [(1, 1, 1), (2, 3, 5), (5, 4, 4), (9, 50, 50)])
def test_one_object_through_many_blocks_is_one(
    classes: npt.NDArray[np.uint8], block_shape: tuple[int, ...]
) -> None:
    assert np.count_nonzero(classes) > 20
    assert np.array_equal(by_blocks(classes, block_shape), classes)


@pytest.mark.parametrize("step", list(itertools.product((-1, 0, 1), repeat=3)))
def test_objects_that_touch_only_where_blocks_meet(step: tuple[int, int, int]) -> None:
    """Two voxels in blocks of 2 x 2 x 2 that share a face, an edge or a corner, or one voxel."""
    first = tuple(3 if s > 0 else 2 for s in step)
    second = tuple(a + s for a, s in zip(first, step, strict=True))
    blocks = [tuple(i // 2 for i in place) for place in (first, second)]
    assert np.array_equal(np.subtract(*reversed(blocks)), step)
    volume = np.zeros((6, 6, 6), dtype=np.uint8)
    volume[first], volume[second] = 1, 1
    for connectivity in (1, 2, 3):
        found = by_blocks(volume, (2, 2, 2), ComponentOptions(connectivity=connectivity))
        assert found.max() == (2 if sum(map(abs, step)) > connectivity else 1)


def test_touching_classes_are_objects_of_their_own_unless_merged() -> None:
    classes = np.array([[[1, 1, 2, 2, 0, 3]]], dtype=np.uint8)
    block_shape = (1, 1, 3)
    assert by_blocks(classes, block_shape).tolist() == [[[1, 1, 2, 2, 0, 3]]]
    merged = ComponentOptions(merge_classes=True)
    assert by_blocks(classes, block_shape, merged).tolist() == [[[1, 1, 1, 1, 0, 2]]]
    some = ComponentOptions(foreground=(2, 3))
    assert by_blocks(classes, block_shape, some).tolist() == [[[0, 0, 1, 1, 0, 2]]]
    none = ComponentOptions(foreground=(7,))
    assert not by_blocks(classes, block_shape, none).any()


def test_nothing_is_found_in_nothing() -> None:
    assert not by_blocks(np.zeros((2, 5, 5), dtype=np.uint8), (1, 2, 2)).any()
    assert components(np.zeros((0, 5), dtype=np.uint8)).shape == (0, 5)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "<u2", ">u2", "i4", "u8", ">i8"])
def test_every_type_of_whole_numbers_and_bool_will_do(dtype: str) -> None:
    classes = np.array([[0, 1, 1, 0, 1]]).astype(dtype)
    found = components(classes)
    assert found.dtype == np.uint32
    assert found.tolist() == [[0, 1, 1, 0, 2]]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_thin_and_odd_masks_are_right(edge: int, other: int, seed: int) -> None:
    """With bool, cc3d 4.1.1 is wrong or fails for 8 and 26 neighbors on such arrays."""
    mask = np.random.default_rng(seed).random((edge, other)) < 0.5
    options = ComponentOptions(connectivity=3, merge_classes=True)
    expected, _ = ndimage.label(mask, np.ones((3, 3)))
    assert np.array_equal(components(mask, options), numbered_by_first_voxel(expected))
    for thin in (mask[:, :1, None], mask[:1, :, None]):
        expected, _ = ndimage.label(thin, np.ones((3, 3, 3)))
        assert np.array_equal(components(thin, options), numbered_by_first_voxel(expected))


def test_an_array_in_any_memory_order_gives_the_same(rng: np.random.Generator) -> None:
    classes = rng.integers(0, 3, (4, 9, 8), dtype=np.uint8)
    assert np.array_equal(components(np.asfortranarray(classes)), components(classes))
    assert np.array_equal(components(classes[::-1][::-1]), components(classes))


def test_same_voxels_give_each_pair_once() -> None:
    lower = np.array([[0, 1, 1, 2**32 - 1, 5]], dtype=np.uint32)
    upper = np.array([[3, 2, 2, 1, 0]], dtype=np.uint32)
    assert same_voxels(lower, upper).tolist() == [[1, 2], [2**32 - 1, 1]]


def test_what_cannot_be_labeled_is_refused() -> None:
    with pytest.raises(AnnotationError, match="float32 are not whole numbers; convert them"):
        components(np.zeros((4, 4), dtype=np.float32))
    with pytest.raises(AnnotationError, match=r"shape \(4,\); give \(y, x\) or \(z, y, x\)"):
        components(np.zeros(4, dtype=np.uint8))
    for bad in ({"foreground": (0,)}, {"foreground": ()}, {"connectivity": 4}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            ComponentOptions.parse(bad, source="job")

"""Sparse equals dense: an annotation does what a plain array would do, in less memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import generate_binary_structure, label

from napari_unet.core.annotation import Annotation
from napari_unet.core.boxes import Box
from napari_unet.core.connected import connect_runs, find_runs
from napari_unet.errors import AnnotationError

CLASSES = ("cell", "membrane", "mitochondrion")
Labels = npt.NDArray[np.uint8]


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    """Return a box inside an image, empty ones included."""
    ends = [sorted(draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape]
    return Box(tuple(e[0] for e in ends), tuple(e[1] for e in ends))


@st.composite
def sparse_labels(draw: st.DrawFn) -> Labels:
    """Return a small image in which a random share of the voxels is annotated."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from([0.0, 0.02, 0.2, 0.5, 1.0]))
    labels = rng.integers(1, 4, shape) * (rng.random(shape) < share)
    return labels.astype(np.uint8)


@given(st.data())
def test_writing_and_reading_boxes_is_what_a_dense_array_does(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 15), st.integers(1, 15)))
    block_shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    dense = np.zeros(shape, np.uint8)
    annotation = Annotation(shape, CLASSES, block_shape=block_shape)
    for _ in range(data.draw(st.integers(0, 4))):
        box = data.draw(boxes(shape))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        labels = rng.integers(0, data.draw(st.sampled_from([1, 4])), box.shape)
        dense[box.slices] = labels
        annotation.write(box, labels)
    wanted = data.draw(boxes(shape))
    np.testing.assert_array_equal(annotation.read(wanted), dense[wanted.slices])
    assert annotation == Annotation.from_array(dense, CLASSES)
    assert annotation.counts == tuple(int((dense == k).sum()) for k in (1, 2, 3))
    assert annotation.is_empty == (not dense.any())
    for box in annotation.boxes_touching(Box.of_shape(shape)):
        assert (box in annotation.block_boxes()) == dense[box.slices].any()
    if dense.any():
        where = np.nonzero(dense)
        expected = Box(tuple(int(w.min()) for w in where), tuple(int(w.max()) + 1 for w in where))
        assert annotation.bounding_box() == expected


@given(sparse_labels(), st.tuples(*[st.integers(1, 5)] * 3))
def test_places_are_the_connected_parts_that_scipy_finds(
    labels: Labels, block_shape: tuple[int, ...]
) -> None:
    parts, count = label(labels > 0, generate_binary_structure(3, 3))
    places = Annotation.from_array(labels, CLASSES, block_shape=block_shape).places()
    assert len(places) == count
    for number, place in enumerate(places, start=1):
        mine = np.zeros(labels.shape, bool)
        mine[place.box.slices] = place.mask()
        np.testing.assert_array_equal(mine, parts == number)
        assert place.counts == tuple(int((labels[mine] == k).sum()) for k in (1, 2, 3))
        assert place.size == mine.sum()
        for axes in ((1, 2), (0, 2), (0, 1)):  # the box is tight
            assert place.mask().any(axis=axes)[[0, -1]].all()


def test_a_long_snake_is_one_place() -> None:
    """A worst case for merging: one part whose voxels are far apart along the part."""
    mask = np.zeros((1, 61, 61), bool)
    mask[:, ::2] = True
    mask[:, 1::4, -1] = True
    mask[:, 3::4, 0] = True
    runs = find_runs(mask, (0, 0, 0))
    assert set(connect_runs(runs, mask.shape)) == {0}
    shuffled = np.random.default_rng(0).permutation(len(runs))
    np.testing.assert_array_equal(connect_runs(runs[shuffled], mask.shape), 0)


def test_only_annotated_blocks_take_memory() -> None:
    annotation = Annotation((100_000, 100_000, 100_000), CLASSES)
    stroke = Box((50_000, 255, 99_990), (50_001, 258, 100_000))
    annotation.write(stroke, np.full(stroke.shape, 2))
    assert [box.shape for box in annotation.block_boxes()] == [(1, 256, 160)] * 2
    (place,) = annotation.places()
    assert place.box == annotation.bounding_box() == stroke
    annotation.write(stroke, np.zeros(stroke.shape, np.uint8))
    assert annotation.is_empty
    assert annotation.places() == ()


def test_nobody_else_can_change_its_labels() -> None:
    given_labels = np.ones((1, 4, 4), np.uint8)
    annotation = Annotation.from_array(given_labels, CLASSES)
    kept = annotation.copy()
    given_labels[:] = 2
    annotation.read(Box.of_shape((1, 4, 4)))[:] = 3
    ((_, block),) = annotation.blocks()
    with pytest.raises(ValueError, match="read-only"):
        block[:] = 3
    assert annotation.counts == (16, 0, 0)
    annotation.write(Box((0, 0, 0), (1, 1, 1)), np.array([[[2]]]))
    assert (kept.counts, annotation.counts) == ((16, 0, 0), (15, 1, 0))
    assert kept != annotation
    assert kept != Annotation.from_array(np.ones((1, 4, 4), np.uint8), ["other"])


def test_a_plane_is_one_slice() -> None:
    assert Annotation.from_array(np.eye(5, dtype=np.uint8), CLASSES).shape == (1, 5, 5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((1, 4, 5), np.uint8), r"shape \(1, 4, 5\) do not fit a box of shape \(1, 4, 4\)"),
        (np.full((1, 4, 4), 4), "the label 4 is none of the 3 classes.*use 1 to 3, or 0"),
        (np.full((1, 4, 4), -1), "the label -1 is none"),
        (np.full((1, 4, 4), 2**63, np.uint64), "the label 9223372036854775808 is none"),
        (np.ones((1, 4, 4)), "type float64 are not whole numbers; convert"),
        (np.ones((1, 4, 4), bool), "type bool are not whole numbers; number"),
    ],
)
def test_labels_that_do_not_fit_are_refused_and_nothing_changes(
    labels: npt.NDArray[Any], message: str
) -> None:
    annotation = Annotation.from_array(np.ones((1, 4, 4), np.uint8), CLASSES)
    with pytest.raises(AnnotationError, match=message):
        annotation.write(Box.of_shape((1, 4, 4)), labels)
    assert annotation.counts == (16, 0, 0)


def test_other_misuse_is_refused_in_words() -> None:
    empty = Annotation((1, 4, 4), CLASSES)
    outside = Box((0, 0, 0), (1, 4, 5))
    with pytest.raises(AnnotationError, match="leaves the image"):
        empty.read(outside)
    with pytest.raises(AnnotationError, match="leaves the image"):
        empty.write(outside, np.zeros(outside.shape, np.uint8))
    with pytest.raises(AnnotationError, match=r"nothing is annotated.*paint some"):
        empty.bounding_box()
    with pytest.raises(AnnotationError, match="4 axes"):
        Annotation.from_array(np.zeros((1, 1, 2, 2), np.uint8), CLASSES)
    with pytest.raises(AnnotationError, match=r"shape \(4, 4\) of an annotation"):
        Annotation((4, 4), CLASSES)
    for names, message in (
        ([], "0 classes"),
        (["a"] * 65, "65 classes"),
        (["a", "a"], "'a' is named twice"),
        ([" a"], "not a class name"),
    ):
        with pytest.raises(AnnotationError, match=message):
            Annotation((1, 4, 4), names)

"""Every annotated pixel has exactly one number in its class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.annotation import Annotation
from napari_unet.core.boxes import Box
from napari_unet.errors import AnnotationError, TrainingError
from napari_unet.training.annotated_pixels import AnnotatedPixels


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    density=st.floats(0, 1),
)
def test_the_numbers_of_a_class_are_its_pixels(
    seed: int, shape: tuple[int, int, int], density: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < density, rng.integers(1, 4, shape), 0)
    labels.flat[0] = 1
    pixels = AnnotatedPixels(Annotation.from_array(labels, "abc", block_shape=(1, 4, 4)))
    for label in (1, 2, 3):
        found = [pixels.locate(label, n) for n in range(int(pixels.counts[label - 1]))]
        assert sorted(found) == [tuple(at) for at in np.argwhere(labels == label).tolist()]


def test_what_is_painted_later_does_not_count() -> None:
    annotation = Annotation.from_array(np.eye(5, dtype=np.uint8), ["a"], block_shape=(1, 2, 2))
    pixels = AnnotatedPixels(annotation)
    annotation.write(Box((0, 0, 0), (1, 5, 5)), np.zeros((1, 5, 5), np.uint8))
    assert annotation.is_empty
    assert pixels.counts.tolist() == [5]
    assert pixels.locate(1, 4) == (0, 4, 4)
    assert pixels.annotation.read(Box((0, 4, 3), (1, 5, 5))).tolist() == [[[0, 1]]]


def test_there_is_no_pixel_beyond_the_last() -> None:
    annotation = Annotation.from_array(np.array([[0, 1, 1]]), ["a", "b"])
    pixels = AnnotatedPixels(annotation)
    for label, number in ((1, 2), (1, -1), (2, 0)):
        with pytest.raises(TrainingError, match=f"no number {number}"):
            pixels.locate(label, number)
    with pytest.raises(AnnotationError, match="nothing is annotated"):
        AnnotatedPixels(Annotation((1, 4, 4), ["a"]))

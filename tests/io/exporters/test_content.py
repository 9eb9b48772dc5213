"""What is exported is read in pieces that cover it once, and renumbered as defined."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.boxes import Box
from napari_unet.io.exporters import content as module
from napari_unet.io.exporters.content import Content, renumber
from napari_unet.io.image import Selection, wrap_array

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))


def content_of(array: np.ndarray, region: Box, background: int = 0) -> Content:
    source = wrap_array(array, Selection(axes="zyx"))
    return Content(source, region, array.dtype, "tiny", background)


@given(shape=SHAPES, data=st.data(), rows=st.integers(1, 20), edge=st.integers(1, 50))
def test_pieces_cover_the_region_once_and_in_order(
    shape: tuple[int, ...], data: st.DataObject, rows: int, edge: int
) -> None:
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    region = Box(start, stop)
    array = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    content = content_of(array, region)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_BAND_ROWS", rows)
        bands = list(content.bands())
    for pieces in (bands, list(content.tiles(edge))):
        count = np.zeros(region.shape, int)
        for box in pieces:
            count[box.slices] += 1
            np.testing.assert_array_equal(content.read(box)[0], array[region.slices][box.slices])
        assert (count == 1).all()
    assert all(box.shape[1] <= rows for box in bands)
    assert all((box.stop[1] + start[1]) % rows == 0 or box.stop[1] == region.shape[1]
               for box in bands), "bands end where chunks do"  # fmt: skip
    joined = np.concatenate([content.read(box).ravel() for box in bands])
    np.testing.assert_array_equal(joined, array[region.slices].ravel())


@given(st.lists(st.integers(0, 12), min_size=1), st.integers(1, 12))
def test_classes_are_consecutive_after_one_became_the_background(
    values: list[int], background: int
) -> None:
    labels = np.array(values, np.uint8)
    moved = renumber(labels, background)
    for before, after in zip(values, moved.tolist(), strict=True):
        # The definition, one value at a time.
        others = [k for k in range(1, 13) if k != background]
        assert after == (0 if before in (0, background) else others.index(before) + 1)
    assert moved.dtype == labels.dtype
    np.testing.assert_array_equal(renumber(labels, 0), labels)


def test_origin_and_axes_are_those_of_the_region() -> None:
    content = content_of(np.zeros((3, 4, 5), np.uint8), Box((1, 2, 0), (3, 4, 5)))
    assert content.origin == (1.0, 2.0, 0.0)
    assert (content.axes, content.full_shape, content.nbytes) == ("zyx", (2, 2, 5), 20)


def test_a_piece_is_small_however_wide_the_image_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIECE_VALUES", 100)
    content = content_of(np.zeros((2, 30, 40), np.uint8), Box((0, 0, 0), (2, 30, 40)))
    assert max(box.size for box in content.bands()) <= 100
    assert sum(box.size for box in content.bands()) == content.region.size
    edges = itertools.chain.from_iterable(box.shape for box in content.tiles(16))
    assert max(edges) <= 16

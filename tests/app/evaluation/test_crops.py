"""Windows cover an image once, and the worst of them are found."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.app.evaluation.crops import CropRanks, Windows
from napari_unet.core.boxes import Box


@given(
    st.integers(0, 5),
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.tuples(st.integers(0, 50), st.integers(0, 50)),
)
def test_windows_cover_a_block_once(z: int, shape: tuple[int, int], at: tuple[int, int]) -> None:
    block = Box((z, *at), (z + 1, at[0] + shape[0], at[1] + shape[1]))
    seen = np.zeros(block.shape, np.int64)
    for window in Windows(block):
        assert window.box.relative_to(block.start) == window.inner
        window.part(seen)[...] += 1
    assert (seen == 1).all()


def ranked(rows: list[tuple[float, int, int]], keep: int = 2) -> CropRanks:
    """Return ranks of windows (score, z, x) of two rows of pixels, scored by their right half."""
    ranks = CropRanks(keep)
    for score, z, x in rows:
        true = np.array([[[1, 2] * 50]])
        predicted = true.copy()
        predicted[..., : round((1 - score) * 100)] = 3
        ranks.offer_classes(Box((z, 0, x), (z + 1, 1, x + 100)), true, predicted)
    return ranks


def test_the_worst_are_of_different_places_first() -> None:
    ranks = ranked([(0.1, 0, 0), (0.2, 1, 0), (0.5, 0, 100), (0.9, 1, 100)])
    assert [(c.score, c.box.start) for c in ranks.worst()] == [
        (0.1, (0, 0, 0)),
        (0.5, (0, 0, 100)),
    ]
    assert [(c.score, c.box.start) for c in ranks.best()] == [
        (0.9, (1, 0, 100)),
        (0.2, (1, 0, 0)),
    ]


def test_one_place_alone_is_shown_in_several_slices() -> None:
    ranks = ranked([(0.4, 0, 0), (0.2, 1, 0), (0.3, 2, 0)])
    assert [crop.score for crop in ranks.worst()] == [0.2, 0.3]


def test_nothing_is_lost_when_the_middle_is_forgotten() -> None:
    rng = np.random.default_rng(0)
    middle = np.round(rng.uniform(0.1, 0.9, 6000), 2)
    rows = [(float(v), k // 3, 100 * (k % 3)) for k, v in enumerate(middle)]
    rows[17] = (0.0, 5, 200)
    rows[4000] = (1.0, 1333, 100)
    ranks = ranked(rows)
    assert ranks.worst()[0].box.start == (5, 0, 200)
    assert ranks.best()[0].score == 1
    assert len({crop.box.start[1:] for crop in ranks.worst()}) == 2


def test_windows_that_say_little_are_left_out() -> None:
    ranks = CropRanks(3)
    box = Box((0, 0, 0), (1, 10, 10))
    one_class = np.ones((1, 10, 10), np.uint8)
    ranks.offer_classes(box, one_class, one_class + 1)
    few = np.zeros((1, 10, 10), np.uint8)
    few[0, 0] = [1, 2] * 5
    ranks.offer_classes(box, few, one_class)
    assert ranks.worst() == ()

"""Warping keeps the topology, and equals a reference that tries every pixel again and again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.errors import ConfigError
from napari_unet.metrics.warping import Warped, count_mistakes, mistakes, warp

EIGHT = np.ones((3, 3))


def is_simple(ring: np.ndarray) -> bool:
    """Return whether the middle of (3, 3) is simple, by Bertrand's two topological numbers."""
    cells, borders = ring.copy(), ~ring
    cells[1, 1] = borders[1, 1] = False
    labels = ndimage.label(cells)[0]
    touching = {labels[0, 1], labels[1, 0], labels[1, 2], labels[2, 1]} - {0}
    return len(touching) == 1 == ndimage.label(borders, structure=EIGHT)[1]


def slow_warp(
    true: np.ndarray, predicted: np.ndarray, threshold: float, allowed: np.ndarray
) -> np.ndarray:
    """Return the warped truth: all wrong pixels in turn, until nothing changes."""
    source, target = np.pad(true, 1), np.pad(predicted > np.float64(threshold), 1)
    far = np.pad(np.abs(predicted - threshold), 1).astype(np.float32)
    while True:
        wrong = (source != target) & np.pad(allowed, 1)
        xs, ys = np.nonzero(wrong.T)
        flipped = False
        for k in np.argsort(-far[ys, xs], kind="stable"):
            y, x = ys[k], xs[k]
            if is_simple(source[y - 1 : y + 2, x - 1 : x + 2]):
                source[y, x] = not source[y, x]
                flipped = True
        if not flipped:
            return source[1:-1, 1:-1]


def slow_kind(cells: np.ndarray, y: int, x: int) -> str:
    """Return the kind of a pixel: flip it, and count the objects around it again."""

    def around(labels: np.ndarray) -> set[int]:
        ring = labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].astype(int)
        ring[min(y, 1), min(x, 1)] = -1
        return set(ring.ravel().tolist()) - {-1}

    seen = around(ndimage.label(cells)[0])
    if len(seen) > 2:
        return "split" if cells[y, x] else "merge"
    if seen == {0}:
        return "cell deleted" if cells[y, x] else "cell added"
    if 0 not in seen or not cells[y, x]:
        return "hole added" if cells[y, x] or 0 in seen else "hole deleted"
    without = cells.copy()
    without[y, x] = False
    return "split" if len(around(ndimage.label(without)[0])) > 2 else "hole deleted"


def pair(seed: int, smooth: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Return a true mask and a related prediction, with ties among its values."""
    rng = np.random.default_rng(seed)
    base, noise = ndimage.gaussian_filter(rng.random((2, 22, 27)), (0, smooth, smooth))
    predicted = 0.5 * base + 0.5 * noise
    scale = (predicted - predicted.min()) / np.ptp(predicted)
    return base > np.median(base), np.round(scale, 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_equals_trying_every_pixel_again(seed: int) -> None:
    true, predicted = pair(seed)
    allowed = np.random.default_rng(seed).random(true.shape) < (1.1 if seed % 2 else 0.9)
    warped = warp(true, predicted, 0.5, allowed)
    expected = slow_warp(true, predicted, 0.5, allowed)
    assert np.array_equal(warped.cells, expected)
    assert np.array_equal(warped.differs, (expected != (predicted > 0.5)) & allowed)
    assert warped.error == pytest.approx(warped.differs.mean())
    assert (expected != true).any()
    assert warped.differs.any()


@pytest.mark.parametrize("seed", range(6))
def test_keeps_the_number_of_cells_and_of_borders(seed: int) -> None:
    true, predicted = pair(seed, smooth=0.8)
    warped = warp(true, predicted, 0.5).cells
    assert ndimage.label(warped)[1] == ndimage.label(true)[1]
    borders = [
        ndimage.label(np.pad(~mask, 1, constant_values=True), EIGHT)[1] for mask in (warped, true)
    ]
    assert borders[0] == borders[1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("smooth", [0.5, 1.2])
def test_kinds_equal_those_of_flipping_each_pixel(seed: int, smooth: float) -> None:
    cells = pair(seed, smooth)[0]
    # Not only what remains after warping: any pixel, so that every kind occurs.
    warped = Warped(cells, np.ones_like(cells))
    found = mistakes(warped)
    assert (
        sum(mask.astype(int) for mask in found.values()).tolist()
        == np.ones_like(cells, int).tolist()
    )
    for y, x in np.ndindex(cells.shape):
        assert found[slow_kind(cells, y, x)][y, x], (y, x)


def bars() -> np.ndarray:
    """Return two cells, one above the other, with a border of one row between them."""
    cells = np.ones((9, 9), bool)
    cells[4] = False
    return cells


def test_a_moved_border_is_no_mistake() -> None:
    moved = np.ones((9, 9), bool)
    moved[5] = False
    assert warp(bars(), moved, 0.5).error == 0
    assert warp(bars(), bars(), 0.5).error == 0


def test_a_gap_in_a_border_merges_and_a_bridge_splits() -> None:
    gap = bars()
    gap[4, 3:6] = True
    merged = warp(bars(), gap, 0.5)
    found = mistakes(merged)
    assert {kind: int(mask.sum()) for kind, mask in found.items() if mask.any()} == {"merge": 3}
    assert count_mistakes(merged, found)["merge"] == 1
    split = warp(np.ones((9, 9), bool), bars(), 0.5)
    found = mistakes(split)
    assert {kind for kind, mask in found.items() if mask.any()} == {"split"}
    assert count_mistakes(split, found)["split"] == 1
    assert split.error == 1 / 81


def test_cells_and_holes_that_come_and_go_are_told_apart() -> None:
    nothing = np.zeros((7, 7), bool)
    dot = nothing.copy()
    dot[3, 3] = True
    for true, predicted, kind in (
        (nothing, dot, "cell added"),
        (dot, nothing, "cell deleted"),
        (~nothing, ~dot, "hole added"),
        (~dot, ~nothing, "hole deleted"),
    ):
        found = mistakes(warp(true, predicted, 0.5))
        assert {name: int(mask.sum()) for name, mask in found.items() if mask.any()} == {kind: 1}


def test_nothing_counts_where_warping_is_not_allowed() -> None:
    gap = bars()
    gap[4, 3:6] = True
    allowed = np.ones((9, 9), bool)
    allowed[4] = False
    assert warp(bars(), gap, 0.5, allowed).error == 0


def test_what_does_not_fit_is_refused() -> None:
    mask = np.ones((3, 3), bool)
    with pytest.raises(ConfigError, match="give a mask"):
        warp(np.ones((3, 3)), mask, 0.5)
    for pair_ in ((mask[:2], None), (mask, mask[:2])):
        with pytest.raises(ConfigError, match=r"shape \(3, 3\) and \(2, 3\) cannot be compared"):
            warp(mask, pair_[0], 0.5, pair_[1])

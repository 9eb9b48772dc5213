"""Boundary scores equal a count by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import find_boundaries

from napari_unet.core.boxes import Box
from napari_unet.errors import ConfigError
from napari_unet.metrics.boundary import (
    BOUNDARY_REACH,
    BoundaryScore,
    boundaries_of,
    boundary_score,
    margin_of,
)


def near_by_hand(pixels: np.ndarray, others: np.ndarray, tolerance: float) -> int:
    a, b = np.argwhere(pixels), np.argwhere(others)
    return sum(any(((p - q) ** 2).sum() <= tolerance**2 for q in b) for p in a)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2])
@pytest.mark.parametrize("density", [0.0, 0.03, 0.2])
def test_equals_a_count_by_hand(rng: np.random.Generator, tolerance: float, density: float) -> None:
    p, t = rng.random((2, 3, 15, 17)) < density
    score = boundary_score(p, t, tolerance=tolerance)
    pairs = list(zip(p, t, strict=True))
    assert score.right == sum(near_by_hand(a, b, tolerance) for a, b in pairs)
    assert score.found == sum(near_by_hand(b, a, tolerance) for a, b in pairs)
    assert (score.predicted, score.true) == (p.sum(), t.sum())


def test_without_tolerance_it_is_the_f1_of_pixels(rng: np.random.Generator) -> None:
    p, t = rng.random((2, 30, 30)) < 0.3
    expected = 2 * (p & t).sum() / (p.sum() + t.sum())
    assert boundary_score(p, t, tolerance=0).f1 == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "f1"), [(0, 1.0), (2, 1.0), (3, 0.0)])
def test_a_line_is_found_within_the_tolerance(shift: int, f1: float) -> None:
    true = np.zeros((20, 20), bool)
    true[8] = True
    assert boundary_score(np.roll(true, shift, axis=0), true, tolerance=2).f1 == f1


def test_slices_do_not_see_each_other() -> None:
    true = np.zeros((2, 9, 9), bool)
    true[0, 4] = True
    assert boundary_score(true[::-1], true, tolerance=5).f1 == 0


def test_only_valid_pixels_count(rng: np.random.Generator) -> None:
    p, t = rng.random((2, 20, 20)) < 0.3
    valid = np.zeros_like(t)
    valid[:, :10] = True
    inside = boundary_score(p[:, :10], t[:, :10])
    assert boundary_score(p, t, valid=valid) == inside
    p[:, 10:] ^= True
    assert boundary_score(p, t, valid=valid) == inside


@pytest.mark.parametrize(("p", "t"), list(itertools.product([False, True], repeat=2)))
def test_empty_boundaries_are_defined(p: bool, t: bool) -> None:
    score = boundary_score(np.full((4, 4), p), np.full((4, 4), t))
    assert score.f1 == float(p == t)


def test_nothing_found_and_nothing_right_is_zero() -> None:
    assert BoundaryScore(0, 3, 0, 3).f1 == 0


@pytest.mark.parametrize("spacing", [(4.0, 4.0), (10.0, 2.5), (0.3, 1.0)])
@pytest.mark.parametrize("tolerance", [0.0, 2.5, 10.0])
def test_physical_distances_equal_a_count_by_hand(
    rng: np.random.Generator, spacing: tuple[float, float], tolerance: float
) -> None:
    p, t = rng.random((2, 14, 13)) < 0.06
    score = boundary_score(p, t, tolerance=tolerance, spacing=spacing)
    a, b = (np.argwhere(mask) * spacing for mask in (p, t))
    distance = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
    assert score.right == (distance.min(axis=1) <= tolerance).sum()
    assert score.found == (distance.min(axis=0) <= tolerance).sum()


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 1.0), (0.2, 0.7)])
@pytest.mark.parametrize("tolerance", [1.0, 5.0, 13.0, 400.0])
def test_it_agrees_with_a_distance_transform(
    rng: np.random.Generator, spacing: tuple[float, float], tolerance: float
) -> None:
    """Disks of any size, also those larger than the image."""
    p, t = rng.random((2, 70, 50)) < 0.01
    score = boundary_score(p, t, tolerance=tolerance, spacing=spacing)
    near_p, near_t = (distance_transform_edt(~mask, sampling=spacing) for mask in (t, p))
    slack = tolerance * (1 + 1e-9)
    assert (score.right, score.found) == ((near_p[p] <= slack).sum(), (near_t[t] <= slack).sum())


def test_a_tolerance_of_whole_pixels_is_met_in_any_unit() -> None:
    """Three pixels of 0.1 um are a little more than 0.3 um apart in floating point."""
    p, t = np.zeros((2, 1, 8), bool)
    p[0, 1], t[0, 4] = True, True
    assert 3 * 0.1 > 0.3
    assert boundary_score(p, t, tolerance=0.3, spacing=(0.1, 0.1)).f1 == 1
    assert boundary_score(p, t, tolerance=0.29, spacing=(0.1, 0.1)).f1 == 0


@given(st.data())
def test_counts_of_parts_add_up_to_the_counts_of_the_whole(data: st.DataObject) -> None:
    """Any grid of parts, read with the margin, from masks of any density."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 14)))
    tolerance = data.draw(st.sampled_from([0.0, 1.0, 1.5, 2.9, 4.0]))
    spacing = data.draw(st.sampled_from([(1.0, 1.0), (2.0, 0.7), (0.4, 1.1)]))
    p, t = rng.random((2, *shape)) < rng.choice([0.02, 0.1, 0.5], (2, 1, 1, 1))
    valid = rng.random(shape) < 0.8
    cuts = [sorted({0, n, *data.draw(st.sets(st.integers(0, n), max_size=3))}) for n in shape]
    margin = (0, *margin_of(tolerance, spacing))
    kinds = {"tolerance": tolerance, "spacing": spacing}
    parts = []
    for corner in itertools.product(*(itertools.pairwise(cut) for cut in cuts)):
        inner = Box(*(tuple(side) for side in zip(*corner, strict=True)))
        read = Box(
            tuple(a - m for a, m in zip(inner.start, margin, strict=True)),
            tuple(b + m for b, m in zip(inner.stop, margin, strict=True)),
        ).intersection(Box.of_shape(shape))
        p_part, t_part, v_part = (array[read.slices] for array in (p, t, valid))
        here = inner.relative_to(read.start)
        parts.append(boundary_score(p_part, t_part, valid=v_part, inner=here, **kinds))
    assert BoundaryScore.total(parts) == boundary_score(p, t, valid=valid, **kinds)


def test_a_smaller_margin_would_not_do() -> None:
    p, t = np.zeros((2, 1, 9), bool)
    p[0, 2], t[0, 5] = True, True
    (_, margin) = margin_of(3)
    whole = boundary_score(p[:, : 3 + margin], t[:, : 3 + margin], tolerance=3)
    assert whole.right == 1
    short = slice(0, 3 + margin - 1)
    assert boundary_score(p[:, short], t[:, short], tolerance=3).right == 0


def test_scores_add_up() -> None:
    one, other = BoundaryScore(1, 2, 3, 4), BoundaryScore(10, 20, 30, 40)
    assert one + other == BoundaryScore(11, 22, 33, 44)
    assert BoundaryScore.total([]).f1 == 1


def boundary_by_hand(labels: np.ndarray, ignore: int | None) -> np.ndarray:
    """Return the boundary of one slice, pixel by pixel."""
    found = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        for other in ((y + 1, x), (y, x + 1)):
            if other[0] < labels.shape[0] and other[1] < labels.shape[1]:
                pair = {int(labels[y, x]), int(labels[other])}
                found[y, x] |= len(pair) == 2 and ignore not in pair
    return found


@pytest.mark.parametrize("ignore", [None, 0])
def test_boundaries_lie_where_neighbors_differ(
    rng: np.random.Generator, ignore: int | None
) -> None:
    labels = np.kron(rng.integers(0, 4, (2, 4, 5)), np.ones((1, 3, 2), int)).astype(np.uint32)
    found = boundaries_of(labels, ignore)
    wanted = [boundary_by_hand(plane, ignore) for plane in labels]
    assert found.tolist() == np.array(wanted).tolist()
    assert (boundaries_of(labels[0], ignore) == found[0]).all()


def test_a_boundary_is_one_side_of_that_of_scikit_image(rng: np.random.Generator) -> None:
    labels = np.kron(rng.integers(1, 9, (6, 6)), np.ones((5, 5), int))
    thin, thick = boundaries_of(labels), find_boundaries(labels, mode="thick")
    assert not (thin & ~thick).any()
    assert boundary_score(thick, thin, tolerance=1).f1 == 1
    straight = np.repeat([1, 2], 4)[None].repeat(5, axis=0)
    assert boundaries_of(straight).sum(axis=1).tolist() == [1] * 5


def test_boundaries_of_parts_are_those_of_the_whole(rng: np.random.Generator) -> None:
    labels = np.kron(rng.integers(1, 9, (4, 4)), np.ones((3, 3), int))
    whole = boundaries_of(labels)
    part = boundaries_of(labels[2 : 8 + BOUNDARY_REACH, 1 : 7 + BOUNDARY_REACH])
    assert (part[:6, :6] == whole[2:8, 1:7]).all()


def test_labels_without_neighbors_have_no_boundary() -> None:
    assert not boundaries_of(np.ones((1, 1), int)).any()
    assert boundaries_of(np.ones((0, 4), int)).shape == (0, 4)
    assert boundary_score(np.zeros((0, 4)), np.zeros((0, 4))).f1 == 1


def test_the_margin_covers_the_tolerance() -> None:
    assert margin_of(0) == (0, 0)
    assert margin_of(2.5) == (3, 3)
    assert margin_of(25, (10, 5)) == (3, 5)


def test_shapes_must_fit() -> None:
    with pytest.raises(ConfigError, match=r"give equal shapes"):
        boundary_score(np.zeros((3, 3)), np.zeros((3, 4)))
    with pytest.raises(ConfigError, match=r"tolerance >= 0"):
        boundary_score(np.zeros((3, 3)), np.zeros((3, 3)), tolerance=-1)
    with pytest.raises(ConfigError, match=r"tolerance >= 0"):
        margin_of(float("nan"))
    with pytest.raises(ConfigError, match=r"pixel size"):
        boundary_score(np.zeros((3, 3)), np.zeros((3, 3)), spacing=(0, 1))
    with pytest.raises(ConfigError, match=r"does not lie in"):
        boundary_score(np.zeros((3, 3)), np.zeros((3, 3)), inner=Box((0, 0), (3, 4)))
    with pytest.raises(ConfigError, match=r"does not lie in"):
        boundary_score(np.zeros((3, 3)), np.zeros((3, 3)), inner=Box((0, 0, 0), (1, 3, 3)))
    with pytest.raises(ConfigError, match=r"have no boundaries"):
        boundaries_of(np.zeros(3))

"""Objects that were turned into classes come back, and touching ones stay apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from napari_unet.errors import ConfigError
from napari_unet.labels.interior_instances import MIN_PIXELS, interior_instances
from napari_unet.labels.objects import BORDER, INTERIOR, objects_to_classes
from napari_unet.metrics.objects import object_score


def touching_disks(radius: int = 9, count: int = 4) -> np.ndarray:
    """Return a grid of disks so near that they touch, numbered from 1."""
    step = 2 * radius - 2
    edge = count * step + 6
    y, x = np.mgrid[:edge, :edge]
    centers = [(radius + 2 + i * step, radius + 2 + j * step) for i, j in np.ndindex(count, count)]
    squares = np.stack([(y - a) ** 2 + (x - b) ** 2 for a, b in centers])
    nearest = squares.argmin(axis=0)
    return np.where(squares.min(axis=0) <= radius**2, nearest + 1, 0)


def probabilities_of(objects: np.ndarray, certainty: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of border and interior of a sure network."""
    classes = objects_to_classes(objects.reshape(-1, *objects.shape[-2:]), "border", 1.0)
    rest = (1 - certainty) / 2
    border, interior = (np.where(classes == k, certainty, rest) for k in (BORDER, INTERIOR))
    return border.reshape(objects.shape), interior.reshape(objects.shape)


def test_touching_objects_come_back() -> None:
    true = touching_disks()
    assert label(true)[1] == 1, "all of them hang together"
    found = interior_instances(*probabilities_of(true))
    assert found.dtype == np.int32
    assert np.array_equal(found > 0, true > 0)
    assert object_score(found, true).average_precision(0.9) == 1
    assert np.array_equal(np.unique(found), np.arange(17))


def test_noise_does_not_change_the_count(rng: np.random.Generator) -> None:
    true = touching_disks()
    border, interior = probabilities_of(true)
    noise = rng.normal(0, 0.1, border.shape)
    found = interior_instances(np.clip(border - noise, 0, 1), np.clip(interior + noise, 0, 1))
    assert object_score(found, true).f1(0.8) == 1


def test_an_object_too_thin_for_an_interior_is_kept() -> None:
    true = np.zeros((20, 30), int)
    true[4:6, 3:20], true[10:18, 3:20] = 1, 2
    found = interior_instances(*probabilities_of(true))
    assert object_score(found, true).mean_average_precision == 1


def test_a_higher_seed_threshold_splits_more() -> None:
    true = np.zeros((20, 40), int)
    true[2:18, 2:38] = 1
    border, interior = probabilities_of(true)
    interior[:, 19:21], border[:, 19:21] = 0.6, 0.3
    border[true == 0] = interior[true == 0] = 0
    assert interior_instances(border, interior, seed_threshold=0.5).max() == 1
    assert interior_instances(border, interior, seed_threshold=0.7).max() == 2


def test_specks_are_left_out_and_numbers_have_no_gap() -> None:
    true = np.zeros((30, 30), int)
    true[1:6, 1:6], true[10:20, 10:20], true[23:28, 2:8] = 1, 2, 3
    border, interior = probabilities_of(true)
    assert MIN_PIXELS == 30, "25 pixels are a speck, 30 are none"
    found = interior_instances(border, interior)
    assert [np.unique(found[true == n]).tolist() for n in (1, 2, 3)] == [[0], [1], [2]]
    assert interior_instances(border, interior, min_pixels=0).max() == 3


def test_slices_are_independent_and_share_no_number() -> None:
    stack = np.stack([touching_disks(), np.zeros_like(touching_disks()), touching_disks().T])
    border, interior = probabilities_of(stack)
    found = interior_instances(border, interior)
    assert np.array_equal(found[0], interior_instances(border[0], interior[0]))
    assert not found[1].any()
    assert np.array_equal(found[2] > 0, stack[2] > 0)
    assert found[2][found[2] > 0].min() == found[0].max() + 1


@pytest.mark.parametrize("shapes", [((4, 5), (5, 4)), ((4,), (4,)), ((1, 1, 4, 4), (1, 1, 4, 4))])
def test_shapes_must_fit(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ConfigError, match=r"give equal shapes \(y, x\) or \(z, y, x\)"):
        interior_instances(*(np.zeros(shape) for shape in shapes))

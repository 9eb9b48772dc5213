"""The paper's weight map against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_unet.errors import TrainingError
from napari_unet.training.weight_map import border_weights, pixel_weights


def blobs(rng: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    """Disks that may touch and overlap, some cut by the border, with gaps in their numbering."""
    instances = np.zeros(shape, np.int32)
    rows, columns = np.indices(shape)
    for number in range(1, count + 1):
        y, x, r = rng.integers(0, shape[0]), rng.integers(0, shape[1]), rng.integers(1, 7)
        instances[(rows - y) ** 2 + (columns - x) ** 2 <= r**2] = 2 * number
    return instances


def brute_force(
    labels: np.ndarray, instances: np.ndarray, class_weights: list[float], w0: float, sigma: float
) -> np.ndarray:
    """Eq. 2 of the paper, pixel by pixel, with the distance to every pixel of every object."""
    result = np.zeros(labels.shape)
    numbers = [n for n in np.unique(instances) if n]
    places = {n: np.argwhere(instances == n) for n in numbers}
    for y, x in itertools.product(*map(range, labels.shape)):
        if labels[y, x] == 0:
            continue
        result[y, x] = class_weights[labels[y, x] - 1]
        if instances[y, x] == 0 and len(numbers) >= 2:
            near = sorted(np.sqrt(((p - (y, x)) ** 2).sum(axis=1)).min() for p in places.values())
            result[y, x] += w0 * np.exp(-((near[0] + near[1]) ** 2) / (2 * sigma**2))
    return result


@pytest.mark.parametrize(("count", "sigma"), [(0, 5.0), (1, 5.0), (2, 5.0), (9, 5.0), (9, 1.5)])
def test_the_map_is_equation_2(rng: np.random.Generator, count: int, sigma: float) -> None:
    instances = blobs(rng, (40, 53), count)
    labels = np.where(instances > 0, 2, 1)
    labels[rng.random(labels.shape) < 0.2] = 0
    border = border_weights(instances, weight=10, sigma=sigma)
    weights = pixel_weights(labels, np.array([0.5, 2.0]), border)
    expected = brute_force(labels, instances, [0.5, 2.0], 10, sigma)
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=10 * 1e-6)
    if count == 9:
        assert border.max() > 1, "some gap is narrow enough to matter"


def test_a_gap_of_one_pixel_weighs_almost_w0() -> None:
    instances = np.zeros((5, 7), int)
    instances[:, :3], instances[:, 4:] = 1, 2
    border = border_weights(instances)
    np.testing.assert_allclose(border[:, 3], 10 * np.exp(-(2.0**2) / 50), rtol=1e-6)
    assert not border[:, [0, 1, 2, 4, 5, 6]].any()


def test_what_is_not_labeled_weighs_nothing() -> None:
    weights = pixel_weights(np.zeros((4, 4), int), np.ones(2), np.full((4, 4), 9.0))
    assert not weights.any()


def test_labels_without_a_weight_and_other_shapes_are_refused() -> None:
    with pytest.raises(TrainingError, match="2 class weights"):
        pixel_weights(np.full((2, 2), 3), np.ones(2))
    with pytest.raises(TrainingError, match=r"\(3, 3\)"):
        pixel_weights(np.ones((2, 2), int), np.ones(2), np.ones((3, 3)))

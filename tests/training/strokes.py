"""Synthetic annotations: brush strokes and dense labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

Labels = npt.NDArray[np.uint8]


def paint_strokes(
    labels: Labels,
    rng: np.random.Generator,
    count: int,
    *,
    classes: int = 2,
    width: int = 3,
) -> None:
    """Paint strokes 8 to 20 pixels long on random slices of (z, y, x) labels, in place."""
    depth, height, longest = labels.shape
    for _ in range(count):
        z, k = int(rng.integers(depth)), int(rng.integers(1, classes + 1))
        y, x = rng.uniform(0, height), rng.uniform(0, longest)
        angle, length = rng.uniform(0, np.pi), rng.uniform(8, 20)
        for t in np.linspace(-length / 2, length / 2, 2 * int(length)):
            a, b = int(y + t * np.sin(angle)), int(x + t * np.cos(angle))
            rows = slice(max(a - width // 2, 0), max(a + width // 2 + 1, 0))
            columns = slice(max(b - width // 2, 0), max(b + width // 2 + 1, 0))
            labels[z, rows, columns] = k


def stroke_labels(
    rng: np.random.Generator, shape: tuple[int, int, int], count: int, *, classes: int = 2
) -> Labels:
    """Return (z, y, x) labels with nothing but strokes."""
    labels = np.zeros(shape, np.uint8)
    paint_strokes(labels, rng, count, classes=classes)
    return labels


def dense_labels(
    rng: np.random.Generator, shape: tuple[int, int, int], *, smooth: float = 4
) -> Labels:
    """Return (z, y, x) labels of two classes in which every voxel has one."""
    noise = gaussian_filter(rng.normal(size=shape), (min(shape[0] - 1, 1), smooth, smooth))
    return (1 + (noise > 0)).astype(np.uint8)

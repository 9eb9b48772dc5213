"""Choosing a few boxes that stand for a whole image, the same ones every time."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from napari_unet.core.boxes import Box

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_PLANES = 16
"""Planes that a sample is taken from even if each gives a few crops only: a stack may drift."""

MAX_CROPS_PER_AXIS = 4
"""Crops along y and along x of a plane that is too much as a whole."""


def spread_boxes(extent: Box, max_voxels: int) -> tuple[Box, ...]:
    """Return boxes one slice thick, spread evenly over `extent`; all of it if that is allowed.

    Parameters
    ----------
    extent : Box
        Where to sample, (z, y, x), not empty.
    max_voxels : int
        Upper bound of the boxes' total size; at least one voxel per box is returned.

    Examples
    --------
    >>> [box.start[0] for box in spread_boxes(Box((0, 0, 0), (80, 10, 10)), 2000)][:4]
    [2, 6, 10, 14]
    """
    depth, height, width = extent.shape
    plane = height * width
    planes = min(depth, max(MIN_PLANES, max_voxels // plane))
    per_plane = max(1, max_voxels // planes)
    boxes = []
    # The share of a plane is split evenly between y and x; a thin plane gives it all to one.
    wanted = min(int(height * math.sqrt(min(1, per_plane / plane))), per_plane)
    rows = _ranges(height, wanted, plane <= per_plane)
    taken = sum(b - a for a, b in rows)
    columns = _ranges(width, per_plane // taken, plane <= per_plane)
    for z in _centers(depth, planes):
        for (y0, y1), (x0, x1) in itertools.product(rows, columns):
            local = Box((z, y0, x0), (z + 1, y1, x1))
            boxes.append(local.relative_to(tuple(-o for o in extent.start)))
    return tuple(boxes)


def spread_order(count: int) -> Iterator[int]:
    """Yield every number below `count` once, such that any first few are spread evenly.

    Notes
    -----
    Steps of the golden ratio, the most even one-dimensional sequence; made coprime to `count`
    so that none repeats.
    """
    step = max(1, round(count * (math.sqrt(5) - 1) / 2))
    while math.gcd(step, count) != 1:
        step += 1
    for k in range(count):
        yield k * step % count


def _centers(size: int, parts: int) -> list[int]:
    return [(2 * k + 1) * size // (2 * parts) for k in range(parts)]


def _ranges(size: int, wanted: int, whole: bool) -> list[tuple[int, int]]:
    """Return ranges of about `wanted` indices in all, spread evenly; all of them if `whole`."""
    if whole:
        return [(0, size)]
    crops = min(MAX_CROPS_PER_AXIS, size, max(1, wanted))
    edge = max(1, min(size, wanted) // crops)
    return [(c - edge // 2, c - edge // 2 + edge) for c in _centers(size, crops)]

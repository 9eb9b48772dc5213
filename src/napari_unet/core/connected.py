"""Connected parts of a sparse mask, found from its runs along x and never from a dense array.

::

    y = 0   ..####....     runs are (z, y, x0, x1): (0, 0, 2, 6), (0, 1, 6, 8), (0, 1, 9, 10)
    y = 1   ......##.#     the first two touch at a corner: one part; the third is a part of its own
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.boxes import Shape

_LATER_ROWS = ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1))  # (dz, dy): half of the neighbors


def find_runs(mask: npt.NDArray[np.bool_], origin: Shape) -> npt.NDArray[np.int64]:
    """Return the runs of True along x, in C order.

    Parameters
    ----------
    mask : numpy.ndarray
        (z, y, x) bool.
    origin : tuple of int
        Place of its first voxel in the image.

    Returns
    -------
    numpy.ndarray
        (n, 4) int64: z, y, x0, x1 of every run in the image, half-open.
    """
    padded = np.zeros((*mask.shape[:2], mask.shape[2] + 2), dtype=np.int8)
    padded[:, :, 1:-1] = mask
    steps = np.diff(padded, axis=2)
    z, y, first = np.nonzero(steps == 1)
    last = np.nonzero(steps == -1)[2]
    return np.stack([z + origin[0], y + origin[1], first + origin[2], last + origin[2]], axis=1)


def connect_runs(runs: npt.NDArray[np.int64], shape: Shape) -> npt.NDArray[np.int64]:
    """Return the number of the connected part that each run belongs to.

    Parameters
    ----------
    runs : numpy.ndarray
        (n, 4) disjoint runs in any order; runs of one row may touch, as blocks cut them.
    shape : tuple of int
        Shape of the image, (z, y, x).

    Returns
    -------
    numpy.ndarray
        (n,) int64. Voxels that share a face, an edge or a corner are connected. Parts are numbered
        from 0 in C order of their first voxel.
    """
    order = np.lexsort((runs[:, 2], runs[:, 1], runs[:, 0]))
    parts = _merge(len(runs), *_touching(runs[order], shape))
    numbers = np.unique(parts, return_inverse=True)[1]
    result = np.empty(len(runs), dtype=np.int64)
    result[order] = numbers
    return result


def _touching(
    runs: npt.NDArray[np.int64], shape: Shape
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the pairs of sorted runs that touch, as two arrays of their places."""
    # One row and two columns more than the image has, so that no run touches across its edge.
    rows, columns = shape[1] + 1, shape[2] + 2
    row = (runs[:, 0] * rows + runs[:, 1]) * columns
    starts, stops = row + runs[:, 2], row + runs[:, 3]
    one, other = [], []
    for dz, dy in _LATER_ROWS:
        shift = (dz * rows + dy) * columns
        first = np.searchsorted(stops, starts + shift, side="left")
        last = np.searchsorted(starts, stops + shift, side="right")
        counts = np.maximum(last - first, 0)
        one.append(np.repeat(np.arange(len(runs)), counts))
        before = np.cumsum(counts) - counts
        other.append(np.arange(counts.sum()) + np.repeat(first - before, counts))
    return np.concatenate(one), np.concatenate(other)


def _merge(
    count: int, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the smallest member of the part of each of `count` things, given which touch."""
    root = np.arange(count)
    while True:
        low = np.minimum(root[one], root[other])
        high = np.maximum(root[one], root[other])
        if np.array_equal(low, high):
            return root
        np.minimum.at(root, high, low)
        while not np.array_equal(root[root], root):
            root = root[root]

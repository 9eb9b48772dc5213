"""Linking the objects of slices into objects of a volume, with two slices in memory.

Pairs of numbers say what is one object; a union-find over all pairs makes the objects. Where the
slices are near and boundary probabilities are at hand, merging by them is the other way: the faces
between two slices are part of `agglomeration.region_edges` (docs/reference/object-methods.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_unet.core.watershed_options import LinkOptions
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt


def link_slices(
    previous: npt.NDArray[np.integer[Any]],
    current: npt.NDArray[np.integer[Any]],
    options: LinkOptions | None = None,
) -> npt.NDArray[np.uint64]:
    """Return which objects of two neighboring slices are one.

    Parameters
    ----------
    previous, current : numpy.ndarray
        (Y, X) numbered objects, 0 = background. For `linked_numbers` no two slices may share one.
    options : LinkOptions or None
        When objects are one; the defaults if None.

    Returns
    -------
    numpy.ndarray
        (n, 2) uint64 pairs (number in `previous`, number in `current`), sorted. Of equal overlaps
        the one with the lower number is the best.

    Raises
    ------
    ConfigError
        If the shapes differ.
    """
    if previous.shape != current.shape:
        raise ConfigError(
            f"slices of shape {previous.shape} and {current.shape} cannot be linked; give equal "
            "shapes"
        )
    chosen = options or LinkOptions()
    above, in_above, area_above = _numbered(previous)
    below, in_below, area_below = _numbered(current)
    both = (in_above >= 0) & (in_below >= 0)
    keys, common = np.unique(
        in_above[both].astype(np.int64) * max(len(below), 1) + in_below[both], return_counts=True
    )
    first, second = np.divmod(keys, max(len(below), 1))
    if chosen.overlap == "iou":
        whole = area_above[first] + area_below[second] - common
    else:
        whole = np.minimum(area_above[first], area_below[second])
    share = common / whole
    linked = share > chosen.threshold
    if chosen.mutual:
        linked &= _is_best(first, second, share) & _is_best(second, first, share)
    return np.stack([above[first[linked]], below[second[linked]]], axis=1)


def linked_numbers(
    numbers: npt.NDArray[np.uint64], pairs: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Return for each number the lowest one that pairs connect it with, itself if none does.

    Parameters
    ----------
    numbers : numpy.ndarray
        (n,) sorted numbers of all objects, each once.
    pairs : numpy.ndarray
        (m, 2) numbers that are one object, all among `numbers`.
    """
    first, second = np.searchsorted(numbers, pairs.reshape(-1, 2)).T
    links = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(len(numbers),) * 2)
    group = connected_components(links, directed=False)[1]
    lowest = np.full(len(numbers), len(numbers))
    np.minimum.at(lowest, group, np.arange(len(numbers)))
    found: npt.NDArray[np.uint64] = numbers[lowest[group]]
    return found


def _numbered(
    objects: npt.NDArray[np.integer[Any]],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the numbers but 0, the place of each pixel among them (-1 for 0), and the areas."""
    used, places, areas = np.unique(objects, return_inverse=True, return_counts=True)
    background = int(used.size > 0 and used[0] == 0)
    inside = places.reshape(objects.shape) - background
    return used[background:].astype(np.uint64), inside, areas[background:]


def _is_best(
    owner: npt.NDArray[np.int64], other: npt.NDArray[np.int64], share: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Return whether a pair is the best of its owner; of equal ones the lower `other` is."""
    order = np.lexsort((other, -share, owner))
    best = np.zeros(len(owner), dtype=np.bool_)
    best[order[np.flatnonzero(np.diff(owner[order], prepend=-1))]] = True
    return best

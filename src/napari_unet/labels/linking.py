"""Linking the objects of slices into objects of a volume, with two slices in memory.

Pairs of numbers say what is one object; a union-find over all pairs makes the objects. Where the
slices are near and boundary probabilities are at hand, merging by them is the other way: the faces
between two slices are part of `agglomeration.region_edges` (docs/reference/object-methods.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.watershed_options import LinkOptions


def link_slices(
    previous: npt.NDArray[np.integer[Any]],
    current: npt.NDArray[np.integer[Any]],
    options: LinkOptions | None = None,
) -> npt.NDArray[np.uint64]:
    """Return which objects of two neighboring slices are one.

    Parameters
    ----------
    previous, current : numpy.ndarray
        (Y, X) numbered objects, 0 = background. The two need not share their numbers.
    options : LinkOptions or None
        When objects are one; the defaults if None.

    Returns
    -------
    numpy.ndarray
        (n, 2) uint64 pairs (number in `previous`, number in `current`), sorted. Of equal overlaps
        the lower number is the best.

    Raises
    ------
    ConfigError
        If the shapes differ.
    """
    raise NotImplementedError


def linked_numbers(
    numbers: npt.NDArray[np.uint64], pairs: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Return for each number the lowest one that pairs connect it with.

    Parameters
    ----------
    numbers : numpy.ndarray
        (n,) sorted numbers of all objects, each once.
    pairs : numpy.ndarray
        (m, 2) numbers that are one object.
    """
    raise NotImplementedError

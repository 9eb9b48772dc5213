"""Which numbers mean the same object, and what the objects are called in the end.

Everything is kept in arrays with one entry per number, or per pair of numbers that are one object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    import numpy.typing as npt

Pairs: TypeAlias = "npt.NDArray[np.int64]"
"""(n, 2) numbers that are one object. Pairs may repeat and come in any order."""

NOWHERE = np.iinfo(np.int64).max
"""In the place of a first voxel: the number has none."""


def join_pairs(pairs: Pairs) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the numbers that occur in pairs, and which belong together (union-find).

    Parameters
    ----------
    pairs : numpy.ndarray
        (n, 2) int64 numbers of any size.

    Returns
    -------
    ids : numpy.ndarray
        (m,) int64, sorted, each once.
    groups : numpy.ndarray
        (m,) int64 from 0: numbers that pairs connect, however long the chain, have the same.

    Examples
    --------
    >>> import numpy as np
    >>> ids, groups = join_pairs(np.array([[7, 2], [9, 7], [4, 5]]))
    >>> ids.tolist(), groups.tolist()
    ([2, 4, 5, 7, 9], [0, 1, 1, 0, 0])
    """
    ids, places = np.unique(pairs, return_inverse=True)
    one, other = places.reshape(-1, 2).T
    # Only numbers in pairs enter the graph, which knows no more than 2**31 nodes.
    touching = coo_array((np.ones(len(one), dtype=np.uint8), (one, other)), (len(ids), len(ids)))
    groups = connected_components(touching, directed=False)[1]
    return ids, groups.astype(np.int64)


def final_numbers(
    first_voxels: npt.NDArray[np.int64], pairs: Pairs
) -> tuple[npt.NDArray[np.int64], int]:
    """Return what each number becomes: 1, 2, ... in the order of the objects' first voxels.

    Parameters
    ----------
    first_voxels : numpy.ndarray
        (n,) int64: for each number, where its first voxel lies in the whole, in C order; `NOWHERE`
        if it has no voxel. Numbers that are not joined have different first voxels.
    pairs : numpy.ndarray
        (m, 2) places in `first_voxels` that are one object.

    Returns
    -------
    numbers : numpy.ndarray
        (n,) int64; 0 for an object without any voxel.
    count : int
        Number of objects that have voxels.

    Examples
    --------
    >>> import numpy as np
    >>> final_numbers(np.array([30, 10, 20, NOWHERE]), np.array([[0, 3]]))[0].tolist()
    [3, 1, 2, 3]
    """
    firsts = first_voxels.copy()
    if len(pairs):
        ids, groups = join_pairs(pairs)
        earliest = np.full(int(groups.max()) + 1, NOWHERE, dtype=np.int64)
        np.minimum.at(earliest, groups, firsts[ids])
        firsts[ids] = earliest[groups]
    # Stable sorting merges runs, and every block's first voxels come nearly in order.
    order = np.argsort(firsts, kind="stable")
    in_order = firsts[order]
    begins = in_order != NOWHERE
    begins[1:] &= in_order[1:] != in_order[:-1]
    ranks = np.cumsum(begins)
    count = int(ranks[-1]) if len(ranks) else 0
    ranks[in_order == NOWHERE] = 0
    numbers = np.empty_like(ranks)
    numbers[order] = ranks
    return numbers, count

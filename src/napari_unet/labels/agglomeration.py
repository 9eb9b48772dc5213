"""Merging the pieces of an over-segmentation where little boundary lies between them.

::

    pieces, and the mean boundary         the lowest mean is merged first;     and so on, up to
    probability between two that touch    means of what touches both add up    a threshold

        1 --0.1-- 2                          1+2
        |         |                           |
       0.8       0.3             ->          0.5             ->     1+2, 3
        |         |                           |
        3 --------+                           3

Sums and counts of any parts of an image add up to those of the whole, exactly and in any order:
probabilities are counted in whole steps. So the graph of an image larger than memory is
made block by block, and its merging is that of the whole image.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape

VOXEL_STEPS = 2**16
"""Steps in which the probability of a voxel is counted; the highest is one step below 1."""

STEPS = 2 * VOXEL_STEPS
"""Steps in which that of a face is: the mean of two voxels, without rounding."""


@dataclass(frozen=True, slots=True)
class RegionEdges:
    """Which pieces touch, and how much boundary lies between them.

    Parameters
    ----------
    pairs : numpy.ndarray
        (n, 2) uint64: the lower and the higher number of two pieces that touch by a face of a
        voxel; each pair once, sorted.
    sums : numpy.ndarray
        (n,) int64: boundary probability added up over these faces, in `STEPS`.
    counts : numpy.ndarray
        (n,) int64: number of the faces.
    """

    pairs: npt.NDArray[np.uint64]
    sums: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    def __add__(self, other: RegionEdges) -> RegionEdges:
        """Return the edges of both parts of an image."""
        return RegionEdges.total((self, other))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    @property
    def means(self) -> npt.NDArray[np.float64]:
        """Mean boundary probability of each pair, at least 0 and below 1."""
        means: npt.NDArray[np.float64] = self.sums / (self.counts * float(STEPS))
        return means

    @classmethod
    def total(cls, parts: Iterable[RegionEdges]) -> RegionEdges:
        """Return the edges of all parts of an image; of none, no edges."""
        found = list(parts)
        if not found:
            return cls(np.empty((0, 2), np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))
        return _summed(
            np.concatenate([part.pairs for part in found]),
            np.concatenate([part.sums for part in found]),
            np.concatenate([part.counts for part in found]),
        )


def region_edges(
    pieces: npt.NDArray[np.integer[Any]],
    boundary: npt.NDArray[np.floating[Any]],
    *,
    inner: Shape | None = None,
) -> RegionEdges:
    """Return the edges between the pieces of an array; 0 is no piece.

    A face between two voxels has the mean of their two probabilities.

    Parameters
    ----------
    pieces : numpy.ndarray
        Numbers of any integer type, of any number of axes.
    boundary : numpy.ndarray
        Probabilities of the boundary, of the same shape.
    inner : tuple of int or None
        Shape, from the first voxel on, in which the lower voxel of a face must lie. A block that
        is read with one more voxel on the upper side of each axis gives its own shape: then each
        face of an image belongs to one block. By default all faces count.

    Raises
    ------
    ConfigError
        If the shapes differ.
    """
    if pieces.shape != boundary.shape:
        raise ConfigError(
            f"pieces of shape {pieces.shape} do not fit boundary probabilities of shape "
            f"{boundary.shape}; give equal shapes"
        )
    levels = (np.clip(boundary, 0, 1) * VOXEL_STEPS).astype(np.int32)
    np.minimum(levels, VOXEL_STEPS - 1, out=levels)
    own = pieces.shape if inner is None else inner
    parts = [_edges_along(axis, pieces, levels, own) for axis in range(pieces.ndim)]
    return RegionEdges.total(parts)


def agglomerate(
    edges: RegionEdges, threshold: float
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return which pieces are one object when all means below a threshold are merged.

    The two pieces with the lowest mean are merged, what touched either now touches both with sums
    and counts added up, and so on until no mean is below the threshold. Of equal means the pair
    with the lowest numbers goes first, where merged pieces have the number of the one that touched
    more pieces (of as many, the lower). Time grows with n log(n)^2 of the edges.

    Parameters
    ----------
    edges : RegionEdges
        Of a whole image, or of what is to be merged on its own.
    threshold : float
        Mean boundary probability: 0 merges nothing, 1 all that touches.

    Returns
    -------
    (pieces, objects) : numpy.ndarray
        uint64. The numbers in the edges, sorted, and for each the lowest number of the pieces that
        are one object with it. A piece that touches none is not among them: it stays as it is.
    """
    pieces, dense = np.unique(edges.pairs, return_inverse=True)
    first, second = dense.reshape(-1, 2).T
    # A mean of several is not below the lowest of them. So groups that no edge below the threshold
    # connects are never merged, and neither these groups nor edges between them need a look.
    low = edges.means < threshold
    group = _groups(len(pieces), first[low], second[low])
    within = group[first] == group[second]
    graph = _Graph(first[within], second[within], edges.sums[within], edges.counts[within])
    joined = graph.join_below(threshold)
    if not joined:
        return pieces, pieces.copy()
    members, roots = np.array(joined).T
    merged = _groups(len(pieces), members, roots)
    lowest = np.full(len(pieces), len(pieces))
    np.minimum.at(lowest, merged, np.arange(len(pieces)))
    return pieces, pieces[lowest[merged]]


def merge_pieces(
    pieces: npt.NDArray[np.integer[Any]],
    boundary: npt.NDArray[np.floating[Any]],
    threshold: float,
) -> npt.NDArray[np.uint32]:
    """Return the objects of an array whose pieces are merged, numbered from 1 without a gap.

    Parameters
    ----------
    pieces, boundary : numpy.ndarray
        As for `region_edges`.
    threshold : float
        As for `agglomerate`.

    Returns
    -------
    numpy.ndarray
        uint32 of the same shape, numbered in the order of the lowest piece of each object.
    """
    numbers, merged = agglomerate(region_edges(pieces, boundary), threshold)
    used, places = np.unique(pieces, return_inverse=True)
    found = used.astype(np.uint64)
    found[np.searchsorted(found, numbers)] = merged
    kept = np.unique(found[found > 0])
    places_of = np.where(found > 0, np.searchsorted(kept, found) + 1, 0).astype(np.uint32)
    objects: npt.NDArray[np.uint32] = places_of[places.reshape(pieces.shape)]
    return objects


class _Graph:
    """Nodes from 0 with weighted edges, of which two become one when their nodes do."""

    def __init__(
        self,
        first: npt.NDArray[np.integer[Any]],
        second: npt.NDArray[np.integer[Any]],
        sums: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
    ) -> None:
        self._neighbors: dict[int, dict[int, tuple[int, int]]] = {}
        columns = (first.tolist(), second.tolist(), sums.tolist(), counts.tolist())
        for a, b, total, count in zip(*columns, strict=True):
            self._neighbors.setdefault(a, {})[b] = (total, count)
            self._neighbors.setdefault(b, {})[a] = (total, count)

    def join_below(self, threshold: float) -> list[tuple[int, int]]:
        """Join nodes, the lowest mean first; return (node, the one that it became part of)."""
        heap = [
            (total / (count * STEPS), a, b, count)
            for a, edges in self._neighbors.items()
            for b, (total, count) in edges.items()
            if a < b and total < threshold * STEPS * count
        ]
        heapq.heapify(heap)
        joined = []
        while heap:
            _, a, b, count = heapq.heappop(heap)
            # Faces only add up: an entry with another count is of an edge that has grown since.
            if self._neighbors.get(a, {}).get(b, (0, 0))[1] != count:
                continue
            kept, lost = self._by_degree(a, b)
            joined.append((lost, kept))
            for other, (total, faces) in self._join(kept, lost):
                if total < threshold * STEPS * faces:
                    mean = total / (faces * STEPS)
                    heapq.heappush(heap, (mean, min(kept, other), max(kept, other), faces))
        return joined

    def _by_degree(self, a: int, b: int) -> tuple[int, int]:
        """Return the node with more neighbors first: then each edge moves log(n) times at most."""
        more = len(self._neighbors[b]) > len(self._neighbors[a])
        return (b, a) if more else (a, b)

    def _join(self, kept: int, lost: int) -> list[tuple[int, tuple[int, int]]]:
        """Make `lost` part of `kept`; return the edges of `kept` that are new or have grown."""
        moved = self._neighbors.pop(lost)
        del moved[kept]
        own = self._neighbors[kept]
        del own[lost]
        changed = []
        for other, (total, faces) in moved.items():
            known = own.get(other, (0, 0))
            edge = (total + known[0], faces + known[1])
            own[other] = edge
            theirs = self._neighbors[other]
            del theirs[lost]
            theirs[kept] = edge
            changed.append((other, edge))
        return changed


def _groups(
    nodes: int, first: npt.NDArray[np.integer[Any]], second: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.int32]:
    """Return a number for each node, the same where edges connect them."""
    links = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(nodes, nodes))
    groups: npt.NDArray[np.int32] = connected_components(links, directed=False)[1]
    return groups


def _edges_along(
    axis: int,
    pieces: npt.NDArray[np.integer[Any]],
    levels: npt.NDArray[np.int32],
    inner: Shape,
) -> RegionEdges:
    """Return the edges over faces across one axis, without adding up yet."""
    stop = [min(edge, size) for edge, size in zip(inner, pieces.shape, strict=True)]
    stop[axis] = min(stop[axis], pieces.shape[axis] - 1)
    lower = tuple(slice(0, max(edge, 0)) for edge in stop)
    upper = tuple(slice(1, e + 1) if i == axis else slice(0, e) for i, e in enumerate(stop))
    a, b = pieces[lower], pieces[upper]
    differ = (a != b) & (a != 0) & (b != 0)
    a, b = a[differ], b[differ]
    pairs = np.stack([np.minimum(a, b), np.maximum(a, b)], axis=1).astype(np.uint64)
    values = (levels[lower] + levels[upper])[differ].astype(np.int64)
    return RegionEdges(pairs, values, np.ones(len(pairs), np.int64))


def _summed(
    pairs: npt.NDArray[np.uint64], sums: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> RegionEdges:
    """Return edges in which each pair is once, sorted."""
    if not len(pairs):
        return RegionEdges(pairs, sums, counts)
    numbers, dense = np.unique(pairs, return_inverse=True)
    keys = dense.reshape(-1, 2) @ np.array([len(numbers), 1])
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return RegionEdges(
        pairs[order[starts]],
        np.add.reduceat(sums[order], starts),
        np.add.reduceat(counts[order], starts),
    )

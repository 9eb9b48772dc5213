r"""Features of a tile at the resolution of each level of the network, and what a head says of them.

::

    level 2     |     o     |     o     |     o     |      features of the network, kept as they are
    level 1     |  o  |  o  |  o  |  o  |  o  |  o  |
    level 0     |o |o |o |o |o |o |o |o |o |o |o |o |      pixels

A coarse feature of a pixel is interpolated, by doubling level after level. A head is linear, and so
is interpolation: the head is applied at the resolution of each level, and what it says is
interpolated and added up. That is as good as hundreds of features for each pixel, and takes a
tenth of the memory and time.

Every level reaches a pixel further than it is needed, so that no interpolation ends at a tile's
edge: the numbers of a pixel depend on no tile, as those of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.core.receptive import CONVOLUTIONS_PER_LEVEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from napari_unet.app.drafting.head import Head
    from napari_unet.core.boxes import Box
    from napari_unet.core.receptive import Padding

_NEAR, _FAR = 0.75, 0.25
"""Of the two coarse pixels on both sides of a fine one: they lie 1/4 and 3/4 of a pixel away."""


@dataclass(frozen=True, slots=True)
class LevelGrid:
    """How pixels of a level lie in the level below, for the networks of one padding.

    Parameters
    ----------
    shift : int
        Pixel k of a level lies in pixel ``(k + shift) // 2`` of the level below: what the
        convolutions of the expanding path take off on each side.
    halo : int
        Of the outermost pixels of level 0, how many on each side are not used.
    """

    shift: int
    halo: int

    @classmethod
    def of(cls, padding: Padding, halo: int) -> LevelGrid:
        """Return the grid of a network, given its halo in pixels."""
        return cls(CONVOLUTIONS_PER_LEVEL, 0) if padding == "valid" else cls(0, halo)

    def below(self, start: int, stop: int) -> tuple[int, int]:
        """Return the pixels of the level below that a range is interpolated from."""
        return (start + self.shift - 1) // 2, (stop - 1 + self.shift + 1) // 2 + 1

    def terms(
        self, index: npt.NDArray[np.intp], level: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Return of which pixels of a level, with which weights, pixels of level 0 are the sum.

        Parameters
        ----------
        index : numpy.ndarray
            (n,) pixels of level 0 along one axis.
        level : int
            The level.

        Returns
        -------
        tuple of ndarray
            (n, terms) neighboring pixels of the level, and weights that sum to 1.
        """
        first, weights = index, np.ones((len(index), 1), np.float32)
        for _ in range(level):
            fine = first[:, None] + np.arange(weights.shape[1]) + self.shift
            low = (fine - 1) // 2
            first = low[:, 0]
            wider = np.zeros((len(index), int((low[:, -1] - first).max(initial=0)) + 2), np.float32)
            rows = np.arange(len(index))
            for term, (at, even) in enumerate(zip(low.T, (fine % 2 == 0).T, strict=True)):
                upper = np.where(even, _NEAR, _FAR).astype(np.float32)
                wider[rows, at - first] += weights[:, term] * (1 - upper)
                wider[rows, at - first + 1] += weights[:, term] * upper
            weights = wider
        return first[:, None] + np.arange(weights.shape[1]), weights


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Features of one level.

    Parameters
    ----------
    values : Tensor
        (h, w, channels) float32 on the CPU.
    first : tuple of int
        Pixel of the network's map at which they begin, (y, x).
    """

    values: Tensor
    first: tuple[int, int]


class FeatureTile:
    """What the network says of a box before its last layer, at every level.

    Parameters
    ----------
    box : Box
        On the network's grid, one slice thick.
    maps : sequence of Tensor
        Of each level, (channels, H, W); they begin where the network's output begins, or its
        input if it keeps the size.
    grid : LevelGrid
        How they lie on each other.
    """

    def __init__(self, box: Box, maps: Sequence[Tensor], grid: LevelGrid) -> None:
        self.box = box
        self._grid = grid
        self.levels: list[Level] = []
        for values, (rows, columns) in zip(maps, self._ranges(box, len(maps)), strict=True):
            part = values[:, slice(*rows), slice(*columns)].movedim(0, 2)
            self.levels.append(Level(part.float().contiguous().cpu(), (rows[0], columns[0])))

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return sum(level.values.nbytes for level in self.levels)

    @property
    def is_finite(self) -> bool:
        """Whether there is neither NaN nor infinity."""
        # A sum is one pass without another array; features that overflow it are of no use either.
        return all(bool(torch.isfinite(level.values.sum())) for level in self.levels)

    def features(self, y: npt.NDArray[np.intp], x: npt.NDArray[np.intp]) -> Tensor:
        """Return the features of pixels of the network's grid inside the box, (n, features)."""
        rows = y - self.box.start[1] + self._grid.halo
        columns = x - self.box.start[2] + self._grid.halo
        found = []
        for number, level in enumerate(self.levels):
            at_y, share_y = self._grid.terms(rows, number)
            at_x, share_x = self._grid.terms(columns, number)
            total = torch.zeros((len(y), level.values.shape[2]))
            for i in range(at_y.shape[1]):
                for j in range(at_x.shape[1]):
                    share = torch.from_numpy(share_y[:, i] * share_x[:, j])
                    # What weighs nothing may lie outside.
                    where = [
                        torch.from_numpy(np.clip(at - first, 0, size - 1))
                        for at, first, size in zip(
                            (at_y[:, i], at_x[:, j]), level.first, level.values.shape, strict=False
                        )
                    ]
                    total += share[:, None] * level.values[where[0], where[1]]
            found.append(total)
        return torch.cat(found, dim=1)

    def classes(self, head: Head, box: Box) -> npt.NDArray[np.uint8]:
        """Return what a head says of a box inside the tile, (1, h, w); 0 if it is blank."""
        if head.is_blank:
            return np.zeros(box.shape, np.uint8)
        logits = self.logits(head, box)
        # Six times as fast as along the first axis of a tensor.
        labels: npt.NDArray[np.uint8] = logits.numpy().argmax(axis=0).astype(np.uint8)
        return labels[None] + np.uint8(FIRST_CLASS)

    def logits(self, head: Head, box: Box) -> Tensor:
        """Return the logits of a head in a box inside the tile, (classes, h, w)."""
        ranges, weights = self._ranges(box, len(self.levels)), head.levels()
        total: Tensor | None = None
        for number, weight in reversed(list(enumerate(weights))):
            if weight is None and total is None:
                continue
            said = None if weight is None else self._said(number, weight, ranges[number])
            if total is not None:
                finer = self._doubled(total, ranges[number], ranges[number + 1])
                said = finer if said is None else said.add_(finer)
            total = said
        if total is None:
            total = torch.zeros((len(head.classes), *box.shape[1:]))
        return total.add_(head.bias[:, None, None])

    def _said(self, number: int, weight: Tensor, ranges: _Ranges) -> Tensor:
        """Return what the weights (classes, channels) of a level make of part of it."""
        level = self.levels[number]
        rows, columns = (
            slice(a - first, b - first) for (a, b), first in zip(ranges, level.first, strict=True)
        )
        values = level.values[rows, columns]
        flat = weight @ values.reshape(-1, values.shape[2]).T
        return flat.reshape(len(weight), *values.shape[:2])

    def _doubled(self, coarse: Tensor, fine: _Ranges, below: _Ranges) -> Tensor:
        """Return maps of a level interpolated to the pixels of the one above."""
        twice = functional.interpolate(coarse[None], scale_factor=2, mode="bilinear")[0]
        starts = [a + self._grid.shift - 2 * p for (a, _), (p, _) in zip(fine, below, strict=True)]
        rows, columns = (slice(s, s + b - a) for s, (a, b) in zip(starts, fine, strict=True))
        return twice[:, rows, columns]

    def _ranges(self, box: Box, levels: int) -> list[_Ranges]:
        """Return which pixels of the network's maps decide a box, for each level, (y, x)."""
        inside = box.relative_to(self.box.start)
        halo = self._grid.halo
        now = [(a + halo, b + halo) for a, b in zip(inside.start[1:], inside.stop[1:], strict=True)]
        ranges: list[_Ranges] = [(now[0], now[1])]
        for _ in range(levels - 1):
            now = [self._grid.below(a, b) for a, b in now]
            ranges.append((now[0], now[1]))
        return ranges


_Ranges = tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns of a level, half-open."""

"""Where a prediction is worst and best: windows of the images, ranked while they are measured."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.boxes import Box
from napari_unet.core.classes import UNLABELED
from napari_unet.metrics.objects import object_score_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape
    from napari_unet.metrics.contingency import Contingency

CROP_EDGE = 256
"""Edge of a window, in pixels: large enough to see what is around a mistake."""

_PENDING = 4096
"""Windows that are remembered before those in the middle are dropped."""

MIN_COUNTED = 0.25
"""Share of a window that counts, at least."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A window and how good the prediction is there.

    Parameters
    ----------
    score : float
        0 = all wrong, 1 = all right: object F1 within the window, or the share of its pixels whose
        class is right.
    box : Box
        Where it is.
    """

    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a block.

    Parameters
    ----------
    box : Box
        In the image.
    inner : Box
        In the block.
    """

    box: Box
    inner: Box

    def part(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the part of a block's array."""
        return array[self.inner.slices]


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a block, which cover it once.

    Parameters
    ----------
    block : Box
        One slice thin.
    """

    block: Box

    def __iter__(self) -> Iterator[Window]:
        """Yield the windows; a rest of less than half a window goes to its neighbor."""
        z0, y0, x0 = self.block.start
        _, height, width = self.block.shape
        for y, next_y in _cuts(height):
            for x, next_x in _cuts(width):
                inner = Box((0, y, x), (1, next_y, next_x))
                yield Window(Box((z0, y0 + y, x0 + x), (z0 + 1, y0 + next_y, x0 + next_x)), inner)


class CropRanks:
    """The worst and the best windows so far, of different places first.

    The slices of a stack resemble each other, so that the worst windows would often be the same
    place in slice after slice.

    Parameters
    ----------
    keep : int
        How many of each.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._found: list[Crop] = []
        self._worst: dict[Shape, Crop] = {}
        self._best: dict[Shape, Crop] = {}

    def offer_classes(self, box: Box, true: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> None:
        """Rank a window by the share of its pixels whose class is right.

        Windows of one true class alone are left out: nothing is to be told apart there.
        """
        counted = true != UNLABELED
        pixels = int(counted.sum())
        if pixels < MIN_COUNTED * counted.size or len(np.unique(true[counted])) < 2:
            return
        self._offer(Crop(float((true == predicted)[counted].mean()), box))

    def offer_objects(self, box: Box, table: Contingency) -> None:
        """Rank a window by the F1 of the objects in it, cut ones as far as they lie in it.

        Windows without a true object are left out.
        """
        if table.pixels < MIN_COUNTED * box.size or not table.true.any():
            return
        self._offer(Crop(object_score_of(table).f1(), box))

    def worst(self) -> tuple[Crop, ...]:
        """Return the worst windows, the worst first."""
        return self._first(self._worst, sorted(self._found, key=_by_score))

    def best(self) -> tuple[Crop, ...]:
        """Return the best windows, the best first."""
        return self._first(self._best, sorted(self._found, key=_by_score)[::-1])

    def _first(self, places: dict[Shape, Crop], ordered: list[Crop]) -> tuple[Crop, ...]:
        """Return one window of each place, and more only if there are too few places."""
        own = set(places.values())
        chosen = [crop for crop in ordered if crop in own][: self._keep]
        rest = [crop for crop in ordered if crop not in chosen]
        return tuple(chosen + rest[: self._keep - len(chosen)])

    def _offer(self, crop: Crop) -> None:
        place = crop.box.start[1:]
        self._worst[place] = min(crop, self._worst.get(place, crop), key=_by_score)
        self._best[place] = max(crop, self._best.get(place, crop), key=_by_score)
        self._found.append(crop)
        if len(self._found) > _PENDING:
            self._forget()

    def _forget(self) -> None:
        """Drop what can be neither among the worst nor the best."""
        low = sorted(self._worst.values(), key=_by_score)[: self._keep]
        high = sorted(self._best.values(), key=_by_score)[-self._keep :]
        self._worst = {crop.box.start[1:]: crop for crop in low}
        self._best = {crop.box.start[1:]: crop for crop in high}
        ordered = sorted(self._found, key=_by_score)
        kept = {*ordered[: self._keep], *ordered[-self._keep :], *low, *high}
        self._found = list(kept)


def choose_worst(ranked: Sequence[Sequence[Crop]], keep: int) -> list[tuple[int, Crop]]:
    """Return the worst crops of several images, (image, crop), of different images first."""
    rows = [
        (rank, crop.score, image, crop)
        for image, crops in enumerate(ranked)
        for rank, crop in enumerate(crops)
    ]
    chosen = sorted(rows, key=lambda row: row[:3])[:keep]
    return [(image, crop) for _, _, image, crop in sorted(chosen, key=lambda row: row[1:3])]


def choose_best(
    ranked: Sequence[Sequence[Crop]], keep: int, taken: Sequence[tuple[int, Crop]]
) -> list[tuple[int, Crop]]:
    """Return the best crops as `choose_worst` does the worst; none of those that are taken."""
    rows = [
        (rank, -crop.score, image, crop)
        for image, crops in enumerate(ranked)
        for rank, crop in enumerate(crops)
        if (image, crop) not in taken
    ]
    chosen = sorted(rows, key=lambda row: row[:3])[:keep]
    return [(image, crop) for _, _, image, crop in sorted(chosen, key=lambda row: row[1:3])]


def _by_score(crop: Crop) -> tuple[float, tuple[int, ...]]:
    return crop.score, crop.box.start


def _cuts(length: int) -> list[tuple[int, int]]:
    count = max(1, round(length / CROP_EDGE))
    edges = [CROP_EDGE * k for k in range(count)] + [length]
    return list(itertools.pairwise(edges))

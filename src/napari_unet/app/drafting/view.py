"""Which part of what is looked at is drafted: the middle first, then as much as time allows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.boxes import Box

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.app.drafting.head import Head
    from napari_unet.app.drafting.kept_tiles import KeptTiles
    from napari_unet.app.drafting.network_image import NetworkImage
    from napari_unet.core.boxes import Shape

MIDDLE_PIXELS = 512 * 512
"""What is drafted first, in pixels of the network's grid: a second or less on two CPU cores."""

VIEW_PIXELS = 2**20
"""What is drafted at most."""

GROWTH_SECONDS = 3.0
"""How long it may take, by the pace so far, to draft more than the middle."""


KEPT_SHARE = 0.7
"""Of the memory for features, what one view may take."""


class View:
    """What is looked at, and how much of it is drafted.

    Parameters
    ----------
    image : NetworkImage
        What is looked at.
    kept : KeptTiles
        Features that are known.
    bytes_per_pixel : float
        Memory that features take, per pixel of the network's grid.

    Attributes
    ----------
    since : float
        When it was wished, by `time.monotonic`.
    shown : int
        How many of its stages are drafted: the middle, then more.
    """

    def __init__(self, image: NetworkImage, kept: KeptTiles, bytes_per_pixel: float) -> None:
        self._image = image
        self._kept = kept
        most = int(kept.max_bytes * KEPT_SHARE / bytes_per_pixel)
        self._limits = (min(MIDDLE_PIXELS, most), min(VIEW_PIXELS, most))
        self._stages: list[Box] = []
        self._pace = 0.0
        self.since = 0.0
        self.shown = 0

    @property
    def next(self) -> Box | None:
        """The part of the image that is to be drafted next; None = all is that there is time for.

        Of what is looked at for the first time, that is the middle.
        """
        if self.shown >= len(self._stages):
            return None
        target = self._stages[self.shown]
        return target if self.shown == 0 or self._is_affordable(target) else None

    @property
    def drafted(self) -> Box | None:
        """The part of the image that is drafted; None = nothing is yet."""
        return self._stages[self.shown - 1] if self.shown else None

    def look_at(self, box: Box, since: float) -> None:
        """Look at a box of the image, which was wished at a time by `time.monotonic`."""
        self.since, self.shown = since, 0
        shape, factors = self._image.image_shape, self._image.factors
        stages = [middle_of(box, shape, factors, pixels) for pixels in self._limits]
        self._stages = list(dict.fromkeys(stage for stage in stages if stage is not None))
        self._kept.in_use = None
        if self._stages:
            whole = self._image.seen(self._stages[-1])
            self._kept.in_use = whole
            if not self._kept.missing(whole, math.inf):
                del self._stages[:-1]

    def note_pace(self, box: Box, seconds: float) -> None:
        """Note how long a tile took."""
        self._pace = seconds / box.size

    def paint(self, head: Head) -> npt.NDArray[np.uint8]:
        """Return what a head says of what is drafted, (1, h, w); 0 where it cannot be computed."""
        box = self.drafted
        if box is None:
            return np.zeros((1, 0, 0), np.uint8)
        seen = self._image.seen(box)
        labels = np.zeros(seen.shape, np.uint8)
        for part, tile in self._kept.touching(seen):
            if tile is not None:
                labels[part.relative_to(seen.start).slices] = tile.classes(head, part)
        return self._image.labels(labels, box)

    def _is_affordable(self, target: Box) -> bool:
        missing = self._kept.missing(self._image.seen(target), math.inf)
        return sum(box.size for box in missing) * self._pace <= GROWTH_SECONDS


def middle_of(view: Box, image: Shape, factors: tuple[float, float], pixels: int) -> Box | None:
    """Return the middle of what is looked at, one slice thick.

    Parameters
    ----------
    view : Box
        What is looked at, (z, y, x) in voxels of the image.
    image : tuple of int
        Shape of the image.
    factors : tuple of float
        Pixels that the network sees per pixel of the image, (y, x).
    pixels : int
        Largest number of pixels that the network is to see.

    Returns
    -------
    Box or None
        Inside the image, as wide and as high as it can be; None = nothing of it is looked at.

    Examples
    --------
    >>> middle_of(Box((0, 0, 0), (5, 2000, 300)), (9, 2000, 280), (1, 1), 512 * 512)
    Box(start=(2, 532, 0), stop=(3, 1468, 280))
    """
    seen = view.intersection(Box.of_shape(image))
    if seen.is_empty:
        return None
    square = math.isqrt(pixels)
    height, width = (n * f for n, f in zip(seen.shape[1:], factors, strict=True))
    height = min(height, max(square, pixels / width))
    width = min(width, pixels / height)
    edges = (1, *(max(int(e / f), 1) for e, f in zip((height, width), factors, strict=True)))
    start = tuple(
        max(a, (a + b - edge) // 2) for a, b, edge in zip(seen.start, seen.stop, edges, strict=True)
    )
    stop = tuple(min(a + edge, b) for a, edge, b in zip(start, edges, seen.stop, strict=True))
    return Box(start, stop)

r"""Two grids over one image: its own voxels, and voxels of the size that a model knows.

::

    image      |   0   |   1   |   2   |   3   |   4   |     5 voxels
    resampled  |     0     |     1     |     2     |   3     factor 2/3: 4 voxels, the last cut

Both begin at the same corner. With a factor f, resampled voxels per voxel of the image, resampled
voxel j covers the image from j / f to (j + 1) / f. Shrinking (f < 1) takes the mean over that
range, which no fine structure can alias through; for f = 1/2 it is the mean of two voxels.
Enlarging (f > 1) interpolates linearly between centers. On the way back the classes of a voxel are
those of the resampled voxel that its center lies in, its probabilities are interpolated linearly.
Beyond the image's ends its last voxels are repeated.

Every number here depends on the index of a voxel alone, never on the box that it is computed with:
so tiles agree. Along z nothing is resampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from napari_unet.core.boxes import Box
from napari_unet.errors import TilingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.core.boxes import Shape

MIN_FACTOR, MAX_FACTOR = 0.1, 10.0
"""Factors between image and model that are computed; beyond, a voxel size is wrong or unfit.

They also bound what a tile reads: at 0.1 some 2900 x 2900 voxels of the image for a block of 1024.
"""

DUST = 1e-9
"""Fraction of a voxel below which a length is rounding, such as the last digits of 100 * 0.46."""

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class AxisResampling:
    """One axis of an image and of its resampled grid.

    Parameters
    ----------
    size : int
        Voxels of the image, at least 1.
    factor : float
        Resampled voxels per voxel of the image, 0.1 to 10.

    Raises
    ------
    TilingError
        If the factor is out of bounds.

    Examples
    --------
    >>> AxisResampling(101, 0.5).resampled_size
    51
    """

    size: int
    factor: float

    def __post_init__(self) -> None:
        if not MIN_FACTOR <= self.factor <= MAX_FACTOR:
            raise TilingError(
                f"an image cannot be rescaled by {self.factor:g}; choose a factor from "
                f"{MIN_FACTOR:g} to {MAX_FACTOR:g}, or another level of the image"
            )

    @property
    def resampled_size(self) -> int:
        """Voxels of the resampled grid, the last of which may reach beyond the image."""
        return max(1, math.ceil(self.size * self.factor - DUST))

    def sources(
        self, start: int, stop: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Return of which image voxels, with which weights, each resampled one is the sum.

        Parameters
        ----------
        start, stop : int
            Range of resampled voxels inside the grid.

        Returns
        -------
        tuple of ndarray
            Indices of image voxels, and weights that sum to 1, both (terms, ``stop - start``).
        """
        index = np.arange(start, stop)
        if self.factor == 1:
            return index[None], np.ones((1, len(index)))
        if self.factor > 1:
            return _between((index + 0.5) / self.factor - 0.5, self.size)
        low, high = index / self.factor, (index + 1) / self.factor
        terms = np.arange(math.ceil(1 / self.factor) + 1)[:, None]
        voxels = np.floor(low).astype(np.intp) + terms
        weights = np.minimum(high, voxels + 1) - np.maximum(low, voxels)
        weights = np.where((weights > 0) & (voxels < self.size), weights, 0)
        # What weighs nothing is not read.
        return np.where(weights > 0, voxels, voxels[0]), weights / weights.sum(axis=0)

    def needed(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of image voxels that a range of resampled ones is made of."""
        voxels = self.sources(start, stop)[0]
        return int(voxels.min()), int(voxels.max()) + 1

    def inside(self, start: int, stop: int) -> tuple[int, int]:
        """Return the resampled voxels inside a range of the image; at least one.

        The image's last resampled voxel is inside with the image's last voxel.
        """
        first = math.ceil(start * self.factor - DUST)
        last = math.floor(stop * self.factor + DUST)
        if stop == self.size:
            last = self.resampled_size
        if first < last:
            return first, last
        middle = min(int((start + stop) / 2 * self.factor), self.resampled_size - 1)
        return middle, middle + 1

    def nearest(self, start: int, stop: int) -> npt.NDArray[np.intp]:
        """Return in which resampled voxel the center of each image voxel lies."""
        index = np.floor((np.arange(start, stop) + 0.5) * self.factor).astype(np.intp)
        nearest: npt.NDArray[np.intp] = np.minimum(index, self.resampled_size - 1)
        return nearest

    def between(
        self, start: int, stop: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Return between which two resampled voxels each image voxel lies, with their weights."""
        if self.factor == 1:
            return np.arange(start, stop)[None], np.ones((1, stop - start))
        return _between((np.arange(start, stop) + 0.5) * self.factor - 0.5, self.resampled_size)

    def support(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of resampled voxels that decide a range of image voxels."""
        voxels = self.between(start, stop)[0]
        return int(voxels.min()), int(voxels.max()) + 1


def _between(
    position: npt.NDArray[np.floating], size: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    low = np.floor(position)
    share = position - low
    index = np.clip(np.stack([low, low + 1]).astype(np.intp), 0, size - 1)
    return index, np.stack([1 - share, share])


@dataclass(frozen=True, slots=True)
class Resampling:
    """An image's own grid and its resampled one.

    Parameters
    ----------
    image_shape : tuple of int
        Shape (z, y, x) of the image.
    factors : tuple of float
        Resampled voxels per voxel of the image, (y, x); 0.5 halves the image.

    Raises
    ------
    TilingError
        If a factor is out of bounds.

    Examples
    --------
    >>> resampling = Resampling((20, 1000, 1001), (0.5, 0.46))
    >>> resampling.shape
    (20, 500, 461)
    """

    image_shape: Shape
    factors: tuple[float, float]

    def __post_init__(self) -> None:
        # Made only to be checked.
        _ = self._axes

    @property
    def shape(self) -> Shape:
        """Shape (z, y, x) of the resampled grid."""
        return tuple(axis.resampled_size for axis in self._axes)

    def needed(self, box: Box) -> Box:
        """Return the box of the image that a box of the resampled grid is made of."""
        return self._map(AxisResampling.needed, box)

    def inside(self, box: Box) -> Box:
        """Return the resampled voxels inside a box of the image; at least one."""
        return self._map(AxisResampling.inside, box)

    def support(self, box: Box) -> Box:
        """Return the box of the resampled grid that decides a box of the image."""
        return self._map(AxisResampling.support, box)

    def resample(self, image: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
        """Return a box of the resampled grid.

        Parameters
        ----------
        image : numpy.ndarray
            Floating-point values (c, z, y, x) of the image, of ``needed(box)``.
        box : Box
            What is wanted, inside the resampled grid.

        Returns
        -------
        numpy.ndarray
            (c, z, y, x) of the box's shape, in the type of `image`.
        """
        for number, axis in enumerate(self._axes):
            start, stop = box.start[number], box.stop[number]
            index, weights = axis.sources(start, stop)
            image = _weighted_sum(image, number + 1, index - int(index.min()), weights)
        return image

    def labels(self, labels: npt.NDArray[Number], box: Box) -> npt.NDArray[Number]:
        """Return classes (z, y, x) of a box of the image, given those of ``support(box)``."""
        seen = self.support(box)
        for number, axis in enumerate(self._axes):
            index = axis.nearest(box.start[number], box.stop[number])
            labels = labels.take(index - seen.start[number], axis=number)
        return labels

    def probabilities(
        self, probabilities: npt.NDArray[np.float32], box: Box
    ) -> npt.NDArray[np.float32]:
        """Return probabilities (class, z, y, x) of a box of the image, given ``support(box)``."""
        for number, axis in enumerate(self._axes):
            index, weights = axis.between(box.start[number], box.stop[number])
            probabilities = _weighted_sum(
                probabilities, number + 1, index - int(index.min()), weights
            )
        return probabilities

    @property
    def _axes(self) -> tuple[AxisResampling, ...]:
        factors = (1.0, *self.factors)
        return tuple(AxisResampling(n, f) for n, f in zip(self.image_shape, factors, strict=True))

    def _map(
        self, function: Callable[[AxisResampling, int, int], tuple[int, int]], box: Box
    ) -> Box:
        ends = [
            function(axis, a, b) for axis, a, b in zip(self._axes, box.start, box.stop, strict=True)
        ]
        return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


def _weighted_sum(
    values: npt.NDArray[Any], axis: int, index: npt.NDArray[np.intp], weights: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Return the sum over terms of ``weights * values`` at the indices, along one axis.

    Terms are added in the same order for every voxel, so its bytes do not depend on the box.
    """
    if len(index) == 1 and np.array_equal(index[0], np.arange(values.shape[axis])):
        return values
    shape = [1] * values.ndim
    shape[axis] = -1
    total: npt.NDArray[Any] | None = None
    for term, weight in zip(index, weights.astype(values.dtype), strict=True):
        part = values.take(term, axis=axis)
        part *= weight.reshape(shape)
        total = part if total is None else np.add(total, part, out=total)
    return values if total is None else total

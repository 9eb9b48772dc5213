"""Precision, recall and F1 of drawn boundaries, with a tolerance in pixels or physical units.

People draw the same membrane a pixel apart: a true boundary map scored against itself shifted by
one pixel has a plain F1 of about 0.66. With a tolerance, a predicted pixel is right if some true
one lies near it, and a true pixel is found if some predicted one does.

A large image is scored in parts that add up to the whole: each part is read with a margin
(`margin_of`) and counts inside it only::

    score = sum of boundary_score(predicted[read], true[read], inner=part in read, ...)

Conventions:

- Distances are Euclidean, between pixel centers, within each slice.
- Several predicted pixels may lie near the same true one, and the reverse: nothing is assigned.
- Without predicted boundary precision is 1, without true boundary recall is 1: nothing there is
  wrong. If both are 0, so is F1.

References
----------
.. [1] D. R. Martin, C. C. Fowlkes, J. Malik, "Learning to Detect Natural Image Boundaries Using
   Local Brightness, Color, and Texture Cues", IEEE PAMI 26(5), 2004: precision and recall of
   boundaries with a tolerance (there with a one-to-one assignment).
.. [2] G. Csurka, D. Larlus, F. Perronnin, "What is a good evaluation measure for semantic
   segmentation?", BMVC 2013: without an assignment, as here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.boxes import Box
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]

PIXELS = (1.0, 1.0)
"""Spacing (y, x) with which a tolerance is in pixels."""

BOUNDARY_REACH = 1
"""Pixels that `boundaries_of` looks ahead, toward larger y and x."""

_ROUNDING = 1e-9
"""Relative slack of the tolerance: 3 pixels of 0.1 um are 0.30000000000000004 um apart."""


@dataclass(frozen=True, slots=True)
class BoundaryScore:
    """Counts of boundary pixels, over any number of slices, and the ratios that follow.

    Parameters
    ----------
    right, predicted : int
        Predicted boundary pixels with a true one within the tolerance, and all of them.
    found, true : int
        True boundary pixels with a predicted one within the tolerance, and all of them.
    """

    right: int
    predicted: int
    found: int
    true: int

    @classmethod
    def total(cls, parts: Iterable[BoundaryScore]) -> BoundaryScore:
        """Return the sum of any number of scores; that of none has no boundary at all."""
        sums = [0, 0, 0, 0]
        for part in parts:
            counts = (part.right, part.predicted, part.found, part.true)
            sums = [a + b for a, b in zip(sums, counts, strict=True)]
        return cls(*sums)

    def __add__(self, other: BoundaryScore) -> BoundaryScore:
        """Return the counts of both."""
        return BoundaryScore.total((self, other))

    @property
    def precision(self) -> float:
        """Share of the predicted boundary that is right; 1 if none is predicted."""
        return self.right / self.predicted if self.predicted else 1.0

    @property
    def recall(self) -> float:
        """Share of the true boundary that is found; 1 if there is none."""
        return self.found / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if both are 0."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def boundary_score(
    predicted: npt.NDArray[Any],
    true: npt.NDArray[Any],
    *,
    tolerance: float = 2.0,
    valid: npt.NDArray[Any] | None = None,
    spacing: tuple[float, float] = PIXELS,
    inner: Box | None = None,
) -> BoundaryScore:
    """Return how well predicted boundary pixels fit the true ones, slice by slice.

    Parameters
    ----------
    predicted, true : numpy.ndarray
        Masks of the boundary, (Y, X) or (Z, Y, X). Distances are taken within each slice; the
        counts of all slices are added up before ratios are taken.
    tolerance : float
        Greatest Euclidean distance of a match, in the unit of `spacing`: by default in pixels. 0 is
        the plain pixel-wise F1.
    valid : numpy.ndarray, optional
        Mask of the pixels that count, e.g. the annotated ones; the others are neither boundary
        nor counted.
    spacing : tuple of float
        Size of a pixel (y, x), such as the voxel size in nm.
    inner : Box, optional
        Part of the arrays whose pixels are counted, on the axes of the arrays; the others are only
        looked at. The counts of such parts add up to those of the whole image if every part is
        read with the margin of `margin_of`, as far as the image reaches.

    Raises
    ------
    ConfigError
        If shapes differ, arrays are not 2D or 3D, the tolerance is negative or infinite, the
        spacing is not positive, or `inner` leaves the arrays.
    """
    shapes = {predicted.shape, true.shape, true.shape if valid is None else valid.shape}
    if len(shapes) != 1 or predicted.ndim not in (2, 3):
        raise ConfigError(
            f"boundaries of shape {predicted.shape} and {true.shape} cannot be compared; give "
            "equal shapes (y, x) or (z, y, x)"
        )
    _check_tolerance(tolerance, spacing)
    whole = Box.of_shape(true.shape)
    if inner is not None and (len(inner.start) != true.ndim or not whole.contains(inner)):
        raise ConfigError(
            f"the part {inner} does not lie in boundaries of shape {true.shape}; give a box in "
            "the coordinates of the arrays"
        )
    chosen = (whole if inner is None else inner).slices
    slices, part = (chosen[0], chosen[1:]) if true.ndim == 3 else (slice(None), chosen)
    counts = np.zeros(4, dtype=np.int64)
    for p, t in _planes(predicted, true, valid, slices):
        near_p, near_t = (_near(a, b, tolerance, spacing)[part] for a, b in ((p, t), (t, p)))
        counts += (near_p.sum(), p[part].sum(), near_t.sum(), t[part].sum())
    return BoundaryScore(*(int(n) for n in counts))


def margin_of(tolerance: float, spacing: tuple[float, float] = PIXELS) -> tuple[int, int]:
    """Return how many pixels (y, x) around a part decide about its boundary pixels.

    Parameters
    ----------
    tolerance : float
        As for `boundary_score`.
    spacing : tuple of float
        As for `boundary_score`.

    Raises
    ------
    ConfigError
        If the tolerance is negative or infinite, or the spacing is not positive.

    Examples
    --------
    >>> margin_of(25.0, (10.0, 5.0))
    (3, 5)
    """
    _check_tolerance(tolerance, spacing)
    y, x = (math.ceil(tolerance / size) for size in spacing)
    return y, x


def boundaries_of(labels: npt.NDArray[Any], ignore: int | None = None) -> Mask:
    """Return where neighboring numbers of a label image differ, slice by slice.

    A pixel is boundary if its number differs from that of the next pixel in y or in x. So the line
    between two objects is one pixel wide, and lies on the side of the smaller coordinates. A gap of
    background between two objects has a line at each side.

    Parameters
    ----------
    labels : numpy.ndarray
        Numbers of objects or classes, (Y, X) or (Z, Y, X).
    ignore : int, optional
        A number next to which nothing is boundary, such as 0 = not annotated.

    Returns
    -------
    numpy.ndarray of bool
        Of the same shape. The last row and column only see the neighbors inside the array: in a
        part of an image, read `BOUNDARY_REACH` more pixels than needed there.

    Raises
    ------
    ConfigError
        If the array is not 2D or 3D.
    """
    if labels.ndim not in (2, 3):
        raise ConfigError(
            f"labels of shape {labels.shape} have no boundaries; give (y, x) or (z, y, x)"
        )
    boundary = np.zeros(labels.shape, bool)
    for axis in (-2, -1):
        size = labels.shape[axis]
        here, there, line = (
            np.moveaxis(array, axis, 0)[start : size - 1 + start]
            for array, start in ((labels, 0), (labels, 1), (boundary, 0))
        )
        differs = here != there
        if ignore is not None:
            differs &= (here != ignore) & (there != ignore)
        line |= differs
    return boundary


def _planes(
    predicted: npt.NDArray[Any],
    true: npt.NDArray[Any],
    valid: npt.NDArray[Any] | None,
    slices: slice,
) -> Iterator[tuple[Mask, Mask]]:
    """Yield both boundaries slice by slice, without the pixels that do not count."""
    masks = [predicted, true] if valid is None else [predicted, true, valid]
    stacks = [(mask if mask.ndim == 3 else mask[np.newaxis])[slices] for mask in masks]
    for planes in zip(*stacks, strict=True):
        p, t, *counted = (plane.astype(bool) for plane in planes)
        for mask in counted:
            p, t = p & mask, t & mask
        yield p, t


def _check_tolerance(tolerance: float, spacing: tuple[float, float]) -> None:
    fits = len(spacing) == 2 and all(0 < size < math.inf for size in spacing)
    if not 0 <= tolerance < math.inf or not fits:
        raise ConfigError(
            f"boundaries cannot be compared at a tolerance of {tolerance} with pixels of "
            f"{spacing}; give a tolerance >= 0 and a pixel size (y, x) > 0"
        )


def _near(pixels: Mask, others: Mask, tolerance: float, spacing: tuple[float, float]) -> Mask:
    """Return which of `pixels` have one of `others` within the tolerance."""
    if not others.any() or not pixels.any():
        return np.zeros(pixels.shape, bool)
    return pixels & _grown(others, tolerance * (1 + _ROUNDING), spacing)


def _grown(mask: Mask, radius: float, spacing: tuple[float, float]) -> Mask:
    """Return which pixels of a plane lie within a radius of the mask.

    The disk is laid down row by row: a row further from its center is shorter, so the rows come
    from one mask that grows sideways. For the small radii of a tolerance this is tens of times as
    fast as a distance transform.
    """
    height, width = mask.shape
    grown = np.zeros_like(mask)
    row, half = mask.copy(), 0
    for dy in range(min(int(radius // spacing[0]), height - 1), -1, -1):
        left = max(radius**2 - (dy * spacing[0]) ** 2, 0.0)
        while half < min(int(math.sqrt(left) // spacing[1]), width - 1):
            half += 1
            row[:, half:] |= mask[:, :-half]
            row[:, :-half] |= mask[:, half:]
        grown[dy:] |= row[: height - dy]
        grown[: height - dy] |= row[dy:]
    return grown

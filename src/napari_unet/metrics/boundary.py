"""Precision, recall and F1 of drawn boundaries, with a tolerance in pixels.

People draw the same membrane a pixel apart: a true boundary map scored against itself shifted by
one pixel has a plain F1 of about 0.66. With a tolerance, a predicted pixel is right if some true
one lies near it, and a true pixel is found if some predicted one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt


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
) -> BoundaryScore:
    """Return how well predicted boundary pixels fit the true ones, slice by slice.

    Parameters
    ----------
    predicted, true : numpy.ndarray
        Masks of the boundary, (Y, X) or (Z, Y, X). Distances are taken within each slice; the
        counts of all slices are added up before ratios are taken.
    tolerance : float
        Greatest Euclidean distance of a match, in pixels. 0 is the plain pixel-wise F1.
    valid : numpy.ndarray, optional
        Mask of the pixels that count, e.g. the annotated ones; the others are neither boundary
        nor counted.

    Raises
    ------
    ConfigError
        If shapes differ, arrays are not 2D or 3D, or the tolerance is negative.
    """
    shapes = {predicted.shape, true.shape, true.shape if valid is None else valid.shape}
    if len(shapes) != 1 or predicted.ndim not in (2, 3) or tolerance < 0:
        raise ConfigError(
            f"boundaries of shape {predicted.shape} and {true.shape} cannot be compared at a "
            f"tolerance of {tolerance}; give equal shapes (y, x) or (z, y, x) and a tolerance >= 0"
        )
    counts = np.zeros(4, dtype=np.int64)
    slice_shape = (-1, *predicted.shape[-2:])
    counted = np.ones(true.shape, bool) if valid is None else valid.astype(bool)
    for p, t in zip(
        (predicted.astype(bool) & counted).reshape(slice_shape),
        (true.astype(bool) & counted).reshape(slice_shape),
        strict=True,
    ):
        counts += (_near(p, t, tolerance), p.sum(), _near(t, p, tolerance), t.sum())
    return BoundaryScore(*(int(n) for n in counts))


def _near(pixels: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_], tolerance: float) -> int:
    """Return how many of `pixels` have one of `others` within the tolerance."""
    if not others.any():
        return 0
    return int((distance_transform_edt(~others)[pixels] <= tolerance).sum())

"""Elastic deformation: a few random displacement vectors, smoothly spread to every pixel.

The paper calls it the key to training with few images [1]_: displacement vectors on a coarse 3 x 3
grid are drawn from a Gaussian of 10 pixels standard deviation and brought to every pixel by bicubic
interpolation.

::

    o . . . . o . . . . o      o  control points, on the corners of the patch and between them
    .                   .      .  pixels, moved by a cubic spline through the control points
    o         o         o
    .                   .
    o . . . . o . . . . o

References
----------
.. [1] Ronneberger et al. 2015, sec. 3.1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTROL_POINTS = 3
"""Control points per axis (Ronneberger et al. 2015, sec. 3.1)."""

DISPLACEMENT_SIGMA = 10.0
"""Standard deviation of a displacement, in pixels (Ronneberger et al. 2015, sec. 3.1)."""


def elastic_displacement(
    shape: Sequence[int],
    rng: np.random.Generator,
    *,
    sigma: float = DISPLACEMENT_SIGMA,
    points: int = CONTROL_POINTS,
) -> npt.NDArray[np.float32]:
    """Return a smooth random displacement of every pixel.

    Parameters
    ----------
    shape : sequence of int
        (H, W) of the patch.
    rng : numpy.random.Generator
        Source of chance.
    sigma : float
        Standard deviation of each component at the control points, in pixels.
    points : int
        Control points per axis, at least 2.

    Returns
    -------
    numpy.ndarray
        (2, H, W): displacement along y and along x, in pixels.

    Raises
    ------
    ConfigError
        If `sigma` is negative or `points` is below 2.
    """
    if sigma < 0 or points < 2:
        raise ConfigError(
            f"elastic deformation with sigma {sigma} and {points} control points is not defined; "
            "choose sigma >= 0 and at least 2 control points"
        )
    return spread_displacement(rng.normal(0, sigma, (2, points, points)), shape)


def spread_displacement(
    control: npt.NDArray[np.floating], shape: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Return the bicubic interpolation of displacements at control points to every pixel.

    Parameters
    ----------
    control : numpy.ndarray
        (2, P, Q) displacements, in pixels, at points spread evenly over the patch, ends included.
    shape : sequence of int
        (H, W) of the patch.

    Returns
    -------
    numpy.ndarray
        (2, H, W) float32: the tensor-product cubic spline through the control points, mirrored at
        the ends.
    """
    rows = _spline_matrix(control.shape[-2], int(shape[-2]))
    columns = _spline_matrix(control.shape[-1], int(shape[-1]))
    return np.asarray(rows @ control @ columns.T, dtype=np.float32)


@lru_cache(maxsize=32)
def _spline_matrix(points: int, size: int) -> npt.NDArray[np.float64]:
    """Return the (size, points) matrix that takes values at control points to pixels."""
    at_pixels = _basis(np.linspace(0, points - 1, size), points)
    at_points = _basis(np.arange(points, dtype=np.float64), points)
    matrix = at_pixels @ np.linalg.inv(at_points)
    matrix.flags.writeable = False
    return np.asarray(matrix)


def _basis(positions: npt.NDArray[np.float64], points: int) -> npt.NDArray[np.float64]:
    """Return the values of the `points` cubic B-splines, mirrored at both ends, at positions."""
    matrix = np.zeros((len(positions), points))
    period = 2 * (points - 1)
    base = np.floor(positions).astype(int)
    for offset in range(-1, 3):
        knot = base + offset
        folded = np.abs(knot) % period
        column = np.minimum(folded, period - folded)
        distance = np.abs(positions - knot)
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = np.clip(2 - distance, 0, None) ** 3 / 6
        np.add.at(matrix, (np.arange(len(positions)), column), np.where(distance < 1, near, far))
    return matrix

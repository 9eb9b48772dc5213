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
import torch

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

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
    device: torch.device | str = "cpu",
) -> Tensor:
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
    device : torch.device or str
        Where the displacements are computed and stay.

    Returns
    -------
    Tensor
        (2, H, W) float32: displacement along y and along x, in pixels.

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
    return spread_displacement(rng.normal(0, sigma, (2, points, points)), shape, device)


def spread_displacement(
    control: npt.NDArray[np.floating], shape: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """Return the bicubic interpolation of displacements at control points to every pixel.

    Parameters
    ----------
    control : numpy.ndarray
        (2, P, Q) displacements, in pixels, at points spread evenly over the patch, ends included.
    shape : sequence of int
        (H, W) of the patch.
    device : torch.device or str
        Where it is computed; only P * H + Q * W numbers are sent there.

    Returns
    -------
    Tensor
        (2, H, W) float32: the tensor-product cubic spline through the control points, mirrored at
        the ends.
    """
    dtype = exact_float(device)
    along_y = _spline_matrix(control.shape[-2], int(shape[-2])) @ control
    at_rows = torch.tensor(along_y, dtype=dtype, device=device)
    columns = torch.tensor(
        _spline_matrix(control.shape[-1], int(shape[-1])), dtype=dtype, device=device
    )
    # No matrix product: a GPU may be set to compute those with 10 bits.
    spread = at_rows[:, :, 0, None] * columns[:, 0]
    for k in range(1, control.shape[-1]):
        spread = torch.addcmul(spread, at_rows[:, :, k, None], columns[:, k])
    return spread.to(torch.float32)


def exact_float(device: torch.device | str) -> torch.dtype:
    """Return the type in which positions are computed: the widest that the device has."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


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

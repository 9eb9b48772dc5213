"""Moving pixels: flips, quarter turns, rotation, scale and elastic deformation.

All of them are composed into one map, ``coordinates``: where in the source plane each pixel of the
patch is taken from. Image, labels and weights are read through the same map, so they stay aligned
by construction, and the image is interpolated once only. The map is computed where the tensors
are; only the few numbers that were drawn are sent there. Missing image is mirrored (Ronneberger et
al. 2015, Fig. 2); labels and weights from outside the plane are 0, i.e. ignored: a mirrored label
is no truth.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from napari_unet.augment.elastic import (
    DISPLACEMENT_SIGMA,
    elastic_displacement,
    exact_float,
)
from napari_unet.core.settings import Settings
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_unet.augment.chance import Chance

SYMMETRIES = 8
"""Flips and quarter turns of a square: the dihedral group D4."""

Interpolation = Literal["linear", "cubic"]


class GeometricSettings(Settings):
    """How patches are moved at random.

    Parameters
    ----------
    symmetries : bool
        Draw one of the 8 flips and quarter turns.
    free_share : float
        Share of patches that are also rotated by any angle, scaled and deformed; the others stay
        on the pixel grid and are not interpolated.
    elastic_sigma : float
        Standard deviation of the elastic displacement, in pixels.
    scale_sigma : float
        Standard deviation of the logarithm of the scale.
    interpolation : {"linear", "cubic"}
        How the image is interpolated.
    """

    symmetries: bool = True
    free_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    elastic_sigma: Annotated[float, Field(ge=0)] = DISPLACEMENT_SIGMA
    scale_sigma: Annotated[float, Field(ge=0, le=1)] = 0.0
    interpolation: Interpolation = "cubic"


def symmetry_matrix(index: int) -> npt.NDArray[np.float64]:
    """Return the 2 x 2 matrix of flip or quarter turn number `index`.

    Parameters
    ----------
    index : int
        0 to 7; 0 is the identity, 1 to 3 are quarter turns, 4 to 7 the same after a flip of y.

    Raises
    ------
    ConfigError
        If there is no such symmetry.
    """
    if not 0 <= index < SYMMETRIES:
        raise ConfigError(f"there is no symmetry {index} of a square; choose 0 to {SYMMETRIES - 1}")
    matrix = np.diag([-1.0, 1.0]) if index >= SYMMETRIES // 2 else np.eye(2)
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    for _ in range(index % 4):
        matrix = turn @ matrix
    return matrix


def draw_coordinates(
    shape: Sequence[int],
    center: Sequence[float],
    chance: Chance,
    settings: GeometricSettings,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return where a randomly moved patch takes its pixels from.

    Parameters
    ----------
    shape : sequence of int
        (H, W) of the patch.
    center : sequence of float
        (y, x) in the source plane, in pixels, of the middle of the patch.
    chance : Chance
        Source of chance.
    settings : GeometricSettings
        What may happen.
    device : torch.device or str
        Where the positions are computed and stay.

    Returns
    -------
    Tensor
        (2, H, W) float32 positions (y, x) in the source plane, in pixels. With a center of whole
        numbers (of halves for even edges), patches that are not deformed lie on the pixel grid.
    """
    turn = int(chance.symmetry.integers(SYMMETRIES)) if settings.symmetries else 0
    matrix = symmetry_matrix(turn)
    displacement: Tensor | None = None
    if chance.free.random() < settings.free_share:
        angle = chance.rotation.uniform(0, 2 * math.pi)
        scale = math.exp(chance.scale.normal(0, settings.scale_sigma))
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        matrix = np.array([[cos, -sin], [sin, cos]]) @ matrix
        displacement = elastic_displacement(
            shape, chance.elastic, sigma=settings.elastic_sigma, device=device
        )
    return affine_coordinates(shape, center, matrix, displacement, device)


def affine_coordinates(
    shape: Sequence[int],
    center: Sequence[float],
    matrix: npt.NDArray[np.float64],
    displacement: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return ``center + matrix @ (p - middle + displacement(p))`` for each pixel p of a patch.

    Parameters
    ----------
    shape : sequence of int
        (H, W) of the patch.
    center : sequence of float
        (y, x) of the middle of the patch in the source plane, in pixels.
    matrix : numpy.ndarray
        (2, 2), acting on (y, x).
    displacement : Tensor, optional
        (2, H, W), in pixels, on `device`.
    device : torch.device or str
        Where it is computed.

    Returns
    -------
    Tensor
        (2, H, W) float32.
    """
    dtype = exact_float(device)
    y, x = (torch.arange(n, dtype=dtype, device=device) - (n - 1) / 2 for n in shape)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    if displacement is not None:
        rows, columns = rows + displacement[0], columns + displacement[1]
    moved = [
        float(a) * rows + float(b) * columns + float(middle)
        for (a, b), middle in zip(matrix, center, strict=True)
    ]
    return torch.stack(moved).to(torch.float32)


def resample_image(
    image: Tensor, coordinates: Tensor, interpolation: Interpolation = "cubic"
) -> Tensor:
    """Return the image at the given positions, mirrored where they leave the plane.

    Parameters
    ----------
    image : Tensor
        (C, Y, X) float32 source plane.
    coordinates : Tensor
        (2, H, W) positions (y, x), in pixels.
    interpolation : {"linear", "cubic"}
        Order of the interpolation.

    Returns
    -------
    Tensor
        (C, H, W).
    """
    # grid_sample wants (x, y) and calls the centers of the first and the last pixel -1 and 1.
    extent = [max(n - 1, 1) for n in image.shape[-2:]]
    unit = torch.stack([coordinates[1] * (2 / extent[1]) - 1, coordinates[0] * (2 / extent[0]) - 1])
    sampled = functional.grid_sample(
        image.unsqueeze(0),
        unit.permute(1, 2, 0).unsqueeze(0),
        mode="bilinear" if interpolation == "linear" else "bicubic",
        padding_mode="reflection",
        align_corners=True,
    )
    return sampled.squeeze(0)


def resample_labels(labels: Tensor, coordinates: Tensor) -> Tensor:
    """Return labels, weights or a validity map at the nearest pixel; 0 outside the plane.

    Parameters
    ----------
    labels : Tensor
        (Y, X), any type.
    coordinates : Tensor
        (2, H, W) positions (y, x), in pixels.

    Returns
    -------
    Tensor
        (H, W), of the type of `labels`.
    """
    y, x = torch.round(coordinates).long()
    rows, columns = labels.shape
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    found = labels[y.clamp(0, rows - 1), x.clamp(0, columns - 1)]
    return torch.where(inside, found, torch.zeros_like(found))

"""Whether an image is rescaled for a model, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.core.resampling import MAX_FACTOR, MIN_FACTOR
from napari_unet.io.units import METERS, unit_name

if TYPE_CHECKING:
    from napari_unet.core.axes import VoxelSize
    from napari_unet.core.header import InputExpectation
    from napari_unet.core.job import Rescale

CLOSE_ENOUGH = (0.8, 1.25)
"""Factors between which "auto" leaves an image as it is.

Models are trained with scales changed by about as much, and resampling costs some sharpness.
"""


@dataclass(frozen=True, slots=True)
class Rescaling:
    """What was decided.

    Parameters
    ----------
    factors : tuple of float or None
        Voxels that the network sees per voxel of the image, (y, x); None = the image's own voxels.
    note : str or None
        What the user should know about it, in a sentence.
    """

    factors: tuple[float, float] | None = None
    note: str | None = None


def decide_rescaling(
    wanted: Rescale, voxel_size: VoxelSize, expected: InputExpectation
) -> Rescaling:
    """Return by how much an image is rescaled.

    Parameters
    ----------
    wanted : {"auto", "off"} or float
        "auto" rescales to the voxel size of the model where image and model both know theirs and
        the factor in y or x is outside 0.8 to 1.25; a number is the factor itself.
    voxel_size : VoxelSize
        Of the image.
    expected : InputExpectation
        What the model says.
    """
    if not isinstance(wanted, str):
        return Rescaling() if wanted == 1 else Rescaling((wanted, wanted))
    if wanted == "off":
        return Rescaling()
    units = unit_name(voxel_size.unit), unit_name(expected.unit)
    if expected.voxel_size is None or units[0] is None or units[1] is None:
        return Rescaling()
    # Rounded: 4.6e-9 / 1e-8 is 0.45999999999999996.
    ratio = METERS[units[0]] / METERS[units[1]]
    y, x = (
        float(f"{own * ratio / theirs:.12g}")
        for own, theirs in zip(voxel_size.zyx[1:], expected.voxel_size, strict=True)
    )
    low, high = CLOSE_ENOUGH
    if all(low <= factor <= high for factor in (y, x)):
        return Rescaling()
    sizes = (
        f"its voxels are {_words(voxel_size.zyx[1:], units[0])} (y, x), those that the model was "
        f"trained on {_words(expected.voxel_size, units[1])}"
    )
    if not all(MIN_FACTOR <= factor <= MAX_FACTOR for factor in (y, x)):
        return Rescaling(
            note=f"the image is not rescaled, although {sizes}: a factor of {_pair(y, x)} suggests "
            "a wrong voxel size or another kind of image; --rescale FACTOR rescales it"
        )
    return Rescaling((y, x), f"the image is rescaled by {_pair(y, x)}, because {sizes}")


def _words(lengths: tuple[float, ...], unit: str) -> str:
    return f"{' x '.join(f'{length:g}' for length in lengths)} {unit}"


def _pair(y: float, x: float) -> str:
    return f"{y:.3g}" if y == x else f"{y:.3g} in y and {x:.3g} in x"

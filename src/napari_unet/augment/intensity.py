"""Changing gray values: what other microscopes, doses and contrasts would have shown.

Works on standardized images (mean 0, standard deviation 1 over the volume).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional

from napari_unet.core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from napari_unet.augment.chance import Chance

BLUR_RADIUS_IN_SIGMAS = 3
"""Where the Gaussian of the blur is cut off."""


NotNegative = Annotated[float, Field(ge=0)]


class IntensitySettings(Settings):
    """How gray values are changed at random; 0 switches a change off.

    Parameters
    ----------
    gain_sigma : float
        Standard deviation of the logarithm of the gain.
    offset_sigma : float
        Standard deviation of the offset, in standard deviations of the volume.
    gamma_sigma : float
        Standard deviation of the logarithm of the exponent.
    noise_max : float
        Largest standard deviation of added Gaussian noise, in standard deviations of the volume.
    blur_max : float
        Largest standard deviation of a Gaussian blur, in pixels.
    share : float
        Share of patches that get each of noise and blur.
    """

    gain_sigma: NotNegative = 0.15
    offset_sigma: NotNegative = 0.2
    gamma_sigma: NotNegative = 0.2
    noise_max: NotNegative = 0.3
    blur_max: NotNegative = 1.0
    share: Annotated[float, Field(ge=0, le=1)] = 0.25


def jitter_intensity(image: Tensor, chance: Chance, settings: IntensitySettings) -> Tensor:
    """Return the image with other gray values; positions stay.

    Parameters
    ----------
    image : Tensor
        (C, H, W) float32, standardized, on any device.
    chance : Chance
        Source of chance.
    settings : IntensitySettings
        What may happen.

    Returns
    -------
    Tensor
        (C, H, W) float32 on the same device; the argument is left as it is.
    """
    blur_sigma = _draw_strength(chance.blur, settings.blur_max, settings.share)
    noise_sigma = _draw_strength(chance.noise, settings.noise_max, settings.share)
    gamma = math.exp(chance.gamma.normal(0, settings.gamma_sigma))
    gain = math.exp(chance.gain.normal(0, settings.gain_sigma))
    offset = chance.offset.normal(0, settings.offset_sigma)
    changed = bend(blur(image, blur_sigma), gamma) * gain + offset
    if noise_sigma > 0:
        changed = changed + noise_sigma * white_noise(image, chance.noise)
    return changed


def _draw_strength(rng: np.random.Generator, maximum: float, share: float) -> float:
    return rng.uniform(0, maximum) if rng.random() < share else 0.0


def white_noise(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Return Gaussian noise of standard deviation 1, of the shape and on the device of an image.

    A GPU draws it itself, seeded by `rng`: other values than on the CPU, as strong.
    """
    if image.device.type == "cpu":
        return torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
    generator = torch.Generator(image.device).manual_seed(int(rng.integers(2**63)))
    return torch.randn(image.shape, generator=generator, device=image.device)


def bend(image: Tensor, gamma: float) -> Tensor:
    """Return the image after a gamma curve that keeps its least and its greatest value."""
    low, high = image.amin(), image.amax()
    extent = (high - low).clamp_min(torch.finfo(image.dtype).tiny)
    return ((image - low) / extent).clamp(0, 1) ** gamma * extent + low


def blur(image: Tensor, sigma: float) -> Tensor:
    """Return (C, H, W) after a Gaussian blur of `sigma` pixels, mirrored at the border."""
    radius = min(math.ceil(BLUR_RADIUS_IN_SIGMAS * sigma), min(image.shape[-2:]) - 1)
    if sigma <= 0 or radius < 1:
        return image
    distance = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (distance / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(image.unsqueeze(1), (radius,) * 4, mode="reflect")
    rows = functional.conv2d(padded, kernel.reshape(1, 1, -1, 1))
    return functional.conv2d(rows, kernel.reshape(1, 1, 1, -1)).squeeze(1)

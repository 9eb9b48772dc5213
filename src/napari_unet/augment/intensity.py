"""Changing gray values: what other microscopes, doses and contrasts would have shown.

Works on standardized images (mean 0, standard deviation 1 over the volume).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch.nn import functional

from napari_unet.core.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

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


def jitter_intensity(
    image: Tensor, rng: np.random.Generator, settings: IntensitySettings
) -> Tensor:
    """Return the image with other gray values; positions stay.

    Parameters
    ----------
    image : Tensor
        (C, H, W) float32, standardized.
    rng : numpy.random.Generator
        Source of chance.
    settings : IntensitySettings
        What may happen.

    Returns
    -------
    Tensor
        (C, H, W) float32; the argument is left as it is.
    """
    blur_sigma = rng.uniform(0, settings.blur_max) if rng.random() < settings.share else 0.0
    noise_sigma = rng.uniform(0, settings.noise_max) if rng.random() < settings.share else 0.0
    gamma = math.exp(rng.normal(0, settings.gamma_sigma))
    gain = math.exp(rng.normal(0, settings.gain_sigma))
    offset = rng.normal(0, settings.offset_sigma)
    changed = bend(blur(image, blur_sigma), gamma) * gain + offset
    if noise_sigma > 0:
        noise = rng.standard_normal(tuple(image.shape), dtype="float32")
        changed = changed + noise_sigma * torch.from_numpy(noise).to(image.device)
    return changed


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

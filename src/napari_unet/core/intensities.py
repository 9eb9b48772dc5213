"""Whether the gray values of an image are like those that a model was trained on.

Networks see images with zero mean and unit deviation, so brightness and contrast do not matter.
What does is how values lie around the mean: most fluorescence images are dark with few bright
parts, electron micrographs are not, and a black border moves the mean of everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_unet.core.arrays import ImageSource

QUANTILES = (0.05, 0.95)
"""Shares of the values that are darker than the two that are looked at."""

SAMPLE_VOXELS = 2**18
"""Voxels of an image that they are taken from: a quarter of a million, read in a moment."""

FAR = 0.5
"""Standard deviations beyond what training has seen that are called far.

The data sets of two electron microscopes differ by less than 0.2. Half of an image being black
makes 0.65, and fluorescence is 0.9 to 1.5 off from electrons.
"""

Pair = tuple[float, float]
"""The two quantiles of a channel, in standard deviations from its mean."""


class IntensityRange(Settings):
    """Where the quantiles of the training images lie, in standard deviations from the mean.

    Parameters
    ----------
    low : tuple of float
        Smallest and largest 5 % quantile of an image.
    high : tuple of float
        Smallest and largest 95 % quantile.
    """

    low: Pair
    high: Pair


def measure_quantiles(source: ImageSource, max_voxels: int = SAMPLE_VOXELS) -> tuple[Pair, ...]:
    """Return the quantiles of each channel of an image, from a sample of it.

    Values that are not finite do not count. Empty if nothing is stored; a constant channel is at 0.

    Raises
    ------
    InputError
        If stored data is damaged.
    """
    samples = [source.read(box) for box in source.sample_boxes(max_voxels)]
    if not samples:
        return ()
    found = []
    for channel in range(source.num_channels):
        values = np.concatenate([s[channel].astype(np.float64).ravel() for s in samples])
        values = values[np.isfinite(values)]
        if not values.size:
            return ()
        low, high = np.quantile(values, QUANTILES) - values.mean()
        deviation = float(values.std()) or 1.0
        found.append((float(low) / deviation, float(high) / deviation))
    return tuple(found)


def intensity_ranges(images: Iterable[Sequence[Pair]]) -> tuple[IntensityRange, ...] | None:
    """Return the ranges of the channels over several images; None = nothing was measured."""
    measured = [pairs for pairs in images if pairs]
    if not measured:
        return None
    ranges = []
    for channel in zip(*measured, strict=True):
        lows, highs = zip(*((round(low, 3), round(high, 3)) for low, high in channel), strict=True)
        ranges.append(IntensityRange(low=(min(lows), max(lows)), high=(min(highs), max(highs))))
    return tuple(ranges)


def describe_far(expected: Sequence[IntensityRange], found: Sequence[Pair]) -> str | None:
    """Return in a clause how far gray values are from those of training; None = not far.

    Parameters
    ----------
    expected : sequence of IntensityRange
        Of each channel.
    found : sequence of tuple of float
        What `measure_quantiles` returns; empty = nothing is known.
    """
    for known, (low, high) in zip(expected, found, strict=False):
        if max(_outside(known.low, low), _outside(known.high, high)) > FAR:
            return (
                "the gray values lie otherwise around their mean than those that the model was "
                f"trained on: 5 % are darker than {low:+.1f} and 5 % brighter than {high:+.1f} "
                f"standard deviations, in training {_range(known.low)} and {_range(known.high)}; "
                "expect a worse result, and fine-tune the model on this image if it is one"
            )
    return None


def _outside(known: Pair, value: float) -> float:
    """Return by how much a value is outside a range; at most 0 inside."""
    return max(known[0] - value, value - known[1])


def _range(known: Pair) -> str:
    first, last = (f"{value:+.1f}" for value in known)
    return first if first == last else f"{first} to {last}"

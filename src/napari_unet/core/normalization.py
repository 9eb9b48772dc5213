"""Intensity normalization: one offset and scale per channel, for a whole volume.

Statistics taken per tile would make a pixel's answer depend on its tile; so they are
taken once, over a sample of the volume that its storage alone determines, and are
recorded with the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from napari_unet.core.settings import Settings
from napari_unet.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.resampling import Resampling

SAMPLE_VOXELS = 2**24
"""Voxels of a volume that its statistics are taken from: 16.8 million, or all if it has fewer.

The standard error of a mean over so many is far below one grey level, and reading them takes
about as long as segmenting a few tiles.
"""

CONSTANT_SPREAD = 1e-14
"""Deviation, relative to the mean, below which a channel is constant: the mean's own rounding."""

NormalizationMethod = Literal["standardize"]
"""How a model wants its input: "standardize" = zero mean, unit standard deviation."""


class Normalization(Settings):
    """The linear map of intensities to network input: ``(value - offset) / scale``.

    Parameters
    ----------
    offset, scale : tuple of float
        One per channel, in the image's own units; scales are positive.
    source : {"measured", "given"}
        Whether they were measured on a sample of the volume or given by the user.
    sample_voxels : int
        How many voxels per channel they were measured on.
    """

    offset: tuple[float, ...]
    scale: tuple[Annotated[float, Field(gt=0)], ...]
    source: Literal["measured", "given"] = "given"
    sample_voxels: int = 0


@dataclass(frozen=True, slots=True)
class NormalizedInput:
    """A network input and how many of its values were not finite.

    Parameters
    ----------
    image : numpy.ndarray
        float32, (c, z, y, x).
    bad : numpy.ndarray or None
        bool, (z, y, x): where some channel was NaN or infinite; None when nowhere.
    """

    image: npt.NDArray[np.float32]
    bad: npt.NDArray[np.bool_] | None


def normalize(image: npt.NDArray[Any], normalization: Normalization) -> NormalizedInput:
    """Return network input; NaN and infinity become the volume's mean, i.e. 0.

    Parameters
    ----------
    image : numpy.ndarray
        (c, z, y, x), any real type and byte order.
    normalization : Normalization
        One offset and scale per channel.

    Raises
    ------
    ConfigError
        If the number of channels differs.
    """
    if len(normalization.offset) != image.shape[0]:
        raise ConfigError(
            f"the normalization has {len(normalization.offset)} channels, the image "
            f"{image.shape[0]}; give one offset and scale per channel"
        )
    shape = (-1, 1, 1, 1)
    # float64 first: the difference of two large numbers would lose all digits in float32.
    offset = np.asarray(normalization.offset, np.float64).reshape(shape)
    scale = np.asarray(normalization.scale, np.float64).reshape(shape)
    wide: type[np.float64 | np.float32] = np.float64 if image.dtype.itemsize > 2 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        out: npt.NDArray[np.floating] = image.astype(wide)
        np.subtract(out, offset.astype(wide), out=out)
        np.divide(out, scale.astype(wide), out=out)
        result = out.astype(np.float32, copy=False)
    if image.dtype.kind != "f":
        return NormalizedInput(result, None)
    finite = np.isfinite(result)
    if finite.all():
        return NormalizedInput(result, None)
    np.copyto(result, np.float32(0), where=~finite)
    return NormalizedInput(result, np.asarray((~finite).any(axis=0), dtype=np.bool_))


def measure_normalization(
    source: ImageSource, max_voxels: int = SAMPLE_VOXELS, resampling: Resampling | None = None
) -> Normalization:
    """Return the mean and standard deviation of a documented sample of the volume.

    The sample is what ``source.sample_boxes`` chooses: boxes with stored data, spread evenly over
    the whole volume, whatever region is segmented. Values that float32 cannot hold as finite ones
    do not count. A constant channel gets the scale 1.

    Parameters
    ----------
    source : ImageSource
        The image.
    max_voxels : int
        Upper bound of the sample, per channel.
    resampling : Resampling or None
        Measure the sample as it looks on this resampled grid, as the network will see it: shrinking
        takes noise away, and so changes the standard deviation.

    Raises
    ------
    InputError
        If the sample of a channel holds no finite value.
    """
    if resampling is None:
        boxes = source.sample_boxes(max_voxels)
        return _pool((source.read(box) for box in boxes), source.num_channels)
    boxes = source.sample_boxes(int(max_voxels / max(1, math.prod(resampling.factors))))
    wanted = (resampling.inside(box) for box in boxes)
    samples = (
        resampling.resample(_finite_or_nan(source.read(resampling.needed(box))), box)
        for box in wanted
    )
    return _pool(samples, source.num_channels)


def _finite_or_nan(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return values as float64; NaN for those that float32 cannot hold, so that sums are quiet."""
    wide = values.astype(np.float64)
    wide[~(np.abs(wide) <= np.finfo(np.float32).max)] = np.nan
    return wide


def _pool(samples: Iterable[npt.NDArray[Any]], channels: int) -> Normalization:
    count = np.zeros(channels)
    mean = np.zeros(channels)
    spread = np.zeros(channels)
    for sample in samples:
        for channel, values in enumerate(sample):
            flat = values.astype(np.float64).ravel()
            # Numbers beyond float32 are infinite to the network; NaN compares as false.
            flat = flat[np.abs(flat) <= np.finfo(np.float32).max]
            if not flat.size:
                continue
            # Chan, Golub, LeVeque 1983: merging means and squared deviations stays exact where a
            # sum of squares would cancel.
            sample_mean = flat.mean()
            delta = sample_mean - mean[channel]
            total = count[channel] + flat.size
            spread[channel] += (
                float(np.square(flat - sample_mean).sum())
                + delta**2 * count[channel] * flat.size / total
            )
            mean[channel] += delta * flat.size / total
            count[channel] = total
    if not count.all():
        blank = int(np.flatnonzero(count == 0)[0])
        raise InputError(
            f"the intensities of channel {blank} cannot be measured: all values that were looked "
            "at are NaN or infinite; give them, as mean and standard deviation (--normalization)"
        )
    deviation = np.sqrt(spread / count)
    scale = np.where(deviation > CONSTANT_SPREAD * np.abs(mean), deviation, 1.0)
    return Normalization(
        offset=tuple(float(m) for m in mean),
        scale=tuple(float(s) for s in scale),
        source="measured",
        sample_voxels=int(count.max(initial=0)),
    )

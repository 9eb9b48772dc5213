"""Which part of a stored array is the image, and how its axes become (c, z, y, x)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.axes import AXIS_NAMES, SPATIAL, parse_axes
from napari_unet.errors import AxesError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from napari_unet.core.boxes import Box, Shape


MAX_VOXELS = 2**62
"""Voxels of an array; more cannot be counted by the libraries, and claim to be no real image."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a person says about an image beyond its path.

    Parameters
    ----------
    axes : str or None
        Letters of "tczyx", one per axis of the array; None = what the file says.
    channel : str or None
        Channel indices such as "0" or "0,2", in the order wanted; None = the only one.
    level : int
        Pyramid level, 0 = full resolution.
    time : int or None
        Time point; None = the only one.
    colors : bool
        Without `channel`, take red, green and blue of a color image; its alpha is left out.
    """

    axes: str | None = None
    channel: str | None = None
    level: int = 0
    time: int | None = None
    colors: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """How a stored array is read as (c, z, y, x).

    Parameters
    ----------
    axes : str
        Checked axis letters in the order of the array.
    shape : tuple of int
        Shape of the array.
    channels : tuple of int
        Chosen channels, in the order wanted; ``(0,)`` without a channel axis.
    time : int
        Chosen time point; 0 without a time axis.
    """

    axes: str
    shape: Shape
    channels: tuple[int, ...] = (0,)
    time: int = 0

    @property
    def spatial_axes(self) -> str:
        """The array's own spatial axes, "zyx" or "yx"."""
        return SPATIAL if "z" in self.axes else "yx"

    @property
    def spatial_shape(self) -> Shape:
        """Shape (z, y, x)."""
        return self.spatial(self.shape, missing=1)

    def spatial(self, values: Sequence[Any], missing: Any) -> tuple[Any, Any, Any]:
        """Return the entries of per-axis `values` for z, y and x."""
        at = dict(zip(self.axes, values, strict=True))
        return (at.get("z", missing), at["y"], at["x"])

    def reads(self, box: Box) -> Iterator[tuple[slice, ...]]:
        """Yield the indices of the array whose results, put one after the other, fill `box`."""
        spatial = dict(zip(SPATIAL, box.slices, strict=True))
        time = slice(self.time, self.time + 1)
        for first, last in self._channel_runs():
            known = {"t": time, "c": slice(first, last + 1), **spatial}
            yield tuple(known[axis] for axis in self.axes)

    def to_czyx(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what one of `reads` gave as (c, z, y, x)."""
        axes = self.axes
        if "t" in axes:
            data = data.take(0, axis=axes.index("t"))
            axes = axes.replace("t", "")
        order = [axes.index(a) for a in "czyx" if a in axes]
        data = data.transpose(order)
        new = tuple(i for i, a in enumerate("czyx") if a not in axes)
        return np.expand_dims(data, new)

    def _channel_runs(self) -> Iterator[tuple[int, int]]:
        first = last = self.channels[0]
        for channel in self.channels[1:]:
            if channel != last + 1:
                yield first, last
                first = channel
            last = channel
        yield first, last


def plan_layout(
    shape: Sequence[int], known_axes: str | None, selection: Selection, *, name: str
) -> Layout:
    """Return how an array is read, from what its file says and what the person says.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array.
    known_axes : str or None
        Axes according to the file, in letters of "tczyx"; None when it does not say.
    selection : Selection
        What the person chose; its axes win over the file's.
    name : str
        The image's name, for messages.

    Raises
    ------
    AxesError
        If axes, channel or time are ambiguous or do not fit; names the option that settles it.
    InputError
        If the array has no voxel, or more than can be counted.
    """
    shape = tuple(int(n) for n in shape)
    axes = _choose_axes(shape, known_axes, selection, name)
    if min(shape) < 1:
        raise InputError(f"{name}: the image has the shape {shape}, so it holds no voxel")
    if math.prod(shape) > MAX_VOXELS:
        raise InputError(
            f"{name}: the image claims the shape {shape}, more voxels than can be counted; its "
            "metadata are damaged, correct them"
        )
    size = dict(zip(axes, shape, strict=True))
    channel = selection.channel
    # The samples of a pixel lie together in color images, and in no other kind that we read.
    if channel is None and selection.colors and axes.endswith("c") and size["c"] in (3, 4):
        channel = "0,1,2"
    return Layout(
        axes,
        shape,
        _choose_channels(size.get("c", 1), channel, name),
        _choose_time(size.get("t", 1), selection.time, name),
    )


def _choose_axes(shape: Shape, known_axes: str | None, selection: Selection, name: str) -> str:
    if selection.axes is not None:
        return parse_axes(selection.axes, len(shape), source=f"{name} (shape {shape})")
    if known_axes is not None:
        return parse_axes(known_axes, len(shape), source=f"{name} (shape {shape})")
    if len(shape) == 2:
        return "yx"
    if len(shape) < 2 or len(shape) > len(AXIS_NAMES):
        raise AxesError(
            f"{name}: an array of shape {shape} is not an image; it needs 2 to {len(AXIS_NAMES)} "
            f"axes out of {AXIS_NAMES!r}"
        )
    example = {3: "zyx", 4: "czyx", 5: "tczyx"}[len(shape)]
    raise AxesError(
        f"{name}: the file does not say what the axes of its shape {shape} are; say it with "
        f"--axes, for example --axes {example}"
    )


def _choose_channels(count: int, text: str | None, name: str) -> tuple[int, ...]:
    if text is None:
        if count > 1:
            raise AxesError(
                f"{name}: the image has {count} channels; choose with --channel, for example "
                "--channel 0 or --channel 0,1"
            )
        return (0,)
    if not re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*)*", text):
        raise AxesError(f"{name}: --channel {text!r} is not a list of numbers such as 0 or 0,2")
    channels = tuple(int(part) for part in text.split(","))
    if max(channels) >= count or len(set(channels)) != len(channels):
        raise AxesError(
            f"{name}: --channel {text!r} must name different channels out of 0 to {count - 1}"
        )
    return channels


def _choose_time(count: int, time: int | None, name: str) -> int:
    if time is None:
        if count > 1:
            raise AxesError(
                f"{name}: the image has {count} time points; choose one with --time, 0 to "
                f"{count - 1}"
            )
        return 0
    if not 0 <= time < count:
        raise AxesError(f"{name}: --time {time} is not one of the time points 0 to {count - 1}")
    return time

"""Axis names and voxel sizes: what the numbers of an index mean in the world."""

from __future__ import annotations

from dataclasses import dataclass

from napari_unet.errors import AxesError

AXIS_NAMES = "tczyx"
"""Time, channel and the three axes of space, in the order of OME-Zarr."""

SPATIAL = "zyx"
"""Axes that a tile extends over."""


def parse_axes(text: str, ndim: int, *, source: str) -> str:
    """Return checked axis names, one per axis of an array.

    Parameters
    ----------
    text : str
        Such as ``"zyx"``: letters of "tczyx" in the order of the array's axes.
    ndim : int
        Number of axes of the array.
    source : str
        The image's name, for the message.

    Raises
    ------
    AxesError
        If letters are unknown, repeated, too many or too few, or y or x is missing.

    Examples
    --------
    >>> parse_axes("ZYX", 3, source="stack.tif")
    'zyx'
    """
    axes = text.strip().lower()
    unknown = sorted(set(axes) - set(AXIS_NAMES))
    if unknown or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        raise AxesError(
            f"{source}: axes {text!r} are not a choice of the letters {AXIS_NAMES!r} "
            "with y and x, each once; write for example --axes zyx"
        )
    if len(axes) != ndim:
        raise AxesError(
            f"{source}: axes {text!r} name {len(axes)} axes, but the image has {ndim}; "
            f"give one letter per axis with --axes"
        )
    return axes


@dataclass(frozen=True, slots=True)
class VoxelSize:
    """World length of a voxel along z, y and x; napari calls it ``scale``.

    Parameters
    ----------
    z, y, x : float
        Lengths, finite and positive.
    unit : str or None
        Name of the unit as OME-Zarr spells it ("nanometer"); None = unknown, lengths count voxels.

    Raises
    ------
    AxesError
        If a length is not finite and positive.
    """

    z: float = 1.0
    y: float = 1.0
    x: float = 1.0
    unit: str | None = None

    def __post_init__(self) -> None:
        # `not 0 < v < inf` also refuses NaN.
        if any(not 0 < v < float("inf") for v in self.zyx):
            raise AxesError(
                f"voxel size (z, y, x) = {self.zyx} must be finite and positive on every axis"
            )

    @property
    def zyx(self) -> tuple[float, float, float]:
        """Lengths in index order."""
        return (self.z, self.y, self.x)

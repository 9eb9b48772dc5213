"""Integer boxes: the one way in which regions, blocks and tiles are written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.errors import TilingError

if TYPE_CHECKING:
    from collections.abc import Sequence

Shape = tuple[int, ...]
"""Edge lengths in voxels, one per axis, in index order (z, y, x)."""


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels, ``start <= index < stop`` on every axis.

    Parameters
    ----------
    start, stop : tuple of int
        Corners, one integer per axis. A tile's read box may start below zero or
        end beyond the array: what lies outside is mirrored.

    Raises
    ------
    TilingError
        If the corners differ in length or ``stop < start`` on some axis.

    Examples
    --------
    >>> Box((0, 4), (2, 8)).shape
    (2, 4)
    """

    start: Shape
    stop: Shape

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise TilingError(f"box corners {self.start} and {self.stop} differ in length")
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise TilingError(f"box {self.start}..{self.stop} ends before it starts")

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> Box:
        """Return the box that covers an array of `shape` from its origin."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @property
    def shape(self) -> Shape:
        """Edge lengths, in voxels."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        total = 1
        for n in self.shape:
            total *= n
        return total

    @property
    def is_empty(self) -> bool:
        """Whether the box holds no voxel."""
        return self.size == 0

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index that selects the box from an array of the same axes."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def relative_to(self, origin: Sequence[int]) -> Box:
        """Return the same box in coordinates whose zero is `origin`."""
        return Box(
            tuple(a - o for a, o in zip(self.start, origin, strict=True)),
            tuple(b - o for b, o in zip(self.stop, origin, strict=True)),
        )

    def intersection(self, other: Box) -> Box:
        """Return the common part; an empty box when there is none."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, tuple(max(a, b) for a, b in zip(start, stop, strict=True)))

    def contains(self, other: Box) -> bool:
        """Return whether every voxel of `other` lies in this box."""
        return self.intersection(other) == other

    def distance_to(self, other: Box) -> tuple[int, ...]:
        """Return the gap between the boxes on each axis, in voxels (0 = they touch or overlap)."""
        return tuple(
            max(a0 - b1, b0 - a1, 0)
            for a0, a1, b0, b1 in zip(self.start, self.stop, other.start, other.stop, strict=True)
        )


def parse_region(text: str, shape: Sequence[int], axes: str = "zyx") -> Box:
    """Return the box that a text such as ``"0:10,100:500,:"`` describes.

    Parameters
    ----------
    text : str
        One ``start:stop`` per axis, separated by commas, in voxels. An empty bound
        means the end of the axis; a single number means that one slice.
    shape : sequence of int
        Shape of the array, in the order of `axes`.
    axes : str
        Axis names, for the messages.

    Raises
    ------
    TilingError
        If the text does not name one range per axis inside the array.

    Examples
    --------
    >>> parse_region("3,:,16:32", (10, 64, 64))
    Box(start=(3, 0, 16), stop=(4, 64, 32))
    """
    parts = [part.strip() for part in text.split(",")]
    expected = ",".join(f"{a}0:{a}1" for a in axes)
    if len(parts) != len(shape):
        raise TilingError(
            f"region {text!r} has {len(parts)} ranges, but the image has the axes {axes!r}; "
            f"write {expected}"
        )
    start, stop = [], []
    for part, size, axis in zip(parts, shape, axes, strict=True):
        first, colon, last = part.partition(":")
        try:
            a = int(first) if first.strip() else 0
            b = (int(last) if last.strip() else size) if colon else a + 1
        except ValueError:
            raise TilingError(
                f"region {text!r}: {part!r} is not a range of whole numbers; write {expected}"
            ) from None
        if not part or not 0 <= a < b <= size:
            raise TilingError(
                f"region {text!r}: {part or 'an empty range'!r} does not lie in axis {axis}, "
                f"which has {size} voxels (0:{size})"
            )
        start.append(a)
        stop.append(b)
    return Box(tuple(start), tuple(stop))


def format_region(box: Box) -> str:
    """Return the text that `parse_region` reads back.

    Examples
    --------
    >>> format_region(Box((0, 4), (2, 8)))
    '0:2,4:8'
    """
    return ",".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))

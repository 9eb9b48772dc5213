"""How far a predicted boundary may lie from the true one: in pixels, or in physical units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.errors import ConfigError
from napari_unet.io.units import METERS, unit_name
from napari_unet.metrics.boundary import PIXELS, margin_of

if TYPE_CHECKING:
    from napari_unet.app.evaluation.opened import OpenedPair

_PIXEL_WORDS = frozenset({"", "px", "pixel", "pixels"})


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A tolerance of boundaries.

    Parameters
    ----------
    length : float
        Pixels, or multiples of the unit.
    unit : str or None
        Unit of length as OME-Zarr spells it; None = pixels.
    """

    length: float
    unit: str | None = None

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """Return what a text such as ``"2"`` or ``"20 nm"`` says.

        Raises
        ------
        ConfigError
            If the unit is no known length.
        """
        match = re.fullmatch(r"\s*([\d.]+)\s*(\D*?)\s*", text)
        if match is None:
            raise ConfigError(f"--tolerance {text!r} is no distance; write for example 2 or 20nm")
        length, word = float(match[1]), match[2].casefold()
        if word in _PIXEL_WORDS:
            return cls(length)
        unit = unit_name(word)
        if unit is None:
            raise ConfigError(f"--tolerance {text!r}: {match[2]!r} is no unit; write 2 or 20nm")
        return cls(length, unit)

    def __str__(self) -> str:
        return f"{self.length:g} {self.unit or 'pixels'}"

    def spacing(self, pair: OpenedPair) -> tuple[float, float]:
        """Return the size (y, x) of a pixel in the unit of the tolerance.

        Raises
        ------
        ConfigError
            If the tolerance is a length and the voxel size of the pair is not known.
        """
        if self.unit is None:
            return PIXELS
        own = unit_name(pair.voxel_size.unit)
        if own is None:
            raise ConfigError(
                f"--tolerance {self} is a length, but neither the prediction nor the truth of "
                f"{pair.name} says how large its pixels are; give the tolerance in pixels"
            )
        factor = float(f"{METERS[own] / METERS[self.unit]:.12g}")
        return pair.voxel_size.y * factor, pair.voxel_size.x * factor

    def margin(self, pair: OpenedPair) -> tuple[int, int]:
        """Return how many pixels (y, x) around a block decide about its boundary."""
        return margin_of(self.length, self.spacing(pair))

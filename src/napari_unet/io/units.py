"""Units of length: the many spellings of files, and the one of OME-Zarr."""

from __future__ import annotations

METERS = {
    "angstrom": 1e-10,
    "picometer": 1e-12,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "decimeter": 1e-1,
    "meter": 1.0,
    "kilometer": 1e3,
    "inch": 0.0254,
    "foot": 0.3048,
}
"""Length of each unit that we convert, by its name in OME-Zarr (UDUNITS-2)."""

_SPELLINGS = {
    "å": "angstrom",
    "a": "angstrom",
    "ångström": "angstrom",
    "pm": "picometer",
    "nm": "nanometer",
    "um": "micrometer",
    "\u00b5m": "micrometer",  # micro sign
    "\u03bcm": "micrometer",  # Greek mu
    "\\u00b5m": "micrometer",  # as ImageJ writes it
    "micron": "micrometer",
    "microns": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "dm": "decimeter",
    "m": "meter",
    "km": "kilometer",
    "in": "inch",
    "ft": "foot",
}


def unit_name(text: str | None) -> str | None:
    """Return a unit of length as OME-Zarr spells it; None for what is no known length.

    Examples
    --------
    >>> unit_name("µm"), unit_name("Nanometers"), unit_name("pixel")
    ('micrometer', 'nanometer', None)
    """
    if not text:
        return None
    word = text.strip().casefold()
    word = _SPELLINGS.get(word, word)
    word = word.replace("metre", "meter")
    for candidate in (word, word.removesuffix("s")):
        if candidate in METERS:
            return candidate
    return None


def common_unit(
    z: str | None, y: str | None, x: str | None
) -> tuple[str | None, tuple[float, float, float]]:
    """Return one unit for three axes, and the factor that takes each axis to it.

    The unit of x is taken. Axes without a unit, or with one that cannot be converted, leave the
    lengths as they are and the unit unknown.

    Examples
    --------
    >>> common_unit("micrometer", "nanometer", "nanometer")
    ('nanometer', (1000.0, 1.0, 1.0))
    """
    if z == y == x:
        return (unit_name(x) or x), (1.0, 1.0, 1.0)
    names = [unit_name(unit) for unit in (z, y, x)]
    lengths = [METERS[name] for name in names if name is not None]
    if len(lengths) < 3:
        return None, (1.0, 1.0, 1.0)
    # Rounded: 1e-6 / 1e-9 is 999.9999999999999.
    factors = [float(f"{length / lengths[2]:.12g}") for length in lengths]
    return names[2], (factors[0], factors[1], factors[2])

"""Which type of number each kind of file gets, so that no value changes.

========== ============================== =======================================================
file       classes (uint8)                objects (uint32, uint64)
========== ============================== =======================================================
tiff       uint8                          uint16 up to 65535, else float32 up to 2**24
ome-tiff   uint8                          uint32
mrc        mode 0 up to 127, else mode 6  mode 6 (uint16) up to 65535, else mode 2 up to 2**24
hdf5       uint8                          as they are
png        uint8                          uint16 up to 65535
========== ============================== =======================================================

Probabilities are float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ConfigError, InputError

if TYPE_CHECKING:
    from napari_unet.core.export_job import ExportFormat

MAX_EXACT_FLOAT32 = 2**24
"""Up to here every whole number is a float32 of its own."""

_WHOLE_TYPES: dict[str, tuple[str, ...]] = {
    "tiff": ("uint8", "uint16"),
    "ome-tiff": ("uint8", "uint16", "uint32"),
    "mrc": ("int8", "uint16"),
    "hdf5": ("uint8", "uint16", "uint32", "uint64"),
    "png": ("uint8", "uint16"),
}
_FLOAT_FORMATS = ("tiff", "mrc")
"""Where large numbers may be float32: ImageJ and IMOD know no integers of 32 bits."""


def depends_on_values(kind: ExportFormat, dtype: np.dtype[Any]) -> bool:
    """Return whether the values must be known before a type can be chosen.

    Raises
    ------
    InputError
        If such values are no labels and no probabilities.
    """
    if dtype.kind == "f":
        return False
    if dtype.kind != "u":
        raise InputError(
            f"values of type {dtype} are neither labels nor probabilities, so they cannot be "
            "exported; labels are whole numbers from 0"
        )
    return str(dtype) not in _WHOLE_TYPES[kind]


def choose_type(kind: ExportFormat, dtype: np.dtype[Any], maximum: int) -> np.dtype[Any]:
    """Return the type in which a kind of file holds values of `dtype` up to `maximum`, exactly.

    Parameters
    ----------
    kind : {"tiff", "ome-tiff", "mrc", "hdf5", "png"}
        Kind of file.
    dtype : numpy.dtype
        Type of the values; floating point numbers become float32.
    maximum : int
        Largest value; not looked at unless `depends_on_values`.

    Raises
    ------
    ConfigError
        If no type of this kind of file can hold the values; names one that can.
    InputError
        If the values are no labels and no probabilities.
    """
    if not depends_on_values(kind, dtype):
        return np.dtype("float32") if dtype.kind == "f" else dtype
    for name in _WHOLE_TYPES[kind]:
        # Objects keep a type that has room for them, also where few came out: no 8 bit.
        narrow = np.dtype(name).itemsize == 1 and dtype.itemsize > 1
        if not narrow and maximum <= np.iinfo(name).max:
            return np.dtype(name)
    if kind in _FLOAT_FORMATS and maximum <= MAX_EXACT_FLOAT32:
        return np.dtype("float32")
    raise ConfigError(
        f"{kind} cannot hold labels up to {maximum} without loss; export them with --format hdf5"
        + ("" if kind == "ome-tiff" or maximum >= 2**32 else " or ome-tiff")
        + ", or a smaller --region"
    )

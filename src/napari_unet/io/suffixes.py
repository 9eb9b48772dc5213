"""Which files are taken for which kind of image, by their names."""

from __future__ import annotations

TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf2", ".tf8"})
"""Endings of files that tifffile reads here, in lower case."""

RASTER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
"""Endings of single planes, in lower case."""

HDF5_SUFFIXES = frozenset({".h5", ".hdf5", ".hdf"})
"""Endings of HDF5 files, in lower case."""

MRC_SUFFIXES = frozenset({".mrc", ".mrcs", ".rec", ".st", ".ali", ".map"})
"""Endings of MRC files, in lower case; those of IMOD tell tilt series from volumes."""

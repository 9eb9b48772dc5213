"""Which files are taken for which kind of image, by their names."""

from __future__ import annotations

TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf2", ".tf8"})
"""Endings of files that tifffile reads here, in lower case."""

RASTER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
"""Endings of single planes, in lower case."""

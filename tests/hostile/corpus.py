"""All hostile files."""

from __future__ import annotations

from tests.hostile import hdf5_files, model_files, plane_files, text_files, tiff_files, zarr_files

CASES = [
    *tiff_files.collect.cases,
    *zarr_files.CASES,
    *hdf5_files.CASES,
    *plane_files.CASES,
    *model_files.CASES,
    *text_files.CASES,
]

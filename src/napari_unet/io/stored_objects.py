"""Chunks and shards of our arrays as files: made durable, checked, swept after a crash."""

from __future__ import annotations

import itertools
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import zarr

TORN = "*.partial"
"""What zarr calls a file until it is whole; a killed process leaves some, and nobody reads them."""


def stored_files(array: zarr.Array[Any], index: tuple[slice, ...]) -> Iterator[Path]:
    """Yield the files, there or not, that hold a part of an array in a local folder.

    Parameters
    ----------
    array : zarr.Array
        In a `zarr.storage.LocalStore`.
    index : tuple of slice
        The part, with a start and a stop along each axis.
    """
    edges = array.shards or array.chunks
    ranges = [
        range(part.start // edge, -(-part.stop // edge))
        for part, edge in zip(index, edges, strict=True)
    ]
    folder = Path(str(array.store.root)) / array.path  # type: ignore[attr-defined]  # LocalStore
    for position in itertools.product(*ranges):
        yield folder / array.metadata.encode_chunk_key(position)


def make_durable(array: zarr.Array[Any], index: tuple[slice, ...]) -> None:
    """Make the stored part of an array survive a power cut.

    Raises
    ------
    OSError
        If a file is missing, or the disk refuses.
    """
    folders: set[Path] = set()
    for path in stored_files(array, index):
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folders.update(path.parents[: len(index)])
    for folder in folders:
        sync_folder(folder)


def checksum(values: npt.NDArray[Any]) -> int:
    """Return the CRC-32 of the values of an array, in C order."""
    return zlib.crc32(np.ascontiguousarray(values).data)


def sweep(folder: Path) -> int:
    """Delete what killed processes left of files that they were writing; return how many.

    Only who holds the lock of the output may do that.

    Raises
    ------
    OSError
        If one cannot be deleted.
    """
    torn = list(folder.rglob(TORN))
    for path in torn:
        path.unlink(missing_ok=True)
    return len(torn)

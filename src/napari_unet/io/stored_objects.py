"""Chunks and shards of our arrays as files: made durable, checked, swept after a crash."""

from __future__ import annotations

import glob
import itertools
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.files import sync_folder
from napari_unet.io.output_state import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt
    import zarr

TORN = ("*.partial", ".*.part")
"""What zarr and we call a file until it is whole; killed processes leave some that nobody reads."""

METADATA = ("zarr.json", ".zarray", ".zattrs")
"""What tells readers how an array is stored."""


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
    folder = _folder(array)
    for position in itertools.product(*ranges):
        yield folder / array.metadata.encode_chunk_key(position)


def store(array: zarr.Array[Any], index: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
    """Write a part of an array, also where what is stored there is damaged.

    Parameters
    ----------
    array : zarr.Array
        In a `zarr.storage.LocalStore`.
    index : tuple of slice
        The part, with a start and a stop along each axis.
    values : numpy.ndarray
        Of its shape and type.

    Raises
    ------
    OSError, ValueError
        If the disk refuses, or the values do not fit.
    """
    try:
        array[index] = values
    except OSError:
        raise
    except (ValueError, RuntimeError):
        # Zarr reads a shard before it writes a part of it; one that is damaged holds nothing.
        for path in stored_files(array, index):
            path.unlink(missing_ok=True)
        array[index] = values


def make_durable(array: zarr.Array[Any], index: tuple[slice, ...]) -> None:
    """Make the stored part of an array survive a power cut.

    Raises
    ------
    OSError
        If a file is missing, or the disk refuses.
    """
    folders: set[Path] = set()
    own = _folder(array)
    for path in stored_files(array, index):
        _sync(path)
        # Up to that of the array: the first chunk in a folder makes the folder, too.
        folders.update(path.parents[: path.parents.index(own) + 1])
    for folder in folders:
        sync_folder(folder)


def make_metadata_durable(arrays: Iterable[zarr.Array[Any]]) -> None:
    """Make arrays survive a power cut, as far as nothing is written into them yet.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    folders: set[Path] = set()
    for array in arrays:
        own = _folder(array)
        for name in METADATA:
            if (own / name).exists():
                _sync(own / name)
        # Any of those above may be new.
        folders.update((own, *own.parents))
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
    torn = [path for pattern in TORN for path in folder.rglob(pattern)]
    for path in torn:
        path.unlink(missing_ok=True)
    return len(torn)


def sweep_parts(*paths: Path) -> None:
    """Delete what killed processes left of files that they were replacing.

    Only who holds the lock of the output may do that.

    Raises
    ------
    StorageError
        If one cannot be deleted.
    """
    for path in paths:
        with storage_errors(f"{path}: leftovers of a crash cannot be deleted"):
            for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
                part.unlink(missing_ok=True)


def _folder(array: zarr.Array[Any]) -> Path:
    return Path(str(array.store.root)) / array.path  # type: ignore[attr-defined]  # LocalStore


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

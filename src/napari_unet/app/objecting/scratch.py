"""The hidden folder beside a result, in which labels wait for the next pass."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from napari_unet.files import retry_denied
from napari_unet.io.output_spec import chunk_edge
from napari_unet.io.output_state import storage_errors

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.labels.block_grid import BlockGrid

CHUNK_EDGE = 512
"""Longest edge of a chunk in y and x: as in the result, so that one pass reads what it writes."""

CHUNK_DEPTH = 8
"""Most slices of a chunk: blocks of a volume are read in slabs of so many."""


class Scratch:
    """Arrays in a folder that is there while the context is open.

    Parameters
    ----------
    folder : Path
        Where; its parent exists. What an earlier run left there is deleted.

    Attributes
    ----------
    was_there : bool
        Whether an earlier run did not get to its end.

    Raises
    ------
    StorageError
        If the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.was_there = folder.exists()

    def __enter__(self) -> Scratch:
        with storage_errors(f"{self._folder}: the folder for scratch cannot be made"):
            if self.was_there:
                retry_denied(lambda: shutil.rmtree(self._folder))
            self._folder.mkdir(parents=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self.clear()

    def clear(self) -> None:
        """Delete everything in it; done before a result is called complete, no run need sweep it.

        What cannot be deleted now is deleted by the next run: it must not hide an error.
        """
        shutil.rmtree(self._folder, ignore_errors=True)

    def array(self, name: str, grid: BlockGrid, dtype: npt.DTypeLike) -> zarr.Array[Any]:
        """Return a new array of zeros, no two blocks of which share a chunk.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        depth, height, width = (
            min(block, n) for block, n in zip(grid.block_shape, grid.shape, strict=True)
        )
        whole = [height == grid.shape[1], width == grid.shape[2]]
        edges = [
            min(n, CHUNK_EDGE) if alone else chunk_edge(n, CHUNK_EDGE)
            for n, alone in zip((height, width), whole, strict=True)
        ]
        with storage_errors(f"{self._folder}: scratch cannot be written"):
            array: zarr.Array[Any] = zarr.create_array(
                LocalStore(self._folder),
                name=name,
                shape=grid.shape,
                dtype=np.dtype(dtype),
                chunks=(chunk_edge(depth, CHUNK_DEPTH), *edges),
                fill_value=0,
            )
        return array

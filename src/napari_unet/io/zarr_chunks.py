"""Which chunks of a zarr array were ever written, asked of the store and never of the data."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from napari_unet.errors import InputError
from napari_unet.io.sampling import spread_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import zarr

    from napari_unet.core.boxes import Shape

MAX_PROBES = 4096
"""Chunk keys asked for, one by one, before the store's keys are listed."""

ChunkIndex = tuple[int, ...]
"""Position of a stored object in the array's grid, one number per axis."""


class StoredObjects:
    """The objects (chunks, or shards where there are) that an array's store holds.

    Parameters
    ----------
    array : zarr.Array
        The array.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self.edges: Shape = tuple(array.shards or array.chunks)
        self.grid: Shape = tuple(
            -(-size // edge) for size, edge in zip(array.shape, self.edges, strict=True)
        )
        store = array.store
        self._folder = Path(store.root) / array.path if isinstance(store, LocalStore) else None

    def key(self, index: ChunkIndex) -> str:
        """Return the name of an object inside the array."""
        return self._array.metadata.encode_chunk_key(tuple(int(i) for i in index))

    def exists(self, index: ChunkIndex) -> bool:
        """Return whether an object was written.

        Raises
        ------
        InputError
            If something else is in its place: zarr would read it as fill, silently.
        """
        key = self.key(index)
        if self._folder is None:
            return bool(sync(self._array.store.exists(self._store_key(key))))
        path = self._folder / key
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise InputError(f"{path}: the chunk cannot be reached: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            kind = "an empty file" if stat.S_ISREG(status.st_mode) else "not a file"
            raise InputError(
                f"{path}: the chunk is damaged: {kind}; restore it from a copy, or delete it to "
                "read it as fill"
            )
        return True

    def read(self, index: ChunkIndex) -> bytes:
        """Return the stored bytes of an object; none if it was never written."""
        key = self._store_key(self.key(index))
        data = sync(self._array.store.get(key, default_buffer_prototype()))
        return b"" if data is None else data.to_bytes()

    def touched(self, index: tuple[slice, ...]) -> Iterator[ChunkIndex]:
        """Yield the objects that hold some voxel of an index of slices."""
        return itertools.product(
            *(
                range(s.start // edge, -(-s.stop // edge))
                for s, edge in zip(index, self.edges, strict=True)
            )
        )

    def some(self, ranges: tuple[Sequence[int], ...], wanted: int) -> list[ChunkIndex]:
        """Return up to `wanted` stored objects, spread evenly over part of the grid.

        Parameters
        ----------
        ranges : tuple of sequence of int
            Part of the grid, per axis.
        wanted : int
            How many at most.

        Returns
        -------
        list of tuple of int
            The same for the same store, in the order of the grid; empty = nothing is stored.
        """
        lengths = tuple(len(r) for r in ranges)
        count = int(np.prod(lengths, dtype=object))
        found = []
        for flat in itertools.islice(spread_order(count), MAX_PROBES):
            index = _unravel(flat, lengths, ranges)
            if self.exists(index):
                found.append(index)
                if len(found) == wanted:
                    break
        if len(found) < wanted and count > MAX_PROBES:
            inside = [
                i for i in self._list() if all(n in r for n, r in zip(i, ranges, strict=True))
            ]
            found = _thin(sorted(inside), wanted)
        return sorted(found)

    def _list(self) -> Iterable[ChunkIndex]:
        """Yield every stored object of the array, in no order."""
        keys = self._local_keys() if self._folder is not None else self._store_keys()
        for key in keys:
            index = self._parse(key)
            if index is not None:
                yield index

    def _parse(self, key: str) -> ChunkIndex | None:
        """Return the index that a key stands for; None for metadata and foreign files."""
        numbers = key.removeprefix("c").replace(".", "/").strip("/").split("/")
        if not all(n.isdecimal() for n in numbers) or len(numbers) != len(self.grid):
            return None
        index = tuple(int(n) for n in numbers)
        inside = all(i < n for i, n in zip(index, self.grid, strict=True))
        return index if inside and self.key(index) == key else None

    def _local_keys(self) -> Iterator[str]:
        # os.walk, not the store's listing: that takes ten times as long per file.
        root = str(self._folder)
        for folder, _, files in os.walk(root):
            prefix = os.path.relpath(folder, root).replace(os.sep, "/")
            yield from (f if prefix == "." else f"{prefix}/{f}" for f in files)

    def _store_keys(self) -> list[str]:
        prefix = f"{self._array.path}/" if self._array.path else ""

        async def collect() -> list[str]:
            return [key.removeprefix(prefix) async for key in self._array.store.list_prefix(prefix)]

        return sync(collect())

    def _store_key(self, key: str) -> str:
        return f"{self._array.path}/{key}" if self._array.path else key


def _unravel(flat: int, lengths: Shape, ranges: tuple[Sequence[int], ...]) -> ChunkIndex:
    position = []
    for length in reversed(lengths):
        flat, rest = divmod(flat, length)
        position.append(rest)
    return tuple(r[p] for r, p in zip(ranges, reversed(position), strict=True))


def _thin(items: list[ChunkIndex], wanted: int) -> list[ChunkIndex]:
    if len(items) <= wanted:
        return items
    return [items[(2 * k + 1) * len(items) // (2 * wanted)] for k in range(wanted)]

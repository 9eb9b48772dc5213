"""Which chunks of a zarr array were ever written, asked of the store and never of the data."""

from __future__ import annotations

import functools
import itertools
import math
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from napari_unet.errors import InputError
from napari_unet.io.sampling import spread_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt
    import zarr

    from napari_unet.core.boxes import Shape

MAX_PROBES = 4096
"""Chunks asked for, one by one, before the store's keys are listed."""

HASHED_BYTES = 1 << 20
"""Bytes of a stored object that go into a hash; shards may be huge."""

_KEPT_TABLES = 64
_SPARE_BYTES = 2**20  # what compression may add to a chunk, and a shard's index and checksums
_ABSENT = 2**64 - 1  # offset and length of an inner chunk that a shard does not hold

Position = tuple[int, ...]
"""Place of a chunk, or of a stored object, in its grid: one number per axis of the array."""


class StoredChunks:
    """The chunks that an array's store holds, each an object of its own or part of a shard.

    Parameters
    ----------
    array : zarr.Array
        The array.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self.edges: Shape = tuple(array.chunks)
        self.grid: Shape = tuple(
            -(-size // edge) for size, edge in zip(array.shape, self.edges, strict=True)
        )
        objects = array.shards or array.chunks
        self._per_object = tuple(n // e for n, e in zip(objects, self.edges, strict=True))
        self._max_stored = 2 * math.prod(objects) * array.dtype.itemsize + _SPARE_BYTES
        self._max_stored += 16 * math.prod(self._per_object)
        store = array.store
        self._folder = Path(store.root) / array.path if isinstance(store, LocalStore) else None
        self._index_bytes = _shard_index_bytes(array, self._per_object)
        self._table = functools.lru_cache(_KEPT_TABLES)(self._read_table)

    def key(self, chunk: Position) -> str:
        """Return the name, inside the array, of the object that a chunk is stored in."""
        return self._object_key(self._object_of(chunk))

    def exists(self, chunk: Position) -> bool:
        """Return whether a chunk was written.

        Raises
        ------
        InputError
            If its place holds something that zarr would silently read as fill.
        """
        place = self._object_of(chunk)
        if not self._object_exists(place):
            return False
        if self._index_bytes is None:
            return True
        inner = tuple(i % n for i, n in zip(chunk, self._per_object, strict=True))
        return bool(self._table(place)[inner])

    def check(self, index: tuple[slice, ...]) -> None:
        """Refuse damage, in the objects of an index of slices, that zarr would read as fill.

        Raises
        ------
        InputError
            Naming the object.
        """
        ranges = (
            range(s.start // n, -(-s.stop // n))
            for s, n in zip(index, self._object_edges, strict=True)
        )
        for place in itertools.product(*ranges):
            self._object_exists(place)

    def some(self, ranges: tuple[Sequence[int], ...], wanted: int) -> list[Position]:
        """Return up to `wanted` written chunks, spread evenly over part of the grid.

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
            chunk = _unravel(flat, lengths, ranges)
            if self.exists(chunk):
                found.append(chunk)
                if len(found) == wanted:
                    break
        if len(found) < wanted and count > MAX_PROBES:
            found = _thin(self._listed(ranges, wanted), wanted)
        return sorted(found)

    def read_start(self, chunk: Position) -> bytes:
        """Return the first bytes of the object that a chunk is stored in."""
        return self._get(self.key(chunk), RangeByteRequest(0, HASHED_BYTES))

    @property
    def _object_edges(self) -> Shape:
        return tuple(e * n for e, n in zip(self.edges, self._per_object, strict=True))

    def _object_of(self, chunk: Position) -> Position:
        return tuple(i // n for i, n in zip(chunk, self._per_object, strict=True))

    def _object_key(self, place: Position) -> str:
        return self._array.metadata.encode_chunk_key(place)

    def _object_exists(self, place: Position) -> bool:
        key = self._object_key(place)
        if self._folder is None:
            return bool(sync(self._array.store.exists(self._store_key(key))))
        path = self._folder / key
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise InputError(
                f"{path}: the chunk cannot be reached: {error.strerror}; check the disk"
            ) from error
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            kind = "an empty file" if stat.S_ISREG(status.st_mode) else "not a file"
            raise InputError(
                f"{path}: the chunk is damaged: it is {kind}; restore it from a copy, or delete "
                "it to read it as fill"
            )
        if status.st_size > self._max_stored:
            raise InputError(
                f"{path}: the chunk is damaged: it has {status.st_size:,} bytes, but a chunk of "
                f"this array needs at most {self._max_stored:,}; restore it from a copy, or delete "
                "it to read it as fill"
            )
        return True

    def _read_table(self, place: Position) -> npt.NDArray[np.bool_]:
        """Return which inner chunks a shard holds, from the index at its end."""
        nbytes = self._index_bytes or 0
        data = self._get(self._object_key(place), SuffixByteRequest(nbytes))
        count = int(np.prod(self._per_object))
        if len(data) != nbytes:
            raise InputError(
                f"{self._array.store_path}/{self._object_key(place)}: the shard is damaged: it is "
                "shorter than its index; restore it from a copy, or delete it to read it as fill"
            )
        table = np.frombuffer(data, "<u8", 2 * count).reshape(*self._per_object, 2)
        held: npt.NDArray[np.bool_] = table[..., 1] != _ABSENT
        return held

    def _listed(self, ranges: tuple[Sequence[int], ...], wanted: int) -> list[Position]:
        """Return written chunks of part of the grid, found by listing the store."""
        inside = [_coarser(r, n) for r, n in zip(ranges, self._per_object, strict=True)]
        places = sorted(
            place
            for place in self._list()
            if all(i in r for i, r in zip(place, inside, strict=True))
        )
        found: list[Position] = []
        for place in _thin(places, wanted):
            chunks = itertools.product(
                *(
                    (i for i in range(p * n, (p + 1) * n) if i in r)
                    for p, n, r in zip(place, self._per_object, ranges, strict=True)
                )
            )
            found.extend(chunk for chunk in chunks if self.exists(chunk))
        return found

    def _list(self) -> Iterator[Position]:
        """Yield every stored object of the array, in no order."""
        keys: Iterable[str] = self._local_keys() if self._folder else self._store_keys()
        for key in keys:
            numbers = key.removeprefix("c").replace(".", "/").strip("/").split("/")
            if len(numbers) == len(self.grid) and all(n.isdecimal() for n in numbers):
                place = tuple(int(n) for n in numbers)
                if self._object_key(place) == key:
                    yield place

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

    def _get(self, key: str, part: RangeByteRequest | SuffixByteRequest) -> bytes:
        store = self._array.store
        data = sync(store.get(self._store_key(key), default_buffer_prototype(), part))
        return b"" if data is None else data.to_bytes()

    def _store_key(self, key: str) -> str:
        return f"{self._array.path}/{key}" if self._array.path else key


def _shard_index_bytes(array: zarr.Array[Any], per_object: Shape) -> int | None:
    """Return the length of the index at a shard's end; None without shards, or of other kinds.

    References
    ----------
    .. [1] zarr v3, sharding codec 1.0: offset and length of every inner chunk as uint64.
    """
    if array.shards is None:
        return None
    codec = next(
        (c for c in getattr(array.metadata, "codecs", ()) if isinstance(c, ShardingCodec)), None
    )
    if codec is None or str(getattr(codec.index_location, "value", "")) != "end":
        return None
    kinds = [type(c) for c in codec.index_codecs]
    if kinds not in ([BytesCodec], [BytesCodec, Crc32cCodec]):
        return None
    endian = getattr(codec.index_codecs[0], "endian", None)
    if str(getattr(endian, "value", endian)) != "little":
        return None
    return 16 * int(np.prod(per_object)) + 4 * (len(kinds) - 1)


def _coarser(numbers: Sequence[int], factor: int) -> range | set[int]:
    if isinstance(numbers, range):
        return range(numbers.start // factor, -(-numbers.stop // factor))
    return {n // factor for n in numbers}


def _unravel(flat: int, lengths: Shape, ranges: tuple[Sequence[int], ...]) -> Position:
    position = []
    for length in reversed(lengths):
        flat, rest = divmod(flat, length)
        position.append(rest)
    return tuple(r[p] for r, p in zip(ranges, reversed(position), strict=True))


def _thin(items: list[Position], wanted: int) -> list[Position]:
    if len(items) <= wanted:
        return items
    return [items[(2 * k + 1) * len(items) // (2 * wanted)] for k in range(wanted)]


def listed_positions(root: Path) -> Iterator[Shape]:
    """Yield the places (z, y, x) of the chunks below a folder, from their names.

    Raises
    ------
    OSError
        If a folder cannot be listed; one that is not there holds nothing.
    """

    def refuse(error: OSError) -> None:
        # What cannot be listed would seem empty, and be deleted as such.
        if not isinstance(error, FileNotFoundError):
            raise error

    for folder, _, files in os.walk(root, onerror=refuse):
        parts = os.path.relpath(folder, root).split(os.sep)
        for name in files:
            if len(parts) == 2 and all(p.isdecimal() for p in (*parts, name)):
                yield (int(parts[0]), int(parts[1]), int(name))

"""Images in zarr arrays, version 2 and 3, read chunk-wise."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.boxes import Box
from napari_unet.io.cache import PieceCache
from napari_unet.io.damage import check_decoded_size, input_errors
from napari_unet.io.sampling import spread_boxes
from napari_unet.io.stored_image import ImageFacts, StoredImage
from napari_unet.io.zarr_chunks import StoredChunks
from napari_unet.io.zarr_codecs import guarded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import zarr

MAX_CONCURRENT_BYTES = 256 * 2**20
"""Chunks that together decode to more are read one after the other."""

ZARR_CONCURRENCY = 10
"""Chunks that zarr decodes at a time by default (its setting ``async.concurrency``)."""

MIN_SAMPLED_CHUNKS, MAX_SAMPLED_CHUNKS = 16, 4096
"""Chunks that a sample is taken from: enough to stand for the volume, few enough to find."""

HASHED_CHUNKS = 8
"""Stored chunks whose bytes go into the content hash."""

_REMEDY = "restore the chunk from a copy, or delete it to read it as fill"


class ZarrSource(StoredImage):
    """A zarr array read as an image.

    Parameters
    ----------
    facts : ImageFacts
        What is known of it.
    array : zarr.Array
        The array, opened for reading.

    Raises
    ------
    InputError
        If its chunks are too large to decode, or encoded in a way that is not safe to decode.
    """

    def __init__(self, facts: ImageFacts, array: zarr.Array[Any]) -> None:
        super().__init__(facts)
        self._array: zarr.Array[Any] = guarded(array, self._where)
        self._stored = StoredChunks(array)
        nbytes = int(np.prod(array.chunks, dtype=object)) * array.dtype.itemsize
        check_decoded_size(nbytes, f"{self._where}: a chunk {array.chunks}")
        depth = self._layout.spatial(array.chunks, missing=1)[0]
        # A thick chunk holds slices that the next tiles ask for: decode it once, not per slice.
        self._piecewise = depth > 1 or nbytes * ZARR_CONCURRENCY > MAX_CONCURRENT_BYTES
        self._cache = PieceCache()

    def close(self) -> None:
        """Forget the decoded chunks."""
        super().close()
        self._cache.clear()

    def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
        """Return boxes with stored data, spread evenly; the first chunk if nothing is stored."""
        stored, extent = self._stored, Box.of_shape(self.shape)
        edges = self._layout.spatial(stored.edges, missing=1)
        size = int(np.prod(edges, dtype=object))
        wanted = min(MAX_SAMPLED_CHUNKS, max(MIN_SAMPLED_CHUNKS, max_voxels // size))
        if extent.size <= max_voxels:  # chunks at the far end are cut, so more of them fit
            wanted = MAX_SAMPLED_CHUNKS
        ranges = self._chosen_ranges(first_channel_only=True)
        chunks = stored.some(ranges, wanted) or [tuple(r[0] for r in ranges)]
        each = size if extent.size <= max_voxels else max_voxels // len(chunks)
        boxes: list[Box] = []
        for chunk in chunks:
            place = self._layout.spatial(chunk, missing=0)
            start = tuple(i * e for i, e in zip(place, edges, strict=True))
            whole = Box(start, tuple(a + e for a, e in zip(start, edges, strict=True)))
            boxes.extend(spread_boxes(whole.intersection(extent), each))
        return tuple(boxes)

    def count_missing_chunks(self, box: Box) -> int:
        """Return how many chunks of the chosen channels that overlap `box` were never written."""
        spatial = dict(zip("zyx", zip(box.start, box.stop, strict=True), strict=True))
        ranges = list(self._chosen_ranges(first_channel_only=False))
        for axis, letter in enumerate(self._layout.axes):
            if letter in spatial:
                edge = self._stored.edges[axis]
                first, last = spatial[letter]
                ranges[axis] = range(first // edge, -(-last // edge))
        return sum(not self._stored.exists(chunk) for chunk in itertools.product(*ranges))

    def _fetch(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        self._stored.check(index)
        if self._piecewise:
            return self._fetch_pieces(index)
        with input_errors(f"{self._where}: a chunk cannot be decoded", _REMEDY):
            try:
                return np.asarray(self._array[index])
            except Exception:
                # zarr does not say which chunk it was: one of these raises with its name.
                for slices in self._chunks(index):
                    self._decode(slices)
                raise

    def _fetch_pieces(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        out = np.empty([s.stop - s.start for s in index], self.dtype)
        for slices in self._chunks(index):
            piece = self._cache.get(
                tuple(s.start for s in slices), functools.partial(self._decode, slices)
            )
            common = [
                (max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(index, slices, strict=True)
            ]
            there = tuple(
                slice(a - s.start, b - s.start) for (a, b), s in zip(common, slices, strict=True)
            )
            here = tuple(
                slice(a - s.start, b - s.start) for (a, b), s in zip(common, index, strict=True)
            )
            out[here] = piece[there]
        return out

    def _chunks(self, index: tuple[slice, ...]) -> Iterator[tuple[slice, ...]]:
        """Yield the slices of every chunk that holds some voxel of `index`, cut to the array."""
        ranges = [
            range(s.start // edge, -(-s.stop // edge))
            for s, edge in zip(index, self._array.chunks, strict=True)
        ]
        for position in itertools.product(*ranges):
            yield tuple(
                slice(i * edge, min((i + 1) * edge, size))
                for i, edge, size in zip(
                    position, self._array.chunks, self._array.shape, strict=True
                )
            )

    def _decode(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the values of one chunk, whose slices are given."""
        edges = self._stored.edges
        key = self._stored.key(tuple(s.start // e for s, e in zip(slices, edges, strict=True)))
        with input_errors(f"{self._where}: chunk {key!r} cannot be decoded", _REMEDY):
            return np.asarray(self._array[slices])

    @property
    def _where(self) -> str:
        return self.path or self.name

    def _chosen_ranges(self, *, first_channel_only: bool) -> tuple[Sequence[int], ...]:
        """Return the stored chunks of the chosen channels and time, per axis of the grid."""
        layout = self._layout
        ranges: list[Sequence[int]] = []
        channels = layout.channels[:1] if first_channel_only else layout.channels
        for letter, edge, count in zip(
            layout.axes, self._stored.edges, self._stored.grid, strict=True
        ):
            if letter == "c":
                ranges.append(sorted({c // edge for c in channels}))
            elif letter == "t":
                ranges.append([layout.time // edge])
            else:
                ranges.append(range(count))
        return tuple(ranges)

    def _content_hash(self) -> str:
        metadata = self._array.metadata.to_dict()
        metadata.pop("attributes", None)
        digest = hashlib.sha256(json.dumps(metadata, sort_keys=True, default=str).encode())
        with input_errors(f"{self._where}: a chunk cannot be read", _REMEDY):
            ranges = self._chosen_ranges(first_channel_only=True)
            for chunk in self._stored.some(ranges, HASHED_CHUNKS):
                digest.update(self._stored.key(chunk).encode())
                digest.update(self._stored.read_start(chunk))
        return digest.hexdigest()

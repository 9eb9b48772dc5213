"""Reading part of a TIFF series: only the strips and tiles that a request touches.

tifffile finds and decodes them, but reads whole pages only, so they are chosen here. "Normal axes"
are its five of every page: separate sample, depth, length, width, contiguous sample.
"""

from __future__ import annotations

import functools
import itertools
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import InputError
from napari_unet.io.cache import PieceCache
from napari_unet.io.damage import check_decoded_size, input_errors
from napari_unet.io.tiff_limits import check_embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from tifffile import TiffFile, TiffPage, TiffPageSeries

    from napari_unet.core.boxes import Shape
    from napari_unet.io.raw_file import RawFile

REMEDY = "copy the file again, or convert it to OME-Zarr with a program that reads it"
"""What to do about a TIFF that cannot be read."""


class TiffPages:
    """The values of one or several equal TIFF series, as one array that is read in parts.

    Parameters
    ----------
    file : RawFile
        The file, for its bytes.
    tif : tifffile.TiffFile
        The same file, for its structure. Both are closed by `close`.
    series : sequence of tifffile.TiffPageSeries
        Series of equal shape and type; several become a further first axis.

    Raises
    ------
    InputError
        If the pages do not make up the series, the file is cut off, or a strip or tile is too
        large to decode.
    """

    def __init__(self, file: RawFile, tif: TiffFile, series: list[TiffPageSeries]) -> None:
        self._file = file
        self._path = file.path
        self._tif = tif
        self._series = series
        key = series[0].keyframe
        self._key: TiffPage = key
        self.dtype: np.dtype[Any] = np.dtype(series[0].dtype).newbyteorder("=")
        self._stored_dtype = self.dtype.newbyteorder(tif.byteorder)
        many = (len(series),) if len(series) > 1 else ()
        self.shape: Shape = (*many, *(int(n) for n in series[0].shape))
        self._lock = threading.Lock()
        self._cache = PieceCache()
        self._whole = self._find_whole()
        if self._whole is None:
            self._check_pages()
        else:
            self._check_end(self._whole)

    @property
    def is_plain(self) -> bool:
        """Whether any part can be read without decoding more than it."""
        return self._whole is not None

    def read(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the values at an index of slices, in native byte order.

        Raises
        ------
        InputError
            If a strip or tile is damaged or cut off.
        """
        if self._whole is not None:
            return self._read_raw(self._whole, self.shape, index)
        lead, inner = self._split(index)
        shape = [s.stop - s.start for s in index]
        pages = [self._read_page(page, inner) for page in lead]
        return np.concatenate([p.reshape(-1) for p in pages]).reshape(shape)

    def count_missing(self, index: tuple[slice, ...]) -> int:
        """Return how many strips and tiles that overlap an index have no data in the file."""
        if self._whole is not None:
            return 0
        lead, inner = self._split(index)
        missing = 0
        for page in lead:
            offsets, counts = self._table(page)
            for number, _ in self._segments(inner):
                missing += bool(offsets[number] == 0 or counts[number] == 0)
        return missing

    def close(self) -> None:
        """Close the file and forget what was decoded."""
        self._cache.clear()
        self._file.close()
        with self._lock:
            self._tif.close()

    def _find_whole(self) -> int | None:
        """Return where the series begins, if it lies in the file plainly and in one piece."""
        return self._series[0].dataoffset if len(self._series) == 1 else None

    def _read_raw(self, offset: int, shape: Shape, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        data = self._file.read_part(offset, self._stored_dtype, shape, index)
        return data.astype(self.dtype, copy=False)

    def _check_end(self, offset: int) -> None:
        end = offset + int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        if end > self._file.size:
            raise InputError(
                f"{self._path}: the file is cut off: its image ends at byte {end}, the file at "
                f"{self._file.size}; copy it again"
            )

    def _check_pages(self) -> None:
        key, first = self._key, self._series[0]
        inner = len(key.shape)
        axes_fit = set(key.axes) <= set("SZYX") and len(key.axes) == inner
        lead = int(np.prod(first.shape[: first.ndim - inner], dtype=object))
        if not axes_fit or tuple(first.shape[first.ndim - inner :]) != key.shape:
            raise InputError(
                f"{self._path}: pages of axes {key.axes} {key.shape} do not make up a series of "
                f"{first.axes} {first.shape}; {REMEDY}"
            )
        if any(len(s) != lead for s in self._series):
            raise InputError(
                f"{self._path}: the image of shape {self.shape} needs {lead} pages, the file has "
                f"{len(first)}; {REMEDY}"
            )
        nbytes = int(np.prod(self._edges, dtype=object)) * self.dtype.itemsize
        with input_errors(f"{self._path}: its compression is not supported", REMEDY):
            key.decode(None, 0)  # without data it only looks for the decoder
        if not key.is_final:
            check_decoded_size(nbytes, f"{self._path}: a strip or tile {self._edges}")

    @functools.cached_property
    def _edges(self) -> Shape:
        """Edges of a strip or tile, in normal axes."""
        key = self._key
        _, _, height, width, samples = key.shaped
        if key.is_tiled:
            return (1, max(1, key.tiledepth), key.tilelength, key.tilewidth, samples)
        return (1, 1, min(key.rowsperstrip, height), width, samples)

    @functools.cached_property
    def _positions(self) -> tuple[int, ...]:
        """Where each axis of a page is among the normal axes."""
        axes = self._key.axes
        order = {"Z": 1, "Y": 2, "X": 3}
        return tuple(
            order.get(letter, 4 if position == len(axes) - 1 else 0)
            for position, letter in enumerate(axes)
        )

    def _split(self, index: tuple[slice, ...]) -> tuple[list[int], tuple[slice, ...]]:
        """Return the numbers of the pages of an index, and its part within each page."""
        inner_ndim = len(self._positions)
        cut = len(index) - inner_ndim
        lead_shape = self.shape[:cut]
        pages = [
            int(np.ravel_multi_index(position, lead_shape)) if lead_shape else 0
            for position in itertools.product(*(range(s.start, s.stop) for s in index[:cut]))
        ]
        inner = [slice(0, n) for n in self._key.shaped]
        for position, part in zip(self._positions, index[cut:], strict=True):
            inner[position] = part
        return pages, tuple(inner)

    def _page(self, number: int) -> Any:
        each = len(self._series[0])
        page = self._series[number // each][number % each]
        if page is None:
            raise InputError(
                f"{self._path}: plane {number} is not in this file, which is one of several of an "
                "OME-TIFF; give the planes as a folder of slices, or merge them into one file"
            )
        return page

    def _table(self, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return offset and byte count of every segment of a page."""
        with self._lock, input_errors(f"{self._path}: page {number} cannot be read", REMEDY):
            page = self._page(number)
            offsets, counts = page.dataoffsets, page.databytecounts
        grid = [-(-n // e) for n, e in zip(self._key.shaped, self._edges, strict=True)]
        needed = int(np.prod(grid, dtype=object))
        if len(offsets) < needed or len(counts) < needed:
            raise InputError(
                f"{self._path}: page {number} lists {min(len(offsets), len(counts))} strips or "
                f"tiles, but its size needs {needed}; {REMEDY}"
            )
        return offsets, counts

    def _read_page(self, number: int, inner: tuple[slice, ...]) -> npt.NDArray[Any]:
        offsets, counts = self._table(number)
        if self._is_plain(offsets, counts):
            return self._read_raw(offsets[0], self._key.shaped, inner)
        out = np.empty([s.stop - s.start for s in inner], self.dtype)
        for segment, start in self._segments(inner):
            where = (offsets[segment], counts[segment])
            piece = self._cache.get(
                (number, segment), functools.partial(self._decode, number, segment, where)
            )
            # Tiles reach beyond the image.
            ends = [a + n for a, n in zip(start, piece.shape, strict=True)]
            here, there = [], []
            for s, a, b in zip(inner, start, ends, strict=True):
                first, last = max(s.start, a), min(s.stop, b)
                here.append(slice(first - s.start, last - s.start))
                there.append(slice(first - a, last - a))
            out[tuple(here)] = piece[tuple(there)]
        return out

    def _is_plain(self, offsets: tuple[int, ...], counts: tuple[int, ...]) -> bool:
        """Return whether the strips of a page lie in the file uncompressed and in one piece."""
        if not self._key.is_final or 0 in counts or 0 in offsets:
            return False
        nbytes = int(np.prod(self._key.shaped, dtype=object)) * self.dtype.itemsize
        ends = [a + n for a, n in zip(offsets, counts, strict=False)]
        return len(offsets) == 1 or (list(offsets[1:]) == ends[:-1] and sum(counts) == nbytes)

    def _segments(self, inner: tuple[slice, ...]) -> Iterator[tuple[int, Shape]]:
        """Yield number and first voxel of every strip or tile that touches a part of a page."""
        grid = [-(-n // e) for n, e in zip(self._key.shaped, self._edges, strict=True)]
        ranges = [
            range(s.start // e, -(-s.stop // e)) for s, e in zip(inner, self._edges, strict=True)
        ]
        for position in itertools.product(*ranges):
            start = tuple(i * e for i, e in zip(position, self._edges, strict=True))
            yield int(np.ravel_multi_index(position, grid)), start

    def _decode(self, number: int, segment: int, where: tuple[int, int]) -> npt.NDArray[Any]:
        """Return a decoded strip or tile in normal axes; zeros where the file has none."""
        offset, count = where
        what = f"{self._path}: strip or tile {segment} of page {number}"
        if offset == 0 or count == 0:
            return np.zeros(self._edges, self.dtype)
        check_decoded_size(count, what)
        data = bytes(self._file.read_bytes(offset, count))
        check_embedded(int(self._key.compression), data, self._edges, what)
        with input_errors(f"{what} cannot be decoded", REMEDY):
            with self._lock:
                tables = self._page(number).jpegtables
            decoded, start, _ = self._key.decode(
                data, segment, jpegtables=tables, jpegheader=self._key.jpegheader
            )
            piece: npt.NDArray[Any] = np.asarray(decoded, self.dtype)[np.newaxis]
        self._check_piece(piece.shape, start, what)
        return piece

    def _check_piece(self, shape: Shape, start: Shape, what: str) -> None:
        """Refuse a decoded segment that leaves part of its place in the image empty."""
        due = [
            min(edge, size - a)
            for edge, size, a in zip(self._edges, self._key.shaped, start, strict=True)
        ]
        if any(n < m for n, m in zip(shape, due, strict=True)):
            raise InputError(
                f"{what} is damaged: it decodes to {shape} instead of {tuple(due)}; {REMEDY}"
            )

"""Checking compressed HDF5 chunks before HDF5 decodes them: its own filters know no bound.

HDF5's deflate filter doubles its buffer until the data ends, whatever size a chunk should have. So
every compressed chunk is decompressed here first, up to its size, and given up if it holds more.
Each chunk is checked once; that costs about as much again as HDF5's own decompression.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from napari_unet.errors import InputError
from napari_unet.io.bounded_decoding import expand

if TYPE_CHECKING:
    from napari_unet.core.boxes import Shape

MAX_REMEMBERED = 2**16
"""Chunks that are known to be sound; the longest unused ones are checked again."""

_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_COMPRESSIONS = {_DEFLATE: "zlib", _LZF: "lzf"}
_KNOWN = (_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF)
_CHECKSUM_BYTES = 4
_SPARE_BYTES = 2**16
_HIGHEST_RATIO = 1040
"""More than deflate (1032 to 1) and LZF (88 to 1) can make of a byte."""


class CheckedChunks:
    """The chunks of a data set, each checked before it is first decoded.

    Parameters
    ----------
    dataset : h5py.Dataset
        The data set.
    what : str
        Its path, for messages.

    Raises
    ------
    InputError
        If its chunks are stored with filters other than gzip, LZF, shuffle and Fletcher32.
    """

    def __init__(self, dataset: Any, what: str) -> None:
        self._id = dataset.id
        self._what = what
        self._edges: Shape = dataset.chunks or ()
        self._nbytes = math.prod(self._edges) * dataset.dtype.itemsize
        self._filters = self._read_filters()
        self._sound: OrderedDict[Shape, None] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, index: tuple[slice, ...]) -> None:
        """Refuse chunks of an index of slices that hold more than they should.

        Raises
        ------
        InputError
            Naming the chunk.
        """
        if not any(code in _COMPRESSIONS for code in self._filters):
            return
        ranges = (
            range(s.start // n * n, s.stop, n) for s, n in zip(index, self._edges, strict=True)
        )
        for start in itertools.product(*ranges):
            with self._lock:
                if start in self._sound:
                    self._sound.move_to_end(start)
                    continue
            self._check_chunk(start)
            with self._lock:
                self._sound[start] = None
                if len(self._sound) > MAX_REMEMBERED:
                    self._sound.popitem(last=False)

    def _check_chunk(self, start: Shape) -> None:
        info = self._id.get_chunk_info_by_coord(start)
        limit = self._nbytes + _SPARE_BYTES
        if info.byte_offset is None or info.size * _HIGHEST_RATIO <= limit:
            return
        if info.size > 2 * limit:
            raise InputError(
                f"{self._what}: the chunk at {start} is damaged: it takes {info.size:,} bytes, a "
                f"chunk holds {self._nbytes:,}; restore the file from a copy"
            )
        mask, data = self._id.read_direct_chunk(start)
        for position, code in reversed(list(enumerate(self._filters))):
            if mask >> position & 1:
                continue
            if code == _FLETCHER32:
                data = data[:-_CHECKSUM_BYTES]
            elif code in _COMPRESSIONS:
                try:
                    data = expand(_COMPRESSIONS[code], data, limit) or b""
                except (ValueError, RuntimeError, ArithmeticError) as error:
                    raise InputError(
                        f"{self._what}: the chunk at {start} is damaged: {error}; restore the file "
                        "from a copy"
                    ) from error

    def _read_filters(self) -> list[int]:
        settings = self._id.get_create_plist()
        found = [settings.get_filter(k) for k in range(settings.get_nfilters())]
        for code, _, _, name in found:
            if code not in _KNOWN:
                raise InputError(
                    f"{self._what}: its chunks are stored with the filter {name!r}, which is not "
                    "read because its memory cannot be bounded; write it again with h5repack "
                    "-f GZIP=4"
                )
        return [int(code) for code, *_ in found]

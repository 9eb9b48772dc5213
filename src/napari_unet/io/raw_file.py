"""Reading boxes of an uncompressed array straight from its file.

Not by a memory map: pages of a map count as the process's memory as long as it reads on, and a
file that is cut off or a network share that goes away would kill the process instead of raising.
"""

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape


class RawFile:
    """A file that several threads read at their own positions.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        self._lock = threading.Lock()
        self.size = os.fstat(self._stream.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def read_bytes(self, offset: int, count: int) -> bytearray:
        """Return `count` bytes from `offset`.

        Raises
        ------
        InputError
            If the file ends before.
        """
        data = bytearray(count)
        self._fill(offset, memoryview(data))
        return data

    def read_part(
        self, offset: int, dtype: np.dtype[Any], shape: Shape, index: tuple[slice, ...]
    ) -> npt.NDArray[Any]:
        """Return part of an array that lies in the file in C order.

        Parameters
        ----------
        offset : int
            Where the array begins, in bytes.
        dtype : numpy.dtype
            Type as stored, with its byte order.
        shape : tuple of int
            Shape of the whole array.
        index : tuple of slice
            Part to read, one slice with start and stop per axis.

        Raises
        ------
        InputError
            If the file ends before.
        """
        out = np.empty([s.stop - s.start for s in index], dtype)
        if out.size == 0:
            return out
        # Axes that are read whole, and the one before them, lie in the file in one piece.
        run = len(shape) - 1
        while run > 0 and (index[run].start, index[run].stop) == (0, shape[run]):
            run -= 1
        strides = [int(np.prod(shape[axis + 1 :], dtype=object)) for axis in range(len(shape))]
        base = index[run].start * strides[run]
        target = out.reshape(-1).view(np.uint8).data
        step = int(np.prod(out.shape[run:])) * dtype.itemsize
        outer = itertools.product(*(range(s.start, s.stop) for s in index[:run]))
        for number, position in enumerate(outer):
            element = base + sum(i * n for i, n in zip(position, strides, strict=False))
            self._fill(offset + element * dtype.itemsize, target[number * step :][:step])
        return out

    def _fill(self, offset: int, target: memoryview) -> None:
        done = 0
        while done < len(target):
            count = self._read_into(offset + done, target[done:])
            if not count:
                raise InputError(
                    f"{self.path}: the file is cut off: data at byte {offset + done} is missing, "
                    f"the file ends at {self.size}; copy it again"
                )
            done += count

    def _read_into(self, offset: int, target: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._stream.fileno(), [target], offset)
        with self._lock:  # Windows and old macOS: the position is shared
            self._stream.seek(offset)
            return self._stream.readinto(target) or 0

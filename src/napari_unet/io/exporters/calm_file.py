"""A file under HDF5 that takes a full disk calmly.

When HDF5 cannot write, it cannot close its file either, and ends the process with a segmentation
fault when Python exits. So a write that the disk refuses is kept in memory, the library closes
its file in peace, and the error is raised after that.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class CalmFile:
    """A new file with the methods that h5py needs; writing to it never fails.

    Parameters
    ----------
    path : Path
        File to make.
    """

    def __init__(self, path: Path) -> None:
        self._stream = open(path, "x+b", buffering=0)  # noqa: SIM115 - closed by close()
        self._refused: list[tuple[int, bytes]] = []
        self._position = self._end = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error of the disk, if there was one; little is kept until then.

        Raises
        ------
        OSError
            As the system gave it.
        """
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int) -> bytes:
        """Return bytes from the position on; h5py knows a file by this method."""
        data = bytearray(size)
        self.readinto(memoryview(data))
        return bytes(data)

    def readinto(self, target: memoryview) -> int:
        """Fill `target` from the position on; what was never written is 0."""
        start, size = self._position, len(target)
        target[:] = bytes(size)
        done = 0
        while done < size:
            self._stream.seek(start + done)
            count = self._stream.readinto(target[done:])
            if not count:
                break
            done += count
        for at, data in self._refused:
            first, last = max(start, at), min(start + size, at + len(data))
            if first < last:
                target[first - start : last - start] = data[first - at : last - at]
        self._position += size
        return size

    def write(self, data: memoryview) -> int:
        """Write at the position, or keep what the disk refuses."""
        done = 0
        try:
            while self._error is None and done < len(data):
                self._stream.seek(self._position + done)
                done += self._stream.write(data[done:]) or 0
        except OSError as error:
            self._error = error
        if done < len(data):
            self._refused.append((self._position + done, bytes(data[done:])))
        self._position += len(data)
        if len(data):
            self._end = max(self._end, self._position)
        return len(data)

    def truncate(self, size: int) -> int:
        """Set the size of the file."""
        self._end = size
        try:
            self._stream.truncate(size)
        except OSError as error:
            self._error = self._error or error
        return size

    def flush(self) -> None:
        """Nothing is held back."""

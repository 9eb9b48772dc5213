"""A ledger seen by others than its run: read as it grows, and asked whether anybody writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from napari_unet.files import open_without_waiting
from napari_unet.io.ledger import LedgerContent, read_lines
from napari_unet.io.output_state import storage_errors

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from napari_unet.core.boxes import Shape

HEADER_BYTES = 8
"""The checksum at its beginning tells a ledger from one that was begun anew at the same place."""


class LedgerWatch:
    """Reads a ledger again and again, each time only what is new.

    Parameters
    ----------
    path : Path
        Of the ledger; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: LedgerContent | None = None
        """What it said at the last look; None = nothing."""
        self._beginning = b""
        self._length = 0

    def read(self) -> tuple[Shape, ...]:
        """Take note of the new lines; return the blocks that became done by them.

        Of a ledger that was begun anew, these are all that it calls done.

        Raises
        ------
        StorageError
            If it cannot be read, or is of another version.
        """
        with storage_errors(f"{self.path}: the ledger cannot be read"):
            try:
                file = open(self.path, "rb", opener=open_without_waiting)  # noqa: SIM115  # below
            except FileNotFoundError:
                self.content, self._beginning, self._length = None, b"", 0
                return ()
            with file:
                return self._read(file)

    def _read(self, file: BinaryIO) -> tuple[Shape, ...]:
        beginning, length = file.read(HEADER_BYTES), file.seek(0, 2)
        before = self.content if beginning == self._beginning else None
        known = 0 if before is None else self._length
        self._beginning, self._length = beginning, length
        if before is not None and length == known:
            return ()
        if before is not None and length >= before.good_bytes:
            file.seek(before.good_bytes)
            fresh = LedgerContent(before.fingerprint, before.settled)
            read_lines(file, fresh, self.path)
            if fresh.good_bytes:
                _add(before, fresh)
                return tuple(fresh.done)
        # From the start: it is new, or its run took back a line that it could not make durable.
        file.seek(0)
        self.content = read_lines(file, None, self.path)
        there = {} if self.content is None else self.content.done
        past = {} if before is None else before.done
        return tuple(block for block in there if block not in past)

    def is_held(self) -> bool:
        """Return whether a process holds the lock of the ledger, as far as can be told from here.

        False also where the file system does not tell other computers, or others may not ask.
        """
        lock_path = self.path.with_name(self.path.name + ".lock")
        if not lock_path.exists():
            return False
        lock = FileLock(lock_path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return True
        except (OSError, NotImplementedError):
            return False
        lock.release()
        return False


def _add(content: LedgerContent, fresh: LedgerContent) -> None:
    """Add what new lines say to what the older ones said."""
    for block, cause in fresh.failed.items():
        content.done.pop(block, None)
        content.failed[block] = cause
    for block, entry in fresh.done.items():
        content.failed.pop(block, None)
        content.done[block] = entry
    content.last_run = fresh.last_run or content.last_run
    content.good_bytes += fresh.good_bytes

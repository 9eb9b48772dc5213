"""The ledger of a run: which blocks are done, line by line, and who is at work.

A ledger is text that only grows. Each line is a CRC-32 in hexadecimal, a space, and JSON: first a
header, then what happened. A line counts when it is whole and its sum is right; what follows the
first that is not was torn by a crash, and is cut off. A block is entered only after its data is
durable, so what the ledger calls done is done, also after a power cut.

::

    5c1f0a37 {"line": "header", "schema": 1, "fingerprint": {...}, "settled": {...}}
    0b44d1c9 {"line": "run", "host": "node7", "pid": 4711, "started": "2026-11-21T10:00:00Z", ...}
    f00dcafe {"line": "done", "block": [0, 3, 1], "labels": 1234, "probabilities": null, ...}
    9a8b7c6d {"line": "failed", "block": [0, 3, 2], "cause": "chunk 0/3/2 is damaged ..."}

One process at a time writes: it holds a lock of the operating system on ``LEDGER.lock``, which ends
with the process, however that ends. Clocks decide nothing.
"""

from __future__ import annotations

import json
import os
import socket
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from filelock import FileLock, Timeout

from napari_unet.errors import LockedError, StorageError
from napari_unet.files import open_without_waiting, write_atomically
from napari_unet.io.output_state import storage_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from napari_unet.core.boxes import Shape

LEDGER_SUFFIX = ".unet.ledger"
"""What ledgers end in; what is before it is that of the record."""

SCHEMA_VERSION = 1

MAX_LINE_BYTES = 2**20
"""A header is a few kilobytes; no line of ours is longer."""

LOCK_SECONDS = 0.25
"""Who looks whether a run is alive holds its lock for an instant (`io.ledger_watch`)."""


@dataclass(frozen=True, slots=True)
class BlockEntry:
    """A block whose data is durable.

    Parameters
    ----------
    labels : int
        CRC-32 of its labels, in C order.
    probabilities : int or None
        CRC-32 of its probabilities (class, z, y, x) as they are stored; None = not kept.
    nonfinite : int
        Voxels of the image in it that were NaN or infinite.
    """

    labels: int
    probabilities: int | None = None
    nonfinite: int = 0


@dataclass(slots=True)
class LedgerContent:
    """What the whole lines of a ledger say.

    Parameters
    ----------
    fingerprint : dict
        What decides the answer.
    settled : dict
        What the first run found out and later ones use, such as the normalization.
    done : dict
        Index of a block -> its entry.
    failed : dict
        Index of a block that is not done -> why the last attempt failed.
    last_run : dict
        Who was at work last: host, pid, started.
    good_bytes : int
        Length of the whole lines.
    """

    fingerprint: dict[str, Any]
    settled: dict[str, Any]
    done: dict[Shape, BlockEntry] = field(default_factory=dict)
    failed: dict[Shape, str] = field(default_factory=dict)
    last_run: dict[str, Any] = field(default_factory=dict)
    good_bytes: int = 0

    @property
    def nonfinite(self) -> int:
        """Voxels of the image that were NaN or infinite, in all done blocks."""
        return sum(entry.nonfinite for entry in self.done.values())


def read_ledger(path: Path) -> LedgerContent | None:
    """Return what a ledger says; None if there is none, or no run got as far as to begin one.

    Raises
    ------
    StorageError
        If it cannot be read, its first line is damaged, or it is of another version.
    """
    with storage_errors(f"{path}: the ledger cannot be read"):
        if not path.exists():
            return None
        with open(path, "rb", opener=open_without_waiting) as file:
            content = read_lines(file, None, path)
    if content is None:
        raise StorageError(
            f"{path} is no ledger, or its first line is damaged; --overwrite computes everything "
            "anew"
        )
    return content


def read_lines(file: BinaryIO, content: LedgerContent | None, path: Path) -> LedgerContent | None:
    """Return what the whole lines say from where a file stands on, added to `content`.

    Without `content` the first of them is the header; None = it is not whole.
    """
    for line in iter(lambda: file.readline(MAX_LINE_BYTES), b""):
        values = _parse(line)
        if values is None:
            break
        if content is None:
            content = _header(values, path)
        else:
            _enter_read(content, values, path)
        content.good_bytes += len(line)
    return content


class Ledger:
    """A ledger, open for one run; nobody else can open it until it is closed.

    Parameters
    ----------
    path : Path
        Of the file; its folder must exist.

    Raises
    ------
    LockedError
        If another process is at work; names it.
    StorageError
        If the lock cannot be taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: LedgerContent | None = None
        self._descriptor = -1
        self._lock = FileLock(
            path.with_name(path.name + ".lock"),
            timeout=LOCK_SECONDS,
            # A generator may be closed by another thread than began it.
            thread_local=False,
        )
        with storage_errors(f"{path}: it cannot be locked"):
            try:
                self._lock.acquire()
            except Timeout:
                raise LockedError(_who(path)) from None
            except NotImplementedError as error:
                raise StorageError(
                    f"{path}: this file system has no locks, and two runs at once would damage "
                    "the output; choose an output on another one"
                ) from error

    def read(self) -> LedgerContent | None:
        """Return what it says, see `read_ledger`; a torn tail is cut off when the run begins."""
        self.content = read_ledger(self.path)
        return self.content

    def begin(
        self,
        fingerprint: Mapping[str, Any],
        settled: Mapping[str, Any],
        done: Mapping[Shape, BlockEntry] | None = None,
    ) -> LedgerContent:
        """Start anew: whatever it says now is forgotten.

        Parameters
        ----------
        fingerprint, settled : mapping
            See `LedgerContent`.
        done : mapping or None
            Blocks that are done already; their data is durable.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        header = {
            "line": "header",
            "schema": SCHEMA_VERSION,
            "fingerprint": dict(fingerprint),
            "settled": dict(settled),
        }
        entries = [_done_values(block, entry) for block, entry in (done or {}).items()]
        lines = b"".join(_format(values) for values in (header, *entries))
        with storage_errors(f"{self.path}: the ledger cannot be begun"):
            # Whole or not there: a header is never torn.
            write_atomically(self.path, lines)
        self.content = _header(header, self.path)
        for values in entries:
            _enter(self.content, values)
        self.content.good_bytes = len(lines)
        return self.content

    def enter_run(self, started: str, **how: Any) -> None:
        """Open it for this run, cut off a torn tail, and say who is at work.

        Parameters
        ----------
        started : str
            UTC time, for people.
        **how
            What does not decide the answer: tile, batch, threads, device, versions.
        """
        if self.content is None:
            raise StorageError(f"{self.path}: the ledger has no header; begin it first")
        with storage_errors(f"{self.path}: the ledger cannot be written"):
            self._descriptor = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            if os.fstat(self._descriptor).st_size != self.content.good_bytes:
                os.ftruncate(self._descriptor, self.content.good_bytes)
                os.fsync(self._descriptor)
            os.lseek(self._descriptor, 0, os.SEEK_END)
        who = {"host": socket.gethostname(), "pid": os.getpid(), "started": started}
        self._append({"line": "run", **who, **how})

    def enter_done(self, block: Shape, entry: BlockEntry) -> None:
        """Say that a block is done; call it only when its data is durable.

        Raises
        ------
        StorageError
            If the disk refuses; the block is then not done.
        """
        self._append(_done_values(block, entry))

    def enter_failed(self, block: Shape, cause: str) -> None:
        """Say that a block could not be computed, or is not done any more, and why.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        self._append({"line": "failed", "block": list(block), "cause": cause[:2000]})

    def close(self) -> None:
        """Let go of the file and of the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._lock.release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, values: dict[str, Any]) -> None:
        if self.content is None or self._descriptor < 0:
            raise StorageError(f"{self.path}: the ledger is not open for a run")
        line = _format(values)
        with storage_errors(f"{self.path}: the ledger cannot be written"):
            self._write(line)
        self.content.good_bytes += len(line)
        _enter(self.content, values)

    def _write(self, line: bytes) -> None:
        """Append a line and make it durable; what is torn is taken back."""
        assured = self.content.good_bytes if self.content is not None else 0
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:
            # A later line behind a torn one would never be read.
            os.ftruncate(self._descriptor, assured)
            os.lseek(self._descriptor, 0, os.SEEK_END)
            raise


def _done_values(block: Shape, entry: BlockEntry) -> dict[str, Any]:
    return {
        "line": "done",
        "block": list(block),
        "labels": entry.labels,
        "probabilities": entry.probabilities,
        "nonfinite": entry.nonfinite,
    }


def _format(values: Mapping[str, Any]) -> bytes:
    # ASCII: a cause may name a file whose name is no text.
    text = json.dumps(values, allow_nan=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the values of a whole line; None if it is torn or damaged."""
    if not line.endswith(b"\n") or line[8:9] != b" ":
        return None
    text = line[9:-1]
    if line[:8] != b"%08x" % zlib.crc32(text):
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _header(values: dict[str, Any], path: Path) -> LedgerContent:
    fingerprint, settled = values.get("fingerprint"), values.get("settled")
    is_header = values.get("line") == "header" and values.get("schema") == SCHEMA_VERSION
    if not (is_header and isinstance(fingerprint, dict) and isinstance(settled, dict)):
        raise StorageError(
            f"{path} does not begin as a ledger of version {SCHEMA_VERSION} does; use the "
            "napari-unet that began it, or --overwrite to compute everything anew"
        )
    return LedgerContent(fingerprint, settled)


def _enter_read(content: LedgerContent, values: dict[str, Any], path: Path) -> None:
    """Take a line of a file into account, whose sum is right and whose content may be anything."""
    try:
        _enter(content, values)
    except (LookupError, TypeError, ValueError) as error:
        raise StorageError(
            f"{path}: a line of the ledger makes no sense ({type(error).__name__}: {error}); use "
            "the napari-unet that wrote it, or --overwrite to compute everything anew"
        ) from error


def _enter(content: LedgerContent, values: dict[str, Any]) -> None:
    """Take a line into account; kinds of line of later versions are passed over."""
    kind = values.get("line")
    if kind == "run":
        content.last_run = values
    elif kind == "done":
        block, chances = _index(values), values["probabilities"]
        content.done[block] = BlockEntry(
            int(values["labels"]),
            None if chances is None else int(chances),
            int(values["nonfinite"]),
        )
        content.failed.pop(block, None)
    elif kind == "failed":
        block = _index(values)
        content.failed[block] = str(values["cause"])
        content.done.pop(block, None)


def _index(values: dict[str, Any]) -> Shape:
    block = tuple(values["block"])
    if not all(type(n) is int and n >= 0 for n in block):
        raise ValueError(f"the index {block} of a block")
    return block


def _who(path: Path) -> str:
    """Return who is at work on a run, in a sentence."""
    try:
        content = read_ledger(path)
    except StorageError:
        content = None
    run = {} if content is None else content.last_run
    who = "another process"
    if run:
        who = f"process {run.get('pid')} on {run.get('host')}, since {run.get('started')}"
    return (
        f"{path.name.removesuffix(LEDGER_SUFFIX)} is being computed by {who}; wait for it, stop "
        "it, or choose another --name or --output"
    )

"""The output folder: whether it can be written, how fast it is, and whether it has locks."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from napari_unet.app.examining.finding import Finding
from napari_unet.errors import StorageError
from napari_unet.io.output_state import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

TRIAL_BYTES = 64 * 2**20
"""Written and read for the speed."""

PIECE_BYTES = 4 * 2**20

SYNCED_LINES = 8
"""Small durable writes whose median time is taken: the ledger makes one per block."""

SLOW_BYTES_PER_SECOND = 10e6
"""Writing slower than that, a GPU would wait for the disk."""

LITTLE_BYTES = 10**9
LITTLE_FILES = 10_000

NETWORK_SYSTEMS = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "9p"),
    *("lustre", "gpfs", "beegfs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"),
)
"""Types of file systems that lie on another machine, as Linux names them."""


def examine_folder(folder: Path, trial_bytes: int = TRIAL_BYTES) -> list[Finding]:
    """Return the findings: output, space, locks. Nothing is left in the folder.

    Parameters
    ----------
    folder : Path
        Where outputs are to go. If it does not exist, the nearest that does is examined.
    trial_bytes : int
        How much is written for the speed.
    """
    wanted = folder.expanduser().absolute()
    there = next(path for path in (wanted, *wanted.parents) if path.is_dir())
    findings = [_judge_space(there)]
    free = findings[0].values["free_bytes"]
    try:
        with _trial_file(there) as path:
            findings.insert(0, _judge_speed(path, min(trial_bytes, free // 2)))
            findings.append(_judge_locks(path.with_suffix(".lock")))
    except StorageError as error:
        findings.insert(0, Finding("output", "problem", str(error), "name one with --output"))
    return findings


def file_system_of(folder: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Return the type of the file system that a folder lies on; None = unknown.

    Examples
    --------
    >>> file_system_of(Path("/"), mounts=Path("no such file"))
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    real, best, kind = folder.resolve(), -1, None
    for line in lines:
        _, place, name, *_ = line.split(" ")
        # Blanks in names are written in octal.
        mounted = Path(place.replace("\\040", " "))
        if real.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), name
    return kind


def _judge_speed(path: Path, trial_bytes: int) -> Finding:
    piece = os.urandom(PIECE_BYTES)
    pieces = max(1, trial_bytes // PIECE_BYTES)
    with storage_errors(f"{path.parent}: this folder cannot be written"):
        began = time.perf_counter()
        with path.open("wb", buffering=0) as file:
            for _ in range(pieces):
                file.write(piece)
            os.fsync(file.fileno())
            writing = time.perf_counter() - began
            lines = median(_seconds_of_line(file.fileno()) for _ in range(SYNCED_LINES))
            # Else it would be read from memory.
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            while file.read(PIECE_BYTES):
                pass
        reading = time.perf_counter() - began
    nbytes = pieces * PIECE_BYTES
    kind = file_system_of(path.parent)
    values = {
        "folder": str(path.parent),
        "file_system": kind,
        "network": None if kind is None else kind in NETWORK_SYSTEMS,
        "write_bytes_per_second": round(nbytes / writing),
        "read_bytes_per_second": round(nbytes / reading),
        "sync_seconds": lines,
    }
    text = (
        f"{path.parent}: writes {nbytes / writing / 1e6:,.0f} MB/s, reads "
        f"{nbytes / reading / 1e6:,.0f} MB/s, a durable line takes {lines * 1e3:.1f} ms"
    )
    if kind is not None:
        text += f" ({kind}, {'a network' if values['network'] else 'a local'} file system)"
    if nbytes / writing < SLOW_BYTES_PER_SECOND:
        remedy = "a local disk is faster; copy the finished output"
        return Finding("output", "note", f"slow: {text}", remedy, values)
    return Finding("output", "ok", text, values=values)


def _seconds_of_line(descriptor: int) -> float:
    began = time.perf_counter()
    os.write(descriptor, b"x" * 100)
    os.fsync(descriptor)
    return time.perf_counter() - began


def _judge_space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    files = os.statvfs(folder).f_favail if hasattr(os, "statvfs") else None
    # Some file systems count no files and say 0.
    files = files or None
    values = {"folder": str(folder), "free_bytes": free, "free_files": files}
    text = f"{free / 1e9:,.1f} GB free in {folder}"
    remedy = "free some, or choose another --output; `napari-unet plan` says how much a run takes"
    if free < LITTLE_BYTES:
        return Finding("space", "problem", f"only {text}", remedy, values)
    if files is not None and files < LITTLE_FILES:
        text += f", but room for {files} files only"
        return Finding("space", "problem", text, "give --shards: one file per block", values)
    return Finding("space", "ok", text, values=values)


def _judge_locks(path: Path) -> Finding:
    lock = FileLock(path, timeout=0)
    remedy = "choose an output on another file system, or have locks switched on for this one"
    try:
        lock.acquire()
    except (NotImplementedError, OSError, Timeout) as error:
        text = f"files cannot be locked here ({error}): two runs could damage one output"
        return Finding("locks", "problem", text, remedy)
    lock.release()
    return Finding("locks", "ok", "files can be locked: two runs never write one output")


@contextlib.contextmanager
def _trial_file(folder: Path) -> Iterator[Path]:
    """Give the path of a file, and remove it and its lock whatever happens."""
    path = folder / f".napari-unet-{secrets.token_hex(4)}.probe"
    try:
        yield path
    finally:
        for leftover in (path, path.with_suffix(".lock")):
            with contextlib.suppress(OSError):
                leftover.unlink()

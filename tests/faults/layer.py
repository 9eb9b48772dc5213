"""Faults in what a process asks of its disk, at the N-th time, for the rest of its life.

Python tells an audit hook of each file that is opened, renamed or removed *before* it does so:
there a process can be killed or refused. `os.fsync` and `os.write` are wrapped. So it needs neither
strace nor root, and works on every system.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import stat
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

How = Literal["count", "kill", "torn", "stop", "power", "clock", "EIO", "ENOSPC", "EDQUOT"]

WRITES = ("open", "rename", "remove", "mkdir", "truncate", "fsync", "write")
"""Steps that change the disk. A file that is opened to be read is "read"."""

EVENTS = {
    "os.rename": "rename",
    "os.link": "rename",
    "os.remove": "remove",
    "os.rmdir": "remove",
    "os.mkdir": "mkdir",
    "os.truncate": "truncate",
}
"""Audit event -> step; `os.replace` is audited as a rename."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when.

    Parameters
    ----------
    how : str
        "count" nothing, "kill" SIGKILL, "torn" half of a write, then SIGKILL, "stop" SIGSTOP,
        "power" SIGKILL and what was not synced is lost, "clock" it jumps; or the error to raise.
    root : str
        Only steps in this folder count.
    at : int
        Step at which it happens, from 0.
    last : int or None
        Last step at which an error is raised; None = no end.
    kinds : tuple of str
        Steps that count.
    """

    how: How
    root: str
    at: int = 0
    last: int | None = None
    kinds: tuple[str, ...] = WRITES


class Layer:
    """Counts steps and lets one of them fail."""

    def __init__(self, fault: Fault, log: Path) -> None:
        self.fault = fault
        self._lock = threading.Lock()
        self._count = 0
        self._busy = False
        self._fsync, self._write = os.fsync, os.write
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self._power = PowerCut(Path(fault.root)) if fault.how == "power" else None

    def install(self) -> None:
        """Begin."""
        if self.fault.how == "clock":
            real = time.time
            chance = random.Random(self.fault.at)
            time.time = lambda: real() + chance.uniform(-86400.0, 86400.0)
            time.time_ns = lambda: int(time.time() * 1e9)
            return
        os.fsync, os.write = self.fsync, self.write  # type: ignore[assignment]
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event for a step."""
        if event == "open":
            path, _, flags = arguments
            if self._is_ours(path):
                writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                self.step("open" if writing else "read")
        elif event in EVENTS:
            # The last is the target of a rename; what is relative to a folder comes from rmtree.
            paths = [a for a in arguments if isinstance(a, str | bytes | os.PathLike)]
            if any(map(self._is_ours, paths)) or (
                paths and not os.path.isabs(os.fsdecode(paths[0]))
            ):
                self.step(EVENTS[event])
                if self._power is not None:
                    self._power.keep(Path(os.fsdecode(paths[-1])))

    def fsync(self, descriptor: int) -> None:
        """Stand in for `os.fsync`."""
        self.step("fsync")
        self._fsync(descriptor)
        if self._power is not None:
            self._power.synced(descriptor)

    def write(self, descriptor: int, data: Any) -> int:
        """Stand in for `os.write`."""
        if self.step("write") and self.fault.how == "torn":
            self._write(descriptor, bytes(data)[: len(data) // 2])
            die()
        return self._write(descriptor, data)

    def step(self, kind: str) -> bool:
        """Count a step; return whether it is the one, if it is not refused and nobody dies."""
        fault = self.fault
        if kind not in fault.kinds or self._busy:
            return False
        with self._lock:
            count, self._count = self._count, self._count + 1
            self._write(self._log, f"{kind}\n".encode())
            last = fault.last if fault.last is not None else sys.maxsize
            if count == fault.at:
                # What it does itself is no step.
                self._busy = True
                self._happen()
                self._busy = False
            if hasattr(errno, fault.how) and fault.at <= count <= last:
                number = getattr(errno, fault.how)
                raise OSError(number, os.strerror(number))
            return count == fault.at

    def _happen(self) -> None:
        if self.fault.how == "power" and self._power is not None:
            self._power.cut()
        if self.fault.how in ("kill", "power"):
            die()
        if self.fault.how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)

    def over(self) -> None:
        """Let the power fail after the end, if it did not before."""
        if self._power is not None:
            self._busy = True
            self._power.cut()
            die()

    def _is_ours(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        text = os.fsdecode(path)
        return text == self.fault.root or text.startswith(self.fault.root + os.sep)


def die() -> None:
    """End this process as a crash does: nothing is flushed, nobody is told."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class PowerCut:
    """What a disk may have forgotten when the power comes back, by the letter of POSIX.

    Of a file, what was there when it was last synced; of a folder, the names that it had when it
    was last synced. All that was there in the beginning is safe.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kept = root.with_name(root.name + ".kept")
        self._kept.mkdir(exist_ok=True)
        self._sizes: dict[int, int] = {}
        self._names: dict[int, dict[str, int]] = {}
        for folder, folders, files in os.walk(root):
            entries = {n: os.lstat(os.path.join(folder, n)).st_ino for n in [*folders, *files]}
            self._names[os.stat(folder).st_ino] = entries
            for name in files:
                status = os.lstat(os.path.join(folder, name))
                self._sizes[status.st_ino] = status.st_size

    def keep(self, path: Path) -> None:
        """Hold on to a file that is about to be replaced or removed: it may come back."""
        if path.is_absolute() and path.is_file():
            kept = self._kept / str(path.stat().st_ino)
            if not kept.exists():
                os.link(path, kept)

    def synced(self, descriptor: int) -> None:
        """Remember that a file or a folder is safe as it is now."""
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(descriptor) as entries:
                self._names[status.st_ino] = {entry.name: entry.inode() for entry in entries}
        else:
            self._sizes[status.st_ino] = status.st_size

    def cut(self) -> None:
        """Write down what is safe, for `lose`."""
        facts = {
            "sizes": {str(k): v for k, v in self._sizes.items()},
            "names": {str(k): v for k, v in self._names.items()},
        }
        (self._kept / "facts.json").write_text(json.dumps(facts))


def lose(root: Path, *, names: bool) -> None:
    """Do to a folder what a power cut may do; the process that wrote there must be dead.

    Parameters
    ----------
    root : Path
        The folder.
    names : bool
        Whether names are lost too; if not, unsynced files are there and short or empty.
    """
    kept = root.with_name(root.name + ".kept")
    facts = json.loads((kept / "facts.json").read_text())
    if names:
        _restore_names(root, facts["names"], kept)
    for path in root.rglob("*"):
        if path.is_file():
            safe = facts["sizes"].get(str(path.stat().st_ino), 0)
            if path.stat().st_size > safe:
                os.truncate(path, safe)
    shutil.rmtree(kept)


def _restore_names(folder: Path, names: dict[str, dict[str, int]], kept: Path) -> None:
    safe = names.get(str(folder.stat().st_ino), {})
    for path in list(folder.iterdir()):
        if safe.get(path.name) == path.lstat().st_ino:
            if path.is_dir():
                _restore_names(path, names, kept)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for name, inode in safe.items():
        if not (folder / name).exists() and (kept / str(inode)).exists():
            os.link(kept / str(inode), folder / name)

"""How much of the machine this process may use: cores and memory, less what a container allows."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

UNLIMITED_BYTES = 2**60
"""Control groups of version 1 write a huge number where there is no limit."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """What control groups (containers, batch systems) allow; None = no limit.

    Parameters
    ----------
    cores : float or None
        Processor time per time.
    memory_bytes : int or None
        Memory of all processes in the group.
    """

    cores: float | None
    memory_bytes: int | None


def group_limits(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> GroupLimits:
    """Return the tightest limits of the control groups that this process is in.

    Parameters
    ----------
    root : Path
        Where control groups are mounted.
    membership : Path
        File that names those of this process.
    """
    cores: list[float] = []
    memory: list[int] = []
    for folder in _group_folders(root, membership):
        quota = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2 and all(word.isdecimal() for word in quota):
            cores.append(int(quota[0]) / int(quota[1]))
        limit = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        if limit and limit[0].isdecimal() and int(limit[0]) < UNLIMITED_BYTES:
            memory.append(int(limit[0]))
    return GroupLimits(min(cores, default=None), min(memory, default=None))


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> tuple[int | None, int | None]:
    """Return the memory of the machine and how much of it is free, in bytes; None = unknown."""
    if sys.platform == "win32":
        return None, None
    lines = (line.split() for line in _text(meminfo).splitlines())
    found = {words[0]: int(words[1]) * 1024 for words in lines if len(words) == 3}
    total = found.get("MemTotal:")
    if total is None and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return total, found.get("MemAvailable:")


def _group_folders(root: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of all groups that bound this process: its own and those around them."""
    for line in _text(membership).splitlines():
        _, controllers, name = [*line.split(":", 2), "", ""][:3]
        # Version 2 has one tree, version 1 one for each controller.
        top = root / controllers if controllers else root
        if controllers not in ("", "cpu", "cpu,cpuacct", "memory"):
            continue
        # In a container the name is that outside, and the mount shows the container's own group.
        folder = top / name.strip("/")
        while True:
            yield folder
            if folder in (top, folder.parent):
                break
            folder = folder.parent


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""

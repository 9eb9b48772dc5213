"""Whether the disk has room for a job, and how much is to be freed where it has not."""

from __future__ import annotations

import errno
import math
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.app.plan import estimate
from napari_unet.errors import StorageError
from napari_unet.io.pyramid import plan_levels
from napari_unet.io.stored_size import stored_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.boxes import Shape

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
"""Error numbers of a disk that is full, or of a share of it that is used up."""

SAMPLED_BLOCKS = 32
"""Blocks whose files are measured: a terabyte has too many to ask for all."""


def full_disk(error: BaseException) -> OSError | None:
    """Return what the system said if an error means that the disk is full, else None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return cause
        cause = cause.__cause__
    return None


@contextmanager
def telling_of_full_disks(space: Callable[[], DiskSpace]) -> Iterator[None]:
    """Say of a disk that becomes full inside how far the run came, and what it needs.

    Parameters
    ----------
    space : callable
        Returns what is still to be written.

    Raises
    ------
    StorageError
        What is raised inside; with another message if the disk is full.
    """
    try:
        yield
    except StorageError as error:
        cause = full_disk(error)
        if cause is None:
            raise
        raise space().refused(cause) from error


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """What a run still has to write, and the room for it.

    Parameters
    ----------
    plan : SegmentPlan
        The job.
    blocks, pixels : int
        What the run is to do, in all.
    done : collection of tuple of int
        Indices of the blocks that are done.
    """

    plan: SegmentPlan
    blocks: int
    pixels: int
    done: Collection[Shape]

    def wanted(self) -> int:
        """Return about how many bytes are still to be written, coarser levels included.

        What is left will shrink as what is done did. Where nothing is done it is the estimate for
        data that does not shrink at all.
        """
        plan, grid = self.plan, self.plan.grid
        boxes = [grid.block(index, plan.region).write for index in sorted(self.done)]
        sample = boxes[:: -(-len(boxes) // SAMPLED_BLOCKS) or 1]
        try:
            stored = stored_bytes(Path(plan.job.output), plan.name, sample)
        except StorageError:
            # Of a disk that fails altogether.
            stored = 0
        if not stored:
            return round(estimate(plan).disk_bytes * self.pixels / plan.region.size)
        left = self.pixels - sum(box.size for box in boxes)
        levels = [math.prod(level.shape) for level in plan_levels(plan.source)]
        coarser = self.pixels * sum(levels[1:]) / levels[0]
        return math.ceil(stored / sum(box.size for box in sample) * (left + coarser))

    def free(self) -> int | None:
        """Return how many bytes are free where the job writes; None = unknown."""
        try:
            return shutil.disk_usage(self.plan.job.output).free
        except OSError:
            return None

    def warning(self) -> str | None:
        """Return a sentence if the disk may become full, else None."""
        wanted, free = self.wanted(), self.free()
        if free is None or free >= wanted:
            return None
        likely = "is likely to take" if self.done else "takes at most"
        return (
            f"the disk of {self.plan.job.output} has {in_words(free)} left, and what is to be "
            f"written {likely} {in_words(wanted)}; if it becomes full, the blocks that are done "
            "are kept"
        )

    def refused(self, cause: OSError) -> StorageError:
        """Return the error for a disk that is full: how far the run came, and what it needs."""
        wanted = self.wanted()
        # Of a quota nobody knows what is left.
        free = self.free() if cause.errno == errno.ENOSPC else None
        to_free = wanted if free is None or free >= wanted else wanted - free
        return StorageError(
            f"{self.plan.job.output}: the disk is full ({os.strerror(cause.errno or 0)}); "
            f"{len(self.done)} of {self.blocks} blocks are done and kept; free "
            f"{in_words(to_free)} and run the same command again"
        )


def in_words(count: int) -> str:
    """Return a number of bytes, rounded up.

    Examples
    --------
    >>> in_words(3_210_000_000), in_words(45_000_001), in_words(0)
    ('3.3 GB', '46 MB', '1 MB')
    """
    if count >= 10**9:
        return f"{math.ceil(count / 1e8) / 10:.1f} GB"
    return f"{max(math.ceil(count / 1e6), 1)} MB"

"""Which blocks each of several independent processes computes, and where their ledgers lie.

::

    out.zarr
    NAME.unet.ledger                   header alone: fingerprint, normalization, number of shards
    NAME.shard-1-of-3.unet.ledger      what the first process has done
    NAME.shard-2-of-3.unet.ledger      ...

A process takes the lock of its own ledger, then reads the common header. Who changes the header
takes all these locks first. So nobody computes for a header that is not there any more.
"""

from __future__ import annotations

import glob
import re
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.app.job_files import RECORD_SUFFIX, record_path
from napari_unet.errors import ConfigError, LockedError
from napari_unet.io.ledger import LEDGER_SUFFIX, Ledger
from napari_unet.io.output_state import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.tiling import TileGrid

RUN = "run"
"""Attribute of an output, and entry of its ledger: they belong together."""

SHARDS = "shards"
"""Entry of a header: how many processes share the blocks. Absent: one does them all."""


def ledger_path(output: Path, name: str) -> Path:
    """Return where the ledger of a label image lies: beside its record."""
    record = record_path(output, name)
    return record.with_name(record.name.removesuffix(RECORD_SUFFIX) + LEDGER_SUFFIX)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the equal parts of a job's blocks, each computed by a process of its own.

    Parameters
    ----------
    number : int
        Which one, from 1.
    shards : int
        Of how many.
    """

    number: int
    shards: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that ``"i/N"`` names.

        Raises
        ------
        ConfigError
            If the text is of another form, or i is not 1 ... N.

        Examples
        --------
        >>> Shard.parse("2/4")
        Shard(number=2, shards=4)
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        number, shards = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= shards:
            raise ConfigError(
                f"shard {text!r} is not i/N with i from 1 to N; write 1/4 for the first of four"
            )
        return cls(number, shards)

    def __str__(self) -> str:
        return f"{self.number}/{self.shards}"

    def blocks(self, count: int) -> range:
        """Return the numbers, of `count` blocks in C order, that are its own: a contiguous run.

        The shards hold every block once, and differ by at most one in size.

        Examples
        --------
        >>> [list(Shard(i, 3).blocks(8)) for i in (1, 2, 3)]
        [[0, 1], [2, 3, 4], [5, 6, 7]]
        """
        return range((self.number - 1) * count // self.shards, self.number * count // self.shards)

    def ledger_path(self, whole: Path) -> Path:
        """Return where its ledger lies, given that of the whole job."""
        stem = whole.name.removesuffix(LEDGER_SUFFIX)
        return whole.with_name(f"{stem}.shard-{self.number}-of-{self.shards}{LEDGER_SUFFIX}")


def block_index(grid: TileGrid, region: Box, number: int) -> Shape:
    """Return the position in the block grid of a block, given its number in C order."""
    index = []
    for positions in reversed(grid.block_ranges(region)):
        number, offset = divmod(number, len(positions))
        index.append(positions[offset])
    return tuple(reversed(index))


def block_number(grid: TileGrid, region: Box, index: Shape) -> int:
    """Return the number in C order of a block, given its position in the block grid."""
    number = 0
    for positions, k in zip(grid.block_ranges(region), index, strict=True):
        number = number * len(positions) + k - positions.start
    return number


def shard_ledgers(whole: Path) -> list[Path]:
    """Return the ledgers of all shards of a job that were ever begun, also by another number."""
    stem = glob.escape(whole.name.removesuffix(LEDGER_SUFFIX))
    found = whole.parent.glob(f"{stem}.shard-*-of-*{LEDGER_SUFFIX}*")
    names = {path.name.removesuffix(".lock") for path in found}
    return sorted(whole.with_name(name) for name in names if name.endswith(LEDGER_SUFFIX))


@contextmanager
def shards_locked(whole: Path) -> Iterator[list[Path]]:
    """Hold the locks of all shards of a job; gives their ledgers.

    Raises
    ------
    LockedError
        If a process is at work on one of them; names it.
    """
    paths = shard_ledgers(whole)
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(Ledger(path))
        yield paths


@contextmanager
def shards_forgotten(whole: Path) -> Iterator[None]:
    """Let a new header be written inside; what shards of an old one have done is forgotten.

    Only who holds the lock of `whole` may do that.

    Raises
    ------
    LockedError
        If a process is at work on a shard; the old header is then as it was.
    """
    if not shard_ledgers(whole):
        yield
        return
    with storage_errors(f"{whole}: the old ledger cannot be put aside"):
        aside = whole.with_name(whole.name + ".old")
        if whole.exists():
            # No process that starts from here on finds it.
            whole.replace(aside)
    with ExitStack() as stack:
        try:
            paths = stack.enter_context(shards_locked(whole))
        except LockedError:
            with storage_errors(f"{whole}: the ledger cannot be put back"):
                if aside.exists():
                    aside.replace(whole)
            raise
        yield
        forget(paths)
        with storage_errors(f"{aside}: it cannot be deleted"):
            aside.unlink(missing_ok=True)


def forget(ledgers: list[Path]) -> None:
    """Delete ledgers of shards, whose locks the caller holds.

    Raises
    ------
    StorageError
        If one cannot be deleted.
    """
    for path in ledgers:
        with storage_errors(f"{path}: this ledger cannot be deleted"):
            path.unlink(missing_ok=True)
        # Who gets a new lock finds the new state of things; Windows keeps open files.
        with suppress(OSError):
            path.with_name(path.name + ".lock").unlink()

"""What a run is doing, seen from outside: by its files alone, so also one on a cluster.

::

    record NAME.unet.json ---- job, classes ------------> what it is
    OUT/labels/NAME ---------- state, fingerprint ------> how many blocks there are
    ledger, those of shards -- new lines ---------------> which blocks are done, who is at work
    lock of each ledger ------ held? -------------------> whether somebody still is
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_unet.app.job_files import RECORD_SUFFIX, read_record
from napari_unet.app.segmenting.shard_files import RUN, SHARDS, Shard, ledger_path
from napari_unet.core.boxes import Box, parse_region
from napari_unet.core.job import SegmentJob
from napari_unet.errors import BackendError, ConfigError
from napari_unet.io.damage import input_errors
from napari_unet.io.label_output import list_labels
from napari_unet.io.ledger import LEDGER_SUFFIX
from napari_unet.io.ledger_watch import LedgerWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.core.boxes import Shape
    from napari_unet.io.label_output import StoredLabels

RunState = Literal["running", "stopped", "complete"]
"""Whether somebody is at work on a run, nobody, or nothing is left to do."""

QUIET_SECONDS = 120.0
"""A run on another computer whose lock cannot be seen counts as stopped after this silence."""

MAX_RECORDS = 1000
"""Records of a folder that are looked into."""

OUR_COMMANDS = ("napari_unet", "napari-unet")
"""What the command line of a process of ours holds one of."""


@dataclass(frozen=True, slots=True)
class AtWork:
    """A process that computes blocks of a run.

    Parameters
    ----------
    host : str
        Name of its computer.
    pid : int
        Its number there.
    since : str
        UTC time at which it began, ISO 8601.
    """

    host: str
    pid: int
    since: str

    @property
    def is_here(self) -> bool:
        """Whether it runs on this computer."""
        return self.host == socket.gethostname()


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is.

    Parameters
    ----------
    state : {"running", "stopped", "complete"}
        What is being done about it.
    blocks_done, blocks_failed : int
        Blocks that are stored for good, and that were tried in vain.
    new_blocks : tuple of Box
        Voxels (z, y, x) of the blocks that became done since the last look; at the first, of all.
    at_work : tuple of AtWork
        Who is at work, as far as it can be seen.
    """

    state: RunState
    blocks_done: int
    blocks_failed: int
    new_blocks: tuple[Box, ...] = ()
    at_work: tuple[AtWork, ...] = ()


class FollowedRun:
    """A label image of classes and the run that makes it.

    Nothing of it is changed. It may be looked at twice a second, also on a network folder: a look
    reads what was added to the ledgers and asks for their locks.

    Parameters
    ----------
    stored : StoredLabels
        What the output says.
    ledger : Path
        Where the ledger of the whole job is, or would be.

    Raises
    ------
    InputError
        If the output does not say how it was made.
    """

    def __init__(self, stored: StoredLabels, ledger: Path) -> None:
        self.output, self.name = stored.path, stored.name
        self.classes = tuple((item.name, item.color) for item in stored.classes)
        self.ledger = ledger
        self._watches = {0: LedgerWatch(ledger)}
        self._grown: dict[int, float] = {}
        self._has_looked = False
        self._take(stored)

    def _take(self, stored: StoredLabels) -> None:
        """Take note of what the output says of the run."""
        what = f"{stored.path}: {stored.name!r} does not say how it was made"
        with input_errors(what, "segment the image again with --overwrite"):
            fingerprint = stored.attributes["fingerprint"]
            self._job = SegmentJob.parse(dict(stored.attributes["job"]), source=str(stored.path))
            edge, region = int(fingerprint["block_size"]), str(fingerprint["region"])
            with closing(stored.open_labels()) as source:
                self.region = parse_region(region, source.shape)
        self._run = stored.attributes.get(RUN)
        self._is_complete = stored.state == "complete"
        self._edges = (1, edge, edge)

    @property
    def labels(self) -> str:
        """Path of the label array of full resolution."""
        return str((self.output / "labels" / self.name / "0").absolute())

    @property
    def job(self) -> SegmentJob:
        """The job that goes on with it: that of its beginning, wherever the output lies now.

        On this machine: a scheduler or cluster that it began with may be gone.
        """
        output = str(self.output.absolute())
        here = {
            "output": output,
            "name": self.name,
            "overwrite": False,
            "workers": self._job.workers,
        }
        return self._job.undivided().model_copy(update=here)

    @property
    def blocks(self) -> int:
        """Number of blocks in all."""
        return math.prod(
            -(-b // e) - a // e
            for a, b, e in zip(self.region.start, self.region.stop, self._edges, strict=True)
        )

    @property
    def shards(self) -> int:
        """Into how many shards the run is divided; 0 = not."""
        content = self._watches[0].content
        return 0 if content is None else int(content.settled.get(SHARDS, 0))

    @property
    def obstacle(self) -> str | None:
        """Why the job cannot simply be run again to go on, in a sentence; None = it can."""
        if self.shards:
            return (
                f"It was begun in {self.shards} shards: run those that are missing with --shard, "
                f"then napari-unet finish {self.output}."
            )
        if self.ledger != ledger_path(self.output, self.name):
            return (
                "The output was moved, and its ledger would not be found; move both back to "
                f"{Path(self._job.output).parent} to go on."
            )
        return None

    def look(self) -> Standing:
        """Return how far the run is now.

        Raises
        ------
        UNetError
            If the ledger or the output cannot be read.
        """
        fresh = tuple(self._box(index) for index in self._read())
        self._has_looked = True
        contents = [watch.content for watch in self._current() if self._is_ours(watch)]
        done = sum(len(content.done) for content in contents if content is not None)
        failed = sum(len(content.failed) for content in contents if content is not None)
        if done >= self.blocks and not self._is_complete:
            self._is_complete = _find(self.output, self.name).state == "complete"
        if self._is_complete:
            return Standing("complete", done, failed, fresh)
        at_work = tuple(self._at_work())
        return Standing("running" if at_work else "stopped", done, failed, fresh, at_work)

    def _read(self) -> list[Shape]:
        """Read what is new in all ledgers; return the blocks that became done."""
        fresh = self._read_one(0)
        content = self._watches[0].content
        if content is not None and content.settled.get(RUN) != self._run:
            # It was begun anew since.
            self._take(_find(self.output, self.name))
        for number in range(1, self.shards + 1):
            fresh += self._read_one(number)
        return fresh

    def _read_one(self, number: int) -> list[Shape]:
        """Read the ledger of a shard, from 1, or that of the whole job, 0."""
        if number not in self._watches:
            path = Shard(number, self.shards).ledger_path(self.ledger)
            self._watches[number] = LedgerWatch(path)
        fresh = self._watches[number].read()
        if fresh and self._has_looked:
            self._grown[number] = time.monotonic()
        return list(fresh)

    def _current(self) -> list[LedgerWatch]:
        """Return the ledgers that count: those of shards are forgotten once they are one."""
        return [self._watches[number] for number in range(self.shards + 1)]

    def _is_ours(self, watch: LedgerWatch) -> bool:
        """Return whether a ledger belongs to what the output holds."""
        return watch.content is not None and watch.content.settled.get(RUN) == self._run

    def _at_work(self) -> Iterator[AtWork]:
        for number, watch in enumerate(self._current()):
            if watch.content is None:
                continue
            last = watch.content.last_run
            who = AtWork(
                str(last.get("host", "")), int(last.get("pid", 0)), str(last.get("started", ""))
            )
            # Not every file system tells one computer of the locks that another one holds.
            quiet = time.monotonic() - self._grown.get(number, -math.inf)
            if watch.is_held() or (quiet < QUIET_SECONDS and not who.is_here):
                yield who

    def _box(self, index: Shape) -> Box:
        start = tuple(i * e for i, e in zip(index, self._edges, strict=True))
        cell = Box(start, tuple(a + e for a, e in zip(start, self._edges, strict=True)))
        return cell.intersection(self.region)


def follow(output: Path, name: str) -> FollowedRun:
    """Return the run behind a label image of classes, ready to be looked at.

    Parameters
    ----------
    output : Path
        OUT, the OME-Zarr group; it may have been moved, together with its ledger.
    name : str
        NAME of the label image.

    Raises
    ------
    ConfigError
        If the output holds no such label image.
    InputError
        If there is no output, or it does not say how it was made.
    StorageError
        If the output is not one of ours.
    """
    stored = _find(output, name)
    usual = ledger_path(output, name)
    # What lies beside a record that names another folder was moved with it.
    moved = output.parent / f"{name}{LEDGER_SUFFIX}"
    return FollowedRun(stored, moved if moved.exists() and not usual.exists() else usual)


def find_unfinished(folder: Path) -> Iterator[tuple[Path, str, SegmentJob]]:
    """Yield output, name and job of every run whose record in a folder says that it did not finish.

    Parameters
    ----------
    folder : Path
        Where records may lie; it need not exist.
    """
    for path in itertools.islice(sorted(folder.glob(f"*{RECORD_SUFFIX}")), MAX_RECORDS):
        try:
            record = read_record(path)
        except ConfigError:
            # Of objects, or of another program.
            continue
        if record.state == "incomplete":
            yield _output_of(record.output, path), record.name, record.job


def runs_of(path: Path) -> list[tuple[Path, str]]:
    """Return output and name of the label images that a record, or an output folder, is about.

    Raises
    ------
    ConfigError
        If a file is not the record of a segmentation.
    InputError
        If a folder holds no output.
    StorageError
        If a folder was not made by us, or cannot be read.
    """
    if path.is_dir():
        return [(path, stored.name) for stored in list_labels(path) if stored.kind == "classes"]
    record = read_record(path)
    return [(_output_of(record.output, path), record.name)]


def stop_process(at_work: AtWork) -> None:
    """Ask a process to finish the blocks that it is at, and to end; what is done is kept.

    Raises
    ------
    BackendError
        If it runs on another computer, is not known to be ours, or may not be asked.
    """
    which = f"process {at_work.pid} on {at_work.host}"
    if not at_work.is_here:
        raise BackendError(f"{which} cannot be stopped from here; stop it there")
    if not any(command in _command_line(at_work.pid) for command in OUR_COMMANDS):
        raise BackendError(f"{which} was not started as napari-unet; stop it where it was started")
    try:
        os.kill(at_work.pid, signal.SIGTERM)
    except OSError as error:
        raise BackendError(f"{which} cannot be stopped: {error.strerror}") from error


def _find(output: Path, name: str) -> StoredLabels:
    found = {stored.name: stored for stored in list_labels(output) if stored.kind == "classes"}
    if name not in found:
        listed = ", ".join(found) or "none"
        raise ConfigError(f"{output} holds no label image {name!r} of classes; there are: {listed}")
    return found[name]


def _output_of(output: str, record: Path) -> Path:
    """Return where an output lies, also after it was moved together with its record."""
    recorded = Path(output)
    return recorded if recorded.exists() else record.parent / recorded.name


def _command_line(pid: int) -> str:
    """Return the command line of a process; empty if there is none, or it cannot be told."""
    if sys.platform == "win32":
        return ""
    # POSIX; a number alone says nothing: the system gives it to another process some day.
    words = ["ps", "-o", "command=", "-p", str(pid)]
    try:
        asked = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout

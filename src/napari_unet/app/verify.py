"""Compare what a segmentation has stored with its ledger, and make again what is not right."""

from __future__ import annotations

import contextlib
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.app.job_files import read_record, record_path, utc_now, write_record
from napari_unet.app.segment import run_job
from napari_unet.app.segmenting.journal import RUN, ledger_path
from napari_unet.app.segmenting.shard_files import SHARDS
from napari_unet.app.segmenting.stored_run import StoredRun, find_run
from napari_unet.core.events import (
    AlreadyDone,
    BlockDone,
    BlockFailed,
    Finished,
    StageChanged,
    Warned,
)
from napari_unet.core.job import SegmentJob
from napari_unet.core.verify_events import (
    BlockDamaged,
    Repaired,
    Verified,
    VerifyCancelled,
    VerifyProgress,
)
from napari_unet.errors import ConfigError, StorageError
from napari_unet.inference.control import JobControl
from napari_unet.io.ledger import Ledger
from napari_unet.io.ome_documents import OURS, read_group, write_group
from napari_unet.io.output_state import storage_errors

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeAlias

    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.events import JobEvent
    from napari_unet.core.objects_events import ObjectsEvent
    from napari_unet.core.verify_events import VerifyEvent
    from napari_unet.io.ledger import LedgerContent

    AnyEvent: TypeAlias = VerifyEvent | JobEvent | ObjectsEvent


def run_verify(
    output: str | Path,
    name: str | None = None,
    control: JobControl | None = None,
    *,
    repair: bool = False,
) -> Generator[AnyEvent]:
    """Read every block of a segmentation back and compare it with its ledger.

    Coarser levels of a complete output are compared with what the finer ones say. Nothing is
    written unless `repair` is set, and neither the image nor the model is needed. Memory holds one
    block.

    Parameters
    ----------
    output : path
        OUT.
    name : str or None
        NAME of the label image; None = the only one of classes.
    control : JobControl or None
        To stop.
    repair : bool
        Say in OUT that it is incomplete, if anything is not right, and let the job that made it
        compute that, and finish.

    Yields
    ------
    VerifyEvent, JobEvent, ObjectsEvent
        Ends with `Verified` or `VerifyCancelled`; with `repair`, what `run_job` yields follows, and
        `Repaired` if all is right then.

    Raises
    ------
    UNetError
        If there is no such output or no ledger of it, another process is at work on it, or the job
        cannot go on.
    """
    control, began = control or JobControl(), time.monotonic()
    yield StageChanged("opening")
    path = Path(output).expanduser().absolute()
    with Ledger(find_run(path, name).ledger) as ledger:
        # Again: from here on nobody else changes it.
        run = find_run(path, name)
        check = _Check(run, ledger, repair=repair)
        yield from check.compare(control)
        if control.ending:
            yield VerifyCancelled(str(run.path), run.name, check.seen, run.block_count)
            return
        verified = check.result(time.monotonic() - began)
        if repair and not verified.is_right:
            check.mark_incomplete()
        yield verified
    if repair and not verified.is_right:
        yield from _repair(run, control)


@dataclass(slots=True)
class _Counts:
    right: int = 0
    damaged: int = 0
    missing: int = 0
    coarse: int = 0


class _Check:
    """A comparison, under the lock of the output."""

    def __init__(self, run: StoredRun, ledger: Ledger, *, repair: bool) -> None:
        self._run = run
        self._ledger = ledger
        self._repair = repair
        self._content = _read(run, ledger)
        self._counts = _Counts()
        self._state = run.labels.state
        self._marked = False
        if repair:
            repair_job(run)

    @property
    def seen(self) -> int:
        """Blocks looked at."""
        counts = self._counts
        return counts.right + counts.damaged + counts.missing

    def result(self, seconds: float) -> Verified:
        """Return what was found."""
        counts, run = self._counts, self._run
        return Verified(
            output=str(run.path),
            name=run.name,
            state=self._state,
            blocks=run.block_count,
            right=counts.right,
            damaged=counts.damaged,
            missing=counts.missing,
            coarse=counts.coarse,
            seconds=seconds,
        )

    def compare(self, control: JobControl) -> Generator[VerifyEvent]:
        """Compare blocks, then coarser levels, as far as `control` lets it."""
        with storage_errors(f"{self._ledger.path}: its size cannot be read"):
            torn = self._ledger.path.stat().st_size - self._content.good_bytes
        if torn:
            yield Warned(
                f"the last {torn} bytes of {self._ledger.path} are torn or damaged; blocks that "
                "they speak of count as not done"
            )
        yield StageChanged("checking")
        blocks = self._run.block_count
        for done, (index, box) in enumerate(self._run.blocks(), start=1):
            if control.ending:
                return
            entry = self._content.done.get(index)
            if entry is None:
                self._counts.missing += 1
                if index in self._content.failed:
                    yield BlockFailed(box, self._content.failed[index])
            elif (cause := self._run.fault(box, entry)) is None:
                self._counts.right += 1
            else:
                self._counts.damaged += 1
                self._spoil(index, box, cause)
                yield BlockDamaged(0, box, cause)
            yield VerifyProgress(done, blocks)
        yield from self._compare_coarse(control)

    def _compare_coarse(self, control: JobControl) -> Generator[VerifyEvent]:
        # Before the end of a run there are none, and after damage all are made again.
        if self._state != "complete" or self._counts.damaged or self._counts.missing:
            return
        pieces = self._run.coarse_pieces()
        for done, (level, box) in enumerate(pieces, start=1):
            if control.ending:
                return
            cause = self._run.coarse_fault(level, box)
            if cause is not None:
                self._counts.coarse += 1
                self.mark_incomplete()
                if self._repair:
                    self._run.discard(level, box)
                yield BlockDamaged(level, box, cause)
            yield VerifyProgress(done, len(pieces))

    def _spoil(self, index: Shape, box: Box, cause: str) -> None:
        """Enter that a block is not done any more."""
        if not self._repair:
            return
        if self._counts.damaged == 1:
            self.mark_incomplete()
            self._ledger.enter_run(utc_now(), verify=True)
        self._ledger.enter_failed(index, cause)
        # A shard would be read before it is written, and be half of what it was.
        self._run.discard(0, box)

    def mark_incomplete(self) -> None:
        """Let the output say that its job is not finished, once, if that is to be repaired."""
        if self._repair and not self._marked and self._state == "complete":
            mark_incomplete(self._run)
            self._marked = True


def _read(run: StoredRun, ledger: Ledger) -> LedgerContent:
    content = ledger.read()
    if content is None or content.settled.get(RUN) != run.labels.attributes.get(RUN):
        raise StorageError(f"{run.path}: its ledger was replaced a moment ago; verify again")
    if content.settled.get(SHARDS):
        raise ConfigError(
            f"{run.path}: {run.name!r} was begun in {content.settled[SHARDS]} shards that are not "
            f"put together yet; run napari-unet finish {run.path} first"
        )
    return content


def mark_incomplete(run: StoredRun) -> None:
    """Let an output and its record say that the job is not finished.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    for kind in ("labels", "probabilities"):
        folder = run.path / kind / run.name
        with storage_errors(f"{folder}: its state cannot be changed"):
            found = read_group(folder)
            if found is not None:
                version, attributes = found
                ours = {**attributes.get(OURS, {}), "state": "incomplete"}
                write_group(folder, {**attributes, OURS: ours}, version)
    record = record_path(run.path, run.name)
    # Whoever has lost the record has not lost the result.
    with contextlib.suppress(ConfigError):
        write_record(record, read_record(record).model_copy(update={"state": "incomplete"}))


def repair_job(run: StoredRun) -> SegmentJob:
    """Return the job that made an output, as it stands in the record and in the output itself.

    Raises
    ------
    ConfigError
        If the output was moved away from where its job would look for the ledger, or the job
        cannot be read.
    """
    usual = ledger_path(run.path, run.name)
    if run.ledger != usual:
        raise ConfigError(
            f"{run.path} was moved, and a repair would look for its ledger as {usual.name}; rename "
            f"{run.ledger.name} to that first"
        )
    values = run.labels.attributes.get("job")
    # OUT may lie elsewhere now; a repair never begins anew, and is about all blocks.
    own = {"output": str(run.path), "name": run.name, "overwrite": False, "shard": None}
    job = SegmentJob.parse(
        {**(values if isinstance(values, dict) else {}), **own},
        source=f"{run.path}: the job of {run.name}",
    )
    # Few blocks, and a scheduler or a cluster that may not be there any more.
    return job.undivided().model_copy(update={"workers": job.workers})


def _repair(run: StoredRun, control: JobControl) -> Generator[AnyEvent]:
    """Go on with the job; the blocks that are entered as done stay as they are."""
    made, ended = 0, False
    with closing(run_job(repair_job(run), control)) as events:
        for event in events:
            yield event
            made += isinstance(event, BlockDone)
            ended = isinstance(event, Finished | AlreadyDone)
    if ended:
        yield Repaired(str(run.path), run.name, made)

"""Complete what shards have computed: one ledger, coarser levels, objects, state and record."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.app.fingerprint import differences
from napari_unet.app.plan import plan_segment
from napari_unet.app.segment import find_objects_of
from napari_unet.app.segmenting.journal import RUN, ledger_path, sweep_output
from napari_unet.app.segmenting.preparation import plan_classes
from napari_unet.app.segmenting.run import Run
from napari_unet.app.segmenting.shard_files import (
    SHARDS,
    Shard,
    block_index,
    forget,
    shards_locked,
)
from napari_unet.core.events import AlreadyDone, Cancelled, Finished, PyramidProgress, StageChanged
from napari_unet.core.job import SegmentJob
from napari_unet.errors import ConfigError, OutputExistsError, StorageError
from napari_unet.inference.control import JobControl
from napari_unet.inference.device import choose_backend
from napari_unet.io.label_output import list_labels
from napari_unet.io.ledger import Ledger, read_ledger
from napari_unet.io.ome_zarr_writer import reopen_output

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.boxes import Shape
    from napari_unet.core.events import JobEvent
    from napari_unet.core.objects_events import ObjectsEvent
    from napari_unet.inference.device import Backend
    from napari_unet.io.label_output import StoredLabels
    from napari_unet.io.ledger import BlockEntry, LedgerContent

NAMED_SHARDS = 8
"""Shards with missing blocks that a message names."""


def run_finish(
    output: str, name: str | None = None, control: JobControl | None = None
) -> Generator[JobEvent | ObjectsEvent]:
    """Complete an output all of whose blocks are done, yielding what happens.

    The ledgers of the shards become the one ledger of the job, the coarser levels are written, the
    objects found if the job asks for them, and the output says that it is complete. Interrupted, it
    can be done again; of a complete output nothing is changed.

    Parameters
    ----------
    output : str
        Path of the OME-Zarr group.
    name : str or None
        The label image in it; None = the only one of classes.
    control : JobControl or None
        To stop.

    Yields
    ------
    JobEvent or ObjectsEvent
        Ends with `Finished`, `AlreadyDone`, `Cancelled` or `ObjectsCancelled`.

    Raises
    ------
    ConfigError
        If there is no such label image.
    OutputExistsError
        If the image or the model is another one than when the output was begun.
    LockedError
        If a process still computes blocks of it.
    StorageError
        If blocks are missing: names their shards.
    UNetError
        If image, model or output cannot be read or written.
    """
    control, started = control or JobControl(), time.monotonic()
    yield StageChanged("opening")
    stored = _find(Path(output).expanduser().absolute(), name)
    job = _job_of(stored)
    # Nothing is computed: where the blocks were computed does not have to be here.
    backend = choose_backend("cpu")
    plan = plan_segment(job, backend.default_tile_edge)
    end: Finished | AlreadyDone = AlreadyDone(
        plan.job.output,
        plan.name,
        str(stored.path / "labels" / plan.name / "0"),
        plan_classes(plan),
    )
    with closing(plan.source):
        if stored.state != "complete":
            for event in _complete(plan, backend, control, started):
                if isinstance(event, Cancelled):
                    yield event
                    return
                if isinstance(event, Finished):
                    end = event
                else:
                    yield event
    if job.output_kind == "instances":
        yield from find_objects_of(job, end, control)
    else:
        yield end


def _complete(
    plan: SegmentPlan, backend: Backend, control: JobControl, started: float
) -> Generator[JobEvent]:
    whole = ledger_path(Path(plan.job.output), plan.name)
    with Ledger(whole) as ledger, shards_locked(whole) as shards:
        header = _header(plan, ledger)
        run = _Finishing(plan, backend, ledger, header)
        run.put_together()
        with closing(run.finish(started)) as events:
            for event in events:
                yield event
                if isinstance(event, PyramidProgress) and control.ending:
                    yield Cancelled(plan.job.output, run.tally.tiles, run.size[0])
                    return
        forget(shards)


class _Finishing(Run):
    """An output that holds every lock of its job, while it is completed."""

    def put_together(self) -> None:
        """Make the ledgers of the shards the one ledger of the job.

        Raises
        ------
        StorageError
            If blocks are missing; nothing was changed then.
        """
        header, stored = self._required_past(), _find(Path(self.plan.job.output), self.plan.name)
        self._provenance = dict(stored.attributes.get("provenance") or {})
        done = dict(header.done)
        shards = int(header.settled.get(SHARDS, 0))
        if shards:
            runs = []
            for content in _contents(self._ledger.path, shards, header.settled[RUN]).values():
                done |= content.done
                runs.append({k: v for k, v in content.last_run.items() if k != "line"})
            self._provenance[SHARDS] = runs
        self._require_all(done, shards)
        if shards:
            # Without the count of shards it is as if one process had done everything.
            settled = {key: value for key, value in header.settled.items() if key != SHARDS}
            self._ledger.begin(header.fingerprint, settled, self._in_order(done))
        self._output = reopen_output(self._spec())
        sweep_output(self.plan, self._output)
        self._count(done)

    def _required_past(self) -> LedgerContent:
        if self._past is None:
            raise StorageError(f"{self._ledger.path}: there is no ledger")
        return self._past

    def _in_order(self, done: dict[Shape, BlockEntry]) -> dict[Shape, BlockEntry]:
        grid, region = self.plan.grid, self.plan.region
        indices = (block_index(grid, region, number) for number in self.share)
        return {index: done[index] for index in indices}

    def _require_all(self, done: dict[Shape, BlockEntry], shards: int) -> None:
        """Refuse to complete what is not done, and say what is to be run."""
        output, grid, region = self.plan.job.output, self.plan.grid, self.plan.region
        missing: list[str] = []
        count = 0
        for number in range(1, (shards or 1) + 1):
            blocks = Shard(number, shards or 1).blocks(len(self.share))
            absent = sum(block_index(grid, region, k) not in done for k in blocks)
            count += absent
            if absent:
                missing.append(f"--shard {number}/{shards} ({absent} of {len(blocks)} blocks)")
        if not count:
            return
        what = f"{output}: {count} of {len(self.share)} blocks of {self.plan.name!r} are missing"
        if not shards:
            raise StorageError(
                f"{what}; the command that began it goes on with them (see its record)"
            )
        more = f" and {len(missing) - NAMED_SHARDS} more" if len(missing) > NAMED_SHARDS else ""
        named = ", ".join(missing[:NAMED_SHARDS])
        raise StorageError(f"{what}; run the job again with {named}{more}, then finish again")


def _contents(whole: Path, shards: int, run: str) -> dict[int, LedgerContent]:
    """Return what the ledgers of the shards of a run say, of those that were begun."""
    contents = {}
    for number in range(1, shards + 1):
        content = read_ledger(Shard(number, shards).ledger_path(whole))
        if content is not None and content.settled.get(RUN) == run:
            contents[number] = content
    return contents


def _header(plan: SegmentPlan, ledger: Ledger) -> LedgerContent:
    """Return the ledger of the whole job; refuse one of another output or of another job."""
    content, stored = ledger.read(), _find(Path(plan.job.output), plan.name)
    if content is None or content.settled.get(RUN) != stored.attributes.get(RUN):
        raise StorageError(
            f"{ledger.path}: there is no ledger of {plan.name!r} in {plan.job.output}, so nothing "
            "says which blocks are done; the command that began it computes it anew"
        )
    now = json.loads(json.dumps(plan.fingerprint))
    if content.fingerprint != now:
        raise OutputExistsError(
            f"{plan.job.output}: {plan.name!r} was begun with another image or model "
            f"({'; '.join(differences(content.fingerprint, now))}); put back what it was made from"
        )
    return content


def _find(path: Path, name: str | None) -> StoredLabels:
    """Return the label image of classes of OUT that has this name, or the only one."""
    found = [labels for labels in list_labels(path) if labels.kind == "classes"]
    listed = ", ".join(labels.name for labels in found) or "none"
    if name is not None:
        found = [labels for labels in found if labels.name == name]
    if len(found) != 1:
        what = "no" if not found else str(len(found))
        named = "" if name is None else f" {name!r}"
        raise ConfigError(
            f"{path} holds {what} label image{named} of classes to choose; give one with --name: "
            f"{listed}"
        )
    return found[0]


def _job_of(stored: StoredLabels) -> SegmentJob:
    """Return the job that began a label image; its output may have been moved since."""
    source = f"{stored.path}: job of {stored.name!r}"
    job = SegmentJob.parse(dict(stored.attributes.get("job") or {}), source=source)
    return job.model_copy(update={"output": str(stored.path), "name": stored.name})

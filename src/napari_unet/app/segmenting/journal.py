"""Noting which blocks are done, and finding out what an earlier run has left."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.segmenting.checks import what_differs
from napari_unet.app.segmenting.shard_files import RUN, SHARDS, ledger_path
from napari_unet.errors import OutputExistsError, StorageError
from napari_unet.inference.patience import patiently
from napari_unet.io.ledger import BlockEntry
from napari_unet.io.output_state import storage_errors
from napari_unet.io.stored_objects import sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.boxes import Shape
    from napari_unet.core.tiling import Block
    from napari_unet.io.ledger import Ledger, LedgerContent
    from napari_unet.io.ome_zarr_writer import OutputImage
    from napari_unet.io.output_state import OutputState

__all__ = [
    "OVERWRITES",
    "RUN",
    "Journal",
    "check_past",
    "find_damaged",
    "find_past",
    "ledger_path",
    "sealed",
    "settled_facts",
    "sweep_output",
]

OVERWRITES = "overwrites"
"""Entry of a ledger: it was begun by --overwrite, and the same command goes on with it."""

CHECKED = 16
"""Newest blocks that are compared with their checksums before a run goes on."""


@dataclass(frozen=True, slots=True)
class Journal:
    """Enters blocks of an output into its ledger; a `core.arrays.BlockJournal`.

    Parameters
    ----------
    ledger : Ledger
        Open for this run.
    output : OutputImage
        Where the blocks are stored.
    """

    ledger: Ledger
    output: OutputImage

    def enter_done(self, block: Block, nonfinite: int) -> None:
        """Make a stored block durable, read it back, and enter it."""
        self.ledger.enter_done(block.index, sealed(self.output, block, nonfinite))

    def enter_failed(self, block: Block, cause: str) -> None:
        """Enter why a block could not be computed."""
        self.ledger.enter_failed(block.index, cause)


def sealed(output: OutputImage, block: Block, nonfinite: int) -> BlockEntry:
    """Make a stored block durable, read it back, and return what its ledger is to say.

    Raises
    ------
    StorageError
        If the disk refuses, or what was stored is damaged.
    """
    # Not tried again: what could not be synced may be dropped, and the next attempt succeeds.
    output.make_durable(block.write)
    labels, chances = patiently(partial(output.checksums, block.write), threading.Event())
    return BlockEntry(labels, chances, nonfinite)


def find_past(
    plan: SegmentPlan, state: OutputState | None, ledger: Ledger
) -> tuple[LedgerContent | None, str | None]:
    """Return what an earlier run of a job has left to go on from, and what is to be said of it.

    Parameters
    ----------
    plan : SegmentPlan
        The job.
    state : OutputState or None
        What the output holds under its name.
    ledger : Ledger
        Locked by this process.

    Returns
    -------
    content : LedgerContent or None
        None: everything is to be computed.
    note : str or None
        Why, where something was begun.

    Raises
    ------
    OutputExistsError
        If the ledger was begun with other options.
    StorageError
        If the ledger is damaged from its first line on.
    """
    if state is None:
        return None, None
    if plan.job.overwrite:
        return _past_of_overwriting(plan, state, ledger)
    content = ledger.read()
    anew = f"an earlier run of this job did not finish; {plan.name} is computed from the start, "
    if content is None:
        return None, anew + "because there is no ledger of it"
    if content.settled.get(RUN) != state.attributes.get(RUN):
        return None, anew + f"because the ledger {ledger.path.name} is of another output"
    if not _is_same(plan, content):
        raise OutputExistsError(what_differs(plan, content.fingerprint, complete=False))
    if SHARDS in content.settled:
        raise OutputExistsError(
            f"{plan.job.output}: {plan.name!r} was begun in {content.settled[SHARDS]} shards; run "
            f"those that are missing with --shard, then napari-unet finish {plan.job.output}; "
            "or give --overwrite to compute it anew"
        )
    return content, _how_much_is_done(plan, content)


def _past_of_overwriting(
    plan: SegmentPlan, state: OutputState, ledger: Ledger
) -> tuple[LedgerContent | None, str | None]:
    """Return what to go on from if this same overwriting command began the output, else None.

    What anything else has left is replaced; also a ledger that is damaged.
    """
    try:
        content = ledger.read()
    except StorageError:
        content = None
    ours = (
        state.state == "incomplete"
        and content is not None
        and bool(content.settled.get(OVERWRITES))
        and SHARDS not in content.settled
        and content.settled.get(RUN) == state.attributes.get(RUN)
        and _is_same(plan, content)
    )
    if content is None or not ours:
        # Nothing of it may be taken for what this run does.
        ledger.content = None
        return None, None
    return content, _how_much_is_done(plan, content)


def _is_same(plan: SegmentPlan, content: LedgerContent) -> bool:
    return bool(content.fingerprint == json.loads(json.dumps(plan.fingerprint)))


def _how_much_is_done(plan: SegmentPlan, content: LedgerContent) -> str:
    done, blocks = len(content.done), plan.grid.count_blocks(plan.region)
    return f"{done} of {blocks} blocks of {plan.name} are done already; the rest follows"


def check_past(
    plan: SegmentPlan, output: OutputImage, ledger: Ledger, *, alone: bool = True
) -> Iterator[str]:
    """Sweep up after a crash and compare the newest blocks with their checksums.

    If one of them differs, all are compared. Those that differ are done no more.

    Parameters
    ----------
    plan : SegmentPlan
        The job.
    output : OutputImage
        What the earlier run wrote.
    ledger : Ledger
        Open for this run.
    alone : bool
        Whether nobody else writes into the output; then leftovers are deleted.

    Yields
    ------
    str
        What the user should know, in a sentence.
    """
    content = ledger.content
    if content is None:
        return
    if alone:
        sweep_output(plan, output)
    order = list(content.done)
    bad = find_damaged(plan, output, content, order[-CHECKED:])
    if bad:
        bad += find_damaged(plan, output, content, order[:-CHECKED])
        for index, cause in bad:
            ledger.enter_failed(index, cause)
        yield f"{len(bad)} blocks were damaged since they were written; they are computed again"


def sweep_output(plan: SegmentPlan, output: OutputImage) -> None:
    """Delete what killed processes left of files; only where nobody else is at work.

    Raises
    ------
    StorageError
        If one cannot be deleted.
    """
    for folder in (output.labels_path.parent, Path(plan.job.output) / "probabilities" / plan.name):
        if folder.is_dir():
            with storage_errors(f"{folder}: leftovers of a crash cannot be deleted"):
                sweep(folder)


def find_damaged(
    plan: SegmentPlan, output: OutputImage, content: LedgerContent, order: Sequence[Shape]
) -> list[tuple[Shape, str]]:
    """Return which blocks that were done are not what was written any more, and why."""
    bad = []
    for index in order:
        entry = content.done[index]
        try:
            found = output.checksums(plan.grid.block(index, plan.region).write)
        except StorageError as error:
            bad.append((index, str(error)))
            continue
        if found != (entry.labels, entry.probabilities):
            bad.append((index, "what is stored has another checksum than what was written"))
    return bad


def settled_facts(run: str, normalization: Any) -> dict[str, Any]:
    """Return what later runs of a job take from its first one."""
    return {RUN: run, "normalization": normalization.model_dump(mode="json")}

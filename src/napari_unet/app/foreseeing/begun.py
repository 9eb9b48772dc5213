"""What an earlier run of a job has left in its output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.fingerprint import differences
from napari_unet.app.segmenting.shard_files import RUN, SHARDS, ledger_path, shard_ledgers
from napari_unet.io.ledger import read_ledger
from napari_unet.io.output_state import read_output_state

if TYPE_CHECKING:
    from napari_unet.app.plan import SegmentPlan

LAST_RUN = ("host", "pid", "started")
"""What is said of who was at work last."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What an earlier run has left in the output.

    Parameters
    ----------
    state : {"incomplete", "complete"}
        What the output says of itself.
    blocks_done, blocks_failed : int
        Blocks that are done, and that were tried in vain.
    last_run : dict
        Who was at work last: host, pid, started.
    differs : tuple of str
        Options that are not those of this job, in words; none: the job goes on from there.
    shards : int or None
        Into how many shards the run was divided; None = not.
    """

    state: str
    blocks_done: int
    blocks_failed: int
    last_run: dict[str, Any]
    differs: tuple[str, ...]
    shards: int | None = None


def find_begun(plan: SegmentPlan) -> Begun | None:
    """Return what the output holds of a job under its name; None if nothing.

    Raises
    ------
    StorageError
        If the output is there and is not ours, or its ledger is damaged.
    """
    state = read_output_state(plan.job.output, plan.name)
    if state is None:
        return None
    before = state.attributes.get("fingerprint") or {}
    now = json.loads(json.dumps(plan.fingerprint))
    whole = ledger_path(Path(plan.job.output), plan.name)
    run = state.attributes.get(RUN)
    parts = [read_ledger(path) for path in (whole, *shard_ledgers(whole))]
    # What is left of an earlier output, or of another number of shards, does not count.
    ledgers = [part for part in parts if part is not None and part.settled.get(RUN) == run]
    last = max(
        (part.last_run for part in ledgers), key=lambda run: run.get("started", ""), default={}
    )
    return Begun(
        state.state,
        sum(len(part.done) for part in ledgers),
        sum(len(part.failed) for part in ledgers),
        {key: last[key] for key in LAST_RUN if key in last},
        tuple(differences(before, now)),
        next((part.settled[SHARDS] for part in ledgers if SHARDS in part.settled), None),
    )

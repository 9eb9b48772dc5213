"""Cores, threads and memory."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from napari_unet.app.examining.finding import Finding
from napari_unet.app.examining.limits import group_limits, memory_bytes, usable_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.app.examining.limits import GroupLimits

NEEDED_BYTES = 10**9
"""Less is not enough for one tile with the bundled model (docs/reference/measurements.md)."""

COMFORTABLE_BYTES = 25 * 10**8
"""What a segmentation with the bundled model never goes beyond, whatever the options."""


def examine_machine(facts: Mapping[str, Any] | None) -> list[Finding]:
    """Return the findings: threads, memory.

    Parameters
    ----------
    facts : mapping or None
        What `device_facts` says; None = PyTorch does not work.
    """
    limits = group_limits()
    threads = None if facts is None else facts["threads"]
    return [
        judge_threads(threads, usable_cores(), limits),
        judge_memory(*memory_bytes(), limits),
    ]


def judge_threads(threads: int | None, usable: int, limits: GroupLimits) -> Finding:
    """Return how many threads the network takes when nothing is said, and whether they fit.

    Parameters
    ----------
    threads : int or None
        Those of PyTorch; None = unknown.
    usable : int
        Cores that this process may run on.
    limits : GroupLimits
        What a container or batch system allows.
    """
    whole = os.cpu_count() or usable
    allowed = usable if limits.cores is None else min(usable, max(1, math.ceil(limits.cores)))
    named = os.environ.get("OMP_NUM_THREADS")
    values = {
        "cores": whole,
        "usable_cores": usable,
        "allowed_cores": limits.cores,
        "threads": threads,
        "omp_num_threads": named,
    }
    text = f"{allowed} of {whole} cores may be used"
    if threads is None:
        return Finding("threads", "ok", text, values=values)
    text += f"; the network takes {threads} threads"
    if threads > allowed:
        remedy = f"give --threads {allowed}, or threads wait for each other"
        return Finding("threads", "note", text, remedy, values)
    if threads < allowed and named is not None:
        text += f", as OMP_NUM_THREADS={named} says"
        return Finding("threads", "note", text, f"give --threads {allowed} to use all", values)
    return Finding("threads", "ok", text, values=values)


def judge_memory(total: int | None, free: int | None, limits: GroupLimits) -> Finding:
    """Return whether there is memory enough for a segmentation with the bundled model.

    Parameters
    ----------
    total, free : int or None
        Of the machine, in bytes; None = unknown.
    limits : GroupLimits
        What a container or batch system allows.
    """
    limit = limits.memory_bytes
    values = {"total_bytes": total, "free_bytes": free, "limit_bytes": limit}
    known = [number for number in (total, free, limit) if number is not None]
    if not known:
        return Finding("memory", "note", "how much memory there is cannot be known", values=values)
    usable = min(known)
    parts = [
        f"{number / 1e9:.1f} GB {what}"
        for number, what in ((total, "in all"), (free, "free"), (limit, "allowed by the group"))
        if number is not None
    ]
    text = ", ".join(parts)
    remedy = "close other programs, ask the batch system for more, or give a smaller --tile-size"
    if usable < NEEDED_BYTES:
        return Finding("memory", "problem", f"too little memory: {text}", remedy, values)
    if usable < COMFORTABLE_BYTES:
        return Finding("memory", "note", f"little memory: {text}", remedy, values)
    return Finding("memory", "ok", text, values=values)

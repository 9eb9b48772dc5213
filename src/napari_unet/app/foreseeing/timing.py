"""How long one tile takes on this machine."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.app.segmenting.preparation import make_predictor, tile_run
from napari_unet.core.normalization import Normalization
from napari_unet.errors import InputError
from napari_unet.inference.memory import MemorySink
from napari_unet.inference.tile_input import read_tile

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.app.plan import SegmentPlan
    from napari_unet.inference.device import Backend
    from napari_unet.inference.tile_input import TileInput

TIMED_RUNS = 3
"""Passes of the network whose median is taken, after one that warms it up."""

TIMED_SECONDS = 5.0
"""No further pass begins after so long; a slow network is timed once."""


@dataclass(frozen=True, slots=True)
class MeasuredTile:
    """The time of one full tile, on the machine that measured it.

    Parameters
    ----------
    device, machine : str
        Where: the device in words; host and processor.
    threads, batch_size : int
        CPU threads of the network; tiles computed together.
    network_seconds : float
        Of the network, per tile.
    reading_seconds : float or None
        Of reading and normalizing one tile in the middle of the region; None = it could not be
        read.
    """

    device: str
    machine: str
    threads: int
    batch_size: int
    network_seconds: float
    reading_seconds: float | None

    @property
    def seconds(self) -> float:
        """Seconds per tile of a worker, which reads and computes side by side."""
        return max(self.network_seconds, self.reading_seconds or 0.0)


def measure_tile(plan: SegmentPlan, backend: Backend) -> tuple[MeasuredTile, tuple[str, ...]]:
    """Return how long one full tile takes, and what is to be said of it.

    The network is timed after a warm-up, on random numbers as normalization makes them: its time
    depends on the shape alone.

    Raises
    ------
    BackendError
        If the device refuses, for example for want of memory.
    """
    predictor = make_predictor(plan, backend)
    tile, count = plan.grid.full_tile(), predictor.batch_size
    shape = (plan.source.num_channels, *tile.read.shape)
    image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    stored = plan.job.stored_probabilities is not None
    compute = partial(predictor, [image] * count, [tile.crop] * count, probabilities=stored)
    reading, notes = _time_reading(plan)
    measured = MeasuredTile(
        device=backend.label,
        machine=machine_name(),
        threads=torch.get_num_threads(),
        batch_size=count,
        network_seconds=_median_seconds(compute) / count,
        reading_seconds=reading,
    )
    return measured, notes


def machine_name() -> str:
    """Return host and processor of this machine in words."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return f"{platform.node()} ({processor})"


def _median_seconds(compute: Callable[[], object]) -> float:
    compute()
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < TIMED_RUNS and time.perf_counter() - began < TIMED_SECONDS:
        before = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - before)
    return median(seconds)


def _time_reading(plan: SegmentPlan) -> tuple[float | None, tuple[str, ...]]:
    """Return the seconds that one tile in the middle takes to read, and a note if need be."""
    channels = plan.source.num_channels
    unchanged = Normalization(offset=(0.0,) * channels, scale=(1.0,) * channels)
    run = tile_run(plan, MemorySink((1, 1, 1)), unchanged)
    middle = tuple(r[len(r) // 2] for r in plan.grid.block_ranges(plan.region))
    block = plan.grid.block(middle, plan.region)
    tile = next(plan.grid.tiles_of(block))
    read: Callable[[], TileInput] = partial(read_tile, run, block, tile)
    began = time.perf_counter()
    try:
        read()
    except InputError as error:
        return None, (f"the tile that was to be timed cannot be read: {error}",)
    seconds = time.perf_counter() - began
    if plan.source.count_missing_chunks(tile.write):
        said = "the tile that was read lies in chunks that were never written: others take longer"
        return seconds, (said,)
    return seconds, ()

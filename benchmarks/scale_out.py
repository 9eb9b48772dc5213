"""What the ledger and the workers of dask cost on top of the plain run, block by block.

    python benchmarks/scale_out.py [--model em-membranes] [--slices 6] [--rounds 3] [--threads 1]
        [--noted-blocks 60]

Three ways to segment one stack of 1024 x 1024 slices, a block each, in turn: without a ledger, with
it, and with one worker process, all with as many threads for the network. Compared is the time from
the first block to the last; what it takes until the first block is there is printed apart, because
it is the same for three blocks and for three million. CPU seconds are those of all processes taken
together: other programs on the machine disturb them less than they disturb the clock. The time
inside the ledger's own calls is printed as well.

The same run twice in one process may differ by a tenth, by where its memory happens to lie. What a
ledger costs is less, so it is also measured within one run, of ``--noted-blocks`` blocks: which of
them are entered is drawn by chance, and the times of the blocks are fitted by what a block takes,
what entering it adds, and what entering the one before adds; the sum of the last two, with its
standard error, is the ledger's share.

The labels of the three must be equal, and so must those of `--shard 1/2`, `2/2` and `finish`, and
of two workers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import psutil
import tifffile

from napari_unet.app.finish import run_finish
from napari_unet.app.segment import run_job
from napari_unet.app.segmenting.run import Run, run_segmentation
from napari_unet.core.events import BlockDone
from napari_unet.core.job import SegmentJob
from napari_unet.inference.control import JobControl

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    import numpy.typing as npt

    from napari_unet.core.events import JobEvent
    from napari_unet.inference.tile_input import TileRun

WAYS = ("plain", "ledger", "worker")


class PlainRun(Run):
    """A run that notes nothing: what is lost is lost."""

    def _segment(self, tiles: TileRun, control: JobControl) -> Generator[JobEvent]:
        yield from super()._segment(replace(tiles, journal=None), control)


class TimedJournal:
    """A journal that knows how long its calls took, syncing and checksums included."""

    seconds: ClassVar[list[float]] = []
    """Of every block."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def enter_done(self, *arguments: Any) -> None:
        """Enter a block, as the journal does."""
        began = time.perf_counter()
        self._journal.enter_done(*arguments)
        self.seconds.append(time.perf_counter() - began)


class TimedRun(Run):
    """A run as it always is, with a clock at the journal."""

    def _segment(self, tiles: TileRun, control: JobControl) -> Generator[JobEvent]:
        journal: Any = TimedJournal(tiles.journal)
        yield from super()._segment(replace(tiles, journal=journal), control)


class SomeBlocksJournal:
    """A journal that enters those blocks only that chance has chosen."""

    def __init__(self, journal: Any, chosen: npt.NDArray[np.bool_]) -> None:
        self._journal = journal
        self._chosen = iter(chosen)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def enter_done(self, *arguments: Any) -> None:
        """Enter a block, or forget it."""
        if next(self._chosen):
            self._journal.enter_done(*arguments)


class SomeBlocksRun(Run):
    """A run that enters some of its blocks."""

    chosen: ClassVar[npt.NDArray[np.bool_]]

    def _segment(self, tiles: TileRun, control: JobControl) -> Generator[JobEvent]:
        journal: Any = SomeBlocksJournal(tiles.journal, self.chosen)
        yield from super()._segment(replace(tiles, journal=journal), control)


def within_one_run(job: SegmentJob, blocks: int) -> dict[str, float]:
    """Return what entering a block adds to its time, in percent, measured within one run."""
    chosen = np.random.default_rng(1).random(blocks) < 0.5
    SomeBlocksRun.chosen = chosen
    marks: list[float] = []
    for event in run_segmentation(job, JobControl(), SomeBlocksRun):
        if isinstance(event, BlockDone):
            marks.append(time.perf_counter())
        if len(marks) == blocks:
            break
    # Without the first and the last: the one waits for the model, the other for no network.
    seconds = np.diff(marks)[1:-1]
    entered = chosen.astype(float)
    design = np.stack([np.ones_like(seconds), entered[2:-1], entered[1:-2]], axis=1)
    found, (residual,), _, _ = np.linalg.lstsq(design, seconds)
    scatter = residual / (len(seconds) - 3) * np.linalg.inv(design.T @ design)
    asked = np.array([0.0, 1.0, 1.0])
    percent = 100 / float(found[0])
    return {
        "blocks": blocks,
        "entered": int(chosen.sum()),
        "seconds_per_block": round(float(found[0]), 3),
        "ledger_percent": round(percent * float(asked @ found), 2),
        "standard_error_percent": round(percent * float(np.sqrt(asked @ scatter @ asked)), 2),
    }


@dataclass(frozen=True)
class Cost:
    """Seconds per block after the first one, by the clock and of the CPU, and until that one."""

    clock: float
    cpu: float
    first: float


def cpu_seconds() -> float:
    """Return the CPU time of this process and of all that it has started and that live."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def cost_of(events: Iterable[Any]) -> Cost:
    """Return what a run costs."""
    began = time.perf_counter()
    marks = [
        (time.perf_counter(), cpu_seconds()) for event in events if isinstance(event, BlockDone)
    ]
    (first, cpu_first), (last, cpu_last) = marks[0], marks[-1]
    between = len(marks) - 1
    return Cost((last - first) / between, (cpu_last - cpu_first) / between, first - began)


def chunks(output: str) -> dict[str, bytes]:
    """Return all label chunks of an output."""
    root = Path(output) / "labels"
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "zarr.json")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def events_of(way: str, job: SegmentJob) -> Iterable[Any]:
    """Return the events of a job that is run in one of the ways."""
    if way == "plain":
        return run_segmentation(job, JobControl(), PlainRun)
    if way == "ledger":
        return run_segmentation(job, JobControl(), TimedRun)
    return run_job(job.model_copy(update={"workers": 1}) if way == "worker" else job)


def shared(job: SegmentJob) -> dict[str, bytes]:
    """Return the chunks of a job that two shards have computed."""
    for shard in ("1/2", "2/2"):
        for _ in run_job(job.model_copy(update={"shard": shard})):
            pass
    for _ in run_finish(job.output):
        pass
    return chunks(job.output)


def report(costs: dict[str, list[Cost]]) -> dict[str, Any]:
    """Return medians, and how much more than the plain run of the same round each way takes."""
    rows: dict[str, Any] = {}
    for way in WAYS:
        rows[way] = {
            "seconds_per_block": round(statistics.median(c.clock for c in costs[way]), 3),
            "cpu_seconds_per_block": round(statistics.median(c.cpu for c in costs[way]), 3),
            "seconds_until_first_block": round(statistics.median(c.first for c in costs[way]), 1),
        }
        for field in ("clock", "cpu"):
            ratios = [
                getattr(cost, field) / getattr(plain, field) - 1
                for cost, plain in zip(costs[way], costs["plain"], strict=True)
            ]
            rows[way][f"{field}_overhead_percent"] = [round(100 * r, 1) for r in ratios]
            median = statistics.median(ratios)
            rows[way][f"{field}_overhead_percent_median"] = round(100 * median, 1)
    return rows


def write_stack(path: Path, slices: int) -> None:
    """Write slices of noise, a block each."""
    shape = (slices, 1024, 1024)
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))


def main() -> None:
    """Measure in turn and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="em-membranes")
    parser.add_argument("--slices", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--noted-blocks", type=int, default=60)
    options = parser.parse_args()
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        stack = Path(folder) / "stack.tif"
        write_stack(stack, options.slices)
        job = SegmentJob(
            input=str(stack),
            axes="zyx",
            model=options.model,
            output=str(Path(folder) / "warm.zarr"),
            device="cpu",
            tile_size=512,
            threads=options.threads,
        )
        found = []
        for index in range(options.rounds):
            for way in WAYS:
                output = str(Path(folder) / f"{way}{index}.zarr")
                now = job.model_copy(update={"output": output})
                costs[way].append(cost_of(events_of(way, now)))
                found.append(chunks(output))
        two = job.model_copy(update={"output": str(Path(folder) / "two.zarr"), "workers": 2})
        for _ in run_job(two):
            pass
        found.append(chunks(two.output))
        found.append(shared(job.model_copy(update={"output": str(Path(folder) / "shared.zarr")})))
        write_stack(long_stack := Path(folder) / "long.tif", options.noted_blocks)
        update = {"input": str(long_stack), "output": str(Path(folder) / "long.zarr")}
        noted = within_one_run(job.model_copy(update=update), options.noted_blocks)
    print(
        json.dumps(
            {
                "blocks": options.slices,
                "threads": options.threads,
                "ways": report(costs),
                "ledger_within_one_run": noted,
                "ledger_seconds_per_block": round(statistics.median(TimedJournal.seconds), 4),
                "ledger_seconds_per_block_most": round(max(TimedJournal.seconds), 4),
                "all_equal": all(one == found[0] for one in found),
                "outputs_compared": len(found),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

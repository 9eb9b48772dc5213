"""Workers that are killed every few seconds: what they write must be what one process writes.

    python benchmarks/worker_chaos.py [--workers 4] [--seconds 4] [--kills 10]

A stack of small blocks is segmented by several workers, while one of them, chosen at random, is
killed with SIGKILL every few seconds, at most so many times. Blocks that fail because they were
hit three times are computed by the same command again, as a user would do. Printed: kills, runs,
blocks, and how many of the stored chunks differ from those of one process without workers.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import tifffile

from napari_unet.app.segment import run_job
from napari_unet.core.events import BlockDone, BlockFailed, Warned
from napari_unet.core.job import SegmentJob
from napari_unet.errors import InputError


class Killer(threading.Thread):
    """Kills a worker every few seconds."""

    def __init__(self, seconds: float, kills: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.killed = 0
        self._seconds = seconds
        self._kills = kills
        self._over = threading.Event()
        self._random = random.Random(0)

    def run(self) -> None:
        """Kill until it is enough."""
        while self.killed < self._kills and not self._over.wait(self._seconds):
            children = psutil.Process().children()
            workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
            if workers:
                self._random.choice(workers).kill()
                self.killed += 1

    def stop(self) -> None:
        """Kill no more."""
        self._over.set()


def chunks(output: str) -> dict[str, bytes]:
    """Return all label chunks of an output."""
    root = Path(output) / "labels"
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "zarr.json")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def main() -> None:
    """Run, kill, compare, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="em-membranes")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack, shape = Path(folder) / "stack.tif", (2, 768, 768)
        tifffile.imwrite(stack, np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
        job = SegmentJob(
            input=str(stack),
            axes="zyx",
            model=options.model,
            output=str(Path(folder) / "one.zarr"),
            device="cpu",
            tile_size=128,
            block_size=128,
            threads=1,
        )
        for _ in run_job(job):
            pass
        many = {"output": str(Path(folder) / "many.zarr"), "workers": options.workers}
        hit = job.model_copy(update=many)
        killer, runs, failed, again = Killer(options.seconds, options.kills), 0, 0, 0
        began = time.monotonic()
        finished = False
        while not finished:
            runs += 1
            try:
                for event in run_job(hit):
                    if isinstance(event, BlockDone) and not killer.is_alive() and not killer.killed:
                        killer.start()
                    failed += isinstance(event, BlockFailed)
                    again += isinstance(event, Warned) and "a worker ended" in event.message
                finished = True
            except InputError as error:
                print(f"run {runs}: {error}")
        killer.stop()
        one, other = chunks(job.output), chunks(hit.output)
    differing = sum(one.get(key) != other.get(key) for key in one.keys() | other.keys())
    print(
        json.dumps(
            {
                "workers": options.workers,
                "blocks": 72,
                "kills": killer.killed,
                "runs": runs,
                "blocks_computed_again": again,
                "blocks_failed_on_the_way": failed,
                "chunks": len(one),
                "chunks_that_differ": differing,
                "seconds": round(time.monotonic() - began),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

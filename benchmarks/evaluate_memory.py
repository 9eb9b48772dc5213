"""Time and peak memory of an evaluation, against the size of the image.

::

    python benchmarks/evaluate_memory.py --edges 2048 4096 8192

A pair of numbered objects (uint32) is written to a temporary folder, the prediction 2 pixels beside
the truth, and measured by ``napari_unet.app.evaluate`` in a process of its own, on one thread.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cc3d
import numpy as np
from scipy.ndimage import gaussian_filter

EDGE = 1024
"""Of the pattern of objects that is repeated."""


def write_pair(folder: Path, edge: int) -> None:
    """Write the truth and the prediction of an image of a multiple of the pattern."""
    noise = gaussian_filter(np.random.default_rng(0).random((EDGE, EDGE), dtype=np.float32), 4)
    labels = cc3d.connected_components((noise > 0.5).astype(np.uint8), connectivity=4)
    truth, prediction = (
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint32, (edge, edge))
        for name in ("truth", "prediction")
    )
    count = edge // EDGE
    for k in range(count * count):
        y, x = (EDGE * n for n in divmod(k, count))
        part = np.where(labels > 0, labels.astype(np.uint32) + k * 100_000, 0)
        truth[y : y + EDGE, x : x + EDGE] = part
        prediction[y : y + EDGE, x : x + EDGE] = np.roll(part, 2, axis=1)


def measure(folder: Path) -> None:
    """Measure the pair of a folder, and print objects, seconds of work and megabytes."""
    from napari_unet.app.evaluate import evaluate
    from napari_unet.core.evaluate_job import EvaluateJob

    began = time.process_time()
    job = EvaluateJob(
        predictions=(str(folder / "prediction.npy"),),
        truths=(str(folder / "truth.npy"),),
        truth_kind="instances",
        resamples=200,
    )
    objects = evaluate(job).run.objects
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    count = 0 if objects is None else objects.true
    print(f"| {count} | {time.process_time() - began:.1f} | {peak:.0f} MB |")


def main() -> None:
    """Print a row of the table for each edge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edges", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write_pair(options.folder, options.write)
        return
    if options.folder is not None:
        measure(options.folder)
        return
    print("| image | objects | seconds | peak memory of the process |\n|---|---|---|---|")
    for edge in options.edges:
        with tempfile.TemporaryDirectory() as name:
            # A process inherits the peak of the one that starts it: this one stays small.
            command = [sys.executable, __file__, "--folder", name]
            subprocess.run([*command, "--write", str(edge)], check=True)
            print(f"| {edge} x {edge} ", end="", flush=True)
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

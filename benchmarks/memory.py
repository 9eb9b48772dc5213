"""Peak memory of the command: it must depend on the tile, not on the volume.

    python benchmarks/memory.py [--slices 5 20 200] [--model em-membranes]

Segments stacks of 1024 x 1024 slices of growing depth, and a small region of a sparse zarr of
40,000 x 40,000 pixels, each in a process of its own, and prints that process's peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

LIMIT_BYTES = 2.5e9
"""What the command may take at most on a CPU with the bundled model."""

SPARSE_EDGE = 40_000


def textured(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return uint8 noise that is smooth over a few pixels."""
    coarse = rng.integers(0, 255, (*shape[:-2], shape[-2] // 8, shape[-1] // 8), dtype=np.uint8)
    return coarse.repeat(8, axis=-2).repeat(8, axis=-1)


def make_stack(path: Path, slices: int) -> None:
    """Write a stack of 1024 x 1024 slices, slice by slice."""
    rng = np.random.default_rng(0)
    array = zarr.create_array(
        path,
        shape=(slices, 1024, 1024),
        chunks=(1, 512, 512),
        dtype=np.uint8,
        dimension_names=("z", "y", "x"),
    )
    for z in range(slices):
        array[z] = textured(rng, (1024, 1024))


def make_sparse(path: Path) -> None:
    """Write a huge plane of which only a corner of 2048 x 2048 pixels has data."""
    array = zarr.create_array(
        path,
        shape=(SPARSE_EDGE, SPARSE_EDGE),
        chunks=(512, 512),
        dtype=np.uint8,
        dimension_names=("y", "x"),
    )
    array[30_000:32_048, 20_000:22_048] = textured(np.random.default_rng(1), (2048, 2048))


def run(model: str, image: Path, output: Path, *options: str) -> dict[str, float]:
    """Segment an image in a process of its own; return its peak memory and time."""
    command = [sys.executable, "-m", "napari_unet", "segment", str(image), "--model", model]
    command += ["--output", str(output), "--device", "cpu", "--progress", "none", *options]
    began = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    return {"peak_gb": usage.ru_maxrss * 1024 / 1e9, "seconds": time.monotonic() - began}


def main() -> int:
    """Run all cases and print one JSON object per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, nargs="+", default=[5, 20, 200])
    parser.add_argument("--model", default="em-membranes")
    arguments = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for slices in arguments.slices:
            image = Path(folder) / f"stack{slices}.zarr"
            make_stack(image, slices)
            result = run(arguments.model, image, Path(folder) / f"out{slices}.zarr")
            print(json.dumps({"case": f"{slices} x 1024 x 1024", **result}), flush=True)
            peaks.append(result["peak_gb"])
        image = Path(folder) / "sparse.zarr"
        make_sparse(image)
        region = "30100:31900,20100:21900"
        result = run(arguments.model, image, Path(folder) / "s.zarr", "--region", region)
        print(json.dumps({"case": f"region of {SPARSE_EDGE} x {SPARSE_EDGE}", **result}))
        peaks.append(result["peak_gb"])
    return 0 if max(peaks) * 1e9 < LIMIT_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())

"""A volume of a terabyte: planned in seconds, and a region of it segmented in little memory.

    python benchmarks/terabyte.py [--model em-membranes] [--slices 2] [--edge 2048]

Makes a sparse zarr of 1000 x 32768 x 32768 bytes (1.07 TB) of which only a region in the middle has
data, plans it with `napari-unet plan`, with and without measuring a tile, and segments the region;
each in a process of its own, whose time and peak memory are printed. Nothing of the terabyte is
ever stored: chunks that were never written take no space.
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
from typing import Any

import numpy as np
import zarr

SHAPE = (1000, 32768, 32768)
"""Voxels of one byte: 1.07 TB."""

LIMIT_BYTES = 2.5e9
"""Memory that a region may take."""

LIMIT_SECONDS = 60.0
"""Time that planning may take, with a measured tile, on a busy machine."""

START = (500, 16384, 12288)
"""First voxel of the region."""


def make_volume(path: Path, slices: int, edge: int) -> str:
    """Write the volume with data in a region only, and return that region."""
    array = zarr.create_array(
        path,
        shape=SHAPE,
        chunks=(1, 512, 512),
        dtype=np.uint8,
        dimension_names=("z", "y", "x"),
    )
    stop = tuple(a + n for a, n in zip(START, (slices, edge, edge), strict=True))
    rng = np.random.default_rng(0)
    for z in range(START[0], stop[0]):
        coarse = rng.integers(0, 255, (edge // 8, edge // 8), dtype=np.uint8)
        array[z, START[1] : stop[1], START[2] : stop[2]] = coarse.repeat(8, 0).repeat(8, 1)
    return ",".join(f"{a}:{b}" for a, b in zip(START, stop, strict=True))


def run(*words: str) -> tuple[dict[str, float], str]:
    """Run the command in a process of its own; return its time and peak memory, and its output."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen([sys.executable, "-m", "napari_unet", *words], stdout=printed)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        printed.seek(0)
        if status:
            raise SystemExit(f"napari-unet {' '.join(words)} ended with status {status}")
        # macOS counts bytes, Linux kilobytes.
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return {"seconds": round(seconds, 2), "peak_gb": round(peak / 1e9, 3)}, printed.read()


def planned(volume: Path, output: Path, model: str, *options: str) -> dict[str, Any]:
    """Plan the whole volume; return time, memory, and the numbers of the plan."""
    words = [str(volume), "--model", model, "--output", str(output), "--device", "cpu"]
    measures, text = run("plan", *words, "--workers", "1,64,1000", "--json", *options)
    plan = json.loads(text)
    kept = ("tiles", "blocks", "redundancy", "memory_bytes", "storage", "measured", "hours")
    return {"case": " ".join(["plan", *options]), **measures, **{key: plan[key] for key in kept}}


def segmented(volume: Path, output: Path, model: str, region: str) -> dict[str, Any]:
    """Segment a region; return time and memory, and whether every voxel of it was computed."""
    words = [str(volume), "--model", model, "--output", str(output), "--device", "cpu"]
    measures, _ = run("segment", *words, "--region", region, "--progress", "none")
    labels = zarr.open_array(output / "labels" / Path(model).stem / "0", mode="r")
    box = tuple(slice(*map(int, part.split(":"))) for part in region.split(","))
    return {
        "case": f"segment --region {region}",
        **measures,
        "computed": bool((np.asarray(labels[box]) > 0).all()),
        "shape": list(labels.shape),
    }


def main() -> int:
    """Run all cases, print one JSON object for each, and return 0 if all keep their limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="em-membranes")
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument("--edge", type=int, default=2048)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        volume, output = Path(folder) / "terabyte.zarr", Path(folder) / "out.zarr"
        region = make_volume(volume, options.slices, options.edge)
        plans = [planned(volume, output, options.model, *more) for more in (["--no-measure"], [])]
        for row in plans:
            print(json.dumps(row), flush=True)
        result = segmented(volume, output, options.model, region)
        print(json.dumps(result))
    kept = all(row["seconds"] < LIMIT_SECONDS for row in plans)
    return 0 if kept and result["computed"] and result["peak_gb"] * 1e9 < LIMIT_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())

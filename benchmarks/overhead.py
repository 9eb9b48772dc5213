"""What tiling, reading and writing cost on top of the network: the job against the bare net.

    python benchmarks/overhead.py [--model em-membranes] [--slices 2] [--rounds 3] [--tile 512]

Both work on the same tiles of a stack of 1024 x 1024 slices, in turn, in one process. The ratio of
their times is printed for each round; 1.0 would mean that everything else is hidden behind the net.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

from napari_unet.app.models import find_model
from napari_unet.app.segment import run_job
from napari_unet.core.job import SegmentJob
from napari_unet.core.tiling import TileGrid
from napari_unet.model.weights import load_model


def bare_seconds(model: Path, slices: int, tile: int) -> float:
    """Return the time of the network alone on as many tiles."""
    loaded = load_model(model)
    net = loaded.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack it
    geometry = loaded.header.architecture.geometry()
    grid = TileGrid((slices, 1024, 1024), geometry, (1, tile, tile), (1, 1024, 1024))
    image = torch.zeros(1, 1, *geometry.input_shape((1, tile, tile))[1:])
    began = time.perf_counter()
    with torch.inference_mode():
        for _ in range(grid.count_tiles()):
            net(image)
    return time.perf_counter() - began


def job_seconds(job: SegmentJob) -> float:
    """Return the time of the whole job, from opening the image to the finished output."""
    began = time.perf_counter()
    for _ in run_job(job):
        pass
    return time.perf_counter() - began


def main() -> None:
    """Measure in turn and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="em-membranes")
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tile", type=int, default=512)
    options = parser.parse_args()
    model = find_model(options.model).path
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stack = Path(folder) / "stack.tif"
        shape = (options.slices, 1024, 1024)
        tifffile.imwrite(stack, np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
        for index in range(options.rounds + 1):
            job = SegmentJob(
                input=str(stack),
                axes="zyx",
                model=options.model,
                output=str(Path(folder) / f"{index}.zarr"),
                device="cpu",
                tile_size=options.tile,
            )
            rows.append((job_seconds(job), bare_seconds(model, options.slices, options.tile)))
    ratios = [job / bare for job, bare in rows[1:]]  # the first round warms up
    megapixels = options.slices * 1.048576
    print(
        json.dumps(
            {
                "tile": options.tile,
                "threads": torch.get_num_threads(),
                "job_over_bare_net": [round(r, 3) for r in ratios],
                "median": round(float(np.median(ratios)), 3),
                "megapixels_per_second": [round(megapixels / job, 3) for job, _ in rows[1:]],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

"""GPU against CPU: agreement in fp32, the tile law there, and the paper's 512 x 512 in seconds.

    python benchmarks/gpu_check.py [--device cuda]

Prints one JSON object; exits with 1 when a promise does not hold, with 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.core.normalization import Normalization
from napari_unet.core.tiling import TileGrid
from napari_unet.inference.control import JobControl
from napari_unet.inference.device import choose_backend
from napari_unet.inference.engine import Tally, TileRun, run_tiles
from napari_unet.inference.memory import MemorySink
from napari_unet.inference.predictor import Predictor
from napari_unet.io.image import wrap_array
from napari_unet.io.selection import Selection
from napari_unet.model.unet import UNet

if TYPE_CHECKING:
    from napari_unet.core.receptive import NetGeometry

AGREEMENT = 1e-4
"""Largest difference of probabilities between GPU and CPU in fp32, with TF32 off."""

TILE_LAW = 1e-5
"""Largest difference of probabilities between tile sizes on one device."""


def predict(
    net: UNet, geometry: NetGeometry, device: str, image: np.ndarray, tile: int
) -> np.ndarray:
    """Return probabilities (class, y, x) of a plane, computed in tiles."""
    source = wrap_array(image, Selection())
    grid = TileGrid(source.shape, geometry, (1, tile, tile), (1, 1024, 1024))
    sink = MemorySink(source.shape)
    normalization = Normalization(offset=(0.0,), scale=(1.0,))
    run = TileRun(source, sink, grid, grid.extent, normalization, True)
    for _ in run_tiles(
        run, Predictor(net, geometry, choose_backend(device)), JobControl(), Tally()
    ):
        pass
    return sink.probabilities[:, 0]


def lively(net: UNet) -> UNet:
    """Scale the head so that the random net's probabilities really vary."""
    with torch.inference_mode():
        logits = net(torch.randn(1, 1, 316, 316))
        spread = logits.std(dim=(0, 2, 3))
        net.head.weight *= (2 / spread)[:, None, None, None]
        net.head.bias -= 2 * logits.mean(dim=(0, 2, 3)) / spread
    return net


def seconds_for_512(net: UNet, device: str) -> float:
    """Return the median time of a 512 x 512 image with the paper's net, copies included."""
    predictor = Predictor(net, net.architecture.geometry(), choose_backend(device))
    geometry = net.architecture.geometry()
    grid = TileGrid((1, 512, 512), geometry, (1, 512, 512), (1, 512, 512))
    tile = next(grid.tiles_of(next(grid.blocks())))
    image = np.zeros((1, *tile.read.shape), np.float32)
    times = []
    for _ in range(12):
        began = time.perf_counter()
        predictor([image], [tile.crop], probabilities=False)
        times.append(time.perf_counter() - began)
    return float(np.median(times[2:]))


def main() -> int:
    """Run the checks and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    if not torch.cuda.is_available() and device.startswith("cuda"):
        print("no CUDA device: nothing was measured", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    net = lively(UNet().eval())
    geometry = net.architecture.geometry()
    image = np.random.default_rng(0).normal(size=(700, 900)).astype(np.float32)
    answers = {tile: predict(net, geometry, device, image, tile) for tile in (192, 512, 1024)}
    # Predictor moves the net; the CPU comes last.
    gpu_seconds = seconds_for_512(net, device)
    on_cpu = predict(net, geometry, "cpu", image, 512)
    difference = float(np.abs(answers[512] - on_cpu).max())
    law = max(float(np.abs(answers[t] - answers[1024]).max()) for t in (192, 512))
    clear = np.abs(answers[1024][0] - answers[1024][1]) > 1e-4
    flips = int(((answers[192].argmax(0) != answers[1024].argmax(0)) & clear).sum())
    print(
        json.dumps(
            {
                "device": choose_backend(device).label,
                "torch": torch.__version__,
                "max_difference_to_cpu": difference,
                "max_difference_between_tile_sizes": law,
                "labels_that_flip_beyond_the_margin": flips,
                "probability_std": float(on_cpu.std()),
                "seconds_for_512x512_paper_net": gpu_seconds,
            },
            indent=2,
        )
    )
    return 0 if difference <= AGREEMENT and law <= TILE_LAW and not flips else 1


if __name__ == "__main__":
    sys.exit(main())

"""What a dab of the brush costs: stored strokes against a plain NumPy array and a plain zarr array.

    QT_QPA_PLATFORM=xcb xvfb-run -a python benchmarks/painting.py [--edge 2048] [--dabs 300]

Paints the same dabs, one per mouse event as a hand does, on three Labels layers of a real napari
window, in turn, so that a busy machine slows all of them down alike. Strokes are brought to disk
meanwhile, between dabs, as in a session. Prints one JSON object: milliseconds until napari's
`Labels.paint` returns (the ink is then on its way to the screen), and how long it took until the
last stroke was on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
import zarr
from qtpy.QtWidgets import QApplication

from napari_unet.app.annotations import STROKES_FOLDER
from napari_unet.widgets._annotation_layer import PaintClass, new_annotation
from napari_unet.widgets._strokes_keeper import keeper_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Labels

CLASSES = (PaintClass("interior", "#0072b2"), PaintClass("membrane", "#e69f00"))
DABS_PER_STROKE = 30
PAUSE_S = 0.3
"""Between two strokes."""


def make_layers(viewer: Any, folder: Path, edge: int, brush: int) -> dict[str, Labels]:
    """Return three empty layers of the same shape over an image."""
    shape = (20, edge, edge)
    image = viewer.add_image(np.zeros(shape, np.uint8), name="image")
    chunked: Any = zarr.create_array(
        folder / "plain.zarr", shape=shape, dtype="uint8", chunks=(1, 256, 256), fill_value=0
    )
    layers = {
        "numpy": viewer.add_labels(np.zeros(shape, np.uint8), name="numpy"),
        "zarr": viewer.add_labels(chunked, name="zarr"),
        "strokes": new_annotation(viewer, image, CLASSES),
    }
    for layer in layers.values():
        layer.brush_size = brush
        # All three are drawn by the same colors.
        layer.colormap = layers["strokes"].colormap
    return layers


def paint(layers: Mapping[str, Labels], dabs: int, edge: int) -> dict[str, list[float]]:
    """Return the seconds of each dab."""
    rng = np.random.default_rng(7)
    seconds: dict[str, list[float]] = {name: [] for name in layers}
    place = np.array([10.0, edge / 2, edge / 2])
    for number in range(dabs):
        if number % DABS_PER_STROKE == 0:
            place[1:] = rng.uniform(0.1 * edge, 0.9 * edge, 2)
            wait(PAUSE_S)
        place[1:] += rng.uniform(-8, 8, 2)
        for name, layer in layers.items():
            began = time.perf_counter()
            layer.paint(place, 1 + number // DABS_PER_STROKE % 2)
            seconds[name].append(time.perf_counter() - began)
            QApplication.processEvents()
    return seconds


def wait(seconds: float) -> None:
    """Let napari and the writing go on for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.002)


def until_stored(layer: Labels) -> float:
    """Return the seconds from a last dab until it is on disk."""
    keeper = keeper_of(layer)
    if keeper is None:
        raise SystemExit("the layer's strokes are not stored")
    wait(1)
    stored: list[object] = []
    keeper.stored.connect(stored.append)
    layer.paint((3, 100, 100), 2)
    began = time.monotonic()
    while not stored and time.monotonic() < began + 30:
        QApplication.processEvents()
        time.sleep(0.001)
    return time.monotonic() - began


def main() -> None:
    """Measure in turn and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=int, default=2048)
    parser.add_argument("--dabs", type=int, default=300)
    parser.add_argument("--brush", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ[STROKES_FOLDER] = str(Path(name) / "strokes")
        viewer = napari.Viewer(show=True)
        layers = make_layers(viewer, Path(name), options.edge, options.brush)
        wait(2)
        paint(layers, DABS_PER_STROKE, options.edge)
        seconds = paint(layers, options.dabs, options.edge)
        rows = {
            each: {
                "median_ms": round(1e3 * float(np.median(times)), 2),
                "p95_ms": round(1e3 * float(np.quantile(times, 0.95)), 2),
                "max_ms": round(1e3 * max(times), 2),
            }
            for each, times in seconds.items()
        }
        on_disk = round(until_stored(layers["strokes"]), 3)
        print(json.dumps({**vars(options), "dab": rows, "until_on_disk_s": on_disk}, indent=2))
        viewer.close()


if __name__ == "__main__":
    main()

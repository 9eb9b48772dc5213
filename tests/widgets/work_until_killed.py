"""A napari session that is killed while it segments and somebody paints; run by test_crash.

    python -m tests.widgets.work_until_killed IMAGE MODEL FOLDER

Opens the dock over the image, clicks Segment for all slices, goes to Fine-tune and paints strokes
with the mouse on a new annotation layer. First says the numbers of its engines' processes on
stdout; after each stroke, writes what the layer holds then into FOLDER and says the stroke's
number, and how many blocks are done.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
import zarr
from qtpy.QtTest import QTest
from tests.widgets.paint_until_killed import draw

from napari_unet.core.events import BlockDone
from napari_unet.widgets._form import Region
from napari_unet.widgets.dock import SegmentDock

if TYPE_CHECKING:
    from collections.abc import Callable

BRUSH = 12

REST_MS = 300
"""From one stroke to the next, as of a hand; without any rest strokes wait for some seconds."""


def say(words: dict[str, Any]) -> None:
    """Tell the test."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def wait_until(condition: Callable[[], bool]) -> None:
    """Let the window live; whoever waits for us has the patience to end it."""
    while not condition():
        QTest.qWait(20)


def main(image_path: str, model: Path, folder: Path) -> None:
    """Segment, and paint until the end."""
    viewer = napari.Viewer(show=True)
    viewer.add_image(zarr.open_array(image_path, mode="r"), name="stack")
    dock = SegmentDock(viewer)
    viewer.window.add_dock_widget(dock, name="Segment with U-Net")
    form = dock.panel.form
    form.add_model_file(model)
    form.region_combo.setCurrentText(Region.ALL_SLICES.value)
    form.output_combo.setCurrentText("next to the image")
    done: list[BlockDone] = []
    dock.panel.runner.reported.connect(
        lambda event: done.append(event) if isinstance(event, BlockDone) else None
    )
    dock.pages.setCurrentIndex(1)
    panel = dock.fine_tune
    if panel is None:
        raise SystemExit("the page Fine-tune did not open")
    panel.form.new_button.click()
    layer = panel.form.annotation
    if layer is None:
        raise SystemExit("there is no annotation layer")
    viewer.fit_to_view()
    engines = (dock.panel.runner, panel.runner, panel.drafting.drafter.runner)
    wait_until(lambda: dock.panel.runner.is_warm and None not in [e.process_id for e in engines])
    dock.panel.segment_button.click()
    wait_until(lambda: bool(done))
    say({"engines": [engine.process_id for engine in engines]})
    canvas = viewer.window._qt_viewer.canvas.native
    rng = np.random.default_rng(3)
    layer.brush_size = BRUSH
    for number in itertools.count():
        panel.form.classes.table.setCurrentCell(number % 2, 1)
        draw(canvas, rng)
        np.save(folder / f"{number}.npy", layer.data.copy())
        say({"stroke": number, "blocks": done[-1].blocks_done})
        QTest.qWait(REST_MS)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))

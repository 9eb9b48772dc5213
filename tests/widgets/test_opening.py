"""Opening the widget is quick because it imports little: what, in a fresh process."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "torch",
    "zarr",
    "matplotlib",
    "pyarrow",
    "cc3d",
    "edt",
    "fastremap",
    "skimage.segmentation",
)
"""Needed later or by the engine, never to open the widget."""

OPEN = """
import sys
import napari
from napari.components import ViewerModel
from napari.qt import get_qapp
get_qapp()
viewer = ViewerModel()
before = set(sys.modules)
from napari_unet.widgets.dock import SegmentDock
dock = SegmentDock(viewer)
after = set(sys.modules)
dock.panel.close_engine(let_job_go_on=False)
print(*sorted(after - before))
"""


def imported_by_opening() -> set[str]:
    """Return the modules that the widget adds to those of a napari that is open."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OPEN], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_opening_the_widget_imports_nothing_heavy() -> None:
    found = imported_by_opening()
    assert "napari_unet.widgets.segment" in found
    assert not found & set(HEAVY)
    # The other pages wait until they are looked at.
    assert not found & {"napari_unet.widgets.fine_tune", "napari_unet.widgets.models_panel"}

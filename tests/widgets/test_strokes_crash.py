"""A napari that is killed while somebody paints loses the last moments at most."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from napari.components import ViewerModel

from napari_unet.app.annotations import STROKES_FOLDER
from napari_unet.widgets._annotation_layer import find_strokes, open_strokes, stored_classes

CHILD = Path(__file__).parent / "paint_until_killed.py"

STROKES = 12

LAST_MOMENTS_S = 2.0
"""What was painted longer before must be there, on a busy machine, too."""

HELD_S = 2 * LAST_MOMENTS_S
"""So long that some of this one stroke must be there."""


@pytest.mark.timeout(400)
def test_after_kill_9_the_strokes_are_back(
    tmp_path: Path, qapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STROKES_FOLDER, str(tmp_path / "strokes"))
    values = zarr.create_array(
        tmp_path / "em.zarr", shape=(3, 400, 500), dtype="uint8", chunks=(1, 256, 256)
    )
    snapshots = tmp_path / "snapshots"
    snapshots.mkdir()
    command = [sys.executable, CHILD, tmp_path / "em.zarr", snapshots, str(STROKES), str(HELD_S)]
    said: list[tuple[float, str]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            for line in child.stdout:
                said.append((time.monotonic(), line.strip()))
                if said[-1][1] == "end":
                    break
        finally:
            child.kill()
            killed = time.monotonic()
    assert said[-1][1] == "end"
    edits = [np.load(snapshots / f"{number}.npy") for number in range(len(said))]
    old = max(number for number, (when, _) in enumerate(said) if when < killed - LAST_MOMENTS_S)
    # One that was painted while the brush was down, and never came up.
    assert said[old][1] == "held"
    viewer = ViewerModel()
    image = viewer.add_image(zarr.open_array(values.store.root, mode="r"), name="em")
    (found,) = find_strokes(image)
    layer = open_strokes(viewer, image, found)
    back = layer.data.copy()
    assert edits[old].any()
    # What was the same ever since is exactly that; the rest is as it was at some moment.
    recent = np.stack(edits[old:])
    is_settled = (recent == recent[0]).all(axis=0)
    np.testing.assert_array_equal(back[is_settled], edits[-1][is_settled])
    assert (back == recent).any(axis=0).all()
    classes = stored_classes(layer)
    assert classes is not None
    assert [each.name for each in classes] == ["cell", "membrane"]
    # And the work goes on.
    layer.paint((1, 200, 250), 2)
    assert layer.data[1, 200, 250] == 2
    viewer.layers.clear()

"""The dock widget over the real engine: what a click gives is what the command line gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_unet.app.models import list_models
from napari_unet.widgets import _form, _runner
from napari_unet.widgets._process import ENGINE_ARGUMENTS
from napari_unet.widgets.samples import open_fib_sem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def real_dock(
    make_dock: Callable[..., Any], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Make a dock over the real engine, with the tiny model chosen in it."""

    def make() -> Any:
        dock = make_dock(arguments=ENGINE_ARGUMENTS["segment"])
        dock.panel.form.add_model_file(tiny_model)
        assert dock.panel.form.model_combo.currentText() == "tiny"
        return dock

    return make


def by_command_line(image: Path, output: Path) -> Any:
    """Return the labels that the command line gives."""
    words = "-m napari_unet segment --axes zyx --model em-membranes --progress none --output"
    subprocess.run([sys.executable, *words.split(), str(output), str(image)], check=True)
    return zarr.open_array(output / "labels" / "em-membranes" / "0", mode="r")[:]


def test_a_click_gives_what_the_command_line_gives(
    user: Any, make_dock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_form, "list_models", list_models)
    ((levels, _, _),) = open_fib_sem()
    path = tmp_path / "a stack.tif"
    tifffile.imwrite(path, np.asarray(levels[0])[5:7, :200, :230])
    dock = make_dock(arguments=ENGINE_ARGUMENTS["segment"])
    viewer = dock.panel._viewer
    user.choose(dock, model="em-membranes")
    viewer.open(path, plugin="napari")
    user.choose(dock, region="all slices")
    words = user.segment_and_wait(dock)
    assert words.startswith("Done"), words
    layer = viewer.layers[-1]
    wanted = by_command_line(path, tmp_path / "cli.zarr")
    np.testing.assert_array_equal(np.asarray(layer.data), wanted)
    # The answer really varies, so that equality says something.
    assert 0.05 < np.mean(wanted == 2) < 0.5
    assert not np.any(wanted == 0)
    assert (tmp_path / "a_stack.unet.zarr" / "labels" / "em-membranes").is_dir()


def test_an_engine_killed_in_the_middle_leaves_napari_alive(
    user: Any, real_dock: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "large.zarr"
    array = zarr.create_array(path, shape=(40, 1024, 1024), dtype="uint8", chunks=(1, 1024, 1024))
    array[:2] = rng.integers(0, 256, (2, 1024, 1024), dtype=np.uint8)
    dock = real_dock()
    viewer = dock.panel._viewer
    viewer.add_image(zarr.open_array(path, mode="r"), name="large")
    user.choose(dock, region="all slices")
    user.click(dock.panel.segment_button)
    layer = user.wait_for_labels(dock)
    z = int(viewer.dims.point[0])
    user.wait_until(lambda: bool(layer.data[z].any()))
    os.kill(dock.panel.runner.process_id, signal.SIGKILL)
    user.wait_until(lambda: not dock.panel.is_running)
    assert "ended unexpectedly (signal 9)" in dock.panel.message.toPlainText()
    # The view came first, and is kept; the end was not reached.
    assert z > 0
    assert layer.data[z].any()
    assert not layer.data[0].any()
    user.choose(dock, region="the visible part")
    assert user.segment_and_wait(dock).startswith("Done")


def test_cancel_and_a_bad_option(
    user: Any, real_dock: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    dock = real_dock()
    viewer = dock.panel._viewer
    viewer.add_image(rng.integers(0, 256, (30, 900, 900), dtype=np.uint8), name="noise")
    user.choose(dock, region="all slices", device="mps")
    words = user.segment_and_wait(dock)
    assert "mps" in words
    assert not any(layer.name.endswith("tiny") for layer in viewer.layers)
    user.choose(dock, device="cpu")
    user.click(dock.panel.segment_button)
    user.wait_for_labels(dock)
    user.click(dock.panel.stop_button)
    user.wait_until(lambda: not dock.panel.is_running)
    assert "Stopped after" in dock.panel.message.toPlainText()


def test_the_panel_imports_no_torch() -> None:
    code = (
        "import sys, napari_unet.widgets.dock, napari_unet.widgets.reader, "
        "napari_unet.widgets.samples; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_engine_is_the_command_line() -> None:
    for command, arguments in _runner.ENGINE_ARGUMENTS.items():
        assert arguments[:3] == ("-m", "napari_unet", command)

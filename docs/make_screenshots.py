"""Make the pictures of the documentation: the dock widget while it runs, and when it is done.

Run it where a display is, or under Xvfb::

    xvfb-run -s "-screen 0 1400x900x24" python docs/make_screenshots.py docs/images
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from qtpy.QtWidgets import QApplication

from napari_unet.widgets._form import Region

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = (1280, 800)
PATIENCE_S = 300.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Let the window live until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing happened for {PATIENCE_S:.0f} s")
        QApplication.processEvents()
        time.sleep(0.01)


def rest(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end)


def take(viewer: napari.Viewer, path: Path) -> None:
    """Write a picture of the whole window."""
    rest(0.3)
    viewer.screenshot(str(path), canvas_only=False, flash=False)


def open_image(viewer: napari.Viewer, path: Path | None) -> Any:
    """Show an image, or the sample that ships with the package."""
    if path is None:
        return viewer.open_sample("napari-unet", "fib_sem_medulla")[0]
    return viewer.open(path, plugin="napari")[0]


def main() -> None:
    """Drive the real widget by its real buttons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--image", type=Path, help="another image than the sample")
    parser.add_argument("--model", type=Path, help="another model than the bundled one")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW)
    open_image(viewer, options.image)
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet", "Segment with U-Net")
    panel = dock.panel
    if options.model is not None:
        panel.form.add_model_file(options.model)
    viewer.fit_to_view()
    wait_until(lambda: panel.runner.is_warm)
    panel.form.region_combo.setCurrentText(Region.ALL_SLICES.value)
    panel.segment_button.click()
    wait_until(lambda: len(viewer.layers) > 1 and bool(viewer.layers[-1].data[:].any()))
    wait_until(lambda: panel.progress_bar.value() > 0)
    take(viewer, options.folder / "segment-running.png")
    wait_until(lambda: not panel.is_running)
    viewer.layers[-1].opacity = 0.4
    take(viewer, options.folder / "segment-done.png")
    print(panel.message.toPlainText())
    viewer.close()


if __name__ == "__main__":
    main()

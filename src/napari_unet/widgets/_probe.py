"""Asks Qt and OpenGL what they are; run as a process: ``python -m napari_unet.widgets._probe``.

A broken Qt or graphics driver ends the process that asks, so it is none of ours.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> int:
    """Print what Qt and OpenGL say as one line of JSON."""
    sys.stdout.write(json.dumps(probe()) + "\n")
    return 0


def probe() -> dict[str, Any]:
    """Return binding, version and platform of Qt, and what draws; an empty renderer = nothing.

    The drawing surface is made by vispy, as napari makes it.
    """
    from qtpy import API_NAME, QtCore
    from qtpy.QtGui import QGuiApplication
    from qtpy.QtWidgets import QApplication
    from vispy.app import Canvas, use_app
    from vispy.gloo import gl

    application = QApplication([])
    use_app(API_NAME.lower())
    canvas = Canvas(size=(16, 16), show=False)
    canvas.set_current()
    facts = {
        "binding": API_NAME,
        "qt": QtCore.qVersion(),
        "platform": QGuiApplication.platformName(),
        "renderer": gl.glGetParameter(gl.GL_RENDERER) or "",
        "version": gl.glGetParameter(gl.GL_VERSION) or "",
        "max_texture_size": gl.glGetParameter(gl.GL_MAX_TEXTURE_SIZE) or 0,
    }
    canvas.close()
    application.quit()
    return facts


if __name__ == "__main__":
    sys.exit(main())

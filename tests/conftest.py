"""What all tests share: a quiet, reproducible environment and no state of the developer's own."""

from __future__ import annotations

import os
import sys

# Before anything imports napari, or make_napari_viewer overwrites the developer's settings.
os.environ["NAPARI_CONFIG"] = ""
if sys.platform == "linux":
    # Only xcb, under the Xvfb that pytest-xvfb starts, draws the canvas; offscreen has no OpenGL.
    os.environ["QT_QPA_PLATFORM"] = "xcb"

import hypothesis
import numpy as np
import pytest

# No deadline: the machine may be busy. In CI the same examples every time, elsewhere new ones.
hypothesis.settings.register_profile(
    "napari-unet", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True
)
hypothesis.settings.load_profile("napari-unet")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20150518)

"""What all tests share: a quiet, reproducible environment and no state of the developer's own."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

# Before anything imports napari, or make_napari_viewer overwrites the developer's settings.
os.environ["NAPARI_CONFIG"] = ""
if sys.platform == "linux":
    # Only xcb, under the Xvfb that pytest-xvfb starts, draws the canvas; offscreen has no OpenGL.
    os.environ["QT_QPA_PLATFORM"] = "xcb"

# One thread each, which sleeps when it waits: two processes of tests share the cores, and so do the
# processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"

import hypothesis
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

# No deadline: the machine may be busy. In CI the same examples every time, elsewhere new ones.
hypothesis.settings.register_profile(
    "napari-unet", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True
)
hypothesis.settings.load_profile("napari-unet")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Modules and tests live to the end: nobody looks through them for garbage again and again.

    napari looks three times for each viewer, which took longer than most tests of the widgets.
    """
    # Not gc.disable(): dask, imported now, would take that for what it is to go back to.
    thresholds = gc.get_threshold()
    gc.set_threshold(0)
    try:
        return (yield)
    finally:
        gc.set_threshold(*thresholds)
        gc.collect()
        gc.freeze()


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20150518)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Path of a small model file, with a random net whose output really varies."""
    from tests.nets import save_lively_model

    path = tmp_path / "tiny.safetensors"
    save_lively_model(path)
    return str(path)


@pytest.fixture
def stack(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A small stack (z, y, x)."""
    return rng.integers(0, 255, (3, 90, 70), dtype=np.uint8)


@pytest.fixture
def stack_path(tmp_path: Path, stack: npt.NDArray[np.uint8]) -> str:
    """Path of the small stack as a chunked zarr, in a folder with a space in its name."""
    import zarr

    path = tmp_path / "my stack.zarr"
    array = zarr.create_array(
        path,
        shape=stack.shape,
        chunks=(1, 32, 32),
        dtype=stack.dtype,
        dimension_names=("z", "y", "x"),
    )
    array[:] = stack
    return str(path)

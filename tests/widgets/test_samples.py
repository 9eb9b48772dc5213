"""File > Open Sample: every image that ships with the package, as napari opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import yaozarrs

from napari_unet.widgets._lazy_image import LazyImage
from napari_unet.widgets.samples import SAMPLES_FOLDER, open_fib_sem

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "napari_unet"
MANIFEST = yaml.safe_load((PACKAGE / "napari.yaml").read_text(encoding="utf-8"))
KEYS = [sample["key"] for sample in MANIFEST["contributions"]["sample_data"]]


def test_every_stored_sample_is_in_the_menu_and_small() -> None:
    folders = {path.stem for path in SAMPLES_FOLDER.glob("*.zarr")}
    assert folders == set(KEYS)
    files = [path for path in SAMPLES_FOLDER.rglob("*") if path.is_file()]
    assert len(files) < 40
    assert sum(path.stat().st_size for path in files) < 2_000_000


@pytest.mark.parametrize("key", KEYS)
def test_a_sample_opens_with_its_attribution(make_napari_viewer: Any, key: str) -> None:
    yaozarrs.validate_zarr_store(str(SAMPLES_FOLDER / f"{key}.zarr"))
    viewer = make_napari_viewer()
    (layer,) = viewer.open_sample("napari-unet", key)
    words = layer.metadata["napari-unet"]["attribution"]
    assert f"License: Creative Commons {'Attribution' if 'fib' in key else 'CC0'}" in words
    # Of this sample, and of no other.
    assert ("neuroproof_examples" in words) == ("fib" in key)
    assert ("BBBC038" in words) == ("nuclei" in key)
    low, high = layer.contrast_limits
    shown = np.asarray(layer._slice.image.view)
    assert low <= shown.min() < high
    assert shown.std() > 0.1 * (high - low)


def test_the_fib_sem_sample_is_a_lazy_pyramid() -> None:
    ((levels, options, kind),) = open_fib_sem()
    assert (kind, options["multiscale"]) == ("image", True)
    assert all(isinstance(level, LazyImage) for level in levels)
    assert [level.shape for level in levels] == [(16, 250, 250), (16, 125, 125), (16, 63, 63)]
    fine = np.asarray(levels[0]).astype(float)
    # Where windows are whole; the last of 125 rows has no neighbor.
    for level, factor in ((levels[1], 2), (levels[2], 4)):
        whole = 250 // factor
        cut = fine[:, : whole * factor, : whole * factor]
        means = cut.reshape(16, whole, factor, whole, factor).mean(axis=(2, 4))
        found = np.asarray(level)[:, :whole, :whole]
        # Each level is rounded, and the third is made of the second.
        assert np.abs(found - means).max() <= 0.5 * (factor // 2) + 1e-9


def test_no_place_next_to_a_sample_is_offered(make_dock: Any) -> None:
    dock = make_dock()
    viewer = dock.panel._viewer
    viewer.open_sample("napari-unet", "nuclei_small")
    output = dock.panel.form.output_combo
    assert output.currentText().startswith("temporary")


def test_a_sample_is_segmented_from_where_it_lies(user: Any, make_dock: Any) -> None:
    dock = make_dock()
    viewer = dock.panel._viewer
    (layer,) = viewer.open_sample("napari-unet", "fib_sem_medulla")
    user.choose(dock, region="this slice")
    words = user.segment_and_wait(dock)
    assert words.startswith("Done"), words
    labels = viewer.layers[-1]
    job = labels.metadata["napari-unet"]["job"]
    assert job["input"] == str(SAMPLES_FOLDER / "fib_sem_medulla.zarr")
    z = int(layer.world_to_data(viewer.dims.point)[0])
    data = labels.data[0] if labels.multiscale else labels.data
    fine = np.asarray(layer.data[0])
    np.testing.assert_array_equal(np.asarray(data[z]), 1 + (fine[z] > 127))

"""What was given for the image and looks like labels is segmented all the same, with a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import zarr

from napari_unet.app.plan import plan_segment
from napari_unet.core.job import SegmentJob

if TYPE_CHECKING:
    from pathlib import Path


def notes_of(image: Path, model: str) -> str:
    job = SegmentJob(input=str(image), axes="yx", model=model, output="out.zarr")
    plan = plan_segment(job, 64)
    plan.source.close()
    return " ".join(plan.notes)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_values_of_images_are_not_spoken_of(tmp_path: Path, model: str, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((40, 50), dtype))
    assert notes_of(tmp_path / "image.tif", model) == ""


@pytest.mark.parametrize("dtype", ["bool", "uint32", "int32"])
def test_values_of_labels_are(tmp_path: Path, model: str, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "objects.tif", np.zeros((40, 50), dtype))
    assert f"of type {dtype}, as masks and label images do" in notes_of(
        tmp_path / "objects.tif", model
    )


def test_labels_of_an_ome_zarr_are_whatever_their_type(tmp_path: Path, model: str) -> None:
    for inner in ("out.zarr/labels/cells", "labels/image.zarr"):
        zarr.create_array(tmp_path / inner, shape=(40, 50), dtype="uint8")
    assert "among the labels of out.zarr" in notes_of(tmp_path / "out.zarr/labels/cells", model)
    assert notes_of(tmp_path / "labels/image.zarr", model) == "", "a folder of that name is none"

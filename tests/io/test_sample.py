"""The bundled sample image."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaozarrs

from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.io.image import open_image

FOLDER = Path(str(resources.files("napari_unet"))) / "resources" / "samples"


def test_the_sample_is_a_small_valid_image_with_attribution() -> None:
    path = FOLDER / "fib_sem_medulla.zarr"
    yaozarrs.validate_zarr_store(str(path))
    source = open_image(path)
    assert (source.name, source.shape, str(source.dtype)) == (
        "fib_sem_medulla",
        (16, 250, 250),
        "uint8",
    )
    assert source.levels[0].voxel_size == VoxelSize(10, 10, 10, "nanometer")
    whole = Box.of_shape(source.shape)
    assert source.count_missing_chunks(whole) == 0
    assert 90 < source.read(whole).mean() < 170
    files = [p for p in path.rglob("*") if p.is_file()]
    assert len(files) < 10
    assert sum(p.stat().st_size for p in files) < 1_200_000
    text = (FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "neuroproof_examples" in text
    assert "CC BY 3.0" in text

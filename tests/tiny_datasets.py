"""Tiny folders of the kind of public data sets: their names, modes and formats, random content.

The real ones are not in this repository, some may not be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import tifffile

if TYPE_CHECKING:
    from pathlib import Path

Array = npt.NDArray[Any]


def write_isbi_2012(root: Path, rng: np.random.Generator, *, imagej: bool) -> tuple[Array, Array]:
    """Write a multi-page TIFF of 8 bit and one of 0 and 255; return both."""
    volume = rng.integers(0, 256, (30, 16, 12), dtype=np.uint8)
    labels = rng.choice(np.array([0, 255], np.uint8), volume.shape)
    for name, data in (("train-volume.tif", volume), ("train-labels.tif", labels)):
        if imagej:
            tifffile.imwrite(root / name, data, imagej=True, metadata={"axes": "ZYX"})
            continue
        with tifffile.TiffWriter(root / name) as file:
            for plane in data:
                file.write(plane, metadata=None, contiguous=False)
    return volume, labels


def write_drive(
    root: Path, rng: np.random.Generator, *, palette: bool
) -> dict[str, tuple[Array, Array, Array]]:
    """Write RGB TIFF, and GIF for vessels and field of view; return all by name."""
    folder, made = root / "training", {}
    for name in ("images", "1st_manual", "mask"):
        (folder / name).mkdir(parents=True)
    for number in ("21", "22", "40"):
        image = rng.integers(0, 256, (24, 21, 3), dtype=np.uint8)
        vessels = rng.random((24, 21)) < 0.3
        view = np.hypot(*(np.indices((24, 21)) - 10)) < 9
        tifffile.imwrite(
            folder / "images" / f"{number}_training.tif", image, photometric="rgb", metadata=None
        )
        _save_gif(folder / "1st_manual" / f"{number}_manual1.gif", vessels, palette=palette)
        _save_gif(folder / "mask" / f"{number}_training_mask.gif", view, palette=palette)
        made[f"{number}_training"] = (image, vessels, view)
    (folder / "images" / "Thumbs.db").write_bytes(b"not an image")
    return made


def write_bowl_2018(root: Path, rng: np.random.Generator) -> dict[str, tuple[Array, Array]]:
    """Write images in RGBA, RGB and gray, nuclei that touch in one mask file each; return all."""
    made = {}
    for mode, channels in (("RGBA", 4), ("RGB", 3), ("L", 1)):
        identity = f"{mode.lower():0<64}"
        image = rng.integers(0, 256, (14, 18, channels), dtype=np.uint8)
        objects = np.zeros((14, 18), np.uint16)
        objects[2:9, 2:8], objects[2:9, 8:14], objects[11:, 1:4] = 1, 2, 3
        folder = root / "stage1_train" / identity
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        iio.imwrite(folder / "images" / f"{identity}.png", image.squeeze(), mode=mode)
        for number in (1, 2, 3):
            mask = (objects == number).astype(np.uint8) * 255
            iio.imwrite(folder / "masks" / f"{number:064x}.png", mask)
        made[identity] = (image[..., :3], objects)
    (root / "stage1_train" / ".DS_Store").write_bytes(b"")
    return made


def write_cells(root: Path, rng: np.random.Generator) -> None:
    """Write two sequences of three time points; gold truth of one each, without the second cell."""
    for sequence, known in (("01", "001"), ("02", "002")):
        for folder in (sequence, f"{sequence}_GT/SEG", f"{sequence}_GT/TRA", f"{sequence}_ST/SEG"):
            (root / folder).mkdir(parents=True)
        for number in ("000", "001", "002"):
            image = rng.integers(0, 256, (120, 160), dtype=np.uint8)
            markers = np.zeros(image.shape, np.uint16)
            markers[58:60, 58:60], markers[58:60, 98:100] = 5, 9
            silver = np.zeros(image.shape, np.uint16)
            silver[55:65, 55:62], silver[55:65, 95:105] = 5, 9
            gold = np.where(silver == 5, 1, 0).astype(np.uint16)
            tifffile.imwrite(root / sequence / f"t{number}.tif", image)
            tra = root / f"{sequence}_GT" / "TRA"
            tifffile.imwrite(tra / f"man_track{number}.tif", markers)
            tifffile.imwrite(root / f"{sequence}_ST/SEG/man_seg{number}.tif", silver)
            if number == known:
                tifffile.imwrite(root / f"{sequence}_GT/SEG/man_seg{number}.tif", gold)
        (tra / "man_track.txt").write_text("5 0 2 0\n9 0 2 0\n")


def _save_gif(path: Path, mask: Array, *, palette: bool) -> None:
    """Write a GIF of 0 and 255, as gray values or through a palette of colors."""
    values = mask.astype(np.uint8) * 255
    iio.imwrite(path, np.stack([values] * 3, axis=-1) if palette else values, plugin="pillow")

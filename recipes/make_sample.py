"""Make the bundled sample images: a FIB-SEM crop and images of nuclei, as OME-Zarr 0.5.

Usage: python recipes/make_sample.py FOLDER, where FOLDER holds ``flyem_medulla/raw.tif``: z 0-159
of training_sample2 of https://github.com/janelia-flyem/neuroproof_examples (CC BY 3.0), and
``dsb2018``: Data Science Bowl 2018 stage 1, BBBC038 (CC0), as recipes/nuclei_data.py describes it.
"""

from __future__ import annotations

import argparse
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import zarr
from nuclei_data import read_image, read_index, split
from zarr.codecs import Crc32cCodec, ZstdCodec

from napari_unet.io.ome_documents import write_group

if TYPE_CHECKING:
    import numpy.typing as npt

SAMPLES = Path(__file__).parents[1] / "src" / "napari_unet" / "resources" / "samples"
FIRST_SLICE, NUM_SLICES = 140, 16  # the bundled model was trained on z 0-129
VOXEL_SIZE = 10.0  # nanometers, isotropic
FIB_SEM_LEVELS = 3
CHUNK_EDGE = 256  # one plane of the FIB-SEM


@dataclass(frozen=True, slots=True)
class Nuclei:
    """A sample of nuclei: the image it is cut from, and which part."""

    stem: str
    name: str
    window: tuple[slice, slice] = (slice(None), slice(None))


NUCLEI = (
    Nuclei("nuclei_small", "648636ee314d7bdb"),
    Nuclei("nuclei_large", "3441821ebea04fac"),
    Nuclei("nuclei_dense", "6fe2df6de1d962b9"),
    Nuclei("nuclei_brightfield", "c395870ad9f5a3ae", (slice(256, 768), slice(256, 768))),
)
"""All from the images that neither taught nor selected the bundled model `nuclei`."""


def main() -> None:
    """Write the samples, replacing those that are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of flyem_medulla and dsb2018")
    data = parser.parse_args().data
    raw = tifffile.imread(data / "flyem_medulla" / "raw.tif")
    crop = raw[FIRST_SLICE : FIRST_SLICE + NUM_SLICES]
    write("fib_sem_medulla", pyramid(crop, FIB_SEM_LEVELS), (VOXEL_SIZE, "nanometer"))
    untaught = untaught_nuclei(data / "dsb2018")
    for sample in NUCLEI:
        if sample.name not in untaught:
            raise SystemExit(f"{sample.name}: the model `nuclei` learned from this image")
        write(sample.stem, [gray(data / "dsb2018", sample)], (1.0, None))


def untaught_nuclei(folder: Path) -> set[str]:
    """Return the names of the images that only tested the model `nuclei`."""
    recipe = tomllib.loads(Path(__file__).with_name("nuclei.toml").read_text(encoding="utf-8"))
    return {file.name for file in split(read_index(folder), recipe["data"]["seed"])["test"]}


def gray(folder: Path, sample: Nuclei) -> npt.NDArray[np.uint8]:
    """Return an image whose three channels are equal, as one."""
    red, green, blue = read_image(folder, sample.name)
    if not (np.array_equal(red, green) and np.array_equal(red, blue)):
        raise SystemExit(f"{sample.name} has colors")
    return np.ascontiguousarray(red[sample.window])


def pyramid(image: npt.NDArray[np.uint8], levels: int) -> list[npt.NDArray[np.uint8]]:
    """Return an image and its coarser levels: y and x halved, each voxel the mean of up to four."""
    found = [image]
    while len(found) < levels:
        fine = found[-1].astype(np.float64)
        for axis in (-2, -1):
            starts = np.arange(0, fine.shape[axis], 2)
            sizes = np.diff([*starts, fine.shape[axis]])
            shape = [1] * fine.ndim
            shape[axis] = len(sizes)
            fine = np.add.reduceat(fine, starts, axis=axis) / sizes.reshape(shape)
        found.append(np.rint(fine).astype(np.uint8))
    return found


def write(
    stem: str, levels: list[npt.NDArray[np.uint8]], voxel_size: tuple[float, str | None]
) -> None:
    """Write a sample, replacing the one that is there."""
    out, axes = SAMPLES / f"{stem}.zarr", "zyx"[-levels[0].ndim :]
    shutil.rmtree(out, ignore_errors=True)
    size, unit = voxel_size
    axis = {"type": "space"} if unit is None else {"type": "space", "unit": unit}
    multiscale = {
        "name": stem,
        "axes": [{"name": letter, **axis} for letter in axes],
        "datasets": [
            {"path": str(k), "coordinateTransformations": transforms(axes, size, 2**k)}
            for k in range(len(levels))
        ],
    }
    if len(levels) > 1:
        multiscale["type"] = "mean"
    write_group(out, {"ome": {"version": "0.5", "multiscales": [multiscale]}}, 3)
    for k, level in enumerate(levels):
        edges = tuple(min(CHUNK_EDGE, 1 << (n - 1).bit_length()) for n in level.shape[-2:])
        shard = tuple(-(-n // edge) * edge for n, edge in zip(level.shape[-2:], edges, strict=True))
        # One shard: a package of few files; its chunks are planes, so that one is read alone.
        array = zarr.create_array(
            zarr.storage.LocalStore(out),
            name=str(k),
            shape=level.shape,
            dtype=level.dtype,
            chunks=(1,) * (level.ndim - 2) + edges,
            shards=level.shape[:-2] + shard,
            compressors=[ZstdCodec(level=19), Crc32cCodec()],
            dimension_names=tuple(axes),
        )
        array[:] = level
    total = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out.name}: {[level.shape for level in levels]}, {total / 1e6:.2f} MB")


def transforms(axes: str, size: float, factor: int) -> list[dict[str, Any]]:
    """Return scale and translation of a level: a coarse voxel's center lies between fine ones."""
    ratios = [1 if letter == "z" else factor for letter in axes]
    scale = {"type": "scale", "scale": [size * ratio for ratio in ratios]}
    if factor == 1:
        return [scale]
    shift = [size * (ratio - 1) / 2 for ratio in ratios]
    return [scale, {"type": "translation", "translation": shift}]


if __name__ == "__main__":
    main()

"""Make the bundled sample image: a crop of a FIB-SEM stack, as OME-Zarr 0.5.

Usage: python recipes/make_sample.py FOLDER, where FOLDER holds ``flyem_medulla/raw.tif``: z 0-159
of training_sample2 of https://github.com/janelia-flyem/neuroproof_examples (CC BY 3.0).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import tifffile
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from napari_unet.io.ome_documents import write_group

SAMPLES = Path(__file__).parents[1] / "src" / "napari_unet" / "resources" / "samples"
NAME = "fib_sem_medulla"
FIRST_SLICE, NUM_SLICES = 140, 16  # the bundled model was trained on z 0-129
VOXEL_SIZE = 10.0  # nanometers, isotropic
CHUNK_EDGE = 256  # one plane


def main() -> None:
    """Write the sample, replacing the one that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds flyem_medulla/raw.tif")
    raw = tifffile.imread(parser.parse_args().data / "flyem_medulla" / "raw.tif")
    crop = raw[FIRST_SLICE : FIRST_SLICE + NUM_SLICES]

    out = SAMPLES / f"{NAME}.zarr"
    shutil.rmtree(out, ignore_errors=True)
    multiscale = {
        "name": NAME,
        "axes": [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [{"type": "scale", "scale": [VOXEL_SIZE] * 3}],
            }
        ],
    }
    write_group(out, {"ome": {"version": "0.5", "multiscales": [multiscale]}}, 3)
    # One shard: a package of few files; its chunks are planes, so that one is read alone.
    array = zarr.create_array(
        zarr.storage.LocalStore(out),
        name="0",
        shape=crop.shape,
        dtype=crop.dtype,
        chunks=(1, CHUNK_EDGE, CHUNK_EDGE),
        shards=(NUM_SLICES, CHUNK_EDGE, CHUNK_EDGE),
        compressors=[ZstdCodec(level=19), Crc32cCodec()],
        dimension_names=("z", "y", "x"),
    )
    array[:] = crop
    total = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {crop.shape} {crop.dtype}, {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

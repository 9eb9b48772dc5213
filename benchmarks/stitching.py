"""Connected components block by block: equal to the whole, and timed against dask-image.

    python benchmarks/stitching.py [--edge 8192] [--block 1024] [--rounds 3] [--workers 1]

A plane of smoothed and thresholded noise is labeled in blocks, by this package and by dask-image,
in turn, from zarr to zarr, with chunks as a segmentation has them unless --chunk says otherwise;
with --memory, from memory to memory. Both use the same blocks, the same number of threads and 4
neighbors. What this package writes must equal cc3d on the whole plane, number by number; what
dask-image writes must be the same up to a permutation.

With dask 2026.8, dask-image 2026.5 labels every block many times over: 125 times in a plane of 64
blocks. The comparison is fair with an older pair in front of the installed one:

    pip install --no-deps --target OLD dask==2024.8.0 dask-image==2024.5.3
    PYTHONPATH=OLD python -W ignore benchmarks/stitching.py
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cc3d
import dask.array as da
import fastremap
import numpy as np
import zarr
from dask import base, config
from dask_image import ndmeasure  # type: ignore[import-untyped]  # it ships no types
from scipy.ndimage import gaussian_filter

from napari_unet.core.job import DEFAULT_CHUNK_EDGE
from napari_unet.labels.block_grid import BlockGrid, Schedule
from napari_unet.labels.components import label_components
from napari_unet.labels.stitching import finish

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

Plane = Any
"""A NumPy or zarr array (y, x)."""


def blobs(edge: int, sigma: float = 2.0) -> npt.NDArray[np.uint8]:
    """Return a plane of 0 and 1 with blobs of a few pixels and winding, branching ones."""
    noise = np.random.default_rng(20150518).standard_normal((edge, edge), dtype=np.float32)
    smooth = gaussian_filter(noise, sigma, output=noise)
    high: npt.NDArray[np.bool_] = smooth > 0.5 * smooth.std()
    return high.astype(np.uint8)


def by_blocks(image: Plane, out: Plane, block: int, workers: int) -> int:
    """Label a plane with this package and return the number of objects."""
    grid = BlockGrid((1, *image.shape), (1, block, block))
    return finish(
        label_components(
            lambda box: image[box.slices[1:]][np.newaxis],
            grid,
            open_output=lambda count: lambda box, found: out.__setitem__(box.slices[1:], found[0]),
            schedule=Schedule(workers),
        )
    )


def by_dask_image(image: Plane, out: Plane, block: int, workers: int) -> int:
    """Label a plane with dask-image and return the number of objects."""
    scheduler = "threads" if workers > 1 else "synchronous"
    with config.set(scheduler=scheduler, num_workers=workers):
        blocks = da.from_array(image, chunks=(block, block))  # type: ignore[no-untyped-call]  # dask
        found, count = ndmeasure.label(blocks)
        stored = da.store(found.astype(np.uint32), out, lock=False, compute=False)
        # Computed together, or the blocks would be labeled twice.
        return int(base.compute(stored, count)[1])  # type: ignore[no-untyped-call]  # dask


def same_objects(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Return whether two labelings differ only in their numbers."""
    pairs = np.unique(one.astype(np.uint64) << np.uint64(32) | other)
    firsts, seconds = pairs >> np.uint64(32), pairs & np.uint64(2**32 - 1)
    return all(len(np.unique(ids)) == len(pairs) for ids in (firsts, seconds)) and bool(
        ((firsts == 0) == (seconds == 0)).all()
    )


def prepare(plane: npt.NDArray[np.uint8], folder: Path, chunk: int | None) -> Any:
    """Return the input as it is read, and what makes an empty output; no chunk = no zarr."""
    if chunk is None:
        return plane, lambda name: np.zeros(plane.shape, dtype=np.uint32)
    chunks = (min(chunk, len(plane)),) * 2
    image = zarr.create_array(folder / "image.zarr", data=plane, chunks=chunks)

    def create(name: str) -> Plane:
        shutil.rmtree(folder / name, ignore_errors=True)
        return zarr.create_array(folder / name, shape=plane.shape, chunks=chunks, dtype="uint32")

    return image, create


class Clock:
    """Seconds on the wall and of the processor, which a busy machine disturbs less, by name."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Add what the body takes to the lists of a name."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)
        self.processor.setdefault(name, []).append(time.process_time() - processor)

    def report(self) -> dict[str, object]:
        """Return all seconds, their medians, and how much longer dask-image took."""
        result: dict[str, object] = {}
        for kind, seconds in (("wall", self.wall), ("processor", self.processor)):
            result[f"{kind}_seconds"] = {k: [round(s, 2) for s in v] for k, v in seconds.items()}
            medians = {k: float(np.median(v)) for k, v in seconds.items()}
            result[f"{kind}_median"] = {k: round(m, 2) for k, m in medians.items()}
            ratio = medians["dask_image"] / medians["blocks"]
            result[f"{kind}_dask_image_over_blocks"] = round(ratio, 2)
        return result


def main() -> None:
    """Measure in turn and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=int, default=8192)
    parser.add_argument("--block", type=int, default=1024)
    parser.add_argument("--chunk", type=int, default=DEFAULT_CHUNK_EDGE, help="edge of zarr chunks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="no zarr, neither in nor out")
    options = parser.parse_args()
    plane = blobs(options.edge)
    clock = Clock()
    counts = set()
    with tempfile.TemporaryDirectory() as folder:
        image, create = prepare(plane, Path(folder), None if options.memory else options.chunk)
        for _ in range(options.rounds):
            for name, label in (("blocks", by_blocks), ("dask_image", by_dask_image)):
                out = create(name)
                with clock.time(name):
                    counts.add(label(image, out, options.block, options.workers))
                if name == "blocks":
                    ours = out[:]
            with clock.time("cc3d_whole"):
                whole = cc3d.connected_components(plane, connectivity=4, out_dtype=np.uint32)
        same = same_objects(out[:], whole)
    whole, _ = fastremap.renumber(whole, in_place=True)
    print(
        json.dumps(
            {
                "dask": version("dask"),
                "shape": [1, *plane.shape],
                "block": options.block,
                "workers": options.workers,
                "storage": "memory" if options.memory else f"zarr, chunks of {options.chunk}",
                "objects": sorted(counts),
                "equal_to_cc3d_on_the_whole": bool(np.array_equal(ours, whole)),
                "dask_image_has_the_same_objects": same,
                **clock.report(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

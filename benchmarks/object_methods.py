"""Ways from membrane probabilities to neuron profiles, scored against the bodies of the FIB-SEM.

    python benchmarks/object_methods.py --data FOLDER [--slices 140 160] [--probabilities OUT.zarr]
    python benchmarks/object_methods.py --data FOLDER --tune

FOLDER holds raw.tif and bodies.tif. The bundled model `em-membranes` segments the whole stack once;
--probabilities keeps the result, or takes it when it is there. The first form prints the tables of
docs/reference/object-methods.md. The second compares settings on slices 124-135, which the model
was not trained on either; the defaults come from it, and slices 140-159 took no part.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import zarr
from scipy.ndimage import label
from skimage.metrics import adapted_rand_error, variation_of_information

from napari_unet.app.segment import run_job
from napari_unet.core.boxes import Box
from napari_unet.core.job import SegmentJob
from napari_unet.core.watershed_options import LinkOptions, WatershedOptions
from napari_unet.labels.agglomeration import RegionEdges, agglomerate, region_edges
from napari_unet.labels.linking import link_slices, linked_numbers
from napari_unet.labels.watershed import watershed_block, watershed_pieces, watershed_slices
from napari_unet.metrics.partition import partition_score

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Labels = npt.NDArray[np.signedinteger[Any]]
    Probabilities = npt.NDArray[np.floating[Any]]

MODEL = "em-membranes"
MEMBRANE = 1
"""Index of the membrane among the probabilities of the model's classes."""

TUNING_SLICES = (124, 136)
"""The slices that selected the model's weights (124-129), and the six after them."""


def segmented(folder: Path, output: Path) -> Probabilities:
    """Return the membrane probabilities of the whole stack, (z, y, x)."""
    if not output.exists():
        job = SegmentJob(
            input=str(folder / "raw.tif"),
            axes="zyx",
            model=MODEL,
            output=str(output),
            probabilities=True,
        )
        for _ in run_job(job):
            pass
    stored = zarr.open_array(output, path=f"probabilities/{MODEL}/0", mode="r")
    return np.asarray(stored[MEMBRANE])


@dataclass(frozen=True)
class Truth:
    """The bodies, in the three ways in which they are compared.

    `bodies` as they are: profiles of one body are one object in a slice, even if they lie apart.
    `parts`: the profiles of each slice that hang together by edges of pixels. `inner`: these
    without the outermost pixels, which were membrane for the training of the model.
    """

    bodies: Labels
    parts: Labels
    inner: Labels

    @classmethod
    def read(cls, folder: Path, slices: tuple[int, int]) -> Truth:
        """Return the truth of some slices."""
        bodies = tifffile.imread(folder / "bodies.tif")[slice(*slices)].astype(np.int64)
        parts = np.stack([connected_parts(plane) for plane in bodies])
        inner = parts.copy()
        for axis in (1, 2):
            differ = np.diff(bodies, axis=axis) != 0
            before = (slice(None),) * axis + (slice(None, -1),)
            after = (slice(None),) * axis + (slice(1, None),)
            inner[before][differ] = 0
            inner[after][differ] = 0
        return cls(bodies, parts, inner)


def connected_parts(numbers: Labels) -> Labels:
    """Return the parts of equal numbers that hang together by faces, 0 where 0."""
    parts = np.zeros(numbers.shape, dtype=np.int64)
    for number in np.unique(numbers[numbers > 0]):
        found, _ = label(numbers == number)
        parts[found > 0] = found[found > 0] + parts.max()
    return parts


def relabeled(pieces: Labels, edges: RegionEdges, threshold: float) -> Labels:
    """Return the objects that pieces make when merged up to a threshold."""
    numbers = np.arange(pieces.max() + 1)
    merged, objects = agglomerate(edges, threshold)
    numbers[merged.astype(np.int64)] = objects.astype(np.int64)
    return numbers[pieces]


def sliced_pieces(membrane: Probabilities, options: WatershedOptions) -> Labels:
    """Return pieces of each slice; no two slices share a number."""
    pieces = np.zeros(membrane.shape, dtype=np.int64)
    used = 0
    for plane, out in zip(membrane, pieces, strict=True):
        out[...] = watershed_pieces(plane, options).astype(np.int64) + used
        used = out.max()
    return pieces


def edges_in_slices(pieces: Labels, membrane: Probabilities) -> RegionEdges:
    """Return the edges between pieces of the same slice."""
    return RegionEdges.total(region_edges(*pair) for pair in zip(pieces, membrane, strict=True))


def linked(objects: Labels, options: LinkOptions) -> Labels:
    """Return objects of slices, linked by overlap."""
    pairs = [link_slices(a, b, options) for a, b in itertools.pairwise(objects)]
    numbers = np.unique(objects).astype(np.uint64)
    joined = linked_numbers(numbers, np.concatenate(pairs)).astype(np.int64)
    return joined[np.searchsorted(numbers, objects.astype(np.uint64))]


def block_pieces(
    membrane: Probabilities, options: WatershedOptions, edge: int, halo: int
) -> Labels:
    """Return pieces of blocks of a volume, each read with a halo; no two blocks share a number."""
    whole = Box.of_shape(membrane.shape)
    pieces = np.zeros(membrane.shape, dtype=np.int64)
    used = 0
    for start in itertools.product(*(range(0, n, edge) for n in membrane.shape)):
        block = Box(start, tuple(a + edge for a in start)).intersection(whole)
        read = Box(
            tuple(a - halo for a in block.start), tuple(b + halo for b in block.stop)
        ).intersection(whole)
        inner = block.relative_to(read.start)
        found = watershed_block(membrane[read.slices], inner, options)
        pieces[block.slices] = found.astype(np.int64) + used
        used = pieces.max()
    return pieces


def score_3d(found: Labels, true: Labels) -> tuple[float, float, float]:
    """Return adapted Rand error, VOI split and VOI merge of one partition of the volume."""
    error = adapted_rand_error(true, found, ignore_labels=(0,))[0]  # type: ignore[no-untyped-call]  # scikit-image
    split, merge = variation_of_information(true, found, ignore_labels=(0,))  # type: ignore[no-untyped-call]  # scikit-image
    return float(error), float(split), float(merge)


def score_2d(found: Labels, true: Labels) -> tuple[float, float, float]:
    """Return the same, each slice by itself: means over slices."""
    score = partition_score(found, true)
    return score.adapted_rand_error, score.voi_split, score.voi_merge


def methods(membrane: Probabilities) -> Iterator[tuple[str, Labels, bool]]:
    """Yield names, objects, and whether the objects go through slices."""
    options = WatershedOptions()
    interior = membrane <= 0.5
    yield "connected components of the interior, 2D", _sliced_components(interior), False
    yield "watershed_slices (deep seeds), no merging", watershed_slices(membrane), False
    flat = sliced_pieces(membrane, options)
    yield "watershed, no merging, 2D", flat, False
    objects = relabeled(flat, edges_in_slices(flat, membrane), options.merge)
    yield "**watershed and merging, 2D**", objects, False
    yield "connected components of the interior, 3D", label(interior)[0], True
    yield "**the same, slices linked by overlap**", linked(objects, LinkOptions()), True
    edges = region_edges(flat, membrane)
    through = relabeled(flat, edges, options.merge)
    yield "2D pieces, merged within and across slices", through, True
    solid = watershed_pieces(membrane, options).astype(np.int64)
    yield "watershed, no merging, 3D", solid, True
    edges = region_edges(solid, membrane)
    yield "**watershed and merging, 3D**", relabeled(solid, edges, options.merge), True


def _sliced_components(interior: npt.NDArray[np.bool_]) -> Labels:
    in_plane = np.zeros((3, 3, 3), dtype=bool)
    in_plane[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    parts, _ = label(interior, in_plane)
    return np.asarray(parts, dtype=np.int64)


def row(name: str, values: list[tuple[float, float, float] | None]) -> str:
    """Return a line of a table."""
    cells = [f"{s[0]:.3f} | {s[1]:.3f} + {s[2]:.3f}" if s else "- | -" for s in values]
    return f"| {name} | {' | '.join(cells)} |"


def print_methods(membrane: Probabilities, truth: Truth) -> None:
    """Print the table of the methods."""
    columns = ("2D, profiles", "2D, bodies", "2D, inner profiles", "3D, bodies")
    heads = " | ".join(f"{c}: ARE | VOI split + merge" for c in columns)
    print(f"| method | {heads} | seconds |\n|{'---|' * 10}")
    began = time.perf_counter()
    for name, found, through in methods(membrane):
        took = time.perf_counter() - began
        values: list[tuple[float, float, float] | None] = [
            score_2d(found, true) for true in (truth.parts, truth.bodies, truth.inner)
        ]
        values.append(score_3d(found, truth.bodies) if through else None)
        print(row(name, values) + f" {took:.1f} |", flush=True)
        began = time.perf_counter()


def print_grids(membrane: Probabilities, truth: Truth) -> None:
    """Print what the grid of blocks changes in 3D, against the whole volume."""
    options = WatershedOptions()
    solid = watershed_pieces(membrane, options).astype(np.int64)
    whole = relabeled(solid, region_edges(solid, membrane), options.merge)
    print("\n| blocks | halo | pieces | ARE, VOI to the truth | ARE, VOI to the whole |")
    print("|---|---|---|---|---|")
    for edge, halo in ((1000, 0), (128, 0), (128, 16), (64, 0), (64, 8), (64, 16), (64, 32)):
        pieces = block_pieces(membrane, options, edge, halo)
        found = relabeled(pieces, region_edges(pieces, membrane), options.merge)
        cells = []
        for true in (truth.bodies, whole):
            error, split, merge = score_3d(found, true)
            cells.append(f"{error:.3f}, {split:.3f} + {merge:.3f}")
        name = "whole" if edge >= max(membrane.shape) else str(edge)
        print(f"| {name} | {halo} | {len(np.unique(pieces))} | {cells[0]} | {cells[1]} |")


def print_tuning(membrane: Probabilities, truth: Truth) -> None:
    """Print the best settings by VOI: seeds and merging in 2D and 3D, and linking."""
    rows = []
    for threshold, sigma, h in itertools.product((0.4, 0.5, 0.6), (1, 2, 3), (0, 0.25, 0.5)):
        options = WatershedOptions(threshold=threshold, sigma=sigma, h=h)
        flat = sliced_pieces(membrane, options)
        solid = watershed_pieces(membrane, options).astype(np.int64)
        in_slices, in_volume = edges_in_slices(flat, membrane), region_edges(solid, membrane)
        for merge in (0, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6):
            flat_score = score_2d(relabeled(flat, in_slices, merge), truth.parts)
            solid_score = score_3d(relabeled(solid, in_volume, merge), truth.bodies)
            rows.append((flat_score, solid_score, (threshold, sigma, h, merge)))
    for name, key in (("2D", [0]), ("3D", [1]), ("both", [0, 1])):
        print(f"{name}: ARE, VOI in 2D; ARE, VOI in 3D; threshold, sigma, h, merge")
        for one in sorted(rows, key=lambda r: sum(sum(r[i][1:]) for i in key))[:8]:
            print("  " + "  ".join(f"{s[0]:.4f} {s[1] + s[2]:.4f}" for s in one[:2]), one[2])
    print_links(membrane, truth)


def print_links(membrane: Probabilities, truth: Truth) -> None:
    """Print the best settings of linking, with the objects of the default watershed."""
    defaults = WatershedOptions()
    flat = sliced_pieces(membrane, defaults)
    objects = relabeled(flat, edges_in_slices(flat, membrane), defaults.merge)
    rows = []
    for overlap, mutual in itertools.product(("iou", "smaller"), (True, False)):
        for threshold in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            settings = {"overlap": overlap, "mutual": mutual, "threshold": threshold}
            options = LinkOptions.parse(settings, source="benchmark")
            rows.append((score_3d(linked(objects, options), truth.bodies), settings))
    print("linking: ARE, VOI in 3D")
    for score, settings in sorted(rows, key=lambda r: r[0][1] + r[0][2])[:12]:
        print(f"  {score[0]:.4f} {score[1] + score[2]:.4f}", settings)


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of raw.tif, bodies.tif")
    parser.add_argument("--slices", type=int, nargs=2, default=(140, 160), metavar="Z")
    parser.add_argument("--probabilities", type=Path, help="output of the segmentation, to keep")
    parser.add_argument("--tune", action="store_true", help="compare settings on other slices")
    options = parser.parse_args()
    slices = TUNING_SLICES if options.tune else tuple(options.slices)
    with tempfile.TemporaryDirectory() as folder:
        output = options.probabilities or Path(folder) / "segmented.zarr"
        membrane = segmented(options.data, output)[slice(*slices)]
    truth = Truth.read(options.data, slices)
    if options.tune:
        print_tuning(membrane, truth)
    else:
        print_methods(membrane, truth)
        print_grids(membrane, truth)


if __name__ == "__main__":
    main()

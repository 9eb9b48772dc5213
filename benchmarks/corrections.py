"""What strokes that only correct a model do to a draft: F1, IoU, and strokes learnt, over seeds.

::

    python benchmarks/corrections.py --data FOLDER --truth FOLDER --seeds 5 [--choosing]

``--data`` is the folder of ``benchmarks/fine_tune.py``: tissue that the model does not know, with
mitochondria as a new class. ``--truth`` holds ``raw.tif`` and ``bodies.tif`` of the FIB-SEM volume
that the bundled sample is cut from (``recipes/make_sample.py``): tissue that it knows. A simulated
user looks at the draft of a slice and draws lines where it is wrong, as in
``docs/make_storyboard.py``: two or six in one slice, or those of the storyboard in three; then
she looks at the next slice. Mitochondria of the FIB-SEM were drawn by a person.

For each seed and number of lines the same user works with the draft as it is (``held``), and with
one that unpainted pixels do not join (``strokes alone``). Scored at argmax on slices that are not
painted on: 8-12 of the nerve cord, the sample's others. Settings were chosen with ``--choosing``,
on slices 3-7, and on 130-139 of the volume, of which the sample is 140-155.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import draft
import fine_tune
import numpy as np
import tifffile
import torch
from skimage.draw import line as pixels_of_line
from skimage.segmentation import find_boundaries

from napari_unet.app.drafting.stroke_cells import StrokeCells
from napari_unet.core.boxes import Box

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
from storyboard_hand import BY_HAND, simulated

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from napari_unet.app.drafting.feature_tile import FeatureTile
    from napari_unet.app.drafting.head import Head, StrokeFeatures
    from napari_unet.app.drafting.opened import OpenedDraft

NEW = fine_tune.MITOCHONDRION
BRUSH = 3
SAMPLE, CHOOSING = slice(140, 156), slice(130, 140)
BY_HAND_CHOOSING = (((85, 205), (115, 210)), ((52, 65), (47, 80)))
"""Lines of mitochondria that fit the slices for choosing."""


@dataclass(frozen=True)
class Tissue:
    """An image, what is where in it, and which of its slices are painted and scored."""

    name: str
    opened: OpenedDraft
    tiles: dict[int, FeatureTile]
    classes: npt.NDArray[np.uint8]
    painted: tuple[int, ...]
    scored: tuple[int, ...]
    lines: dict[int, int]
    """Class -> how many lines are drawn on each slice."""
    by_hand: tuple[object, ...] = ()
    """Lines of a new class that this truth does not tell of."""


def open_tissue(
    name: str, raw: npt.NDArray[np.uint8], folder: Path, slices: tuple[int, ...], **fields: object
) -> Tissue:
    """Return a tissue with the features of some of its slices."""
    path = folder / f"{name}.tif"
    tifffile.imwrite(path, np.ascontiguousarray(raw), metadata=None)
    opened = draft.opened(path, folder, 1)
    boxes = {z: Box((z, 0, 0), (z + 1, *raw.shape[1:])) for z in slices}
    tiles = {z: opened.net.tile(opened.image, box) for z, box in boxes.items()}
    return Tissue(name, opened, tiles, **fields)  # type: ignore[arg-type]  # fields of two kinds


def tissues(options: argparse.Namespace, folder: Path) -> Iterator[Tissue]:
    """Yield both tissues."""
    raw, classes = draft.truth(options)
    painted = tuple(fine_tune.PAINTED)
    scored = tuple(range(3, 8)) if options.choosing else tuple(range(*fine_tune.SCORED))
    fields = {"classes": classes, "painted": painted, "scored": scored}
    lines = {fine_tune.INTERIOR: 10, fine_tune.MEMBRANE: 14, NEW: 8}
    yield open_tissue("nerve cord", raw, folder, painted + scored, **fields, lines=lines)
    part = CHOOSING if options.choosing else SAMPLE
    raw, bodies = (tifffile.imread(options.truth / f"{n}.tif")[part] for n in ("raw", "bodies"))
    borders = np.stack([find_boundaries(plane, mode="thick") for plane in bodies]) | (bodies == 0)
    classes = np.where(borders, fine_tune.MEMBRANE, fine_tune.INTERIOR).astype(np.uint8)
    painted = (8, 5, 2) if options.choosing else (8, 4, 12)
    scored = tuple(z for z in range(len(raw)) if z not in painted)
    fields = {"classes": classes, "painted": painted, "scored": scored}
    lines = {fine_tune.INTERIOR: 8, fine_tune.MEMBRANE: 10}
    hand = BY_HAND_CHOOSING if options.choosing else BY_HAND["mitochondrion"]
    every = painted + scored
    yield open_tissue("FIB-SEM", raw, folder, every, **fields, lines=lines, by_hand=hand)


def labels(tissue: Tissue, head: Head, slices: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Return what a head says of some slices."""
    tiles = [tissue.tiles[z] for z in slices]
    return np.concatenate([tile.classes(head, tile.box) for tile in tiles])


def draw(plane: npt.NDArray[np.uint8], lines: tuple[object, ...], label: int, brush: int) -> None:
    """Paint lines."""
    half = brush // 2
    for (y0, x0), (y1, x1) in np.rint(np.array(lines)).astype(int):
        for offset in np.ndindex(brush, brush):
            dy, dx = (n - half for n in offset)
            y, x = pixels_of_line(y0 + dy, x0 + dx, y1 + dy, x1 + dx)
            inside = (y >= 0) & (x >= 0) & (y < plane.shape[0]) & (x < plane.shape[1])
            plane[y[inside], x[inside]] = label


def paint(
    tissue: Tissue, z: int, lines: dict[int, int], head: Head, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return the strokes of a slice, drawn where a head is wrong."""
    found = labels(tissue, head, (z,))[0]
    # What a truth does not tell of is not painted over.
    true = np.where(found == NEW, 0, tissue.classes[z]) if tissue.by_hand else tissue.classes[z]
    drawn = simulated(true, lines, rng, found != true)
    if tissue.by_hand:
        drawn[NEW] = BRUSH, list(tissue.by_hand)
    plane = np.zeros_like(true)
    for label, (brush, some) in sorted(drawn.items()):
        draw(plane, tuple(some), label, brush)
    return plane


def correct(
    tissue: Tissue, seed: int, lines: dict[int, int], slices: tuple[int, ...], *, held: bool
) -> tuple[Head, StrokeFeatures]:
    """Return the last draft of a user who corrects slice after slice, and her strokes."""
    rng, head = np.random.default_rng(seed), tissue.opened.heads.start(draft.CLASSES, {})
    start, cells = head, StrokeCells(tissue.opened.image)
    for z in slices:
        tile = tissue.tiles[z]
        cells.update(tile.box, paint(tissue, z, lines, head, rng)[None])
        cells.take_from(tile.box, tile)
        strokes = cells.features(len(draft.CLASSES))
        if strokes is None:
            raise SystemExit("nothing was painted")
        learnt = strokes if held else replace(strokes, unpainted=None)
        head = tissue.opened.heads.fit(start, learnt)
    return head, learnt


def scores(tissue: Tissue, head: Head, strokes: StrokeFeatures | None) -> dict[str, float]:
    """Return F1 of membranes, IoU of a new class, and which share of strokes is right."""
    found, true = labels(tissue, head, tissue.scored), tissue.classes[list(tissue.scored)]
    membranes = (each == fine_tune.MEMBRANE for each in (found, true))
    result = {"membrane_f1": fine_tune.f1(*membranes)}
    if not tissue.by_hand:
        guess, real = (each == NEW for each in (found, true))
        result["mitochondrion_iou"] = float((guess & real).sum() / (guess | real).sum())
    if strokes is not None:
        known = strokes.labels + 1 != NEW
        wanted = strokes.labels.numpy()[known] + 1
        for name, each in (("before", tissue.opened.heads.start(draft.CLASSES, {})), ("now", head)):
            said = each.predict(strokes.rows[known])
            result[f"right_{name}"] = float((said == wanted).mean())
    return result


def measure(tissue: Tissue, seeds: int) -> None:
    """Print the model's scores, and those of drafts, seed by seed and on average."""
    one = dict.fromkeys(tissue.lines, 1)
    few = {**dict.fromkeys(tissue.lines, 3), **({} if tissue.by_hand else {NEW: 1})}
    users = {
        "2 lines": (one, tissue.painted[:1]),
        "6 lines": (few, tissue.painted[:1]),
        "3 slices": (tissue.lines, tissue.painted),
    }
    model = tissue.opened.heads.start(draft.CLASSES, {})
    draft.report(f"{tissue.name}, model", "-", 0, scores(tissue, model, None))
    for user, (lines, slices) in users.items():
        for way in ("strokes alone", "held"):
            rows = []
            for seed in range(seeds):
                head, strokes = correct(tissue, seed, lines, slices, held=way == "held")
                rows.append(scores(tissue, head, strokes))
            what = f"{tissue.name}, {user}, {way}"
            mean = {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}
            mean["least_f1"] = min(row["membrane_f1"] for row in rows)
            draft.report(what, "mean", seeds, mean)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choosing", action="store_true", help="on slices for choosing settings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for tissue in tissues(options, Path(folder)):
            measure(tissue, options.seeds)


if __name__ == "__main__":
    main()

"""What a fine-tune forgets when only mistakes are painted, and what it learns: F1, by step count.

::

    python -m benchmarks.retention --data FOLDER --tissue fib-sem nerve-cord random [--seeds 3] \
        [--weights default 0]

FOLDER holds ``flyem_medulla/raw.tif`` and ``bodies.tif`` (FIB-SEM of the medulla, as
``recipes/em_volume.py`` describes it; slices 120-139 taught no bundled model) and ``vnc/raw.tif``,
``membranes.tif`` and ``mitochondria.tif`` (see ``benchmarks/fine_tune.py``).

- *fib-sem*: the tissue that ``em-membranes`` knows. On three slices of 16, 8 lines of interior and
  10 of membrane begin where the model is wrong; scored on the 13 others;
- *nerve-cord*: tissue that it does not know. On slices 0-2, 10 lines of interior, 14 of membrane
  and 8 of mitochondria, a new class, begin where it is wrong;
- *random*: the same tissue, two classes, ``--strokes`` strokes at random places as in
  ``benchmarks/against_forest.py``.

Lines are those of the storyboard (``docs/storyboard_hand.py``). ``--chosen-on`` scores what the
default was chosen on, instead of what is reported: slices 122-137 of the FIB-SEM instead of the
sample's 140-155, and slices 3-7 of the nerve cord instead of 8-12.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from benchmarks.against_forest import painted_after
from benchmarks.fine_tune import INTERIOR, MEMBRANE, MITOCHONDRION, MODEL, f1, read
from skimage.draw import line as pixels_between
from skimage.segmentation import find_boundaries

from napari_unet import segment, train

NAMES = ("interior", "membrane", "mitochondrion")
STEPS = 140
"""About what two quiet cores take in half a minute."""
LINES = {INTERIOR: 8, MEMBRANE: 10}
LINES_OF_THREE = {INTERIOR: 10, MEMBRANE: 14, MITOCHONDRION: 8}


@dataclass(frozen=True)
class Tissue:
    """An image (z, y, x), its classes, what is painted and what is scored."""

    raw: npt.NDArray[Any]
    truth: npt.NDArray[np.uint8]
    painted: tuple[int, ...]
    scored: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return NAMES[: int(self.truth.max())]


def fib_sem(data: Path, first: int) -> Tissue:
    """Return 16 slices of the FIB-SEM."""
    folder, slices, painted = data / "flyem_medulla", slice(first, first + 16), (8, 4, 12)
    raw, bodies = (tifffile.imread(folder / f"{name}.tif")[slices] for name in ("raw", "bodies"))
    membranes = np.stack([find_boundaries(plane, mode="thick") for plane in bodies]) | (bodies == 0)
    truth = np.where(membranes, MEMBRANE, INTERIOR).astype(np.uint8)
    return Tissue(raw, truth, painted, tuple(k for k in range(16) if k not in painted))


def nerve_cord(data: Path, scored: range, *, two: bool) -> Tissue:
    """Return the nerve cord, with mitochondria or without."""
    raw, membranes, mitochondria = read(data / "vnc", 2)
    truth = np.where(mitochondria & ~membranes & (not two), MITOCHONDRION, INTERIOR)
    truth[membranes] = MEMBRANE
    return Tissue(np.ascontiguousarray(raw), truth.astype(np.uint8), (0, 1, 2), tuple(scored))


def found(tissue: Tissue, model: str) -> npt.NDArray[np.uint8]:
    """Return the classes that a model finds."""
    return np.asarray(segment(tissue.raw, model=model, axes="zyx", device="cpu"))


def corrections(tissue: Tissue, before: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """Return lines that begin where the labels of before are wrong."""
    place = Path(__file__).parents[1] / "docs" / "storyboard_hand.py"
    spec = importlib.util.spec_from_file_location("storyboard_hand", place)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{place} is missing")
    hand = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hand)
    rng, painted = np.random.default_rng(seed), np.zeros_like(tissue.truth)
    numbers = LINES if len(tissue.classes) < 3 else LINES_OF_THREE
    for number in tissue.painted:
        truth = tissue.truth[number]
        drawn = hand.simulated(truth, numbers, rng, before[number] != truth)
        for label, (width, lines) in drawn.items():
            for begin, end in lines:
                _draw(painted[number], begin, end, width, label)
    return painted


def _draw(plane: npt.NDArray[np.uint8], begin: Any, end: Any, width: int, label: int) -> None:
    rows, columns = pixels_between(*(round(float(v)) for v in (*begin, *end)))
    for offset in np.ndindex(width, width):
        y, x = (n + o - width // 2 for n, o in zip((rows, columns), offset, strict=True))
        plane[y.clip(0, plane.shape[0] - 1), x.clip(0, plane.shape[1] - 1)] = label


def scores(tissue: Tissue, labels: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return F1 of all classes but the first on the scored slices, pixel by pixel."""
    z = list(tissue.scored)
    return {
        name: round(f1(labels[z] == k, tissue.truth[z] == k), 4)
        for k, name in enumerate(tissue.classes, start=1)
        if k != INTERIOR
    }


def tuned(
    tissue: Tissue, painted: npt.NDArray[np.uint8], options: dict[str, Any]
) -> dict[str, Any]:
    """Fine-tune, and return the scores, also on the regression crops of the model."""
    with tempfile.TemporaryDirectory() as folder:
        done = train(
            tissue.raw,
            painted,
            Path(folder) / "tuned.safetensors",
            label_kind="annotation",
            classes=tissue.classes,
            parent=MODEL,
            axes="zyx",
            steps=STEPS,
            device="cpu",
            **options,
        )
        crops = {e.on: round(e.after, 4) for e in done.judged if e.on == "regression crops"}
        return scores(tissue, found(tissue, done.model)) | crops


def main() -> None:
    """Read the command line, and print a line of JSON for each fine-tune."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    known = ("fib-sem", "nerve-cord", "random")
    parser.add_argument("--tissue", nargs="+", choices=known, default=known)
    parser.add_argument("--strokes", type=int, default=160, choices=(10, 40, 160))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", nargs="+", default=["default", "0"])
    parser.add_argument("--chosen-on", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    threads = options.threads
    scored = range(3, 8) if options.chosen_on else range(8, 13)
    for name in options.tissue:
        if name == "fib-sem":
            tissue = fib_sem(options.data, 122 if options.chosen_on else 140)
        else:
            tissue = nerve_cord(options.data, scored, two=name == "random")
        before = found(tissue, MODEL)
        print(json.dumps({"tissue": name, "weight": "model", **scores(tissue, before)}), flush=True)
        for seed in range(options.seeds):
            if name == "random":
                painted = painted_after(tissue.truth, seed)[options.strokes]
            else:
                painted = corrections(tissue, before, seed)
            for weight in options.weights:
                loop = {} if weight == "default" else {"retention_weight": float(weight)}
                line = tuned(tissue, painted, {"seed": seed, "loop": loop, "threads": threads})
                row = {"tissue": name, "seed": seed, "weight": weight, **line}
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

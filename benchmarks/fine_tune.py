"""How much better a model gets from a few strokes, in a minute: F1 against seconds, over seeds.

::

    python benchmarks/fine_tune.py --data FOLDER --minutes 0.25 0.5 1 --seeds 5 [--mitochondria]
    python benchmarks/fine_tune.py --data FOLDER --from-scratch --minutes 10

FOLDER holds ``raw.tif``, ``membranes.tif`` and ``mitochondria.tif`` (z, y, x) of the serial-section
TEM of the Drosophila larva ventral nerve cord (unidesigner/groundtruth-drosophila-vnc, stack 1,
CC BY-NC-SA 3.0), 4.6 nm pixels. It is test data: no bundled model has learnt from it.

Strokes: every second pixel (9.2 nm); on each of slices 0-2, 60 strokes at random places and
directions, 8-20 pixels long and 3 wide, center lines shifted by a Gaussian of 1 pixel, classes
from the masks under the stroke. Scored at argmax on slices 8-12, pixel by pixel, tolerance 0;
defaults were chosen on slices 3-7 (``--scored 3 8``). Each row is a whole command line run as a
user would start it: ``napari-unet train``, then ``segment``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import zarr

PAINTED, SCORED = range(3), (8, 13)
INTERIOR, MEMBRANE, MITOCHONDRION = 1, 2, 3
STROKES, LENGTHS = 60, (8.0, 20.0)
MODEL = "em-membranes"


def read(folder: Path, step: int) -> tuple[npt.NDArray[Any], ...]:
    """Return raw gray values and the two masks, every `step`-th pixel."""
    names = ("raw", "membranes", "mitochondria")
    raw, *masks = (tifffile.imread(folder / f"{name}.tif")[:, ::step, ::step] for name in names)
    return raw, *(mask > 0 for mask in masks)


def stroke(
    painted: npt.NDArray[np.uint8], classes: npt.NDArray[np.uint8], rng: np.random.Generator
) -> None:
    """Paint one brush stroke on a slice, which takes the classes under it."""
    length, angle = rng.uniform(*LENGTHS), rng.uniform(0, np.pi)
    center = rng.uniform(0, classes.shape) + rng.normal(0, 1, 2)
    along = np.linspace(-length / 2, length / 2, int(4 * length))
    line = center[:, None] + np.stack([np.sin(angle) * along, np.cos(angle) * along])
    for offset in np.ndindex(3, 3):
        rows, columns = np.rint(line + np.reshape(offset, (2, 1)) - 1).astype(int)
        inside = (rows >= 0) & (rows < len(classes)) & (columns >= 0)
        inside &= columns < classes.shape[1]
        where = rows[inside], columns[inside]
        painted[where] = classes[where]


def strokes(classes: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return brush strokes on a slice, which take the classes under them."""
    painted = np.zeros_like(classes)
    for _ in range(STROKES):
        stroke(painted, classes, rng)
    return painted


def run(*words: str) -> list[dict[str, Any]]:
    """Run the command and return its events."""
    done = subprocess.run(
        [sys.executable, "-m", "napari_unet", *words, "--progress", "json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def scores(
    image: Path, model: str, masks: tuple[npt.NDArray[Any], ...], slices: slice
) -> dict[str, float]:
    """Return F1 and IoU of the classes on the scored slices."""
    out = image.parent / f"{time.monotonic_ns()}.zarr"
    region = f"{slices.start}:{slices.stop},0:{masks[0].shape[1]},0:{masks[0].shape[2]}"
    run(
        *("segment", str(image), "--axes", "zyx", "--model", model, "--output", str(out)),
        *("--name", "found", "--region", region),
    )
    found = np.asarray(zarr.open_array(out / "labels/found/0", mode="r")[slices])
    membranes, mitochondria = (mask[slices] for mask in masks)
    result = {"membrane_f1": f1(found == MEMBRANE, membranes)}
    if (found == MITOCHONDRION).any():
        guess, true = found == MITOCHONDRION, mitochondria
        result["mitochondrion_iou"] = float((guess & true).sum() / (guess | true).sum())
    return {name: round(value, 4) for name, value in result.items()}


def f1(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """Return the plain F1 of two masks."""
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def fine_tune(options: argparse.Namespace, folder: Path) -> None:
    """Fine-tune with every budget and seed, and print a line for each."""
    raw, *masks = read(options.data, 2)
    classes = np.where(masks[0], MEMBRANE, INTERIOR).astype(np.uint8)
    names = "interior,membrane"
    if options.mitochondria:
        classes[masks[1] & ~masks[0]] = MITOCHONDRION
        names += ",mitochondrion"
    image = folder / "raw.tif"
    tifffile.imwrite(image, raw, metadata=None)
    print(
        json.dumps({"model": MODEL, **scores(image, MODEL, tuple(masks), options.slices)}),
        flush=True,
    )
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        labels = folder / f"strokes{seed}.tif"
        painted = np.zeros_like(classes)
        for index in PAINTED:
            painted[index] = strokes(classes[index], rng)
        tifffile.imwrite(labels, painted, metadata=None)
        for budget in options.budgets:
            output = folder / f"tuned-{seed}{''.join(budget)}.safetensors"
            began = time.monotonic()
            events = run(
                *("train", "--from", MODEL, "--image", str(image), "--axes", "zyx"),
                *("--labels", str(labels), "--label-kind", "annotation", "--classes", names),
                *(*budget, "--seed", str(seed), "--output", str(output), *options.extra),
            )
            seconds = time.monotonic() - began
            found = scores(image, str(output), tuple(masks), options.slices)
            report(events, seconds, seed, found)


def from_scratch(options: argparse.Namespace, folder: Path) -> None:
    """Train mitochondria from nothing with default settings; compare with the best threshold."""
    raw, _, true = read(options.data, 1)
    image, labels = folder / "raw.tif", folder / "mitochondria.tif"
    tifffile.imwrite(image, raw[: PAINTED.stop], metadata=None)
    tifffile.imwrite(labels, true[: PAINTED.stop].astype(np.uint8), metadata=None)
    everything = folder / "all.tif"
    tifffile.imwrite(everything, raw, metadata=None)
    gray, wanted = raw[options.slices], true[options.slices]
    tried = [f1(gray < value, wanted) for value in range(256)]
    tried += [f1(gray > value, wanted) for value in range(256)]
    print(json.dumps({"best_threshold_f1": round(max(tried), 4)}), flush=True)
    for seed in range(options.seeds):
        for budget in options.budgets:
            output = folder / f"scratch-{seed}{''.join(budget)}.safetensors"
            began = time.monotonic()
            events = run(
                *("train", "--image", str(image), "--axes", "zyx", "--labels", str(labels)),
                *("--label-kind", "classes", "--class-values", "0=other,1=mitochondrion"),
                *(*budget, "--seed", str(seed), "--output", str(output), *options.extra),
            )
            seconds = time.monotonic() - began
            found = mitochondria_f1(everything, str(output), true, options.slices)
            report(events, seconds, seed, found)


def mitochondria_f1(
    image: Path, model: str, true: npt.NDArray[np.bool_], slices: slice
) -> dict[str, float]:
    """Return the plain F1 of class 2 on the scored slices."""
    out = image.parent / f"{time.monotonic_ns()}.zarr"
    region = f"{slices.start}:{slices.stop},0:{true.shape[1]},0:{true.shape[2]}"
    run(
        *("segment", str(image), "--axes", "zyx", "--model", model, "--output", str(out)),
        *("--name", "found", "--region", region),
    )
    found = np.asarray(zarr.open_array(out / "labels/found/0", mode="r")[slices])
    return {"mitochondrion_f1": round(f1(found == 2, true[slices]), 4)}


def report(
    events: list[dict[str, Any]], seconds: float, seed: int, found: dict[str, float]
) -> None:
    """Print what a training did as one line of JSON."""
    end = next(event for event in events if event["event"] == "training_finished")
    judged = [
        {key: event[key] for key in ("on", "before", "after", "low", "high", "verdict")}
        for event in events
        if event["event"] == "judged"
    ]
    line = {
        "seed": seed,
        "seconds": round(end["seconds"], 1),
        "process_seconds": round(seconds, 1),
        "steps": end["steps"],
        "best_step": end["best_step"],
        "reason": end["reason"],
        **found,
        "judged": judged,
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0])
    parser.add_argument("--steps", type=int, nargs="+", help="instead of minutes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--scored", type=int, nargs=2, default=SCORED, metavar=("FIRST", "STOP"), help="slices"
    )
    parser.add_argument("--mitochondria", action="store_true", help="paint a third class")
    parser.add_argument("--from-scratch", action="store_true", help="train without a parent")
    parser.add_argument("extra", nargs="*", help="after --: further options of the train command")
    options = parser.parse_args()
    options.slices = slice(*options.scored)
    options.budgets = [("--minutes", str(minutes)) for minutes in options.minutes]
    if options.steps:
        options.budgets = [("--steps", str(steps)) for steps in options.steps]
    with tempfile.TemporaryDirectory() as folder:
        (from_scratch if options.from_scratch else fine_tune)(options, Path(folder))


if __name__ == "__main__":
    main()

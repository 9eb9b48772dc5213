"""A draft and a fine-tune against a random forest on the same strokes: F1 against user seconds.

::

    python -m benchmarks.against_forest --data FOLDER [--seeds 10] [--plot PICTURE]

FOLDER and the strokes are those of ``benchmarks/fine_tune.py``; here they come one after the other,
on slices 0, 1, 2, 0, ..., and a user takes 3 s for each. After so many strokes each way learns from
them and labels slices 8-12, which none of them has seen:

- *random forest*: a pixel classifier as ilastik's: 100 trees on its seven features at its seven
  scales, in 2D, all strokes, slices as they are;
- *draft*: what the panel shows half a second after a stroke, by ``napari-unet draft``;
- *fine-tune*: ``napari-unet train --steps 140`` from the same model, then ``segment``: as many
  steps as two quiet cores take in half a minute, whatever else this machine is doing.

Every result is a line of the log; what is in it already is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import zarr
from benchmarks.fine_tune import INTERIOR, MEMBRANE, MODEL, PAINTED, SCORED, f1, read, run, stroke
from scipy import ndimage
from skimage.feature import hessian_matrix, hessian_matrix_eigvals, structure_tensor_eigenvalues
from sklearn.ensemble import RandomForestClassifier

from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.io.annotation_store import AnnotationStore, create_annotation_store

SECONDS_PER_STROKE = 3
COUNTS = (3, 6, 10, 20, 40, 80, 160)
"""Strokes after which forest and draft are scored."""
TUNED_COUNTS = (10, 40, 160)
"""Strokes after which a fine-tune is; it takes half a minute each time."""
STEPS = "140"
SCALES = (0.3, 0.7, 1.0, 1.6, 3.5, 5.0, 10.0)
"""Sigmas in pixels, as ilastik offers them; the smallest one for smoothing alone."""
TREES = 100
CLASSES = (ClassInfo(name="interior", color="#4c72b0"), ClassInfo(name="membrane", color="#dd8452"))
LOG = Path(__file__).parent / "logs" / "against_forest.jsonl"
WAYS = {"random forest": "#999999", "draft": "#4c72b0", "fine-tune": "#c44e52"}


def features(plane: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return ilastik's features (y, x, features) of a slice."""
    image = plane.astype(np.float32) / 255
    found = [ndimage.gaussian_filter(image, SCALES[0])]
    for sigma in SCALES[1:]:
        smooth = ndimage.gaussian_filter(image, sigma)
        found += [
            smooth,
            ndimage.gaussian_laplace(image, sigma),
            ndimage.gaussian_gradient_magnitude(image, sigma),
            smooth - ndimage.gaussian_filter(image, 0.66 * sigma),
            *structure_tensor(image, sigma),
            *hessian_matrix_eigvals(hessian_matrix(image, sigma, use_gaussian_derivatives=True)),
        ]
    return np.stack(found, axis=-1).astype(np.float32)


def structure_tensor(image: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[Any]:
    """Return the eigenvalues (2, y, x) of the structure tensor, gathered over half of `sigma`."""
    gradient = [ndimage.gaussian_filter(image, sigma, order=order) for order in ((1, 0), (0, 1))]
    (row, column) = gradient
    products = (row * row, row * column, column * column)
    tensor = [ndimage.gaussian_filter(product, sigma / 2) for product in products]
    return np.asarray(structure_tensor_eigenvalues(tensor))


def painted_after(classes: npt.NDArray[np.uint8], seed: int) -> dict[int, npt.NDArray[np.uint8]]:
    """Return the strokes (z, y, x) after each count of `COUNTS`."""
    rng, painted, found = np.random.default_rng(seed), np.zeros_like(classes), {}
    for number in range(max(COUNTS)):
        index = PAINTED[number % len(PAINTED)]
        stroke(painted[index], classes[index], rng)
        if number + 1 in COUNTS:
            found[number + 1] = painted.copy()
    return found


def forest(
    raw: npt.NDArray[np.float32], painted: npt.NDArray[np.uint8], seed: int
) -> tuple[npt.NDArray[np.uint8], float]:
    """Return the forest's labels of the scored slices, and seconds to learn and label one.

    Parameters
    ----------
    raw : numpy.ndarray
        Features (z, y, x, features) of all slices.
    painted : numpy.ndarray
        Strokes (z, y, x).
    seed : int
        Of the trees.
    """
    began = time.perf_counter()
    where = painted > 0
    trees = RandomForestClassifier(n_estimators=TREES, n_jobs=2, random_state=seed)
    trees.fit(raw[: len(painted)][where], painted[where])
    planes = []
    for plane in raw[slice(*SCORED)]:
        planes.append(trees.predict(plane.reshape(-1, plane.shape[-1])).reshape(plane.shape[:2]))
        if len(planes) == 1:
            seconds = time.perf_counter() - began
    return np.stack(planes), seconds


class Drafter:
    """The process that the panel talks to, with one image, model and store of strokes."""

    def __init__(self, image: Path, store: AnnotationStore, folder: Path) -> None:
        self._store = store
        words = [sys.executable, "-m", "napari_unet", "draft", "--config", "-"]
        self._process = subprocess.Popen(
            [*words, "--progress", "json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._wait("engine_ready")
        names = [each.name for each in CLASSES]
        self._say(
            {"input": str(image), "axes": "zyx", "model": MODEL, "classes": names}
            | {"annotation": str(store.path), "folder": str(folder), "device": "cpu"}
        )
        self._wait("draft_started")

    def _say(self, message: dict[str, Any]) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _wait(self, name: str) -> dict[str, Any]:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                event: dict[str, Any] = json.loads(line)
                if event["event"] == "failed":
                    break
                if event["event"] == name:
                    return event
        raise SystemExit(f"the drafting engine ended before it said {name}")

    def learn(self, painted: npt.NDArray[np.uint8]) -> float:
        """Learn from strokes (z, y, x); return the seconds until the view was repainted."""
        box = Box((0, 0, 0), painted.shape)
        self._store.write(box, painted)
        began = time.perf_counter()
        self._say({"command": "strokes", "boxes": [[list(box.start), list(box.stop)]]})
        wanted = int((painted > 0).sum())
        while self._wait("draft_ready")["learned"] < wanted:
            pass
        return time.perf_counter() - began

    def look_at(self, index: int, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Return the labels of a slice."""
        start, stop = (index, 0, 0), (index + 1, *shape)
        self._say({"command": "viewport", "box": [list(start), list(stop)]})
        while True:
            event = self._wait("draft_ready")
            if event["box"] == {"start": list(start), "stop": list(stop)}:
                return np.asarray(np.load(event["path"], allow_pickle=False)[0])

    def close(self) -> None:
        """End the process."""
        self._say({"command": "stop"})
        self._process.communicate(timeout=60)


def tuned(image: Path, labels: Path, seed: int) -> tuple[npt.NDArray[np.uint8], float]:
    """Return the labels of the scored slices after a fine-tune, and its seconds."""
    output = labels.with_suffix(".safetensors")
    found = labels.with_suffix(".zarr")
    began = time.perf_counter()
    run(
        *("train", "--from", MODEL, "--image", str(image), "--axes", "zyx", "--steps", STEPS),
        *("--labels", str(labels), "--label-kind", "annotation", "--seed", str(seed)),
        *("--classes", ",".join(each.name for each in CLASSES), "--output", str(output)),
    )
    seconds = time.perf_counter() - began
    first, stop = SCORED
    height, width = tifffile.imread(image).shape[1:]
    run(
        *("segment", str(image), "--axes", "zyx", "--model", str(output), "--output", str(found)),
        *("--name", "found", "--region", f"{first}:{stop},0:{height},0:{width}"),
    )

    array: Any = zarr.open_array(found / "labels/found/0", mode="r")
    return np.asarray(array[first:stop]), seconds


class Log:
    """What has been measured; survives a break."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def has(self, way: str, seed: int, strokes: int) -> bool:
        """Return whether a result is there."""
        wanted = (way, seed, strokes)
        return any((row["way"], row["seed"], row["strokes"]) == wanted for row in self.rows)

    def add(self, **row: Any) -> None:
        """Write a result."""
        self.rows.append(row)
        self._path.parent.mkdir(exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def measure(options: argparse.Namespace, log: Log, folder: Path) -> None:
    """Measure every way with every seed."""
    raw, membranes, _ = read(options.data, 2)
    classes = np.where(membranes, MEMBRANE, INTERIOR).astype(np.uint8)
    true = membranes[slice(*SCORED)]
    image = folder / "raw.tif"
    tifffile.imwrite(image, raw, metadata=None)
    described = (
        np.stack([features(plane) for plane in raw]) if "random forest" in options.ways else raw
    )

    def note(way: str, seed: int, count: int, labels: npt.NDArray[Any], seconds: float) -> None:
        score = round(f1(labels == MEMBRANE, true), 4)
        log.add(way=way, seed=seed, strokes=count, f1=score, seconds=round(seconds, 2))

    for seed in range(options.seeds):
        painted = painted_after(classes, seed)
        for count in COUNTS:
            if "random forest" in options.ways and not log.has("random forest", seed, count):
                learnt = painted[count][: PAINTED.stop]
                note("random forest", seed, count, *forest(described, learnt, seed))
        wanted = [count for count in COUNTS if not log.has("draft", seed, count)]
        if "draft" in options.ways and wanted:
            draft(image, painted, wanted, note, seed)
        for count in TUNED_COUNTS:
            if "fine-tune" in options.ways and not log.has("fine-tune", seed, count):
                labels = folder / f"strokes-{seed}-{count}.tif"
                tifffile.imwrite(labels, painted[count], metadata=None)
                note("fine-tune", seed, count, *tuned(image, labels, seed))


def draft(
    image: Path,
    painted: dict[int, npt.NDArray[np.uint8]],
    counts: list[int],
    note: Any,
    seed: int,
) -> None:
    """Draft after each count of strokes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = painted[counts[0]].shape
        store = create_annotation_store(folder / "strokes.zarr", shape, CLASSES)
        (folder / "drafts").mkdir()
        drafter = Drafter(image, store, folder / "drafts")
        drafter.look_at(SCORED[0], shape[1:])
        for count in counts:
            seconds = drafter.learn(painted[count])
            planes = [drafter.look_at(index, shape[1:]) for index in range(*SCORED)]
            note("draft", seed, count, np.stack(planes), seconds)
            drafter.look_at(SCORED[0], shape[1:])
        drafter.close()


def summary(log: Log) -> dict[str, dict[int, dict[str, float]]]:
    """Return mean, least and most F1, and median seconds, for each way and number of strokes."""
    rows: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in log.rows:
        if row["way"] in WAYS:
            rows[row["way"]][row["strokes"]].append(row)
    return {
        way: {
            count: {
                "seeds": len(found),
                "f1": round(float(np.mean([row["f1"] for row in found])), 3),
                "least": min(row["f1"] for row in found),
                "most": max(row["f1"] for row in found),
                "seconds": round(float(np.median([row["seconds"] for row in found])), 2),
            }
            for count, found in sorted(counts.items())
        }
        for way, counts in rows.items()
    }


def plot(log: Log, path: Path) -> None:
    """Draw F1 against user seconds: means over the seeds, and the range of the seeds."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for way, counts in summary(log).items():
        x = [SECONDS_PER_STROKE * count for count in counts]
        low, mean, high = ([row[key] for row in counts.values()] for key in ("least", "f1", "most"))
        axes.fill_between(x, low, high, color=WAYS[way], alpha=0.18, linewidth=0)
        axes.plot(x, mean, "o-", color=WAYS[way], label=way)
    axes.axhline(log_parent(log), color="black", linestyle=":", label="model before")
    axes.set_xscale("log")
    ticks = [SECONDS_PER_STROKE * count for count in COUNTS]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("seconds of painting (3 s a stroke)")
    axes.set_ylabel("F1 of membrane, pixel by pixel, on other slices")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def log_parent(log: Log) -> float:
    """Return the F1 of the model before any stroke."""
    return float(next(row["f1"] for row in log.rows if row["way"] == "model before"))


def score_parent(options: argparse.Namespace, log: Log, folder: Path) -> None:
    """Score the model that draft and fine-tune begin with."""
    if log.has("model before", 0, 0):
        return
    from benchmarks.fine_tune import scores

    raw, *masks = read(options.data, 2)
    image = folder / "parent.tif"
    tifffile.imwrite(image, raw, metadata=None)
    found = scores(image, MODEL, tuple(masks), slice(*SCORED))
    log.add(way="model before", seed=0, strokes=0, f1=found["membrane_f1"], seconds=0.0)


def main() -> None:
    """Read the command line, measure what the log lacks, print a table, and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    log = Log(options.log)
    with tempfile.TemporaryDirectory() as folder:
        score_parent(options, log, Path(folder))
        measure(options, log, Path(folder))
    for way, counts in summary(log).items():
        for count, row in counts.items():
            print(f"{way:14} {count:4} strokes {json.dumps(row)}")
    if options.plot:
        plot(log, options.plot)


if __name__ == "__main__":
    main()

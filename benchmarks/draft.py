"""What a draft is worth and how long it takes: F1, IoU and seconds, over seeds, on two cores.

::

    python benchmarks/draft.py --data FOLDER --seeds 5 [--scored 8 13] [--strokes 60] [--no-engine]

FOLDER and strokes are those of ``benchmarks/fine_tune.py``: strokes on slices 0-2 of every second
pixel of the ventral nerve cord, classes interior, membrane and mitochondrion, of which the model
knows the first two. Scored at argmax on slices 8-12; settings were chosen on slices 3-7.

For each seed one line: the model as it is, a head on the last features alone as a fine-tune fits it
first, and a draft. Then the engine is driven as the panel drives it, on a view of 512 x 512:
seconds to the first draft, and from each of ten strokes to the draft that has learnt it. Seconds of
the processor (``_cpu_s``) tell on a busy machine what they would be on a quiet one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fine_tune
import numpy as np
import tifffile
import torch

from napari_unet.app.drafting.opened import draft_backend, open_draft, plan_draft
from napari_unet.app.drafting.stroke_cells import StrokeCells
from napari_unet.app.segmenting.preparation import measured_normalization
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.draft_job import DraftJob
from napari_unet.io.annotation_store import create_annotation_store
from napari_unet.model.weights import load_model
from napari_unet.training.linear_head import fit_head

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.app.drafting.feature_tile import FeatureTile
    from napari_unet.app.drafting.head import Head
    from napari_unet.app.drafting.opened import OpenedDraft

CLASSES = ("interior", "membrane", "mitochondrion")
ENGINE_STROKES = 10


def truth(options: argparse.Namespace) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Return the gray values, and the classes of every pixel."""
    raw, membranes, mitochondria = fine_tune.read(options.data, 2)
    classes = np.where(membranes, fine_tune.MEMBRANE, fine_tune.INTERIOR).astype(np.uint8)
    classes[mitochondria & ~membranes] = fine_tune.MITOCHONDRION
    return raw, classes


def opened(image: Path, folder: Path, threads: int) -> OpenedDraft:
    """Return the image and the network, as a session opens them."""
    job = DraftJob(
        input=str(image),
        axes="zyx",
        model=fine_tune.MODEL,
        classes=CLASSES,
        folder=str(folder),
        threads=threads,
    )
    backend = draft_backend(job)
    plan = plan_draft(job, backend)
    return open_draft(job, plan, backend, measured_normalization(plan))


def last_head(draft: OpenedDraft, cells: StrokeCells) -> Head:
    """Return a head on the last features alone, fitted as a fine-tune begins."""
    start, strokes = draft.heads.start(CLASSES, {}), cells.features(len(CLASSES))
    if strokes is None:
        return start
    base = load_model(plan_path(draft)).net.architecture.base_channels
    layer = torch.nn.Conv2d(base, len(CLASSES), 1)
    with torch.no_grad():
        layer.weight.copy_(start.matrix[:, :base, None, None])
        layer.bias.copy_(start.bias)  # type: ignore[union-attr]  # it has one
    fit_head(layer, strokes.rows[:, :base], strokes.labels)
    matrix = torch.zeros_like(start.matrix)
    matrix[:, :base] = layer.weight.detach().flatten(1)
    bias = layer.bias
    if bias is None:
        raise SystemExit("the layer has lost its bias")
    return replace(start, matrix=matrix, bias=bias.detach(), learned=strokes.total)


def plan_path(draft: OpenedDraft) -> Path:
    """Return the file of the model."""
    from napari_unet.app.models import find_model

    return find_model(draft.job.model).path


def scores(
    head: Head, tiles: dict[int, FeatureTile], classes: npt.NDArray[np.uint8]
) -> dict[str, float]:
    """Return F1 of membranes and IoU of mitochondria on some slices, and seconds per slice."""
    began, worked = time.perf_counter(), time.process_time()
    found = np.concatenate([tile.classes(head, tile.box) for tile in tiles.values()])
    seconds = (time.perf_counter() - began) / len(tiles)
    cpu_seconds = (time.process_time() - worked) / len(tiles)
    true = classes[list(tiles)]
    guess, real = (labels == fine_tune.MITOCHONDRION for labels in (found, true))
    return {
        "membrane_f1": fine_tune.f1(found == fine_tune.MEMBRANE, true == fine_tune.MEMBRANE),
        "mitochondrion_iou": float((guess & real).sum() / max((guess | real).sum(), 1)),
        "repaint_s": seconds,
        "repaint_cpu_s": cpu_seconds,
    }


def quality(options: argparse.Namespace, folder: Path) -> None:
    """Print what heads are worth, seed by seed and on average."""
    raw, classes = truth(options)
    image = folder / "raw.tif"
    tifffile.imwrite(image, raw, metadata=None)
    draft = opened(image, folder, options.threads)
    whole = [Box((z, 0, 0), (z + 1, *classes.shape[1:])) for z in range(len(classes))]
    began, worked = time.perf_counter(), time.process_time()
    painted_tiles = {z: draft.net.tile(draft.image, whole[z]) for z in fine_tune.PAINTED}
    tile_times = {
        "tile_s": (time.perf_counter() - began) / len(painted_tiles),
        "tile_cpu_s": (time.process_time() - worked) / len(painted_tiles),
    }
    scored = range(*options.scored)
    tiles = {z: draft.net.tile(draft.image, whole[z]) for z in scored}
    start = draft.heads.start(CLASSES, {})
    lines = {"model": [scores(start, tiles, classes)], "last features": [], "draft": []}
    fine_tune.STROKES = options.strokes
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        cells = StrokeCells(draft.image)
        for z in fine_tune.PAINTED:
            cells.update(whole[z], fine_tune.strokes(classes[z], rng)[None])
            cells.take_from(whole[z], painted_tiles[z])
        strokes = cells.features(len(CLASSES))
        if strokes is None:
            continue
        for name in ("last features", "draft"):
            began, worked = time.perf_counter(), time.process_time()
            head = last_head(draft, cells) if name != "draft" else draft.heads.fit(start, strokes)
            fit = {"fit_s": time.perf_counter() - began, "fit_cpu_s": time.process_time() - worked}
            lines[name].append({**scores(head, tiles, classes), **fit})
            report(name, seed, strokes.total, lines[name][-1])
    for name, found in lines.items():
        mean = {key: statistics.fmean(line[key] for line in found) for key in found[0]}
        report(name, "mean", options.seeds, mean)
    report("network", "mean", len(painted_tiles), tile_times)


def report(name: str, seed: int | str, pixels: int, values: dict[str, float]) -> None:
    """Print a line of JSON."""
    rounded = {key: round(value, 4) for key, value in values.items()}
    print(json.dumps({"what": name, "seed": seed, "n": pixels, **rounded}), flush=True)


class Engine:
    """The engine's process, spoken to as the panel does."""

    def __init__(self) -> None:
        words = ("-m", "napari_unet", "draft", "--config", "-", "--progress", "json")
        self._process = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def say(self, **message: Any) -> None:
        """Write a line."""
        if self._process.stdin is None:
            raise SystemExit("the engine does not listen")
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def wait_for(self, name: str) -> dict[str, Any]:
        """Return the next event of a name."""
        for line in self._process.stdout or ():
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name:
                return event
        raise SystemExit(f"the engine ended with {self._process.wait()} before {name}")


def engine_times(options: argparse.Namespace, folder: Path) -> None:
    """Drive the engine's process and print how long it takes."""
    _, classes = truth(options)
    colors = [ClassInfo(name=name, color=f"#00000{k}") for k, name in enumerate(CLASSES)]
    store = create_annotation_store(folder / "strokes.zarr", classes.shape, colors)
    engine = Engine()
    ready = engine.wait_for("engine_ready")
    job = {"axes": "zyx", "model": fine_tune.MODEL, "classes": CLASSES, "threads": options.threads}
    paths = {"input": folder / "raw.tif", "annotation": store.path, "folder": folder}
    engine.say(**job, **{key: str(path) for key, path in paths.items()})
    engine.wait_for("draft_started")
    view, seconds = Box((0, 0, 0), (1, *classes.shape[1:])), []
    engine.say(command="viewport", box=[view.start, view.stop])
    first = engine.wait_for("draft_ready")["seconds"]
    fine_tune.STROKES = 1
    rng = np.random.default_rng(0)
    for _ in range(ENGINE_STROKES):
        new = fine_tune.strokes(classes[0], rng)[None]
        painted = store.read(view)
        store.write(view, np.where(new > 0, new, painted))
        where = np.nonzero(new[0])
        corners = [[0, *(int(n.min()) for n in where)], [1, *(int(n.max()) + 1 for n in where)]]
        began = time.perf_counter()
        engine.say(command="strokes", boxes=[corners])
        engine.wait_for("draft_ready")
        seconds.append(time.perf_counter() - began)
        engine.wait_for("stroke_scored")
    engine.say(command="stop")
    engine.wait_for("draft_stopped")
    times = {
        "warm_up_s": ready["seconds"],
        "first_view_s": first,
        "stroke_to_draft_s_median": statistics.median(seconds),
        "stroke_to_draft_s_longest": max(seconds),
    }
    report("engine", 0, ENGINE_STROKES, times)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--strokes", type=int, default=fine_tune.STROKES, help="per slice")
    parser.add_argument("--scored", type=int, nargs=2, default=fine_tune.SCORED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-engine", action="store_true", help="leave out the engine's times")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        quality(options, Path(folder))
        if not options.no_engine:
            engine_times(options, Path(folder))


if __name__ == "__main__":
    main()

r"""Where to paint next: strokes at suggested places against strokes at random places, over seeds.

::

    python benchmarks/paint_next.py --data FOLDER --log LOG [--seeds 20]
    python benchmarks/paint_next.py --data FOLDER --log LOG --first-seed 20 --seeds 30 \
        --rules corrects --arms random disagreement mixed
    python benchmarks/paint_next.py --data FOLDER --log LOG --fine-tune [--seeds 5]
    python benchmarks/paint_next.py --log LOG --table [--first-seed 20 --seeds 30]

FOLDER holds ``raw.tif``, ``membranes.tif`` and ``mitochondria.tif`` as for `fine_tune.py`; every
second pixel, strokes as there. A person begins with 12 strokes at random places of slices 0-6, and
paints one more in each of 10 suggested places of these slices, four times. Slices 8-12 are scored.

The learner of the first form is the last layer of `em-membranes` (its 16 features), fitted to all
strokes as a fine-tune's first step does, with a third class that the model does not know. Arms
differ in nothing but the ranking of the places, which is the program's own: a place of a seed and a
round gets the same stroke in every arm, and the first strokes are the same. Two rules say where in
its place a stroke lies: at random, or on a pixel that the present model has wrong (if there is
one). The class is that of the mask under the stroke. The second form repeats on fresh seeds what
looked better than random in the first.

The third form fine-tunes all layers by the command line (`--steps 60`), asks `napari-unet suggest`
for 10 places, paints 3 strokes in each, and fine-tunes again from `em-membranes` on all of them.

Every run appends a line of JSON to LOG; what is there already is not computed again. --table prints
the tables of docs/explanation/where-to-paint.md from LOG.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from fine_tune import INTERIOR, LENGTHS, MEMBRANE, MITOCHONDRION, MODEL, f1, read, run, scores
from scipy.stats import t as student

from napari_unet.app.models import find_model
from napari_unet.app.suggesting.doubt import doubt_of
from napari_unet.app.suggesting.places import PlaceGrid
from napari_unet.app.suggesting.ranking import APART, RankingRules, rank_places, spread_places
from napari_unet.app.training.held_out import ImageInput
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.normalization import measure_normalization
from napari_unet.core.suggest_job import DEFAULT_PLACE_EDGE
from napari_unet.core.tiling import slices_as_channels
from napari_unet.io.annotation_store import create_annotation_store
from napari_unet.io.image import wrap_array
from napari_unet.io.selection import Selection
from napari_unet.model.head import adapt_head
from napari_unet.model.weights import load_model
from napari_unet.training.linear_head import fit_head
from napari_unet.training.weight_map import balance_counts

if TYPE_CHECKING:
    from napari_unet.core.suggest_events import SuggestedPlace

POOL, SCORED = range(7), range(8, 13)
CLASSES = ("interior", "membrane", "mitochondrion")
BALANCE = 0.35
"""As in a fine-tune."""

FIRST, PLACES, ROUNDS = 12, 10, 4
ARMS = ("random", "entropy", "margin", "disagreement", "mixed")
RULES = ("random", "corrects")
STEPS, STROKES_PER_PLACE, FIRST_OF_FINE_TUNE = 60, 3, 30

Classes = npt.NDArray[np.uint8]
Stroke = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Features (slice, channel, y, x) of the last layer, and true classes (z, y, x)."""

    features: npt.NDArray[np.float16]
    truth: Classes
    head: torch.nn.Conv2d


def true_classes(masks: tuple[npt.NDArray[Any], ...]) -> Classes:
    """Return the classes of every pixel."""
    classes = np.where(masks[0], MEMBRANE, INTERIOR).astype(np.uint8)
    classes[masks[1] & ~masks[0]] = MITOCHONDRION
    return classes


def open_data(folder: Path) -> Data:
    """Return the features of all slices, computed once."""
    raw, *masks = read(folder, 2)
    loaded = load_model(find_model(MODEL).path, fold=False)
    net = loaded.net.eval()
    image = wrap_array(raw, Selection(axes="zyx"))
    seen = ImageInput(image, measure_normalization(image))
    geometry = loaded.header.geometry()
    shape = geometry.input_shape((1, *raw.shape[1:]))
    features = np.zeros((len(raw), net.architecture.base_channels, *raw.shape[1:]), np.float16)
    for z in range(len(raw)):
        start = tuple(a - h for a, h in zip((z, 0, 0), geometry.halo, strict=True))
        box = Box(start, tuple(a + n for a, n in zip(start, shape, strict=True)))
        tensor = torch.from_numpy(slices_as_channels(seen.read(box))[None])
        with torch.inference_mode():
            found = net.features(tensor)[0]
        features[z] = found[:, : raw.shape[1], : raw.shape[2]].numpy()
    old = [item.name for item in loaded.header.classes]
    return Data(features, true_classes(tuple(masks)), adapt_head(net, old, CLASSES).head)


def stroke_at(center: npt.NDArray[np.floating], shape: Any, rng: np.random.Generator) -> Stroke:
    """Return the pixels of a stroke through a voxel, 8 to 20 long and 3 wide."""
    length, angle = rng.uniform(*LENGTHS), rng.uniform(0, np.pi)
    along = np.linspace(-length / 2, length / 2, int(4 * length))
    line = center[1:, None] + np.stack([np.sin(angle) * along, np.cos(angle) * along])
    pixels = np.concatenate([line + np.reshape(o, (2, 1)) - 1 for o in np.ndindex(3, 3)], axis=1)
    rows, columns = np.rint(pixels).astype(np.intp)
    inside = (rows >= 0) & (rows < shape[1]) & (columns >= 0) & (columns < shape[2])
    return np.full(int(inside.sum()), int(center[0])), rows[inside], columns[inside]


def paint(painted: Classes, truth: Classes, box: Box, wrong: Any, seed: list[int]) -> None:
    """Paint a stroke in a place; `wrong` marks pixels of it to begin on, if there are any."""
    rng = np.random.default_rng([*seed, *box.start])
    center = rng.uniform(box.start, box.stop).astype(np.intp).astype(float)
    draw = rng.random()
    if wrong is not None and wrong.any():
        at = np.argwhere(wrong)[int(draw * wrong.sum())]
        center = np.add(box.start, at).astype(float)
    where = stroke_at(center, truth.shape, rng)
    painted[where] = truth[where]


def fitted(data: Data, painted: Classes) -> torch.nn.Conv2d:
    """Return the last layer, fitted to the strokes."""
    z, y, x = np.nonzero(painted)
    labels = painted[z, y, x].astype(np.int64) - 1
    head = adapt_copy(data.head)
    counts = np.bincount(labels, minlength=len(CLASSES))
    weights = torch.from_numpy(balance_counts(counts, power=BALANCE)[labels])
    features = torch.from_numpy(data.features[z, :, y, x].astype(np.float32))
    fit_head(head, features, torch.from_numpy(labels), weights)
    return head


def adapt_copy(head: torch.nn.Conv2d) -> torch.nn.Conv2d:
    """Return a copy of a layer."""
    other = torch.nn.Conv2d(head.in_channels, head.out_channels, 1)
    other.load_state_dict(head.state_dict())
    return other


def chances(
    data: Data, head: torch.nn.Conv2d, z: int, part: tuple[slice, ...] = ()
) -> npt.NDArray[np.float32]:
    """Return the probabilities (class, y, x) of a slice, or of a part of it."""
    with torch.inference_mode():
        features = data.features[(z, slice(None), *part)].astype(np.float32)
        logits = head(torch.from_numpy(features)[None])
        return np.asarray(torch.softmax(logits, 1)[0].numpy())


def score(data: Data, head: torch.nn.Conv2d) -> dict[str, float]:
    """Return scores on the slices that are scored."""
    found = np.stack([chances(data, head, z).argmax(0) + 1 for z in SCORED])
    true = data.truth[SCORED.start : SCORED.stop]
    each = [f1(found == k, true == k) for k in range(1, len(CLASSES) + 1)]
    guess, mito = found == MITOCHONDRION, true == MITOCHONDRION
    return {
        "mean_f1": round(float(np.mean(each)), 4),
        "membrane_f1": round(each[1], 4),
        "mitochondrion_iou": round(float((guess & mito).sum() / (guess | mito).sum()), 4),
    }


def suggested(
    data: Data, arm: str, heads: tuple[Any, Any], painted: Classes, rng: np.random.Generator
) -> list[Box]:
    """Return the places that the program suggests, in the pool."""
    region = Box((POOL.start, 0, 0), (POOL.stop, *data.truth.shape[1:]))
    grid = PlaceGrid(region, DEFAULT_PLACE_EDGE)

    def is_free(box: Box) -> bool:
        return not painted[box.slices].any()

    if arm == "random":
        return spread_places(grid, PLACES, is_free, rng)
    places: list[SuggestedPlace] = []
    boxes = [box for box in map(grid.box, range(len(grid))) if is_free(box)]
    for z in POOL:
        now, before = (chances(data, head, z) for head in heads)
        plane = Box((z, 0, 0), (z + 1, *data.truth.shape[1:]))
        doubt = doubt_of(plane, now[:, None], (now.argmax(0), before.argmax(0)))
        places += [doubt.place(box) for box in boxes if box.start[0] == z]
    rules = RankingRules(arm, PLACES, APART * DEFAULT_PLACE_EDGE)  # type: ignore[arg-type]
    return [place.box for place in rank_places(places, rules, rng)]


def refit(data: Data, rule: str, arm: str, seed: int) -> list[dict[str, float]]:
    """Return the scores after each round of one simulated session."""
    rng = np.random.default_rng([seed, 1])
    painted = np.zeros_like(data.truth)
    grid = PlaceGrid(Box((POOL.start, 0, 0), (POOL.stop, *painted.shape[1:])), DEFAULT_PLACE_EDGE)
    for number in rng.choice(len(grid), FIRST, replace=False):
        paint(painted, data.truth, grid.box(int(number)), None, [seed, 0])
    before, head = data.head, fitted(data, painted)
    found = [score(data, head)]
    for turn in range(ROUNDS):
        for box in suggested(data, arm, (head, before), painted, rng):
            wrong = None
            if rule == "corrects":
                guess = chances(data, head, box.start[0], box.slices[1:])
                wrong = guess.argmax(0)[None] + 1 != data.truth[box.slices]
            paint(painted, data.truth, box, wrong, [seed, turn + 1])
        before, head = head, fitted(data, painted)
        found.append(score(data, head))
    return found


def stored(painted: Classes, path: Path) -> Path:
    """Write strokes as the panel stores them."""
    colors = ("#4c72b0", "#dd8452", "#55a868")
    infos = [ClassInfo(name=n, color=c) for n, c in zip(CLASSES, colors, strict=True)]
    create_annotation_store(path, painted.shape, infos).write(Box.of_shape(painted.shape), painted)
    return path


def tune(image: Path, strokes: Path, seed: int) -> Path:
    """Fine-tune by the command line; return the model."""
    output = strokes.with_suffix(".safetensors")
    run(
        *("train", "--from", MODEL, "--image", str(image), "--axes", "zyx", "--threads", "1"),
        *("--labels", str(strokes), "--label-kind", "annotation", "--classes", ",".join(CLASSES)),
        *("--steps", str(STEPS), "--seed", str(seed), "--output", str(output)),
    )
    return output


def fine_tuned(folder: Path, data: Path, arm: str, seed: int) -> list[dict[str, float]]:
    """Return the scores before and after strokes at ten places, by real fine-tunes."""
    raw, *masks = read(data, 2)
    truth = true_classes(tuple(masks))
    image, own = folder / "raw.tif", folder / str(seed)
    rng = np.random.default_rng([seed, 2])
    painted = np.zeros_like(truth)
    grid = PlaceGrid(Box((POOL.start, 0, 0), (POOL.stop, *truth.shape[1:])), DEFAULT_PLACE_EDGE)
    for number in rng.choice(len(grid), FIRST_OF_FINE_TUNE, replace=False):
        paint(painted, truth, grid.box(int(number)), None, [seed, 0])
    slices = slice(SCORED.start, SCORED.stop)
    first, model, known = (own / f"first.{end}" for end in ("zarr", "safetensors", "json"))
    if not own.exists():
        # The same for all arms.
        own.mkdir()
        tifffile.imwrite(image, raw, metadata=None)
        tune(image, stored(painted, first), seed)
        known.write_text(json.dumps(scores(image, str(model), tuple(masks), slices)))
    region = f"{POOL.start}:{POOL.stop},:,:"
    events = run(
        *("suggest", str(image), "--axes", "zyx", "--model", str(model), "--compare-with", MODEL),
        *("--annotation", str(first), "--rank-by", arm, "--count", str(PLACES), "--region", region),
        *("--seed", str(seed), "--seconds", "600", "--windows", "1000", "--threads", "1"),
    )
    (ranked,) = (event for event in events if event["event"] == "places_ranked")
    for place in ranked["places"]:
        box = Box(tuple(place["box"]["start"]), tuple(place["box"]["stop"]))
        for k in range(STROKES_PER_PLACE):
            paint(painted, truth, box, None, [seed, 1 + k])
    better = tune(image, stored(painted, own / f"{arm}.zarr"), seed)
    found = scores(image, str(better), tuple(masks), slices)
    return [json.loads(known.read_text()), found]


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of the log."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def measure(options: argparse.Namespace) -> None:
    """Do what is not in the log yet."""
    torch.set_num_threads(1)
    kinds = ["fine-tune"] if options.fine_tune else options.rules
    done = {(row["kind"], row["arm"], row["seed"]) for row in read_log(options.log)}
    data = None if options.fine_tune else open_data(options.data)
    order = itertools.product(options.numbers, kinds, options.arms)
    with tempfile.TemporaryDirectory() as folder:
        for seed, kind, arm in order:
            if (kind, arm, seed) in done:
                continue
            if data is None:
                found = fine_tuned(Path(folder), options.data, arm, seed)
            else:
                found = refit(data, kind, arm, seed)
            with options.log.open("a", encoding="utf-8") as log:
                line = {"kind": kind, "arm": arm, "seed": seed, "rounds": found}
                log.write(json.dumps(line) + "\n")


def table(rows: list[dict[str, Any]], kind: str, metric: str) -> None:
    """Print, for each arm, the mean after the last round and its difference from random."""
    of = {(row["arm"], row["seed"]): row["rounds"] for row in rows if row["kind"] == kind}
    arms = [arm for arm in ARMS if any(key[0] == arm for key in of)]
    seeds = [s for s in sorted({s for _, s in of}) if all((arm, s) in of for arm in arms)]
    if not seeds:
        return
    print(f"\n{kind}, {metric}, {len(seeds)} seeds\n")
    print("| ranking | first | last | difference from random (95 %) | mean of the rounds (95 %) |")
    print("|---|---|---|---|---|")
    values = {a: np.array([[r.get(metric, 0.0) for r in of[a, s]] for s in seeds]) for a in arms}
    for arm in arms:
        gain = values[arm] - values["random"]
        cells = [f"{values[arm][:, k].mean():.3f}" for k in (0, -1)]
        cells += [interval(gain[:, -1]), interval(gain[:, 1:].mean(axis=1))]
        print(f"| `{arm}` | " + " | ".join("" if arm == "random" and k > 1 else c
              for k, c in enumerate(cells)) + " |")  # fmt: skip


def interval(gain: npt.NDArray[np.floating]) -> str:
    """Return the mean of paired differences with its 95 % interval (Student)."""
    mean, count = float(gain.mean()), len(gain)
    if count < 2:
        return f"{mean:+.3f}"
    half = float(student.ppf(0.975, count - 1) * gain.std(ddof=1) / np.sqrt(count))
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=RULES)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--fine-tune", action="store_true", help="train all layers")
    parser.add_argument("--table", action="store_true", help="print the tables of the log")
    options = parser.parse_args()
    options.numbers = range(options.first_seed, options.first_seed + options.seeds)
    if options.table:
        rows = [row for row in read_log(options.log) if row["seed"] in options.numbers]
        show = partial(table, rows)
        for kind in (*RULES, "fine-tune"):
            for metric in ("mean_f1", "membrane_f1", "mitochondrion_iou"):
                if kind != "fine-tune" or metric != "mean_f1":
                    show(kind, metric)
        return
    measure(options)


if __name__ == "__main__":
    main()

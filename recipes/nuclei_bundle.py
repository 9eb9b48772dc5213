"""Make the model file `nuclei` that ships, with its scores, and its crops.

::

    python recipes/nuclei_bundle.py recipes/nuclei_refine.toml --run RUN2 --data FOLDER

The file is written without scores, scored on the test images through the same job that the command
line runs, and written again with its scores; the weights stay the same. All scores, also those that
the card leaves out, are printed as JSON.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import tempfile
import tomllib
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import torch
import zarr
from nuclei_crops import CLASSES, SOURCE, write_both
from nuclei_data import NucleiFile, read_index, read_objects, split

from napari_unet.app.segment import run_job
from napari_unet.core.architecture import Architecture
from napari_unet.core.header import InputExpectation, ModelHeader, Provenance
from napari_unet.core.job import SegmentJob
from napari_unet.labels.interior_instances import interior_instances
from napari_unet.metrics.objects import ObjectScore, object_score, pool
from napari_unet.model.weights import save_model

if TYPE_CHECKING:
    import numpy.typing as npt

RECIPE = (
    "recipes/nuclei.py recipes/nuclei.toml --threads {threads}, then with its best.pt as --start "
    "{second}"
)

GROUPS = {"fluorescence": "dark_bg", "color": "color", "brightfield": "light_bg_grey"}
"""Kinds of image as the scores call them, and as the index does."""

IN_CARD = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds whose average precision is listed; the mean is over all of 0.5, 0.55 ... 0.9."""

DATA = (
    SOURCE + ". {train} images were learnt from, {select} selected the weights; both and the "
    "{test} test images are drawn from each kind and size of image."
)

CONDITIONS = (
    "a fifth of the images ({test}: {groups}) that was not used for training or selection; other "
    "images of the same laboratories were. Probabilities of this file from the segmentation job, "
    "each image standardized by itself, gray repeated to three channels; objects by "
    "napari_unet.labels.interior_instances with its defaults. A match is an intersection over "
    "union above the threshold; ap = TP / (TP + FP + FN), ap_mean over 0.5, 0.55 ... 0.9. Means of "
    "the scores of the images; `pooled`: all objects counted as if of one image"
)


def make_header(
    config: dict[str, Any],
    recipe: str,
    parts: dict[str, list[NucleiFile]],
    scores: dict[str, float],
) -> ModelHeader:
    """Return the card of the model that a recipe describes."""
    counts = {part: len(files) for part, files in parts.items()}
    of_group = {name: sum(f.kind == kind for f in parts["test"]) for name, kind in GROUPS.items()}
    groups = ", ".join(f"{n} {name}" for name, n in of_group.items())
    provenance = Provenance(
        recipe=recipe,
        seed=config["loop"]["seed"],
        data=DATA.format(**counts),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        versions={"napari-unet": version("napari-unet"), "torch": torch.__version__}
        | {"numpy": np.__version__, "python": platform.python_version()},
        scores=scores,
        score_conditions=CONDITIONS.format(test=counts["test"], groups=groups),
    )
    return ModelHeader(
        name="nuclei",
        description="cell nuclei, bright on dark or stained: 1 = background, 2 = border, "
        "3 = interior",
        architecture=Architecture.parse(config["network"], source=recipe),
        classes=CLASSES,
        input=InputExpectation(channels=("red", "green", "blue")),
        provenance=provenance,
        license="BSD-3-Clause; trained on data under CC0 1.0",
    )


def probabilities_of(model: Path, image: Path) -> npt.NDArray[np.float32]:
    """Return probabilities (class, y, x) of an image file, from the job that users run."""
    is_gray = iio.improps(image).shape[2:] == ()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.zarr"
        job = SegmentJob(
            input=str(image),
            channel=None if is_gray else "0,1,2",
            model=str(model),
            output=str(out),
            name="score",
            device="cpu",
            threads=1,
            probabilities=True,
        )
        for _ in run_job(job):
            pass
        return np.asarray(zarr.open_array(out / "probabilities/score/0", mode="r")[:])


def score_images(model: Path, data: Path, files: list[NucleiFile]) -> dict[str, list[ObjectScore]]:
    """Return the score of each image, by group."""
    found: dict[str, list[ObjectScore]] = defaultdict(list)
    name_of = {kind: name for name, kind in GROUPS.items()}
    for file in files:
        probabilities = probabilities_of(model, data / "images" / f"{file.name}.png")
        objects = interior_instances(probabilities[1], probabilities[2])
        score = object_score(objects, read_objects(data, file.name))
        found["all"].append(score)
        found[name_of[file.kind]].append(score)
    return found


def summarize(found: dict[str, list[ObjectScore]]) -> dict[str, float]:
    """Return mean and pooled scores by name, such as ``color_ap_0.5``."""
    scores: dict[str, float] = {}
    for group, items in found.items():
        for suffix, values in (("", items), ("_pooled", [pool(items)])):
            named = {"object_f1": [s.f1() for s in values]}
            named |= {f"ap_{t}": [s.average_precision(t) for s in values] for t in IN_CARD}
            named["ap_mean"] = [s.mean_average_precision for s in values]
            scores |= {f"{group}_{k}{suffix}": float(np.mean(v)) for k, v in named.items()}
    return {name: round(value, 4) for name, value in scores.items()}


def main() -> None:
    """Read the command line, write the files, print the scores."""
    models = Path(__file__).parents[1] / "src" / "napari_unet" / "resources" / "models"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="the recipe")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, with best.pt")
    parser.add_argument("--data", type=Path, required=True, help="folder of index.csv")
    parser.add_argument("--output", type=Path, default=models / "nuclei.safetensors")
    options = parser.parse_args()
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    with (options.run / "log.jsonl").open(encoding="utf-8") as log:
        threads = json.loads(log.readline())["threads"]
    recipe = RECIPE.format(second=f"recipes/{options.config.name}", threads=threads)
    state = torch.load(options.run / "best.pt", map_location="cpu", weights_only=True)
    parts = split(read_index(options.data), config["data"]["seed"])
    save_model(options.output, state, make_header(config, recipe, parts, {}))
    found = score_images(options.output, options.data, parts["test"])
    scores = summarize(found)
    print(json.dumps(scores, indent=2))
    save_model(options.output, state, make_header(config, recipe, parts, scores))
    write_both(options.output, options.data, parts, config["sampler"]["width"])


if __name__ == "__main__":
    main()

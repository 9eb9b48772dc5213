"""Make the model file that ships: best weights of a run, its card, and scores of that very file.

::

    python recipes/bundle.py recipes/em_membranes.toml --run RUN --data FOLDER --output FILE

The file is written without scores, scored on the test slices through the same job that the command
line runs, and written again with its scores; the weights stay the same.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import zarr
from em_volume import read_slices
from score import TEST_SLICES, score_probabilities

from napari_unet.app.segment import run_job
from napari_unet.core.architecture import Architecture
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader, ParentModel, Provenance
from napari_unet.core.job import SegmentJob
from napari_unet.model.weights import save_model

CLASSES = (
    ClassInfo(name="interior", color="#3a86c8"),
    ClassInfo(name="membrane", color="#ffb000"),
)

ATTRIBUTION = (
    "FIB-SEM of the Drosophila medulla, 10 nm isotropic, 250 x 250 x 160 voxels with neuron "
    "bodies: janelia-flyem/neuroproof_examples, training_sample2 (Janelia FlyEM), CC BY 3.0. "
    "Membranes were derived from the borders between bodies"
)

DATA = (
    ATTRIBUTION + ". Slices {train[0]}-{last_train} were learnt from (xy, xz and yz planes, means "
    "of 3 slices), {validation[0]}-{last_validation} selected the weights."
)

CONDITIONS = (
    "slices {first}-{last} of the same volume, not used for training or selection; argmax of the "
    "probabilities of this file, intensities standardized over these slices. boundary_f1: within "
    "2 pixels, per slice; plain_f1: tolerance 0. VOI (bits) and adapted Rand error: plain 2D "
    "watershed per slice against the connected parts of the bodies, membrane pixels ignored"
)


def make_header(config: dict[str, Any], recipe: str, scores: dict[str, float]) -> ModelHeader:
    """Return the card of the model that a recipe describes."""
    data = config["data"]
    provenance = Provenance(
        recipe=recipe,
        seed=config["loop"]["seed"],
        data=DATA.format(
            train=data["train"],
            last_train=data["train"][1] - 1,
            validation=data["validation"],
            last_validation=data["validation"][1] - 1,
        ),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        versions={"napari-unet": version("napari-unet"), "torch": torch.__version__}
        | {"numpy": np.__version__, "python": platform.python_version()},
        scores=scores,
        score_conditions=CONDITIONS.format(first=TEST_SLICES[0], last=TEST_SLICES[1] - 1),
        parent=ParentModel.parse(config["start"], source="[start]") if "start" in config else None,
    )
    return ModelHeader(
        name="em-membranes",
        description="membranes in electron microscopy: 1 = interior, 2 = membrane",
        architecture=Architecture.parse(config["network"], source=recipe),
        classes=CLASSES,
        input=InputExpectation(
            channels=("electron microscopy, membranes dark",),
            voxel_size=(10.0, 10.0),
            unit="nanometer",
        ),
        provenance=provenance,
        license="BSD-3-Clause; trained on data under CC BY 3.0",
    )


def probabilities_of(model: Path, raw: np.ndarray) -> np.ndarray:
    """Return probabilities (class, z, y, x) of a stack, from the job that users run."""
    with tempfile.TemporaryDirectory() as folder:
        stack, out = Path(folder) / "stack.tif", Path(folder) / "out.zarr"
        tifffile.imwrite(stack, raw, metadata={"axes": "ZYX"})
        job = SegmentJob(
            input=str(stack),
            axes="zyx",
            model=str(model),
            output=str(out),
            name="score",
            device="cpu",
            probabilities=True,
        )
        for _ in run_job(job):
            pass
        return np.asarray(zarr.open_array(out / "probabilities/score/0", mode="r")[:])


def main() -> None:
    """Read the command line, write the file, print its scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="the recipe")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, with best.pt")
    parser.add_argument("--data", type=Path, required=True, help="folder of raw.tif, bodies.tif")
    parser.add_argument("--output", type=Path, required=True, help="model file to write")
    options = parser.parse_args()
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    with (options.run / "log.jsonl").open(encoding="utf-8") as log:
        threads = json.loads(log.readline())["threads"]
    recipe = f"recipes/train.py recipes/{options.config.name} --threads {threads}"
    state = torch.load(options.run / "best.pt", map_location="cpu", weights_only=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_model(options.output, state, make_header(config, recipe, {}))
    raw, bodies = read_slices(options.data, *TEST_SLICES)
    scores = score_probabilities(probabilities_of(options.output, raw), bodies)
    save_model(options.output, state, make_header(config, recipe, scores))
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()

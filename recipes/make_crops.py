"""Make the crops of `em-membranes`: pieces of the FIB-SEM volume with their true classes.

::

    python recipes/make_crops.py --data FOLDER

A fine-tuned model is compared with its parent on the regression crops, so that what it forgot
shows. They come from the test slices, which neither taught nor selected the parent. The rehearsal
crops are learnt from again beside new labels; they come from the slices that taught the parent.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bundle import ATTRIBUTION, CLASSES
from em_volume import membrane_labels, read_slices
from safetensors.numpy import save
from score import TEST_SLICES

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

MODELS = Path(__file__).parents[1] / "src" / "napari_unet" / "resources" / "models"
TRAINING_SLICES = (0, 120)
"""First slice and the one after the last, as in `em_membranes.toml`."""

JUDGING = (141, 145, 148, 151, 155, 158)
LABEL_EDGE = 192
"""Of the labeled middle of a slice. The whole slice is kept around it: 29 pixels on each side."""

REHEARSED = ((0, (10, 30, 50, 70, 90, 110)), (1, (83, 166)), (2, (83, 166)))
"""Axes, and planes across them, of the training slices: the model learned from all directions."""


def regression_crops(folder: Path) -> tuple[list[tuple[Array, Array]], Array, str]:
    """Return slices with the classes of their middle, the stack they are scaled by, and words."""
    raw, bodies = read_slices(folder, *TEST_SLICES)
    start = [(n - LABEL_EDGE) // 2 for n in raw.shape[1:]]
    middle = tuple(slice(s, s + LABEL_EDGE) for s in start)
    crops = []
    for z in JUDGING:
        truth = membrane_labels(bodies[z - TEST_SLICES[0]][None])[0]
        labels = np.zeros(truth.shape, np.uint8)
        labels[middle] = truth[middle]
        crops.append((raw[z - TEST_SLICES[0]], labels))
    said = (
        f"slices {', '.join(map(str, JUDGING))} of the test slices "
        f"{TEST_SLICES[0]}-{TEST_SLICES[1] - 1}"
    )
    return crops, raw, said


def rehearsal_crops(folder: Path) -> tuple[list[tuple[Array, Array]], Array, str]:
    """Return whole planes with their classes, the stack they are scaled by, and words."""
    raw, bodies = read_slices(folder, *TRAINING_SLICES)
    crops = []
    for axis, numbers in REHEARSED:
        images, objects = np.moveaxis(raw, axis, 0), np.moveaxis(bodies, axis, 0)
        crops += [(images[k], membrane_labels(objects[k][None])[0]) for k in numbers]
    words = [f"{'zyx'[axis]} = {', '.join(map(str, numbers))}" for axis, numbers in REHEARSED]
    said = (
        f"planes {'; '.join(words)} of the training slices "
        f"{TRAINING_SLICES[0]}-{TRAINING_SLICES[1] - 1}"
    )
    return crops, raw, said


def write(path: Path, crops: list[tuple[Array, Array]], stack: Array, said: str) -> None:
    """Write a file of crops, replacing the one that is there."""
    tensors = {}
    for k, (image, labels) in enumerate(crops):
        tensors[f"image_{k}"] = np.ascontiguousarray(image[None, None].astype(np.uint8))
        tensors[f"labels_{k}"] = np.ascontiguousarray(labels[None])
    scaling = {"offset": [float(stack.mean())], "scale": [float(stack.std())]}
    header = {
        "schema_version": 1,
        "class_names": [info.name for info in CLASSES],
        "normalization": [scaling for _ in crops],
        "source": f"{ATTRIBUTION}; {said}, over which offset and scale were measured",
        "license": "CC BY 3.0",
    }
    path.write_bytes(save(tensors, metadata={"crops": json.dumps(header)}))
    print(f"{path}: {len(crops)} crops, {path.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of raw.tif, bodies.tif")
    parser.add_argument("--output", type=Path, default=MODELS, help="folder for both files")
    options = parser.parse_args()
    write(options.output / "em-membranes.crops.safetensors", *regression_crops(options.data))
    write(options.output / "em-membranes.rehearsal.safetensors", *rehearsal_crops(options.data))


if __name__ == "__main__":
    main()

"""Make the regression crops of `em-membranes`: pieces of the test slices with their true classes.

::

    python recipes/make_crops.py --data FOLDER

A fine-tuned model is compared with its parent on them, so that what it forgot shows. They come from
the test slices, which neither taught nor selected the parent.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from bundle import ATTRIBUTION, CLASSES
from em_volume import membrane_labels, read_slices
from safetensors.numpy import save
from score import TEST_SLICES

MODELS = Path(__file__).parents[1] / "src" / "napari_unet" / "resources" / "models"
SLICES = (141, 145, 148, 151, 155, 158)
LABEL_EDGE = 192
"""Of the labeled middle of a slice. The whole slice is kept around it: 29 pixels on each side."""


def main() -> None:
    """Write the crops, replacing those that are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of raw.tif, bodies.tif")
    parser.add_argument("--output", type=Path, default=MODELS / "em-membranes.crops.safetensors")
    options = parser.parse_args()
    raw, bodies = read_slices(options.data, *TEST_SLICES)
    start = [(n - LABEL_EDGE) // 2 for n in raw.shape[1:]]
    middle = tuple(slice(s, s + LABEL_EDGE) for s in start)
    tensors = {}
    for k, z in enumerate(SLICES):
        image = raw[z - TEST_SLICES[0]]
        truth = membrane_labels(bodies[z - TEST_SLICES[0]][None])[0]
        labels = np.zeros(image.shape, np.uint8)
        labels[middle] = truth[middle]
        tensors[f"image_{k}"] = image[None, None].astype(np.uint8)
        tensors[f"labels_{k}"] = labels[None]
    stack = {"offset": [float(raw.mean())], "scale": [float(raw.std())]}
    said = {
        "schema_version": 1,
        "class_names": [info.name for info in CLASSES],
        "normalization": [stack for _ in SLICES],
        "source": f"{ATTRIBUTION}; slices {', '.join(map(str, SLICES))} of the test slices "
        f"{TEST_SLICES[0]}-{TEST_SLICES[1] - 1}, over which offset and scale were measured",
        "license": "CC BY 3.0",
    }
    options.output.write_bytes(save(tensors, metadata={"crops": json.dumps(said)}))
    print(f"{options.output}: {len(SLICES)} crops, {options.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

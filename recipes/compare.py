"""Compare two versions of `em-membranes` on the test slices, as they are and disturbed.

::

    python recipes/compare.py OLD NEW --data FOLDER

Prints JSON: for each disturbance of the validation (train.py) the membrane F1 at argmax with
tolerance 0 of both model files, and the 95 % interval of the difference. Blocks of the paired
bootstrap are 16 columns of 62 x 62 pixels through all slices that are read, every second one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from em_volume import (
    MEMBRANE,
    NUM_CLASSES,
    membrane_labels,
    predict_slices,
    predictor,
    read_slices,
    standardize,
    with_neighbors,
)
from score import TEST_SLICES
from train import GRAY_VALUES, SHARPNESS, ZOOMS, predict_zoomed

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.metrics.bootstrap import f1_of, paired_difference
from napari_unet.metrics.classes import confusion
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt
    from em_volume import Predict

    from napari_unet.metrics.classes import Confusion

STEP = 2
BLOCK_EDGE = 62
SEED = 0


def classes_found(
    predict: Predict, image: npt.NDArray[np.float32]
) -> dict[str, npt.NDArray[np.intp]]:
    """Return the classes (Z, Y, X) found in every second slice, per disturbance."""
    found = {}
    for name, disturb in (GRAY_VALUES | SHARPNESS).items():
        found[name] = predict_slices(predict, with_neighbors(disturb(image), 0)[:, ::STEP])
    for name, factor in ZOOMS.items():
        found[name] = predict_zoomed(predict, image[None, ::STEP], factor)
    return {name: p.argmax(axis=0) + FIRST_CLASS for name, p in found.items()}


def columns(true: npt.NDArray[np.uint8], found: npt.NDArray[np.intp]) -> list[Confusion]:
    """Return what was found in each column of 62 x 62 pixels; pixels beyond the last are left."""
    rows, cols = ((n // BLOCK_EDGE) * BLOCK_EDGE for n in true.shape[1:])
    return [
        confusion(true[here], found[here], NUM_CLASSES)
        for y in range(0, rows, BLOCK_EDGE)
        for x in range(0, cols, BLOCK_EDGE)
        for here in [(slice(None), slice(y, y + BLOCK_EDGE), slice(x, x + BLOCK_EDGE))]
    ]


def compare(
    true: npt.NDArray[np.uint8],
    old: Mapping[str, npt.NDArray[np.intp]],
    new: Mapping[str, npt.NDArray[np.intp]],
) -> dict[str, dict[str, float | str | None]]:
    """Return scores, difference, interval and verdict per disturbance."""
    result = {}
    for name in old:
        difference = paired_difference(
            columns(true, old[name]), columns(true, new[name]), f1_of(MEMBRANE), seed=SEED
        )
        numbers = {
            key: round(float(value), 4)
            for key in ("before", "after", "difference", "low", "high")
            if (value := getattr(difference, key)) is not None
        }
        result[name] = {**numbers, "verdict": difference.verdict}
    return result


def main() -> None:
    """Read the command line and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="model file")
    parser.add_argument("new", type=Path, help="model file")
    parser.add_argument("--data", type=Path, required=True, help="folder of raw.tif, bodies.tif")
    options = parser.parse_args()
    raw, bodies = read_slices(options.data, *TEST_SLICES)
    image = standardize(raw)
    old, new = (
        classes_found(predictor(load_model(path).net), image) for path in (options.old, options.new)
    )
    print(json.dumps(compare(membrane_labels(bodies)[::STEP], old, new), indent=2))


if __name__ == "__main__":
    main()

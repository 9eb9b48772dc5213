"""Score a model on the held-out slices of the FIB-SEM volume and print JSON.

::

    python recipes/score.py RUN/best.pt recipes/em_membranes.toml --data FOLDER

The slices (default 140-159) are read as a stack of their own: their gray values are standardized
over these slices, as they are for a user who has only them. Boundaries are scored at argmax.
Objects come from a plain 2D watershed per slice and are compared with the connected parts of the
true bodies in the slice, membrane pixels ignored.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from em_volume import (
    MEMBRANE,
    DataSettings,
    membrane_labels,
    predict_slices,
    predictor,
    read_slices,
    standardize,
    true_objects,
    with_neighbors,
)

from napari_unet.labels.watershed import watershed_slices
from napari_unet.metrics.boundary import boundary_score
from napari_unet.metrics.partition import partition_score
from napari_unet.model.unet import UNet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from em_volume import Predict

TEST_SLICES = (140, 160)
"""Used neither for training nor for any choice."""

TOLERANCE = 2
"""Of the boundary score, in pixels."""


def score(
    predict: Predict, data: Path, slices: tuple[int, int] = TEST_SLICES, *, context: int = 0
) -> dict[str, float]:
    """Return the scores of a prediction on slices of the volume.

    Parameters
    ----------
    predict : callable
        Takes a standardized slice (C, Y, X) and returns probabilities (classes, Y, X).
    data : Path
        Folder of ``raw.tif`` and ``bodies.tif``.
    slices : (int, int)
        First slice and the one after the last.
    context : int
        Neighboring slices on each side that the network takes as channels.
    """
    raw, bodies = read_slices(data, *slices)
    image = with_neighbors(standardize(raw), context)
    return score_probabilities(predict_slices(predict, image), bodies)


def score_probabilities(
    probabilities: npt.NDArray[np.floating[Any]], bodies: npt.NDArray[Any]
) -> dict[str, float]:
    """Return the scores of probabilities (classes, Z, Y, X) against bodies (Z, Y, X)."""
    labels = membrane_labels(bodies)
    membrane = probabilities.argmax(axis=0) == MEMBRANE - 1
    near = boundary_score(membrane, labels == MEMBRANE, tolerance=TOLERANCE)
    plain = boundary_score(membrane, labels == MEMBRANE, tolerance=0)
    objects = watershed_slices(probabilities[MEMBRANE - 1])
    partition = partition_score(objects, true_objects(bodies, labels))
    scores = {
        "boundary_f1": near.f1,
        "boundary_precision": near.precision,
        "boundary_recall": near.recall,
        "plain_f1": plain.f1,
        "plain_precision": plain.precision,
        "plain_recall": plain.recall,
        "voi_split_bits": partition.voi_split,
        "voi_merge_bits": partition.voi_merge,
        "voi_bits": partition.voi,
        "adapted_rand_error": partition.adapted_rand_error,
    }
    return {name: round(float(value), 4) for name, value in scores.items()}


def main() -> None:
    """Read the command line and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="best.pt of a run")
    parser.add_argument("config", type=Path, help="the recipe, for the architecture")
    parser.add_argument("--data", type=Path, required=True, help="folder of raw.tif, bodies.tif")
    parser.add_argument("--slices", type=int, nargs=2, default=TEST_SLICES, metavar="Z")
    options = parser.parse_args()
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    net = UNet(**config["network"]).eval()
    net.load_state_dict(torch.load(options.weights, map_location="cpu", weights_only=True))
    context = DataSettings.parse(config["data"], source="[data]").context
    scores = score(predictor(net), options.data, tuple(options.slices), context=context)
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()

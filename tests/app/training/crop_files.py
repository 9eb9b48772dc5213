"""Files of crops with three classes, made up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from pathlib import Path


def write_crops(path: Path, **changes: Any) -> None:
    """Write two crops of 2 x 20 x 24 voxels with the classes a, b and c."""
    image = np.arange(2 * 20 * 24, dtype=np.uint8).reshape(1, 2, 20, 24)
    labels = np.zeros((2, 20, 24), np.uint8)
    labels[1, 5:10, 5:10] = [[1], [2], [3], [1], [0]]
    tensors = {"image_0": image, "labels_0": labels, "image_1": image, "labels_1": labels}
    scaling = {"offset": [10.0], "scale": [2.0]}
    said = {
        "schema_version": 1,
        "class_names": ["a", "b", "c"],
        "normalization": [scaling, scaling],
        "source": "made up",
        "license": "CC0",
    }
    given = changes.pop("tensors", {})
    said |= changes
    save_file(tensors | given, path, metadata={"crops": json.dumps(said)})

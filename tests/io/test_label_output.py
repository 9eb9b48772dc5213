"""What we wrote is read back as what it is; what others wrote, or is damaged, is said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr
from tests.segmentations import COLORS, smooth_chances, write_segmentation

from napari_unet.core.boxes import Box
from napari_unet.errors import ConfigError, InputError, StorageError
from napari_unet.io.label_output import find_labels, list_labels
from napari_unet.io.ome_zarr_writer import OutputSpec, create_output

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (2, 20, 30)
NAMES = ("soma", "neurite", "glia")


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_segmentation_is_read_back(tmp_path: Path, version: str) -> None:
    out = tmp_path / "a.zarr"
    chances = smooth_chances(0, SHAPE, 3)
    classes = write_segmentation(out, chances, NAMES, version=version)
    stored = find_labels(out, None, "classes")
    assert (stored.name, stored.kind, stored.state) == ("net", "classes", "complete")
    assert stored.ome_version == version
    assert [(c.name, c.color) for c in stored.classes] == list(zip(NAMES, COLORS, strict=False))
    whole = Box.of_shape(SHAPE)
    np.testing.assert_array_equal(stored.open_labels().read(whole)[0], classes)
    assert stored.has_probabilities
    np.testing.assert_array_equal(stored.open_probabilities([3, 1]).read(whole), chances[[2, 0]])


def test_classes_and_objects_are_told_apart(tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    write_segmentation(out, smooth_chances(0, SHAPE, 3), NAMES, probable=False)
    (classes,) = list_labels(out)
    spec = OutputSpec(out, "cells", "zyx", classes.open_labels().levels, label_type="uint32")
    create_output(spec, replace=False)
    found = find_labels(out, None, "objects")
    assert (found.name, found.classes, found.state) == ("cells", (), "incomplete")
    assert [labels.kind for labels in list_labels(out)] == ["classes", "objects"]
    with pytest.raises(ConfigError, match="no label image 'cells' of classes; there are: net"):
        find_labels(out, "cells", "classes")
    with pytest.raises(InputError, match="--probabilities --overwrite"):
        classes.open_probabilities([1])


def test_what_is_missing_foreign_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no output of napari-unet"):
        list_labels(tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "theirs.zarr")
    with pytest.raises(StorageError, match="did not make; give the folder that napari-unet has"):
        list_labels(tmp_path / "theirs.zarr")
    out = tmp_path / "a.zarr"
    write_segmentation(out, smooth_chances(0, SHAPE, 3), NAMES)
    path = out / "labels" / "net" / "zarr.json"
    document = json.loads(path.read_text())
    del document["attributes"]["ome"]["image-label"]["properties"][1]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="names and colors of its classes cannot be read"):
        list_labels(out)

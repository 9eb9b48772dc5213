"""What drafts do with a device that has too little memory, and with a disk that is full."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
from tests.app.drafting.drafting import NAMES, Drafting, labels_of

from napari_unet.app.drafting import feature_net
from napari_unet.app.drafting.draft_files import DraftFiles
from napari_unet.app.drafting.feature_tile import FeatureTile
from napari_unet.app.drafting.kept_tiles import CELL_EDGE
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.events import Warned
from napari_unet.errors import StorageError
from napari_unet.io.annotation_store import create_annotation_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet.core.draft_job import DraftJob

EDGE = 200
"""Half of it is not a whole number of cells."""


def test_strokes_are_learnt_in_tiles_that_fit(
    job: DraftJob, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (2, EDGE, EDGE)
    tifffile.imwrite(tmp_path / "image.tif", rng.integers(0, 255, shape, dtype=np.uint8))
    classes = [ClassInfo(name=name, color="#000000") for name in NAMES]
    store = create_annotation_store(tmp_path / "large.zarr", shape, classes)
    # In the second cell of each axis, in a slice that is not looked at.
    there = Box((1, 70, 70), (2, 80, 80))
    store.write(there, np.full(there.shape, 2))

    class Tile(FeatureTile):
        def __init__(self, box: Box, maps: Sequence[torch.Tensor], grid: Any) -> None:
            if max(box.shape) > 2 * CELL_EDGE:
                raise torch.OutOfMemoryError("CUDA out of memory while features are copied")
            super().__init__(box, maps, grid)

    monkeypatch.setattr(feature_net, "FeatureTile", Tile)
    changes = {"input": str(tmp_path / "image.tif"), "annotation": str(store.path), "axes": "zyx"}
    drafting = Drafting(job.model_copy(update=changes))
    view = Box((0, 0, 0), (1, EDGE, EDGE))
    first = drafting.draft(view)
    second = drafting.until(type(first))
    drafting.close()
    assert (first.learned, second.learned) == (0, 100)
    assert (labels_of(second) > 0).all()
    (warning,) = (event.message for event in drafting.events if isinstance(event, Warned))
    assert warning.startswith("out of memory on cpu")
    assert warning.endswith("drafts go on with 64 pixels")


def test_a_full_disk_is_told_of_also_where_numpy_does_not_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(stream: object, labels: object) -> None:
        raise OSError("262144 requested and 0 written")

    monkeypatch.setattr(np, "save", short)
    with pytest.raises(StorageError, match="0 written; check the disk"):
        DraftFiles(str(tmp_path)).write(np.zeros((1, 2, 2), np.uint8))

    def full(stream: object, labels: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StorageError, match="No space left on device; check the disk"):
        DraftFiles(str(tmp_path)).write(np.zeros((1, 2, 2), np.uint8))

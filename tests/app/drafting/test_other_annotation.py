"""Another annotation is painted into while an engine drafts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from tests.app.drafting.drafting import NAMES, SLICE, WHOLE, Drafting, labels_of

from napari_unet.app.drafting.control import DraftControl
from napari_unet.cli.draft import obey_draft
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.draft_events import DraftReady, StrokeScored
from napari_unet.core.events import Warned
from napari_unet.io.annotation_store import create_annotation_store

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.core.draft_job import DraftJob
    from napari_unet.io.annotation_store import AnnotationStore

HERE = Box((1, 20, 10), (2, 30, 40))


def test_strokes_of_another_annotation_take_the_place_of_all_before(
    job: DraftJob, store: AnnotationStore, tmp_path: Path
) -> None:
    store.write(HERE, np.full(HERE.shape, 1))
    infos = [ClassInfo(name=name, color="#000000") for name in NAMES]
    other = create_annotation_store(tmp_path / "other.zarr", WHOLE.shape, infos)
    other.write(HERE, np.full(HERE.shape, 2))
    drafting = Drafting(job.model_copy(update={"annotation": None}))
    as_it_is = labels_of(drafting.draft(SLICE))
    drafting.control.change_annotation(str(other.path))
    while drafting.until(DraftReady).learned == 0:
        pass
    switched = drafting.events[-1]
    expected = Drafting(job.model_copy(update={"annotation": str(other.path)}))
    found = expected.draft(SLICE)
    while found.learned == 0:
        found = expected.until(DraftReady)
    assert isinstance(switched, DraftReady)
    assert switched.learned == found.learned == 300
    np.testing.assert_array_equal(labels_of(switched), labels_of(found))
    # None: the model as it is.
    drafting.control.change_annotation(None)
    ready = drafting.until(DraftReady)
    assert ready.learned == 0
    np.testing.assert_array_equal(labels_of(ready), as_it_is)
    drafting.close()
    expected.close()


def test_what_is_painted_there_is_scored(
    job: DraftJob, store: AnnotationStore, tmp_path: Path
) -> None:
    drafting = Drafting(job.model_copy(update={"annotation": None}))
    drafting.draft(SLICE)
    drafting.control.change_annotation(str(store.path))
    assert drafting.until(DraftReady).learned == 0
    store.write(HERE, np.full(HERE.shape, 2))
    assert drafting.learn(HERE).learned == 300
    assert drafting.until(StrokeScored).pixels == 300
    drafting.close()


def test_an_annotation_that_does_not_fit_is_warned_of(job: DraftJob, tmp_path: Path) -> None:
    infos = [ClassInfo(name=name, color="#000000") for name in NAMES]
    other = create_annotation_store(tmp_path / "other.zarr", (1, 5, 5), infos)
    drafting = Drafting(job)
    drafting.control.change_annotation(str(other.path))
    assert "does not fit the image" in drafting.until(Warned).message
    drafting.close()


def test_it_is_said_in_a_line() -> None:
    control = DraftControl()
    obey_draft(control, json.dumps({"command": "strokes", "boxes": [[[0, 0, 0], [1, 9, 9]]]}))
    obey_draft(control, json.dumps({"command": "annotation", "path": "strokes.zarr"}))
    wishes = control.take()
    # What has changed in the one before does not matter any more.
    assert (wishes.annotation, wishes.is_elsewhere, wishes.strokes) == ("strokes.zarr", True, [])
    obey_draft(control, json.dumps({"command": "annotation", "path": None}))
    assert (control.take().is_elsewhere, control.take().is_elsewhere) == (True, False)

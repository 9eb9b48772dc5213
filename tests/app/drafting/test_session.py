"""What a session does with wishes: strokes, classes, views, pauses, damage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.app.drafting.drafting import NAMES, SLICE, WHOLE, Drafting, labels_of

from napari_unet.app.drafting import stroke_cells
from napari_unet.app.drafting.head import HeadMaker
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.draft_events import DraftReady, DraftStopped, StrokeScored
from napari_unet.core.events import Paused, Warned
from napari_unet.errors import AnnotationError, ConfigError, StorageError
from napari_unet.io.annotation_store import create_annotation_store

if TYPE_CHECKING:
    from napari_unet.app.drafting.head import Head, StrokeFeatures
    from napari_unet.core.draft_job import DraftJob
    from napari_unet.io.annotation_store import AnnotationStore

HERE = Box((1, 20, 10), (2, 30, 40))


def paint(store: AnnotationStore, box: Box, label: int) -> None:
    store.write(box, np.full(box.shape, label))


def test_strokes_are_learnt_and_scored(drafting: Drafting, store: AnnotationStore) -> None:
    before = labels_of(drafting.draft(SLICE))[0, 20:30, 10:40]
    wrong = np.where(before == 1, 2, 1)
    store.write(HERE, wrong[None])
    ready = drafting.learn(HERE)
    now = labels_of(ready)[0, 20:30, 10:40]
    assert (ready.box, ready.learned, ready.classes) == (SLICE, 300, NAMES)
    assert 0 < ready.seconds < 60
    score = drafting.until(StrokeScored)
    assert score.pixels == 300
    assert score.right_before == 0
    # 150 of the 300 pixels are looked at for the score, in two cells.
    assert score.right_now == pytest.approx((now == wrong).mean(), abs=0.1)
    assert sum(count for count, _, _ in score.classes.values()) == 300
    assert (now == wrong).mean() > 0.55


def test_a_class_that_did_not_exist_a_moment_ago(
    drafting: Drafting, store: AnnotationStore
) -> None:
    drafting.draft(SLICE)
    paint(store, HERE, 3)
    drafting.control.change_classes([*NAMES, "class 3"], {})
    ready = drafting.learn(HERE)
    assert ready.classes[2] == "class 3"
    assert (labels_of(ready)[0, 20:30, 10:40] == 3).mean() > 0.9
    score = drafting.until(StrokeScored)
    assert score.classes["class 3"][:2] == (300, 0.0)
    assert score.right_now > 0.9


def test_what_is_erased_is_forgotten(drafting: Drafting, store: AnnotationStore) -> None:
    as_it_is = labels_of(drafting.draft(SLICE))
    paint(store, HERE, 1)
    assert drafting.learn(HERE).learned == 300
    paint(store, HERE, 0)
    ready = drafting.learn(HERE)
    assert ready.learned == 0
    np.testing.assert_array_equal(labels_of(ready), as_it_is)


def test_the_same_strokes_give_the_same_draft_in_any_order(
    job: DraftJob, store: AnnotationStore
) -> None:
    places = [Box((1, 5, 5), (2, 9, 40)), Box((1, 70, 30), (2, 80, 60)), HERE]
    found = []
    for order in (places, places[::-1]):
        for box in places:
            paint(store, box, 0)
        drafting = Drafting(job)
        drafting.draft(SLICE)
        for box in order:
            paint(store, box, places.index(box) % 2 + 1)
            ready = drafting.learn(box)
        found.append(labels_of(ready))
        drafting.close()
    np.testing.assert_array_equal(found[0], found[1])


def test_strokes_that_were_there_and_are_not_looked_at_are_learnt_later(
    job: DraftJob, store: AnnotationStore
) -> None:
    paint(store, Box((2, 10, 10), (3, 20, 60)), 2)
    drafting = Drafting(job)
    first = drafting.draft(SLICE)
    second = drafting.until(DraftReady)
    assert (first.learned, second.learned) == (0, 500)
    assert not any(isinstance(event, StrokeScored) for event in drafting.events)
    drafting.close()


def test_new_strokes_elsewhere_are_scored_when_their_features_are_known(
    drafting: Drafting, store: AnnotationStore
) -> None:
    drafting.draft(SLICE)
    there = Box((0, 10, 10), (1, 20, 60))
    paint(store, there, 2)
    assert drafting.learn(there).learned == 0
    score = drafting.until(StrokeScored)
    assert score.pixels == 500
    assert [event.learned for event in drafting.events if isinstance(event, DraftReady)][-1] == 500


def test_the_newest_view_is_drafted(drafting: Drafting) -> None:
    drafting.control.look_at(Box((0, 0, 0), (1, 90, 70)))
    ready = drafting.draft(Box((2, 10, 0), (3, 90, 70)))
    assert ready.box == Box((2, 10, 0), (3, 90, 70))
    drafting.control.look_at(Box((0, 500, 500), (1, 600, 600)))
    assert drafting.draft(SLICE).box == SLICE, "nothing of the image was looked at in between"


def test_strokes_on_an_image_that_is_rescaled(
    tmp_path: Path, job: DraftJob, store: AnnotationStore, model: str
) -> None:
    for factor in (0.6, 1.7):
        drafting = Drafting(job.model_copy(update={"rescale": factor}))
        drafting.draft(SLICE)
        paint(store, HERE, 2)
        ready = drafting.learn(HERE)
        assert ready.learned == 300
        assert (labels_of(ready)[0, 20:30, 10:40] == 2).mean() > 0.7
        paint(store, HERE, 0)
        drafting.close()


def test_pause_and_stop(drafting: Drafting) -> None:
    drafting.control.pause()
    drafting.control.look_at(SLICE)
    assert drafting.until(Paused).paused
    drafting.control.resume()
    assert drafting.until(DraftReady).box == SLICE
    assert Paused(False) in drafting.events
    drafting.control.stop()
    assert drafting.until(DraftStopped).drafts == 1


def test_classes_that_cannot_be_are_warned_of(drafting: Drafting) -> None:
    drafting.draft(SLICE)
    drafting.control.change_classes(NAMES, {"nothing": "class 1"})
    assert "cannot be renamed" in drafting.until(Warned).message
    assert drafting.draft(SLICE).classes == NAMES


def test_renumbered_labels_are_read_anew(drafting: Drafting, store: AnnotationStore) -> None:
    drafting.draft(SLICE)
    paint(store, HERE, 1)
    drafting.learn(HERE)
    drafting.until(StrokeScored)
    paint(store, HERE, 2)
    drafting.control.change_classes(NAMES[::-1], {})
    ready = drafting.until(DraftReady)
    assert (ready.classes, ready.learned) == (NAMES[::-1], 300)
    assert (labels_of(ready)[0, 20:30, 10:40] == 2).mean() > 0.7
    assert sum(isinstance(event, StrokeScored) for event in drafting.events) == 1


def test_an_annotation_may_come_later(job: DraftJob, tmp_path: Path) -> None:
    path = tmp_path / "later.zarr"
    drafting = Drafting(job.model_copy(update={"annotation": str(path)}))
    assert drafting.draft(SLICE).learned == 0
    classes = [ClassInfo(name=name, color="#000000") for name in NAMES]
    paint(create_annotation_store(path, WHOLE.shape, classes), HERE, 1)
    assert drafting.learn(HERE).learned == 300
    drafting.close()


def test_labels_of_no_class_are_not_learnt(drafting: Drafting, store: AnnotationStore) -> None:
    drafting.draft(SLICE)
    paint(store, HERE, 3)
    assert drafting.learn(HERE).learned == 0


def test_a_damaged_part_of_the_image_is_left_out(
    job: DraftJob, stack_path: str, store: AnnotationStore
) -> None:
    drafting = Drafting(job)
    (Path(stack_path) / "c/2/2/2").write_bytes(b"damaged")
    ready = drafting.draft(Box((2, 0, 0), (3, 90, 70)))
    warnings = [event.message for event in drafting.events if isinstance(event, Warned)]
    assert any("c/2/2/2" in message for message in warnings)
    # The mirrored halo of a small image reaches everywhere.
    assert (labels_of(ready) == 0).any()
    paint(store, Box((2, 80, 60), (3, 85, 70)), 1)
    assert drafting.learn(Box((2, 80, 60), (3, 85, 70))).learned == 0
    assert drafting.draft(SLICE).box == SLICE
    assert (labels_of(drafting.draft(SLICE)) > 0).all()
    drafting.close()


def test_many_painted_pixels_are_thinned_out(
    job: DraftJob, store: AnnotationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stroke_cells, "MAX_ROWS", 60)
    fitted, fit = [], HeadMaker.fit

    def keep(maker: HeadMaker, start: Head, strokes: StrokeFeatures) -> Head:
        fitted.append(strokes)
        return fit(maker, start, strokes)

    monkeypatch.setattr(HeadMaker, "fit", keep)
    drafting = Drafting(job)
    drafting.draft(SLICE)
    store.write(SLICE, np.tile([1, 2], (1, 90, 35)))
    assert drafting.learn(SLICE).learned == 90 * 70
    (found,) = fitted
    assert 30 <= len(found.rows) <= 60
    assert found.total == 90 * 70
    counts = np.bincount(found.labels.numpy())
    assert counts[0] == counts[1], "each class and each cell gives as many"
    drafting.close()


def test_what_is_painted_does_not_join_as_unpainted(
    job: DraftJob, store: AnnotationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, fit = [], HeadMaker.fit

    def keep(maker: HeadMaker, start: Head, strokes: StrokeFeatures) -> Head:
        fitted.append(strokes)
        return fit(maker, start, strokes)

    monkeypatch.setattr(HeadMaker, "fit", keep)
    drafting = Drafting(job)
    drafting.draft(SLICE)
    # Of the cell at the corner, 8 x 8 pixels stand for what is not painted.
    for box, left in ((Box((1, 0, 0), (2, 3, 64)), 64), (Box((1, 0, 0), (2, 32, 64)), 32)):
        paint(store, box, 1)
        drafting.learn(box)
        unpainted = fitted[-1].unpainted
        assert unpainted is not None
        assert len(unpainted) == left
    paint(store, Box((1, 0, 0), (2, 64, 64)), 2)
    assert drafting.learn(Box((1, 0, 0), (2, 64, 64))).learned == 64 * 64
    assert fitted[-1].unpainted is not None
    assert not len(fitted[-1].unpainted)
    monkeypatch.setattr(stroke_cells, "MAX_UNPAINTED", 20)
    paint(store, SLICE, 0)
    paint(store, HERE, 1)
    drafting.learn(SLICE)
    assert 10 <= len(fitted[-1].unpainted) <= 20
    drafting.close()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"folder": "nowhere"}, StorageError, "no such folder"),
        ({"rename": {"x": "y"}}, ConfigError, "cannot be renamed"),
        ({"level": 3}, Exception, "level"),
    ],
)
def test_what_cannot_be_begun(
    job: DraftJob, change: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Drafting(job.model_copy(update=change))


def test_an_annotation_of_another_image_is_refused(job: DraftJob, tmp_path: Path) -> None:
    classes = [ClassInfo(name=name, color="#000000") for name in NAMES]
    other = create_annotation_store(tmp_path / "other.zarr", (1, 5, 5), classes)
    with pytest.raises(AnnotationError, match="does not fit the image"):
        Drafting(job.model_copy(update={"annotation": str(other.path)}))


def test_nothing_but_drafts_is_written(
    drafting: Drafting, job: DraftJob, store: AnnotationStore
) -> None:
    for k in range(6):
        paint(store, HERE, k % 2 + 1)
        drafting.draft(SLICE)
        drafting.learn(HERE)
    names = sorted(path.name for path in Path(job.folder).iterdir())
    assert names == [f"draft-{k}.npy" for k in range(4)]

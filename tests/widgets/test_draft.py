"""The draft in a real viewer, over an engine that speaks the protocol and no more."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_unet.core.boxes import Box
from napari_unet.core.draft_events import DraftReady
from napari_unet.core.train_events import PreviewReady
from napari_unet.io.annotation_store import open_annotation_store
from napari_unet.io.image import open_image
from napari_unet.io.selection import Selection
from napari_unet.widgets import _image_copy
from napari_unet.widgets._annotation_layer import can_be_painted, strokes_path
from napari_unet.widgets._before_key import KEY, BeforeKey
from napari_unet.widgets._preview import PreviewLayer

if TYPE_CHECKING:
    from pathlib import Path


def told(log: Path, command: str | None = None) -> list[dict[str, Any]]:
    """Return what fake engines were told: all lines, or those of one command; jobs have none."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [line for line in lines if line.get("command") == command]


@pytest.fixture
def drafting(make_fine_tune: Any, user: Any, stored_stack: Any) -> Any:
    """Return a function that opens the panel over an image, and waits for a draft of the view."""

    def make(mode: str = "good", data: Any = None, drafts: str = "good", **options: Any) -> Any:
        dock = make_fine_tune(mode, drafts=drafts, show=True)
        viewer = dock.panel._viewer
        viewer.add_image(stored_stack if data is None else data, name="em", **options)
        if drafts in ("good", "crashes"):
            user.wait_until(lambda: "draft" in viewer.layers)
        return dock

    return make


def annotate(user: Any, dock: Any, log: Path) -> Any:
    """Return a new annotation layer, once an engine knows it."""
    form = dock.fine_tune.form
    user.click(form.new_button)
    place = str(strokes_path(form.annotation))
    user.wait_until(lambda: place in painted_into(log))
    return form.annotation


def painted_into(log: Path) -> list[str]:
    """Return the annotations that engines were told of."""
    told_at_once = [job["annotation"] for job in told(log)]
    return told_at_once + [line["path"] for line in told(log, "annotation")]


def dab(layer: Any, label: int = 2, place: tuple[int, ...] = (1, 60, 90)) -> None:
    layer.paint(place[-layer.ndim :], label)


def test_the_view_is_predicted_before_anything_is_painted(
    user: Any, drafting: Any, draft_log: Path
) -> None:
    dock = drafting(scale=(40, 8, 8), translate=(7, 100, -50))
    panel, viewer = dock.fine_tune, dock.panel._viewer
    draft = viewer.layers["draft"]
    (job,) = told(draft_log)
    assert (job["model"], job["classes"]) == ("fake", ["interior", "membrane"])
    assert job["annotation"] is None
    box = told(draft_log, "viewport")[-1]["box"]
    np.testing.assert_allclose(
        draft.translate, np.add(np.multiply(box[0], (40, 8, 8)), (7, 100, -50))
    )
    assert draft.data.shape == tuple(b - a for a, b in zip(*box, strict=True))
    assert (draft.data == 1).all()
    assert not draft.editable
    assert not can_be_painted(draft)
    assert draft.get_color(1) == pytest.approx((0x3B / 255, 0x6F / 255, 0xB6 / 255, 1))
    assert "as the model sees it" in panel.drafting.draft_label.text()
    # The same view again, somewhere else.
    viewer.dims.set_point(0, 7 + 2 * 40)
    user.wait_until(lambda: viewer.layers["draft"].translate[0] == 7 + 2 * 40)
    assert len(told(draft_log)) == 1


def test_a_stroke_is_learnt_scored_and_leaves_strokes_alone(
    user: Any, drafting: Any, draft_log: Path
) -> None:
    dock = drafting()
    panel, viewer = dock.fine_tune, dock.panel._viewer
    labels = annotate(user, dock, draft_log)
    viewer.fit_to_view()
    user.choose_class(dock, "membrane")
    user.paint(dock, [(75, x) for x in range(60, 100, 4)])
    user.wait_until(lambda: bool(told(draft_log, "strokes")))
    painted = labels.data[:].copy()
    assert (painted == 2).any()
    user.wait_until(lambda: (viewer.layers["draft"].data == 2).all())
    # The engine that was there is told where; it does not begin anew.
    assert len(told(draft_log)) == 1
    # What the engine is told to read is on disk.
    boxes = [Box(tuple(a), tuple(b)) for a, b in told(draft_log, "strokes")[-1]["boxes"]]
    store = open_annotation_store(painted_into(draft_log)[-1])
    assert any((store.read(box) == 2).any() for box in boxes)
    np.testing.assert_array_equal(labels.data[:], painted)
    words = panel.drafting.score_label.text()
    assert words == "Your stroke: right on 71 % before, 88 % now"
    assert "membrane: 71 % before, 88 % now" in panel.drafting.score_label.toolTip()
    assert "Draft from 40 painted pixels" in panel.drafting.draft_label.text()
    # The brush stays in hand, and the draft lies under the strokes.
    assert viewer.layers.selection.active is labels
    assert labels.mode == "paint"
    assert viewer.layers.index("draft") < viewer.layers.index(labels)


def test_while_the_brush_is_down_nothing_is_repainted(
    user: Any, drafting: Any, draft_log: Path, tmp_path: Path, qtbot: Any
) -> None:
    dock = drafting()
    drafter, viewer = dock.fine_tune.drafting.drafter, dock.panel._viewer
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    assert drafter.is_painting
    draft = viewer.layers["draft"]
    shape = (1, *draft.data.shape[-2:])
    np.save(tmp_path / "new.npy", np.full(shape, 2, np.uint8))
    start = tuple(int(n) for n in draft.translate)
    box = Box(start, tuple(a + n for a, n in zip(start, shape, strict=True)))
    drafter.runner.reported.emit(DraftReady(str(tmp_path / "new.npy"), box, 9, 0.1))
    assert (draft.data == 1).all()
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    assert not drafter.is_painting
    assert (draft.data == 2).all()


def test_a_class_that_is_added_reaches_the_draft_at_once(
    user: Any, drafting: Any, draft_log: Path
) -> None:
    dock = drafting()
    panel, viewer = dock.fine_tune, dock.panel._viewer
    labels = annotate(user, dock, draft_log)
    user.click(panel.form.classes.add_button)
    panel.form.classes.table.item(2, 1).setText("mitochondrion")
    panel.form.classes.table.item(0, 1).setText("cell")
    user.wait_until(lambda: bool(told(draft_log, "classes")))
    user.wait_until(
        lambda: told(draft_log, "classes")[-1]["classes"] == ["cell", "membrane", "mitochondrion"]
    )
    assert told(draft_log, "classes")[-1]["rename"] == {"interior": "cell"}
    jobs = len(told(draft_log))
    dab(labels, 3)
    user.wait_until(lambda: (viewer.layers["draft"].data == 3).all())
    np.testing.assert_allclose(viewer.layers["draft"].get_color(3), labels.get_color(3))
    # It is told; it does not begin anew.
    assert len(told(draft_log)) == jobs


def test_an_engine_that_dies_starts_again_with_the_next_stroke(
    user: Any, drafting: Any, draft_log: Path
) -> None:
    dock = drafting(drafts="crashes")
    panel = dock.fine_tune
    labels = annotate(user, dock, draft_log)
    dab(labels)
    label = panel.drafting.draft_label
    user.wait_until(lambda: "ended unexpectedly" in label.text())
    assert "RuntimeError: the features have melted" in label.text()
    assert "starts again with your next stroke; your strokes are untouched" in label.text()
    painted = labels.data[:].copy()
    jobs = len(told(draft_log))
    dab(labels, place=(1, 30, 30))
    user.wait_until(lambda: len(told(draft_log)) == jobs + 1)
    assert (labels.data[:] == painted)[painted > 0].all()


def test_an_engine_that_is_killed_is_said_so(user: Any, drafting: Any, draft_log: Path) -> None:
    dock = drafting()
    os.kill(dock.fine_tune.drafting.drafter.runner.process_id, signal.SIGKILL)
    label = dock.fine_tune.drafting.draft_label
    user.wait_until(lambda: "ran out of memory" in label.text())
    # What was drafted can still be seen.
    assert "draft" in dock.panel._viewer.layers


@pytest.mark.parametrize(
    ("drafts", "words"),
    [
        ("refuses", "No draft: the model has three channels, the image one"),
        ("stillborn", "No draft: the engine could not start: ImportError: no module named torch"),
    ],
)
def test_what_cannot_be_drafted_is_said(user: Any, drafting: Any, drafts: str, words: str) -> None:
    dock = drafting(drafts=drafts)
    user.wait_until(lambda: dock.fine_tune.drafting.draft_label.text() == words)
    assert "draft" not in dock.panel._viewer.layers


def test_a_fine_tune_has_the_processor_and_the_view_to_itself(
    user: Any, drafting: Any, draft_log: Path
) -> None:
    dock = drafting("previews")
    panel, viewer = dock.fine_tune, dock.panel._viewer
    labels = annotate(user, dock, draft_log)
    labels.data[1, 10:12, 20:60] = 1
    labels.data[1, 50:52, 20:60] = 2
    viewer.dims.set_point(0, 1)
    user.click(panel.fine_tune_button)
    user.wait_until(lambda: bool(told(draft_log, "pause")))
    user.wait_until(lambda: "preview" in viewer.layers)
    assert not viewer.layers["draft"].visible
    user.click(panel.stop_button)
    user.wait_until(lambda: not panel.is_running)
    assert not viewer.layers["draft"].visible
    user.click(panel.outcome.revert_button)
    assert viewer.layers["draft"].visible
    assert "preview" not in viewer.layers
    user.wait_until(lambda: bool(told(draft_log, "resume")))


def test_a_key_that_is_held_shows_the_labels_before(
    user: Any, drafting: Any, draft_log: Path, qtbot: Any
) -> None:
    dock = drafting()
    panel, viewer = dock.fine_tune, dock.panel._viewer
    labels = annotate(user, dock, draft_log)
    dab(labels)
    draft = viewer.layers["draft"]
    user.wait_until(lambda: (draft.data == 2).all())
    assert panel.drafting.key_label.isVisibleTo(panel)
    canvas = viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    key = getattr(Qt.Key, f"Key_{KEY}")
    qtbot.keyPress(canvas, key)
    assert (draft.data == 1).all()
    # What comes meanwhile waits behind it.
    dab(labels, place=(1, 20, 20))
    user.wait_until(lambda: len(told(draft_log, "strokes")) == 2)
    assert (draft.data == 1).all()
    qtbot.keyRelease(canvas, key)
    user.wait_until(lambda: (draft.data == 2).all())
    # Whoever types means the letter.
    panel.outcome.show()
    name = panel.outcome.name
    name.setFocus()
    qtbot.keyPress(name, key)
    assert name.text() == KEY.lower()
    assert (draft.data == 2).all()
    panel.outcome.hide()
    viewer.window.remove_dock_widget(dock)
    user.wait_until(lambda: not panel.drafting.key.is_bound)
    qtbot.keyPress(canvas, key)
    assert labels.data[:].any()


def test_the_key_is_left_to_whoever_has_it(make_napari_viewer: Any) -> None:
    viewer = ViewerModel()
    asked: list[bool] = []
    viewer.bind_key(KEY, lambda _: None)
    before = BeforeKey(viewer, asked.append)
    before.bind()
    assert not before.is_bound
    viewer.bind_key(KEY, None)
    before.bind()
    assert before.is_bound
    before.unbind()
    assert not viewer.keymap


def test_an_image_in_memory_is_copied_once_for_all_engines(
    user: Any, drafting: Any, draft_log: Path, stack: Any, temporary_root: Path
) -> None:
    dock = drafting(data=stack)
    panel = dock.fine_tune
    (job,) = told(draft_log)
    copy = open_image(job["input"], Selection(axes="zyx"))
    np.testing.assert_array_equal(copy.read(Box.of_shape(stack.shape))[0], stack)
    copy.close()
    labels = annotate(user, dock, draft_log)
    labels.data[1, 10:12, 20:60] = 1
    labels.data[1, 50:52, 20:60] = 2
    assert len(told(draft_log)) == 1
    assert user.fine_tune_and_wait(dock).startswith("6 steps")
    run = panel._last_run._folder.path
    twin = next(path for path in run.rglob("*") if path.is_file() and "image" in path.parts)
    assert twin.stat().st_nlink == 2
    # The run keeps its own when the panel closes.
    dock.panel._viewer.window.remove_dock_widget(dock)
    user.wait_until(lambda: not panel.drafting.drafter.is_drafting)
    assert list(temporary_root.glob("napari-unet-*")) == []
    assert twin.stat().st_nlink == 1


def test_large_images_in_memory_are_not_copied_unasked(
    user: Any, drafting: Any, stack: Any, monkeypatch: pytest.MonkeyPatch, temporary_root: Path
) -> None:
    monkeypatch.setattr(_image_copy, "UNASKED_BYTES", stack.nbytes - 1)
    dock = drafting(data=stack, drafts="refuses")
    label = dock.fine_tune.drafting.draft_label
    user.wait_until(lambda: "exists only in memory and is larger than" in label.text())
    assert list(temporary_root.glob("napari-unet-images*")) == []


def test_other_choices_start_another_engine_and_none_is_left(
    user: Any, drafting: Any, draft_log: Path
) -> None:
    dock = drafting()
    panel, viewer = dock.fine_tune, dock.panel._viewer
    drafter = panel.drafting.drafter
    first = drafter.runner.process_id
    panel.form.options.device_combo.setCurrentText("cpu")
    user.wait_until(lambda: len(told(draft_log)) == 2)
    assert told(draft_log)[-1]["device"] == "cpu"
    assert not user.is_alive(first)
    user.wait_until(lambda: "draft" in viewer.layers)
    assert panel.drafting.key.is_bound
    panel.form.model_combo.setCurrentText("New model")
    assert "draft" not in viewer.layers
    assert not panel.drafting.key.is_bound
    assert not panel.drafting.key_label.isVisibleTo(panel)
    second = drafter.runner.process_id
    viewer.window.remove_dock_widget(dock)
    user.wait_until(lambda: not user.is_alive(second))


def test_before_is_known_where_it_was_seen(tmp_path: Path) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((40, 50)))
    preview = PreviewLayer(viewer, image, None, [("a", "#ff0000"), ("b", "#00ff00")], "draft")

    def ready(label: int, box: Box, learned: int, classes: tuple[str, ...] = ()) -> None:
        path = tmp_path / "d.npy"
        np.save(path, np.full(box.shape, label, np.uint8))
        preview.show(DraftReady(str(path), box, learned, 0.1, classes))

    here, there = Box((0, 0, 0), (1, 8, 8)), Box((0, 8, 8), (1, 16, 16))
    ready(1, here, 0)
    ready(2, here, 30)
    layer: Any = preview.layer
    preview.show_before(True)
    assert (layer.data == 1).all()
    preview.show_before(False)
    assert (layer.data == 2).all()
    # Where nothing is known of before, the bare image is what there was.
    ready(2, there, 30)
    preview.show_before(True)
    assert not layer.visible
    preview.show_before(False)
    assert layer.visible
    # Numbers of other times are read by their names.
    ready(2, here, 30, ("x", "a"))
    assert (layer.data == 1).all()
    ready(1, here, 30, ("x", "a"))
    assert not layer.data.any()
    old, new = tmp_path / "old.npy", tmp_path / "new.npy"
    np.save(old, np.full(here.shape, 1, np.uint8))
    np.save(new, np.full(here.shape, 2, np.uint8))
    preview.show(PreviewReady(5, str(new), here, str(old)))
    preview.show_before(True)
    assert (layer.data == 1).all()
    preview.show_before(False)
    assert (layer.data == 2).all()


def test_strokes_of_before_are_offered(user: Any, drafting: Any, draft_log: Path) -> None:
    dock = drafting()
    panel, viewer = dock.fine_tune, dock.panel._viewer
    assert not panel.form.open_button.isVisibleTo(panel)
    labels = annotate(user, dock, draft_log)
    dab(labels)
    user.wait_until(lambda: bool(told(draft_log, "strokes")))
    painted = labels.data[:].copy()
    assert not panel.form.open_button.isVisibleTo(panel)
    viewer.layers.remove(labels)
    assert panel.form.open_button.isVisibleTo(panel)
    assert panel.form.open_button.text().startswith("Open strokes of ")
    user.click(panel.form.open_button)
    assert panel.form.annotation is not labels
    np.testing.assert_array_equal(panel.form.annotation.data[:], painted)
    assert not panel.form.open_button.isVisibleTo(panel)

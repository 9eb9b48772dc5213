"""The page Fine-tune in a real viewer, over a trainer that speaks the protocol and no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog

from napari_unet.app.models import list_models, own_models_folder
from napari_unet.core.boxes import Box
from napari_unet.io.annotation_store import open_annotation_store
from napari_unet.io.image import open_image
from napari_unet.io.selection import Selection
from napari_unet.widgets import _form, _train_form
from napari_unet.widgets.dock import MINIMUM_WIDTH

CLASSES = ("interior", "membrane")


def annotation_of(dock: Any) -> Any:
    return next(x for x in dock.panel._viewer.layers if x.name.startswith("annotation"))


@pytest.fixture
def ready(make_fine_tune: Any, user: Any, stored_stack: Any) -> Any:
    """Return a function that opens the panel over an image with one stroke of each class."""

    def make(mode: str = "good", data: Any = None) -> Any:
        dock = make_fine_tune(mode)
        dock.panel._viewer.add_image(stored_stack if data is None else data, name="em")
        user.click(dock.fine_tune.form.new_button)
        labels = annotation_of(dock)
        plane = labels.data if labels.ndim == 2 else labels.data[1]
        plane[10:12, 20:60] = 1
        plane[50:52, 20:60] = 2
        return dock

    return make


def job_of(dock: Any) -> Any:
    folder = dock.fine_tune._last_run or dock.fine_tune._run
    return json.loads((folder._folder.run / "job.json").read_text())


def test_the_second_page_is_made_when_it_is_looked_at(
    user: Any, make_dock: Any, make_fine_tune: Any
) -> None:
    dock = make_dock()
    assert dock.fine_tune is None
    assert [dock.pages.tabText(k) for k in range(2)] == ["Segment", "Fine-tune"]
    dock = make_fine_tune()
    panel = dock.fine_tune
    assert panel is not None
    user.wait_until(lambda: panel.runner.is_warm)
    pid = panel.runner.process_id
    dock.pages.setCurrentIndex(0)
    dock.pages.setCurrentIndex(1)
    assert dock.fine_tune is panel
    dock.panel._viewer.window.remove_dock_widget(dock)
    user.wait_until(lambda: not user.is_alive(pid))


def test_a_new_annotation_lies_on_its_image(user: Any, make_fine_tune: Any, stack: Any) -> None:
    dock = make_fine_tune()
    viewer = dock.panel._viewer
    image = viewer.add_image(stack, name="em", scale=(40, 8, 8), translate=(4, 5, 6))
    image.units = ("nanometer",) * 3
    user.click(dock.fine_tune.form.new_button)
    labels = annotation_of(dock)
    assert labels.name == "annotation of em"
    assert (labels.data.shape, labels.data.dtype) == (stack.shape, np.uint8)
    np.testing.assert_array_equal(labels.extent.world, image.extent.world)
    assert labels.units == image.units
    assert list(labels.features["class"]) == list(CLASSES)
    np.testing.assert_allclose(labels.get_color(2), (0xE8 / 255, 0xA3 / 255, 0x3D / 255, 1))
    # Ready to paint: the layer, the brush and the first class are chosen.
    assert viewer.layers.selection.active is labels
    assert (labels.mode, labels.selected_label) == ("paint", 1)
    assert dock.fine_tune.form.annotation is labels


def test_the_page_fits_into_a_narrow_dock(make_fine_tune: Any) -> None:
    dock = make_fine_tune()
    panel = dock.fine_tune
    panel._open_curves().restart({})
    panel.outcome.show()
    # With the page's frame and the scroll bar.
    assert panel.minimumSizeHint().width() <= MINIMUM_WIDTH - 20


def test_strokes_of_the_mouse_are_labels_of_the_chosen_class(
    user: Any, make_fine_tune: Any, stack: Any
) -> None:
    dock = make_fine_tune(show=True)
    viewer = dock.panel._viewer
    viewer.add_image(stack, name="em", scale=(40, 8, 8), translate=(0, 100, -50))
    user.click(dock.fine_tune.form.new_button)
    labels = annotation_of(dock)
    viewer.dims.set_point(0, 2 * 40)
    viewer.fit_to_view()
    user.choose_class(dock, "membrane")
    assert labels.selected_label == 2
    user.paint(dock, [(100 + 8 * 30, -50 + 8 * x) for x in range(40, 80, 4)])
    user.choose_class(dock, "interior")
    user.paint(dock, [(100 + 8 * 90, -50 + 8 * x) for x in range(40, 80, 4)])
    assert not labels.data[:2].any()
    for label, row in ((2, 30), (1, 90)):
        rows, columns = np.nonzero(labels.data[2] == label)
        half = labels.brush_size / 2 + 1
        assert row - half <= rows.min() <= row <= rows.max() <= row + half
        assert 40 - half <= columns.min() < 42
        assert 74 < columns.max() <= 76 + half
    # The other way around: what is chosen in napari is chosen in the table.
    labels.selected_label = 2
    assert dock.fine_tune.form.classes.label == 2


def test_without_an_image_there_is_nothing_to_paint_on(user: Any, make_fine_tune: Any) -> None:
    dock = make_fine_tune()
    user.click(dock.fine_tune.form.new_button)
    assert "no image layer" in dock.fine_tune.message.toPlainText()


def test_classes_are_added_renamed_colored_and_removed(
    user: Any, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = ready()
    form, labels = dock.fine_tune.form, annotation_of(dock)
    user.click(form.classes.add_button)
    assert labels.selected_label == 3
    form.classes.table.item(2, 1).setText("mitochondrion")
    assert form.hint.text() == "New to fake: mitochondrion; paint some of it."
    form.classes.table.item(0, 1).setText(" cell ")
    assert list(labels.features["class"]) == ["cell", "membrane", "mitochondrion"]
    form.classes.table.item(0, 1).setText("membrane")
    assert "there is a class 'membrane' already" in dock.fine_tune.message.toPlainText()
    form.classes.table.item(0, 1).setText(" ")
    assert "cannot be a class name" in dock.fine_tune.message.toPlainText()
    assert form.classes.table.item(0, 1).text() == "cell"
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#123456"))
    form.classes.table.cellDoubleClicked.emit(1, 0)
    np.testing.assert_allclose(labels.get_color(2), (0x12 / 255, 0x34 / 255, 0x56 / 255, 1))
    labels.data[0, :5] = 3
    before = labels.data.copy()
    form.classes.table.setCurrentCell(1, 1)
    user.click(form.classes.remove_button)
    np.testing.assert_array_equal(labels.data, np.array([0, 1, 0, 2])[before])
    assert list(labels.features["class"]) == ["cell", "mitochondrion"]
    assert labels.selected_label == form.classes.label == 2
    assert form.hint.text().endswith("fake forgets: membrane.")
    # What could be undone was painted with other numbers.
    labels.undo()
    np.testing.assert_array_equal(labels.data, np.array([0, 1, 0, 2])[before])
    assert user.fine_tune_and_wait(dock).startswith("6 steps")
    job = job_of(dock)
    assert job["classes"] == ["cell", "mitochondrion"]
    assert job["rename"] == {"interior": "cell"}
    assert (job["colors"]["cell"], job["parent"]) == ("#3b6fb6", "fake")


@pytest.mark.parametrize("kind", ["stored", "in memory", "plane"])
def test_the_trainer_gets_the_strokes_and_the_image(
    user: Any, ready: Any, stack: Any, stored_stack: Any, kind: str
) -> None:
    dock = ready(data={"stored": None, "in memory": stack, "plane": stack[1]}[kind])
    dock.fine_tune.form.options.minutes.setValue(0.5)
    painted = annotation_of(dock).data.copy()
    user.fine_tune_and_wait(dock)
    job = job_of(dock)
    store = open_annotation_store(job["labels"][0])
    shape = stack[1:2].shape if kind == "plane" else stack.shape
    assert store.shape == shape
    np.testing.assert_array_equal(store.read(Box.of_shape(shape)), painted.reshape(shape))
    assert store.class_names == CLASSES
    image = open_image(job["images"][0], Selection(axes=job["axes"]))
    np.testing.assert_array_equal(
        image.read(Box.of_shape(shape))[0], stack[1:2] if kind == "plane" else stack
    )
    assert (kind == "stored") == (job["images"] == [str(stored_stack.store.root)])
    assert (job["label_kind"], job["minutes"], job["validation"]) == ("annotation", 0.5, "auto")


def test_curves_scores_keep(
    user: Any, ready: Any, user_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = ready()
    panel = dock.fine_tune
    words = user.fine_tune_and_wait(dock)
    assert words == "6 steps in 2 s; the weights of step 4 are the best. That was all."
    assert panel.curves.steps == [1, 2, 3, 4, 5, 6]
    assert panel.curves.losses[3] == 0.25
    assert panel.curves.scores["f1/membrane"] == [(2, 0.2), (4, 0.4), (6, 0.6)]
    panel.curves.draw()
    loss, scores = panel.curves.plot.plots
    np.testing.assert_array_equal(loss.lines[0].x, [1, 2, 3, 4, 5, 6])
    # F1, and IoU dotted, in the color of the class; one name for both.
    assert [line.name for line in scores.lines] == ["membrane", "membrane, IoU"]
    assert {line.color for line in scores.lines} == {"#e8a33d"}
    assert panel.curves.plot.names() == ["loss, held out", "membrane"]
    arrow = "\N{RIGHTWARDS ARROW}"
    assert panel.outcome.verdict.text() == (
        f"Better: mean F1 0.71 {arrow} 0.82 on 12 judging blocks; 95 % interval of the difference "
        "+0.05 to +0.17."
    )
    assert "membrane</td><td align='right'>0.71</td><td align='right'>0.82" in (
        panel.outcome.scores.text()
    )
    # Until it is decided there is no other.
    assert not panel.fine_tune_button.isEnabled()
    monkeypatch.setattr(_form, "list_models", list_models)
    monkeypatch.setattr(_train_form, "list_models", list_models)
    assert panel.outcome.name.text() == "fake-2"
    panel.outcome.name.setText("em-membranes")
    user.click(panel.outcome.keep_button)
    assert "there is already a model 'em-membranes'" in panel.message.toPlainText()
    panel.outcome.name.setText("my tissue")
    user.click(panel.outcome.keep_button)
    assert "cannot be a model's name" in panel.message.toPlainText()
    panel.outcome.name.setText("my-tissue")
    user.click(panel.outcome.keep_button)
    assert panel.message.toPlainText().startswith("Kept as my-tissue")
    assert (own_models_folder() / "my-tissue.safetensors").is_file()
    assert dock.panel.form.model_combo.currentText() == "my-tissue"
    assert dock.panel.form.choices().model.name == "my-tissue"
    assert panel.form.model_combo.findText("my-tissue") >= 0
    assert panel.fine_tune_button.isEnabled()
    # The log stays.
    assert len(list(user_folders.glob("*/run/job.json"))) == 1


def test_revert_deletes_the_run_only(user: Any, ready: Any, user_folders: Path) -> None:
    dock = ready()
    painted = annotation_of(dock).data.copy()
    user.fine_tune_and_wait(dock)
    assert len(list(user_folders.iterdir())) == 1
    user.click(dock.fine_tune.outcome.revert_button)
    assert list(user_folders.iterdir()) == []
    assert not dock.fine_tune.outcome.is_open
    np.testing.assert_array_equal(annotation_of(dock).data, painted)
    assert user.fine_tune_and_wait(dock).startswith("6 steps")


def test_without_judging_blocks_nothing_is_claimed(user: Any, ready: Any) -> None:
    dock = ready("unjudged")
    user.fine_tune_and_wait(dock)
    assert dock.fine_tune.outcome.verdict.text() == (
        "Runs without a claim: nothing was judged. There are too few strokes to hold any out."
    )
    assert not dock.fine_tune.outcome.scores.isVisibleTo(dock.fine_tune)


def test_stop_keeps_the_best(user: Any, ready: Any) -> None:
    dock = ready("stops")
    panel = dock.fine_tune
    user.click(panel.fine_tune_button)
    user.wait_until(lambda: "Step 3" in panel.progress_label.text())
    assert "9 s left" in panel.progress_label.text()
    assert not panel.fine_tune_button.isEnabled()
    user.click(panel.stop_button)
    user.wait_until(lambda: not panel.is_running)
    assert panel.outcome.is_open


def test_a_crash_loses_nothing(user: Any, ready: Any) -> None:
    dock = ready("crashes")
    painted = annotation_of(dock).data.copy()
    words = user.fine_tune_and_wait(dock)
    assert "ended unexpectedly (exit code 1)" in words
    assert "RuntimeError: the disk has melted" in words
    assert "Your strokes are untouched. What was learnt is kept in" in words
    assert Path(words.rsplit(" in ", 1)[1].rstrip(".")).joinpath("best.pt").exists()
    np.testing.assert_array_equal(annotation_of(dock).data, painted)
    assert not dock.fine_tune.outcome.is_open
    assert dock.fine_tune.fine_tune_button.isEnabled()
    user.wait_until(lambda: dock.fine_tune.runner.is_warm)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("fails", "a stroke is alone: paint some more"),
        ("stillborn", "The engine could not start: ImportError: no module named torch"),
    ],
)
def test_errors_are_readable(
    user: Any, ready: Any, user_folders: Path, mode: str, words: str
) -> None:
    dock = ready(mode)
    assert words in user.fine_tune_and_wait(dock)
    assert any(words in record.message for record in notification_manager.records)
    # Without weights there is nothing to keep.
    assert list(user_folders.iterdir()) == []


def test_a_warning_stays_to_be_read(user: Any, ready: Any) -> None:
    dock = ready("warns")
    assert "the voxel size is far" in user.fine_tune_and_wait(dock)


def test_what_cannot_be_learnt_from_is_refused(
    user: Any, ready: Any, stack: Any, user_folders: Path
) -> None:
    dock = ready()
    form, labels = dock.fine_tune.form, annotation_of(dock)
    user.click(form.classes.add_button)
    assert "nothing is painted of class 3" in user.fine_tune_and_wait(dock)
    labels.data[:] = 0
    assert "nothing is painted; choose a class" in user.fine_tune_and_wait(dock)
    labels.data[0, 0, 0] = 9
    assert "9" in user.fine_tune_and_wait(dock)
    for _ in range(2):
        user.click(form.classes.remove_button)
    assert "there is only one class, 'interior'" in user.fine_tune_and_wait(dock)
    dock.panel._viewer.add_image(stack[:, :70], name="other")
    form.image_combo.setCurrentText("other")
    user.click(form.classes.add_button)
    assert "does not fit the image 'other'" in user.fine_tune_and_wait(dock)
    dock.panel._viewer.layers.remove(labels)
    assert "press 'New annotation layer'" in user.fine_tune_and_wait(dock)
    assert list(user_folders.iterdir()) == []


def test_a_model_can_start_from_nothing(user: Any, make_fine_tune: Any, stack: Any) -> None:
    dock = make_fine_tune()
    form = dock.fine_tune.form
    form.model_combo.setCurrentText("New model")
    dock.panel._viewer.add_image(stack, name="em")
    form.classes.table.item(1, 1).setText("nucleus")
    user.click(form.new_button)
    labels = annotation_of(dock)
    labels.data[0, :20] = 1
    assert "nothing is painted of nucleus" in user.fine_tune_and_wait(dock)
    labels.data[0, 30:50] = 2
    assert user.fine_tune_and_wait(dock).startswith("6 steps")
    job = job_of(dock)
    assert (job["parent"], job["classes"]) == (None, ["background", "nucleus"])
    assert dock.fine_tune.outcome.name.text() == "my-model-2"


def test_the_preview_lies_where_the_user_looks(user: Any, make_fine_tune: Any, stack: Any) -> None:
    dock = make_fine_tune("previews")
    panel, viewer = dock.fine_tune, dock.panel._viewer
    viewer.add_image(stack, name="em", scale=(40, 8, 8), translate=(7, 100, -50))
    user.click(panel.form.new_button)
    labels = annotation_of(dock)
    labels.data[1, 10:12, 20:60] = 1
    labels.data[1, 50:52, 20:60] = 2
    viewer.dims.set_point(0, 7 + 40)
    height, width = viewer.canvas.size
    viewer.scene.camera.center = (100 + 8 * 70, -50 + 8 * 90)
    viewer.scene.camera.zoom = max(height / (8 * 40), width / (8 * 60))
    user.click(panel.fine_tune_button)
    user.wait_until(lambda: "preview" in viewer.layers)
    preview = viewer.layers["preview"]
    assert viewer.layers.selection.active is labels
    assert viewer.layers.index(preview) < viewer.layers.index(labels)
    assert preview not in panel.form._annotations
    start = np.round((np.asarray(preview.translate) - (7, 100, -50)) / (40, 8, 8)).astype(int)
    assert start[0] == 1
    assert 50 <= start[1] <= 70
    assert 60 <= start[2] <= 90
    first = preview.data[0, 0, 0]
    user.wait_until(lambda: preview.data[0, 0, 0] != first)
    assert sum(layer.name.startswith("preview") for layer in viewer.layers) == 1
    user.click(panel.stop_button)
    user.wait_until(lambda: not panel.is_running)
    user.click(panel.outcome.revert_button)
    assert "preview" not in viewer.layers


def test_stop_before_the_engine_has_begun(user: Any, ready: Any, user_folders: Path) -> None:
    dock = ready()
    panel = dock.fine_tune
    user.click(panel.fine_tune_button)
    assert panel.is_running
    panel._run.stop()
    assert not panel.is_running
    assert "before the training had begun" in panel.message.toPlainText()
    assert list(user_folders.iterdir()) == []


@pytest.mark.parametrize("how", ["dock", "window"])
def test_closing_stops_the_training_and_keeps_its_weights(
    user: Any, ready: Any, user_folders: Path, how: str
) -> None:
    dock = ready("stops")
    panel, viewer = dock.fine_tune, dock.panel._viewer
    user.click(panel.fine_tune_button)
    user.wait_until(lambda: "Step 3" in panel.progress_label.text())
    pid = panel.runner.process_id
    if how == "dock":
        viewer.window.remove_dock_widget(dock)
        user.wait_until(lambda: not panel.is_running)
    else:
        dock._window.close()
    assert not user.is_alive(pid)
    assert len(list(user_folders.glob("*/run/best.pt"))) == 1


def test_layers_of_our_results_are_not_offered_as_strokes(
    user: Any, ready: Any, stack: Any
) -> None:
    dock = ready()
    form, viewer = dock.fine_tune.form, dock.panel._viewer
    mine = viewer.add_labels(np.zeros(stack.shape, np.uint8), name="mine")
    viewer.add_labels(
        np.zeros(stack.shape, np.uint8), name="result", metadata={"napari-unet": {"job": {}}}
    )
    names = [form.annotation_combo.itemText(k) for k in range(form.annotation_combo.count())]
    assert names == ["annotation of em", "mine"]
    # Every layer has classes of its own.
    user.click(form.classes.add_button)
    form.annotation_combo.setCurrentText("mine")
    assert form.annotation is mine
    assert [each.name for each in form.classes.classes] == list(CLASSES)
    form.annotation_combo.setCurrentText("annotation of em")
    assert [each.name for each in form.classes.classes] == [*CLASSES, "class 3"]
    assert isinstance(mine, Labels)

"""Live, Stop and Cancel, budgets, Keep and what comes after it, in a real viewer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from napari_unet.app.models import ModelEntry, list_models
from napari_unet.core.architecture import Architecture
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader, ParentModel, Provenance
from napari_unet.widgets import _form, _live, _train_form
from napari_unet.widgets._history import HistoryBox, in_lineage
from napari_unet.widgets._train_options import PATIENCE, REHEARSAL_SHARE, TrainOptionsBox

REST_MS = 300

CLASSES = (
    ClassInfo(name="interior", color="#3b6fb6"),
    ClassInfo(name="membrane", color="#e8a33d"),
)


def jobs(folder: Path) -> list[dict[str, Any]]:
    """Return the jobs that trainers were given, those of deleted runs left out."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/run/job.json"))]


@pytest.fixture
def ready(
    make_fine_tune: Any, user: Any, stored_stack: Any, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Return a function that opens the panel over an image with one stroke of each class."""
    monkeypatch.setattr(_live, "REST_MS", REST_MS)

    def make(mode: str = "good") -> Any:
        dock = make_fine_tune(mode)
        dock.panel._viewer.add_image(stored_stack, name="em")
        user.click(dock.fine_tune.form.new_button)
        stroke(dock, 1, 10)
        stroke(dock, 2, 50)
        return dock

    return make


def stroke(dock: Any, label: int, row: int) -> None:
    layer = dock.fine_tune.form.annotation
    for column in range(20, 60, 4):
        layer.paint((1, row, column), label)


def test_without_live_nothing_starts_by_itself(user: Any, ready: Any, qtbot: Any) -> None:
    dock = ready()
    panel = dock.fine_tune
    assert not panel.form.options.live.isChecked()
    stroke(dock, 2, 30)
    qtbot.wait(3 * REST_MS)
    assert not panel.is_running
    # What was painted before the switch does not count either.
    user.click(panel.form.options.live)
    qtbot.wait(3 * REST_MS)
    assert not panel.is_running


def test_live_starts_when_the_brush_has_rested(user: Any, ready: Any, user_folders: Path) -> None:
    dock = ready()
    panel = dock.fine_tune
    panel.form.options.minutes.setValue(0.25)
    panel.form.options.live.setChecked(True)
    stroke(dock, 2, 30)
    user.wait_until(lambda: panel.is_running)
    user.wait_until(lambda: panel.outcome.is_open)
    (job,) = jobs(user_folders)
    assert (job["parent"], job["minutes"]) == ("fake", 0.25)


def test_a_new_stroke_ends_a_live_fine_tune_and_it_starts_anew(
    user: Any, ready: Any, user_folders: Path
) -> None:
    dock = ready("stops")
    panel = dock.fine_tune
    panel.form.options.live.setChecked(True)
    stroke(dock, 2, 30)
    user.wait_until(lambda: "Step 2" in panel.progress_label.text())
    first = panel._run
    pid = panel.runner.process_id
    stroke(dock, 1, 70)
    user.wait_until(lambda: panel._run is not first)
    # Nothing of it is kept, and nobody is asked.
    assert not panel.outcome.is_open
    assert not user.is_alive(pid)
    assert jobs(user_folders) == []
    user.wait_until(lambda: panel.is_running)
    user.wait_until(lambda: len(jobs(user_folders)) == 1)
    # Classes can be chosen meanwhile, and Live switched off.
    assert panel.form.isEnabled()
    panel.form.options.live.setChecked(False)
    user.click(panel.cancel_button)
    assert not panel.is_running


def test_a_stroke_after_live_takes_the_place_of_its_outcome(
    user: Any, ready: Any, user_folders: Path
) -> None:
    dock = ready()
    panel = dock.fine_tune
    panel.form.options.live.setChecked(True)
    stroke(dock, 2, 30)
    user.wait_until(lambda: panel.outcome.is_open)
    stroke(dock, 1, 70)
    user.wait_until(lambda: not panel.outcome.is_open)
    user.wait_until(lambda: panel.outcome.is_open)
    assert len(list(user_folders.iterdir())) == 1
    # One that was asked for by a click waits for its answer.
    panel.outcome.revert()
    panel.form.options.live.setChecked(False)
    user.fine_tune_and_wait(dock)
    panel.form.options.live.setChecked(True)
    stroke(dock, 2, 90)
    user.wait_until(lambda: panel.drafting.live._timer.isActive())
    user.wait_until(lambda: not panel.drafting.live._timer.isActive())
    assert panel.outcome.is_open


def test_live_says_what_is_missing_without_a_toast(
    user: Any, make_fine_tune: Any, stored_stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_live, "REST_MS", REST_MS)
    dock = make_fine_tune()
    panel = dock.fine_tune
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.click(panel.form.new_button)
    user.click(panel.form.classes.add_button)
    panel.form.options.live.setChecked(True)
    before = len(notification_manager.records)
    stroke(dock, 1, 10)
    user.wait_until(lambda: "nothing is painted of class 3" in panel.message.toPlainText())
    assert len(notification_manager.records) == before


def test_cancel_keeps_nothing(user: Any, ready: Any, user_folders: Path) -> None:
    dock = ready("stops")
    panel, viewer = dock.fine_tune, dock.panel._viewer
    assert not panel.cancel_button.isEnabled()
    painted = panel.form.annotation.data[:].copy()
    user.click(panel.fine_tune_button)
    user.wait_until(lambda: "Step 3" in panel.progress_label.text())
    pid = panel.runner.process_id
    user.click(panel.cancel_button)
    assert not panel.is_running
    assert not panel.outcome.is_open
    assert not user.is_alive(pid)
    assert list(user_folders.iterdir()) == []
    assert panel.message.toPlainText().startswith("Cancelled; nothing is kept")
    assert "preview" not in viewer.layers
    np.testing.assert_array_equal(panel.form.annotation.data[:], painted)
    user.wait_until(lambda: panel.runner.is_warm)


def test_options_reach_the_trainer(user: Any, ready: Any, user_folders: Path) -> None:
    dock = ready()
    options = dock.fine_tune.form.options
    options.unit_combo.setCurrentText("Steps")
    options.steps.setValue(70)
    options.rehearse.setChecked(True)
    options.plateau.setChecked(False)
    user.fine_tune_and_wait(dock)
    (job,) = jobs(user_folders)
    assert (job["steps"], job["minutes"]) == (70, None)
    assert job["sampler"] == {"rehearsal_share": REHEARSAL_SHARE}
    assert job["loop"] == {}
    dock.fine_tune.outcome.revert()
    options.unit_combo.setCurrentText("Time")
    options.rehearse.setChecked(False)
    options.plateau.setChecked(True)
    user.fine_tune_and_wait(dock)
    (job,) = jobs(user_folders)
    assert (job["steps"], job["minutes"]) == (None, 1.0)
    assert (job["sampler"], job["loop"]) == ({}, {"patience": PATIENCE})


def test_rare_options_are_out_of_the_way(qtbot: Any) -> None:
    box = TrainOptionsBox()
    qtbot.addWidget(box)
    box.show()
    collapsed = box.sizeHint().height()
    # The tab key does not lead into what cannot be seen.
    assert not box.rehearse.isVisible()
    box.more.expand(animate=False)
    assert box.rehearse.isVisible()
    qtbot.waitUntil(lambda: box.sizeHint().height() > collapsed)
    assert all(widget.toolTip() for widget in box.in_tab_order)
    visited: list[Any] = [box.in_tab_order[0]]
    while visited[-1].nextInFocusChain() not in visited:
        visited.append(visited[-1].nextInFocusChain())
    assert [widget for widget in visited if widget in box.in_tab_order] == box.in_tab_order


def test_after_keep_it_goes_on_with_the_new_model(
    user: Any, ready: Any, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    dock = ready()
    panel = dock.fine_tune
    fake = panel.form.models[0]
    user.fine_tune_and_wait(dock)

    def offered() -> list[ModelEntry]:
        own = [model for model in list_models() if model.origin == "own"]
        provenance = Provenance(parent=ParentModel(name="fake", sha256=fake.sha256))
        return [fake] + [
            replace(each, header=each.header.model_copy(update={"provenance": provenance}))
            for each in own
        ]

    for module in (_form, _train_form):
        monkeypatch.setattr(module, "list_models", offered)
    assert not panel.history.isVisibleTo(panel)
    assert not panel.segment_button.isVisibleTo(panel)
    # Enter keeps.
    panel.outcome.setFocus()
    qtbot.keyClick(panel.outcome, Qt.Key.Key_Return)
    assert panel.message.toPlainText().startswith("Kept as fake-2")
    assert panel.form.model_combo.currentText() == "fake-2"
    assert dock.panel.form.model_combo.currentText() == "fake-2"
    assert "fake-2 has learnt from these strokes already" in panel.form.hint.text()
    assert "fine-tune from fake." in panel.form.hint.text()
    assert list(panel.history.buttons) == ["fake", "fake-2"]
    assert panel.history.buttons["fake-2"].isChecked()
    assert panel.history.isVisibleTo(panel)
    wanted: list[str] = []
    panel.segment_wanted.connect(wanted.append)
    assert panel.segment_button.text() == "Segment with fake-2"
    with qtbot.waitSignal(panel.segment_wanted):
        user.click(panel.segment_button)
    assert wanted == ["fake-2"]
    # One click returns.
    returned: list[str] = []
    panel.returned.connect(returned.append)
    user.click(panel.history.buttons["fake"])
    assert panel.form.model_combo.currentText() == "fake"
    assert returned == ["fake"]
    assert panel.message.toPlainText().startswith("Back to fake;")
    assert dock.panel.form.model_combo.currentText() == "fake"
    assert "already" not in panel.form.hint.text()
    # One that was deleted elsewhere is offered no more.
    monkeypatch.setattr(_train_form, "list_models", lambda: [fake])
    panel.form.reload_models()
    assert not panel.history.isVisibleTo(panel)


def entry(name: str, sha256: str, parent: ModelEntry | None = None) -> ModelEntry:
    above = None if parent is None else ParentModel(name=parent.name, sha256=parent.sha256)
    header = ModelHeader(
        name=name,
        architecture=Architecture(in_channels=1, num_classes=2, base_channels=4, depth=2),
        classes=CLASSES,
        input=InputExpectation(channels=("EM",)),
        provenance=Provenance(parent=above),
    )
    return ModelEntry(name, Path(f"{name}.safetensors"), header, sha256, "own")


def test_children_come_below_their_parents(qtbot: Any) -> None:
    root = entry("root", "a" * 64)
    child = entry("child", "b" * 64, root)
    grandchild = entry("grandchild", "c" * 64, child)
    other = entry("other", "d" * 64, entry("gone", "e" * 64))
    found = in_lineage([grandchild, other, child, root])
    assert [(depth, each.name) for depth, each in found] == [
        (0, "other"), (0, "root"), (1, "child"), (2, "grandchild"),
    ]  # fmt: skip
    box = HistoryBox()
    qtbot.addWidget(box)
    chosen: list[str] = []
    box.chosen.connect(chosen.append)
    box.show_models([root, child], "child")
    assert box.buttons["child"].isChecked()
    assert "Fine-tuned from root" in box.buttons["child"].toolTip()
    qtbot.mouseClick(box.buttons["root"], Qt.MouseButton.LeftButton)
    assert chosen == ["root"]

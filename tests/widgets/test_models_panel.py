"""The page Models in a real viewer: every change goes through the store, and the pages follow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QFileDialog, QStyle
from safetensors.numpy import load, save

from napari_unet.app.model_card import card_lines
from napari_unet.app.model_store import add_model
from napari_unet.app.models import find_model, list_models, own_models_folder
from napari_unet.core.header import ParentModel, Provenance
from napari_unet.model.file import METADATA_KEY, read_model_header
from napari_unet.widgets import _form, _model_files, _train_form
from napari_unet.widgets._one_shot import OneShotEnd
from napari_unet.widgets.dock import MINIMUM_WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME = QStyle.PixelMetric.PM_DefaultFrameWidth
"""Around the pages."""


class FakeShot(QObject):
    """Stands for a process; the test says how it ends."""

    ended = Signal(object)

    def __init__(self, parent: QObject, arguments: tuple[str, ...]) -> None:
        super().__init__(parent)
        self.arguments = arguments
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def shots(monkeypatch: pytest.MonkeyPatch) -> list[FakeShot]:
    """The processes that the panel would have started."""
    made: list[FakeShot] = []

    def make(parent: QObject, arguments: tuple[str, ...]) -> FakeShot:
        made.append(FakeShot(parent, arguments))
        return made[-1]

    monkeypatch.setattr(_model_files, "OneShot", make)
    return made


@pytest.fixture
def make_models(
    make_dock: Callable[..., Any], user_folders: Path, user: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Docks whose page Models is open, over the real store in the test's own folder."""

    def make() -> Any:
        monkeypatch.setattr(_form, "list_models", list_models)
        monkeypatch.setattr(_train_form, "list_models", list_models)
        dock = make_dock()
        dock.panel.form.reload_models()
        dock.pages.setCurrentIndex(2)
        user.wait_until(lambda: not dock.models.is_reading)
        return dock

    return make


@pytest.fixture
def own(user_folders: Path, tiny_model: Path) -> str:
    """An own model in the store."""
    add_model(tiny_model.read_bytes(), "mine")
    return "mine"


def add_child(name: str, parent: str, sha256: str) -> None:
    """Add a model that says it was fine-tuned from another one."""
    source = find_model("em-membranes").path
    header = read_model_header(source).header
    made = Provenance(parent=ParentModel(name=parent, sha256=sha256), scores={"f1": 0.875})
    header = header.model_copy(update={"name": name, "provenance": made})
    data = save(load(source.read_bytes()), metadata={METADATA_KEY: header.model_dump_json()})
    add_model(data, name)


def choose(dock: Any, name: str) -> Any:
    """Go to a model in the list, and return the panel."""
    panel = dock.models
    names = [item.name for item in panel._items]
    panel.list.setCurrentRow(names.index(name))
    return panel


def names_in(combo: Any) -> list[str]:
    return [combo.itemText(index) for index in range(combo.count())]


def words_of(panel: Any) -> str:
    """Return the card as text, whatever its lines are broken at."""
    return " ".join(panel.card.toPlainText().replace("\xa0", " ").split())


def test_the_page_is_made_when_it_is_looked_at(make_dock: Any, user: Any) -> None:
    dock = make_dock()
    assert dock.models is None
    assert dock.pages.tabText(2) == "Models"
    dock.pages.setCurrentIndex(2)
    assert dock.models is not None
    user.wait_until(lambda: not dock.models.is_reading)


def test_the_card_says_what_the_command_prints(make_models: Any) -> None:
    dock = make_models()
    for name in ("em-membranes", "nuclei"):
        panel, entry = choose(dock, name), find_model(name)
        words = words_of(panel)
        assert entry.header.description in words
        for title, text in card_lines(entry):
            if title != "classes":
                assert " ".join(text.split()) in words, title
        for label, info in entry.header.labels().items():
            assert f"{label}={info.name}" in words
            assert info.color in panel.card.toHtml()


def test_words_of_a_file_are_not_interpreted(make_models: Any, user_folders: Path) -> None:
    add_child("child", "parent", "0" * 64)
    path = own_models_folder() / "child.safetensors"
    header = read_model_header(path).header
    changed = header.model_copy(update={"description": "<h1>big</h1><img src='x'>"})
    path.write_bytes(
        save(load(path.read_bytes()), metadata={METADATA_KEY: changed.model_dump_json()})
    )
    panel = choose(make_models(), "child")
    assert "<h1>big</h1><img src='x'>" in words_of(panel)


def test_the_card_knows_ancestors_that_are_here_and_that_are_gone(
    make_models: Any, own: str
) -> None:
    add_child("child", "mine", find_model("mine").sha256)
    add_child("orphan", "lost", "ab" * 32)
    dock = make_models()
    words = words_of(choose(dock, "child"))
    assert f"mine, sha256 {find_model('mine').sha256[:12]}..., here as mine" in words
    assert "f1 = 0.8750" in words
    words = words_of(choose(dock, "orphan"))
    assert "lost, sha256 abababababab..., not among the models here" in words


def test_bundled_models_stay(make_models: Any, own: str) -> None:
    dock = make_models()
    panel = choose(dock, "em-membranes")
    assert not panel.rename_button.isEnabled()
    assert not panel.delete_button.isEnabled()
    assert panel.export_button.isEnabled()
    choose(dock, "mine")
    assert panel.rename_button.isEnabled()
    assert panel.delete_button.isEnabled()


def test_renaming_is_followed_by_the_other_pages(make_models: Any, user: Any, own: str) -> None:
    dock = make_models()
    dock.pages.setCurrentIndex(1)
    dock.fine_tune.form.model_combo.setCurrentText("mine")
    dock.pages.setCurrentIndex(2)
    user.choose(dock, model="mine")
    panel = choose(dock, "mine")
    content = (own_models_folder() / "mine.safetensors").read_bytes()
    user.click(panel.rename_button)
    assert panel.question.name.text() == "mine"
    panel.question.name.setText("em-membranes")
    user.click(panel.question.ok_button)
    assert "there is already a model 'em-membranes'" in panel.message.text()
    user.click(panel.rename_button)
    panel.question.name.setText("ours")
    panel.question.name.returnPressed.emit()
    assert panel.message.text() == "mine is now ours."
    assert (own_models_folder() / "ours.safetensors").read_bytes() == content
    for combo in (dock.panel.form.model_combo, dock.fine_tune.form.model_combo):
        assert combo.currentText() == "ours"
        assert "mine" not in names_in(combo)
    user.wait_until(lambda: not panel.is_reading)
    assert panel.chosen.name == "ours"


def test_deleting_asks_and_warns_of_children(make_models: Any, user: Any, own: str) -> None:
    add_child("child", "mine", find_model("mine").sha256)
    dock = make_models()
    panel = choose(dock, "mine")
    user.click(panel.delete_button)
    assert "It is the parent of child" in panel.question.words.text()
    user.click(panel.question.cancel_button)
    assert not panel.question.isVisibleTo(panel)
    assert find_model("mine").origin == "own"
    user.click(panel.delete_button)
    user.click(panel.question.ok_button)
    assert panel.message.text() == "mine is deleted."
    assert [path.name for path in own_models_folder().iterdir()] == ["child.safetensors"]
    user.wait_until(lambda: not panel.is_reading)
    assert "mine  (own)" not in [panel.list.item(k).text() for k in range(panel.list.count())]


def test_a_model_deleted_that_is_chosen_elsewhere(
    make_models: Any, user: Any, own: str, stored_stack: Any
) -> None:
    dock = make_models()
    dock.pages.setCurrentIndex(1)
    dock.fine_tune.form.model_combo.setCurrentText("mine")
    dock.pages.setCurrentIndex(2)
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.choose(dock, model="mine")
    panel = choose(dock, "mine")
    user.click(panel.delete_button)
    user.click(panel.question.ok_button)
    for combo in (dock.panel.form.model_combo, dock.fine_tune.form.model_combo):
        assert "mine" not in names_in(combo)
        assert combo.currentText() in ("em-membranes", "nuclei")
    assert user.segment_and_wait(dock).startswith("Done")


def test_a_model_whose_file_is_gone_meanwhile_is_a_sentence(
    make_models: Any, user: Any, own: str
) -> None:
    panel = choose(make_models(), "mine")
    (own_models_folder() / "mine.safetensors").unlink()
    user.click(panel.delete_button)
    user.click(panel.question.ok_button)
    assert "there is no model 'mine' of your own to be removed" in panel.message.text()
    user.click(panel.rename_button)
    panel.question.name.setText("ours")
    user.click(panel.question.ok_button)
    assert "there is no model 'mine' of your own to be renamed" in panel.message.text()


def test_a_damaged_file_is_shown_and_can_be_deleted(make_models: Any, user: Any, own: str) -> None:
    (own_models_folder() / "torn.safetensors").write_bytes(b"torn")
    dock = make_models()
    panel = choose(dock, "torn")
    assert panel.list.currentItem().text() == "torn  (own, damaged)"
    assert "torn.safetensors" in words_of(panel)
    assert not panel.segment_button.isEnabled()
    assert not panel.export_button.isEnabled()
    user.click(panel.delete_button)
    user.click(panel.question.ok_button)
    assert not (own_models_folder() / "torn.safetensors").exists()


def test_importing_asks_for_a_free_name(
    make_models: Any, user: Any, own: str, tiny_model: Path, shots: Any, tmp_path: Path
) -> None:
    dock = make_models()
    panel = dock.models
    panel.ask_import(tiny_model)
    assert panel.question.name.text() == "tiny"
    panel.question.name.setText("mine")
    user.click(panel.question.ok_button)
    assert "there is already a model 'mine'" in panel.message.text()
    assert not shots
    panel.ask_import(tiny_model)
    user.click(panel.question.ok_button)
    (shot,) = shots
    assert shot.arguments == ("models", "import", str(tiny_model), "--name", "tiny")
    assert not panel.import_button.isEnabled()
    add_model(tiny_model.read_bytes(), "tiny")
    shot.ended.emit(OneShotEnd(0, ""))
    assert panel.message.text() == "Imported as tiny."
    assert panel.import_button.isEnabled()
    assert "tiny" in names_in(dock.panel.form.model_combo)
    user.wait_until(lambda: not panel.is_reading)
    assert panel.chosen.name == "tiny"


def test_a_state_dict_needs_a_network(make_models: Any, user: Any, shots: Any) -> None:
    panel = make_models().models
    panel.ask_import(Path("my weights.pth"))
    assert panel.question.name.text() == "my-weights"
    assert names_in(panel.question.choice) == ["em-membranes", "nuclei"]
    panel.question.choice.setCurrentText("nuclei")
    panel.question.text.setText("a,b,c")
    user.click(panel.question.ok_button)
    name, like = ("--name", "my-weights"), ("--like", "nuclei", "--classes", "a,b,c")
    assert shots[0].arguments == ("models", "import", "my weights.pth", *name, *like)
    shots[0].ended.emit(OneShotEnd(3, "warning: x\nerror: it holds no tensors"))
    assert panel.message.text() == "it holds no tensors"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.h5", b"", "no model that can be imported"),
        ("model.safetensors", b"\x80\x02}q\x00.", "a pickle"),
        ("gone.safetensors", None, "there is no such file"),
    ],
)
def test_what_cannot_be_imported_is_a_sentence(
    make_models: Any, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    panel = make_models().models
    panel.ask_import(tmp_path / name)
    assert words in panel.message.text()
    assert not panel.question.is_open


def test_exporting_asks_for_a_format_and_a_file(
    make_models: Any, user: Any, shots: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = choose(make_models(), "nuclei")
    wanted = [str(tmp_path / "out.zip"), str(tmp_path / "out"), ""]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (wanted.pop(0), ""))
    path = str(find_model("nuclei").path)
    for kind, words, file in (
        ("bioimageio", "bioimage.io package (.zip)", "out.zip"),
        ("onnx", "ONNX (.onnx)", "out.onnx"),
    ):
        user.click(panel.export_button)
        panel.question.choice.setCurrentText(words)
        panel.question.text.setText("Ada Lovelace, Charles Babbage")
        user.click(panel.question.ok_button)
        arguments = ("models", "export", path, str(tmp_path / file), "--format", kind)
        authors = ("--author", "Ada Lovelace", "--author", "Charles Babbage")
        assert shots[-1].arguments == arguments + (authors if kind == "bioimageio" else ())
        shots[-1].ended.emit(OneShotEnd(0, ""))
        assert panel.message.text() == f"Exported to {tmp_path / file}."
    # No file is chosen: nothing is started.
    user.click(panel.export_button)
    user.click(panel.question.ok_button)
    assert len(shots) == 2


def test_a_model_goes_out_and_comes_back_by_real_processes(
    make_models: Any, user: Any, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = make_models()
    panel, path = choose(dock, "mine"), tmp_path / "mine.safetensors"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(path), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(path), ""))
    user.click(panel.export_button)
    user.click(panel.question.ok_button)
    assert panel.message.text() == "Exporting mine ..."
    user.wait_until(lambda: not panel.files.is_busy)
    assert panel.message.text() == f"Exported to {path}."
    assert path.read_bytes() == find_model("mine").path.read_bytes()
    user.click(panel.import_button)
    assert panel.question.name.text() == "tiny"
    user.click(panel.question.ok_button)
    user.wait_until(lambda: not panel.files.is_busy and not panel.is_reading)
    assert panel.chosen.name == "tiny"
    assert find_model("tiny").sha256 == find_model("mine").sha256


def test_closing_the_dock_ends_an_import(
    make_models: Any, user: Any, tiny_model: Path, shots: Any
) -> None:
    dock = make_models()
    dock.models.ask_import(tiny_model)
    user.click(dock.models.question.ok_button)
    dock.panel._viewer.window.remove_dock_widget(dock)
    user.wait_until(lambda: shots[0].stopped)
    assert not dock.models.files.is_busy


def test_the_keyboard_answers_and_cancels(make_models: Any, qtbot: Any, own: str) -> None:
    panel = choose(make_models(), "mine")
    panel.rename_button.click()
    qtbot.keyClick(panel.question.name, Qt.Key.Key_Escape)
    assert not panel.question.is_open
    panel.rename_button.click()
    panel.question.name.setText("ours")
    qtbot.keyClick(panel.question.name, Qt.Key.Key_Return)
    assert panel.message.text() == "mine is now ours."


def test_segmenting_with_a_model_shows_the_first_page(
    make_models: Any, user: Any, own: str
) -> None:
    dock = make_models()
    panel = choose(dock, "mine")
    user.click(panel.segment_button)
    assert dock.pages.currentIndex() == 0
    assert dock.panel.form.model_combo.currentText() == "mine"


def test_the_page_fits_into_a_narrow_dock(make_models: Any, own: str) -> None:
    panel = choose(make_models(), "mine")
    for button in (panel.rename_button, panel.delete_button, panel.export_button):
        button.click()
        assert panel.minimumSizeHint().width() <= MINIMUM_WIDTH - 20
    panel.ask_import(Path("w.pth"))
    assert panel.minimumSizeHint().width() <= MINIMUM_WIDTH - 20


def test_no_page_is_cut_by_its_scroll_bar(make_dock: Any, user: Any) -> None:
    dock = make_dock(show=True)
    dock.pages.setCurrentIndex(1)
    dock.pages.setCurrentIndex(2)
    user.wait_until(lambda: not dock.models.is_reading)
    for page in (dock._first_page, dock._second_page, dock._third_page):
        bar = page.verticalScrollBar().sizeHint().width()
        room = MINIMUM_WIDTH - 2 * dock.pages.style().pixelMetric(FRAME) - bar
        assert page.widget().minimumSizeHint().width() <= room, page.widget()


def test_a_shared_folder_that_is_gone_is_said(
    make_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_UNET_MODELS", os.pathsep.join([str(tmp_path / "gone")]))
    panel = make_models().models
    assert str(tmp_path / "gone") in panel.message.text()


def test_after_fine_tuning_one_click_segments_with_the_new_model(
    make_fine_tune: Any, user: Any, stored_stack: Any, stack: Any
) -> None:
    dock = make_fine_tune()
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    viewer.add_image(stack * 0, name="other")
    dock.fine_tune.form.image_combo.setCurrentText("em")
    dock.fine_tune.segment_wanted.emit("fake")
    assert dock.pages.currentIndex() == 0
    assert dock.panel.form.layer.name == "em"
    user.wait_until(lambda: not dock.panel.is_running)
    assert dock.panel.message.toPlainText().startswith("Done")
    assert np.asarray(viewer.layers[-1].data).any()

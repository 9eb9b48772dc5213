from __future__ import annotations

import gc
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from napari.layers import Labels
from napari.utils._proxies import PublicOnlyProxy
from npe2 import PluginManifest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_unet.app.models import ModelEntry
from napari_unet.core.architecture import Architecture
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader
from napari_unet.widgets import _form, _output, _runner, _train_form
from napari_unet.widgets.dock import Answer, SegmentDock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT_MS = 30_000
"""Longer than anything takes on a busy machine."""

FAKE_ENGINE = Path(__file__).parent / "fake_engine.py"
FAKE_TRAINER = Path(__file__).parent / "fake_trainer.py"
FAKE_DRAFTER = Path(__file__).parent / "fake_drafter.py"

CLASSES = (
    ClassInfo(name="interior", color="#3b6fb6"),
    ClassInfo(name="membrane", color="#e8a33d"),
)


SAVE_MODEL = """
import sys, torch
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader
from napari_unet.core.architecture import Architecture
from napari_unet.model.unet import UNet
from napari_unet.model.weights import save_model
torch.manual_seed(7)
architecture = Architecture(in_channels=1, num_classes=2, base_channels=8, depth=2)
names = (("interior", "#3b6fb6"), ("membrane", "#e8a33d"))
header = ModelHeader(
    name="tiny", architecture=architecture, input=InputExpectation(channels=("EM",)),
    classes=tuple(ClassInfo(name=name, color=color) for name, color in names),
)
save_model(sys.argv[1], UNet(**architecture.arguments()), header)
"""
"""In a process of its own: this one must not import torch, as napari does not."""


@pytest.fixture(scope="session", autouse=True)
def known_plugins() -> Iterator[None]:
    """The manifests of what is installed are read once, and not again for each viewer."""
    found, discover = list(PluginManifest.discover()), PluginManifest.discover
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PluginManifest, "discover", lambda paths=(): discover(paths) if paths else iter(found)
        )
        yield


@pytest.fixture(scope="module", autouse=True)
def old_objects() -> None:
    """What there was before need not be looked through when napari collects garbage, as it does."""
    with suppress(ImportError):
        import xarray  # noqa: F401  # napari does, with the first image
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    subprocess.run([sys.executable, "-c", SAVE_MODEL, str(path)], check=True)
    return path


@pytest.fixture(autouse=True)
def temporary_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders lie in the test's own folder, so that it can count them."""
    root = tmp_path / "temporary"
    root.mkdir()
    monkeypatch.setattr(_output.tempfile, "tempdir", str(root))
    return root


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> str:
    """A model in the list that no engine needs to load."""
    header = ModelHeader(
        name="fake",
        architecture=Architecture(in_channels=1, num_classes=2, base_channels=4, depth=2),
        classes=CLASSES,
        input=InputExpectation(channels=("FIB-SEM",)),
    )
    entry = ModelEntry("fake", Path("fake.safetensors"), header, "0" * 64, "own")
    monkeypatch.setattr(_form, "list_models", lambda: [entry])
    monkeypatch.setattr(_train_form, "list_models", lambda: [entry])
    return "fake"


@pytest.fixture
def make_dock(
    make_napari_viewer: Callable[..., Any],
    qtbot: Any,
    fake_model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., SegmentDock]]:
    """Docked widgets over a fake engine, or another; their processes end with the test."""
    docks: list[SegmentDock] = []

    def make(
        mode: str = "good",
        arguments: tuple[str, ...] | None = None,
        proxy: bool = False,
        show: bool = False,
    ) -> SegmentDock:
        arguments = arguments or (str(FAKE_ENGINE), mode)
        monkeypatch.setitem(_runner.ENGINE_ARGUMENTS, "segment", arguments)
        viewer = make_napari_viewer(show=show)
        dock = SegmentDock(PublicOnlyProxy(viewer) if proxy else viewer)
        viewer.window.add_dock_widget(dock, name="Segment with U-Net")
        docks.append(dock)
        return dock

    yield make
    for dock in docks:
        dock.panel.close_engine(let_job_go_on=False)
        if dock.fine_tune is not None:
            dock.fine_tune.close_engine()


@pytest.fixture
def user_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folders lie in the test's, in the engine's process too; return the cache."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data-home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))
    return tmp_path / "cache-home" / "napari-unet" / "fine-tunes"


@pytest.fixture
def draft_log(tmp_path: Path) -> Path:
    """What a fake drafting engine was told, line by line."""
    return tmp_path / "drafts.jsonl"


@pytest.fixture
def make_fine_tune(
    make_dock: Callable[..., SegmentDock],
    tiny_model: Path,
    user_folders: Path,
    draft_log: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., SegmentDock]:
    """Docks whose page Fine-tune is open, over fake engines."""

    def make(mode: str = "good", show: bool = False, drafts: str = "good") -> SegmentDock:
        arguments = (str(FAKE_TRAINER), mode, str(tiny_model))
        monkeypatch.setitem(_runner.ENGINE_ARGUMENTS, "train", arguments)
        drafter = (str(FAKE_DRAFTER), drafts, str(draft_log))
        monkeypatch.setitem(_runner.ENGINE_ARGUMENTS, "draft", drafter)
        dock = make_dock(show=show)
        dock.pages.setCurrentIndex(1)
        return dock

    return make


@pytest.fixture
def stack(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Three slices that no symmetry maps on themselves."""
    return rng.integers(0, 256, (3, 150, 200), dtype=np.uint8)


@pytest.fixture
def stored_stack(tmp_path: Path, stack: np.ndarray[Any, Any]) -> zarr.Array:
    """The same on disk, as a plain zarr array."""
    folder = tmp_path / "data" / "stack.zarr"
    array = zarr.create_array(folder, shape=stack.shape, dtype="uint8", chunks=(1, 64, 64))
    array[:] = stack
    return zarr.open_array(folder, mode="r")


class User:
    """Hands on the mouse: everything a test does to the dock, it does as a person would."""

    def __init__(self, qtbot: Any) -> None:
        self._qtbot = qtbot

    def click(self, button: Any) -> None:
        self._qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def choose(self, dock: SegmentDock, **choices: str) -> None:
        for name, text in choices.items():
            combo = getattr(dock.panel.form, f"{name}_combo")
            index = combo.findText(text)
            assert index >= 0, (name, text, [combo.itemText(i) for i in range(combo.count())])
            combo.setCurrentIndex(index)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        self._qtbot.waitUntil(condition, timeout=WAIT_MS)

    def segment_and_wait(self, dock: SegmentDock) -> str:
        """Return what the panel says in the end."""
        self.click(dock.panel.segment_button)
        self.wait_until(lambda: not dock.panel.is_running)
        return str(dock.panel.message.toPlainText())

    def wait_for_labels(self, dock: SegmentDock) -> Any:
        """Return the layer that follows the job, once it is there."""
        layers = dock.panel._viewer.layers
        self.wait_until(lambda: any(isinstance(layer, Labels) for layer in layers))
        return next(layer for layer in layers if isinstance(layer, Labels))

    def choose_class(self, dock: SegmentDock, name: str) -> None:
        """Go to a row of the class table."""
        panel = dock.fine_tune
        assert panel is not None
        table = panel.form.classes.table
        names = [table.item(row, 1).text() for row in range(table.rowCount())]
        table.setCurrentCell(names.index(name), 1)

    def paint(self, dock: SegmentDock, points: list[tuple[float, float]]) -> None:
        """Draw a stroke through world points (y, x) of the shown plane, with the mouse."""
        viewer = dock.panel._viewer
        canvas = viewer.window._qt_viewer.canvas.native
        camera = viewer.scene.camera
        # A window that was just shown is still finding its size.
        self._qtbot.wait(200)
        height, width = canvas.height(), canvas.width()
        places = [
            QPoint(
                round((x - camera.center[-1]) * camera.zoom + width / 2),
                round((y - camera.center[-2]) * camera.zoom + height / 2),
            )
            for y, x in points
        ]
        left = Qt.MouseButton.LeftButton
        self._qtbot.mousePress(canvas, left, pos=places[0])
        for place in places:
            # QTest's own mouseMove does not say which button is down.
            moved = QMouseEvent(
                QEvent.Type.MouseMove, QPointF(place), QPointF(canvas.mapToGlobal(place)),
                Qt.MouseButton.NoButton, left, Qt.KeyboardModifier.NoModifier,
            )  # fmt: skip
            QApplication.sendEvent(canvas, moved)
            # As a hand moves: napari passes over events that come too fast.
            self._qtbot.wait(25)
        self._qtbot.mouseRelease(canvas, left, pos=places[-1])

    def fine_tune_and_wait(self, dock: SegmentDock) -> str:
        """Return what the panel says in the end."""
        panel = dock.fine_tune
        assert panel is not None
        self.click(panel.fine_tune_button)
        self.wait_until(lambda: not panel.is_running)
        return str(panel.message.toPlainText())

    def answer(self, wanted: Answer, asked: list[str]) -> None:
        """Press a button of the next question, as soon as there is one."""

        def press() -> None:
            box = QApplication.activeModalWidget()
            if not isinstance(box, QMessageBox):
                QTimer.singleShot(50, press)
                return
            asked.append(box.text())
            button = next(b for b in box.buttons() if b.text().replace("&", "") == wanted.value)
            self.click(button)

        QTimer.singleShot(50, press)

    def is_alive(self, pid: int) -> bool:
        """Return whether a process lives and is not a zombie."""
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return False
        return state != "Z"


@pytest.fixture
def user(qtbot: Any) -> User:
    return User(qtbot)

"""Runs that napari has left, or never had, are found, shown, stopped, and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from napari.layers import Labels
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication

from napari_unet.app.following import AtWork, Standing, follow
from napari_unet.app.job_files import JobRecord, write_record
from napari_unet.app.segmenting.shard_files import ledger_path
from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.job import SegmentJob
from napari_unet.errors import UNetError
from napari_unet.io.ledger import BlockEntry, Ledger
from napari_unet.io.ome_zarr_writer import OutputSpec, create_output
from napari_unet.widgets._process import ENGINE_ARGUMENTS
from napari_unet.widgets._unfinished import run_words
from napari_unet.widgets.dock import Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (6, 256, 320)
NAME = "tiny"


@pytest.fixture
def image(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A stack on disk, in a folder of its own."""
    path = tmp_path / "data" / "stack.zarr"
    array = zarr.create_array(path, shape=SHAPE, dtype="uint8", chunks=(1, 64, 64))
    array[:] = rng.integers(0, 256, SHAPE, dtype=np.uint8)
    return path


@pytest.fixture
def segment(image: Path, tiny_model: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Start the command line on the stack, in small blocks."""

    def start(output: str = "stack.unet.zarr", **options: Any) -> subprocess.Popen[bytes]:
        fields = {"tile_size": 64, "block_size": 64, "threads": 1, "name": NAME, "axes": "zyx"}
        words = [sys.executable, "-m", "napari_unet", "segment", str(image), "--progress", "none"]
        words += ["--model", str(tiny_model), "--output", str(image.parent / output)]
        for key, value in (fields | options).items():
            words += ["--" + key.replace("_", "-"), str(value)]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL)

    return start


@pytest.fixture
def unfinished(
    image: Path, segment: Callable[..., subprocess.Popen[bytes]], user: Any
) -> tuple[Path, int]:
    """An output whose engine was killed in the middle, and how many blocks it has done."""
    output = image.parent / "stack.unet.zarr"
    with segment() as process:
        user.wait_until(lambda: blocks_done(output) >= 10)
        process.kill()
    done = blocks_done(output)
    assert done < 6 * 4 * 5
    return output, done


@pytest.fixture
def begun(image: Path) -> Path:
    """An output as an engine leaves it that was killed after three blocks of 120."""
    output = image.parent / "stack.unet.zarr"
    job = SegmentJob(
        input=str(image), model=NAME, output=str(output), name=NAME, axes="zyx", block_size=64
    )
    attributes = {
        "job": job.model_dump(),
        "run": "a run",
        "fingerprint": {"block_size": 64, "region": "0:6,0:256,0:320", "probabilities": None},
    }
    names = (("interior", "#3b6fb6"), ("membrane", "#e8a33d"))
    classes = tuple(ClassInfo(name=name, color=color) for name, color in names)
    levels = (PyramidLevel(SHAPE, VoxelSize()),)
    spec = OutputSpec(output, NAME, "zyx", levels, classes, 64, 64, attributes=attributes)
    sink = create_output(spec, replace=False)
    values = {
        "state": "incomplete",
        "job": job,
        "command": [],
        "output": str(output),
        "name": NAME,
        "labels": str(sink.labels_path),
        "classes": names,
        "provenance": {},
    }
    write_record(image.parent / f"{NAME}.unet.json", JobRecord.parse(values, source="test"))
    with Ledger(ledger_path(output, NAME)) as ledger:
        ledger.begin(attributes["fingerprint"], {"run": "a run"})
        ledger.enter_run("2026-11-21T10:00:00+00:00")
        for column in range(3):
            box = Box((2, 64, 64 * column), (3, 128, 64 * (column + 1)))
            sink.write_labels(box, np.full(box.shape, 1 + column % 2, np.uint8))
            ledger.enter_done((2, 1, column), BlockEntry(0))
    return output


def blocks_done(output: Path) -> int:
    try:
        return follow(output, NAME).look().blocks_done
    except UNetError:
        # The engine is still beginning.
        return 0


def labels_of(output: Path) -> Any:
    return zarr.open_array(output / "labels" / NAME / "0", mode="r")[:]


def open_dock(make_dock: Any, image: Path | None, **options: Any) -> Any:
    dock = make_dock(**options)
    if image is not None:
        dock.panel._viewer.add_image(zarr.open_array(image, mode="r"), name="stack")
    return dock


def finish(image: Path) -> None:
    """Say of what was begun that it is complete."""
    folder = image.parent / "stack.unet.zarr" / "labels" / NAME
    for path in (folder / "zarr.json", image.parent / f"{NAME}.unet.json"):
        path.write_text(path.read_text().replace('"incomplete"', '"complete"'))


def words_of(dock: Any) -> str:
    return "\n".join(row.words.text() for row in dock.panel.unfinished.rows)


def drop(widget: Any, path: Path) -> bool:
    """Drag a path over a widget and let it go, as a file manager does; return if it is taken."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path))])
    actions, buttons = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    none = Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(5, 5), actions, mime, buttons, none)
    enter.ignore()
    QApplication.sendEvent(widget, enter)
    if not enter.isAccepted():
        return False
    QApplication.sendEvent(widget, QDropEvent(QPointF(5, 5), actions, mime, buttons, none))
    return True


def test_what_was_killed_is_found_and_goes_on(
    user: Any, make_dock: Any, image: Path, unfinished: Any, segment: Any
) -> None:
    output, done = unfinished
    dock = open_dock(make_dock, image, arguments=ENGINE_ARGUMENTS["segment"])
    box = dock.panel.unfinished
    user.wait_until(lambda: bool(box.rows))
    (row,) = box.rows
    assert words_of(dock) == f"{NAME}: {done} of 120 blocks done, stopped"
    assert not box.isHidden()
    assert not row.go_on_button.isHidden()
    assert row.stop_button.isHidden()
    # What is done is there to be looked at.
    user.click(row.show_button)
    layer = user.wait_for_labels(dock)
    np.testing.assert_array_equal(np.asarray(layer.data), labels_of(output))
    user.click(row.go_on_button)
    assert box.isHidden()
    user.wait_until(lambda: not dock.panel.is_running)
    words = dock.panel.message.toPlainText()
    assert words.startswith("Done"), words
    with segment("uncut.zarr") as process:
        assert process.wait(60) == 0
    np.testing.assert_array_equal(labels_of(output), labels_of(image.parent / "uncut.zarr"))
    # One layer shows it, and nothing is unfinished any more.
    (layer,) = [each for each in dock.panel._viewer.layers if isinstance(each, Labels)]
    np.testing.assert_array_equal(np.asarray(layer.data), labels_of(output))
    user.wait_until(lambda: not box.rows)


def test_a_job_that_was_let_go_on_is_attached_to(
    user: Any,
    make_dock: Any,
    image: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The panel's own tiles are large; a large image takes long enough to be watched.
    array = zarr.create_array(
        image, shape=(60, 512, 512), dtype="uint8", chunks=(1, 256, 256), overwrite=True
    )
    array[::7] = np.random.default_rng(1).integers(0, 256, (9, 512, 512), dtype=np.uint8)
    dock = open_dock(make_dock, image, arguments=ENGINE_ARGUMENTS["segment"])
    dock.panel.form.add_model_file(tiny_model)
    user.choose(dock, region="all slices", output="next to the image")
    user.click(dock.panel.segment_button)
    user.wait_for_labels(dock)
    pid = dock.panel.runner.process_id
    output = image.parent / "stack.unet.zarr"
    user.wait_until(lambda: blocks_done(output) > 0)
    user.answer(Answer.GO_ON, [])
    dock._viewer.window.remove_dock_widget(dock)
    user.wait_until(lambda: not dock._is_open)
    assert user.is_alive(pid)
    try:
        # As a napari that is opened again.
        again = open_dock(make_dock, image, arguments=ENGINE_ARGUMENTS["segment"])
        user.wait_until(lambda: f"running (process {pid} on this computer" in words_of(again))
        (row,) = again.panel.unfinished.rows
        assert row.go_on_button.isHidden()
        user.click(row.show_button)
        layer = user.wait_for_labels(again)
        before = int(np.any(np.asarray(layer.data), axis=(1, 2)).sum())
        user.wait_until(lambda: int(np.any(np.asarray(layer.data), axis=(1, 2)).sum()) > before)
        user.click(row.stop_button)
        user.wait_until(lambda: not user.is_alive(pid))
        user.wait_until(lambda: "stopped" in words_of(again))
        assert not row.go_on_button.isHidden()
        done = blocks_done(output)
        user.click(row.go_on_button)
        user.wait_until(lambda: again.panel.is_running and blocks_done(output) > done)
        user.click(again.panel.stop_button)
        user.wait_until(lambda: not again.panel.is_running)
    finally:
        if user.is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_dropped_run_is_offered_without_its_image(user: Any, make_dock: Any, begun: Path) -> None:
    output = begun
    dock = open_dock(make_dock, None)
    assert not drop(dock.panel, output.parent / "notes.txt")
    assert drop(dock.panel, output.parent / f"{NAME}.unet.json")
    user.wait_until(lambda: "3 of 120 blocks done, stopped" in words_of(dock))
    user.click(dock.panel.unfinished.rows[0].show_button)
    image, labels = dock.panel._viewer.layers
    assert image.name == "stack.zarr"
    np.testing.assert_array_equal(np.asarray(labels.data), labels_of(output))


@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_run_is_taken_wherever_it_is_dropped(
    user: Any, make_dock: Any, begun: Path, page: int
) -> None:
    dock = open_dock(make_dock, None)
    dock.pages.setCurrentIndex(page)
    assert drop(dock, begun.parent / f"{NAME}.unet.json")
    assert dock.pages.currentIndex() == 0
    user.wait_until(lambda: "3 of 120 blocks done, stopped" in words_of(dock))


def test_the_folder_of_a_finished_run_opens_its_layers(
    user: Any, make_dock: Any, image: Path, begun: Path
) -> None:
    finish(image)
    dock = open_dock(make_dock, None)
    assert drop(dock.panel, image.parent / "stack.unet.zarr")
    assert [layer.name for layer in dock.panel._viewer.layers] == [
        "stack.zarr",
        f"stack.zarr: {NAME}",
    ]
    assert dock.panel.unfinished.isHidden()
    assert drop(dock.panel, image.parent)
    assert "a folder with other content" in dock.panel.message.toPlainText()


def test_runs_of_other_images_are_left_alone(
    user: Any, make_dock: Any, begun: Path, image: Path, qtbot: Any
) -> None:
    other = image.parent / "other.zarr"
    zarr.create_array(other, shape=(4, 4), dtype="uint8")
    dock = open_dock(make_dock, other)
    qtbot.wait(1000)
    assert not dock.panel.unfinished.rows
    dock.panel._viewer.add_image(zarr.open_array(image, mode="r"), name="second")
    user.choose(dock, layer="second")
    user.wait_until(lambda: bool(dock.panel.unfinished.rows))


def test_how_far_a_run_is_in_words() -> None:
    here = AtWork("node1", 7, "nonsense")
    assert (
        run_words("em", 8, Standing("stopped", 3, 2)) == "em: 3 of 8 blocks done, 2 failed, stopped"
    )
    words = run_words("em", 8, Standing("running", 3, 0, (), (here, AtWork("node2", 8, ""))))
    assert words == "em: 3 of 8 blocks done, running (process 7 on node1, and 1 more)"
    dated = AtWork("node1", 7, "2020-02-03T12:00:00+00:00")
    assert ", since 2020-02-0" in run_words("em", 8, Standing("running", 3, 0, (), (dated,)))

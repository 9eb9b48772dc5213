"""A napari that is killed in the midst of everything: nothing is lost, and the widget goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from napari.layers import Labels

from napari_unet.app.annotations import STROKES_FOLDER
from napari_unet.app.following import follow
from napari_unet.widgets._annotation_layer import PaintClass, new_annotation
from napari_unet.widgets._process import ENGINE_ARGUMENTS
from napari_unet.widgets._strokes_keeper import keeper_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPE = (50, 512, 512)
ROOT = Path(__file__).parents[2]
FAKE_TRAINER = Path(__file__).parent / "fake_trainer.py"
FAKE_DRAFTER = Path(__file__).parent / "fake_drafter.py"

STROKES = 4
"""That are painted before the end."""

LAST_MOMENTS_S = 2.0
"""What was painted longer before must be there, on a busy machine, too."""


@pytest.fixture
def image(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack on disk that takes some seconds, in a folder of its own; strokes lie beside it."""
    monkeypatch.setenv(STROKES_FOLDER, str(tmp_path / "strokes"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = tmp_path / "data" / "stack.zarr"
    array = zarr.create_array(path, shape=SHAPE, dtype="uint8", chunks=(1, 256, 256))
    array[::9] = rng.integers(0, 256, (6, 512, 512), dtype=np.uint8)
    return path


@pytest.fixture
def uncut(image: Path, tiny_model: Path) -> Callable[[], Any]:
    """Return a function that segments the stack in one go, by the command line."""

    def segment() -> Any:
        output = image.parent / "uncut.zarr"
        words = [sys.executable, "-m", "napari_unet", "segment", str(image), "--axes", "zyx"]
        words += ["--model", str(tiny_model), "--output", str(output), "--progress", "none"]
        subprocess.run(words, check=True)
        return labels_of(output)

    return segment


@pytest.fixture
def killed(image: Path, tiny_model: Path, tmp_path: Path, user_folders: Path) -> Iterator[Killed]:
    """A session that was killed while it segmented and somebody painted."""
    snapshots = tmp_path / "snapshots"
    snapshots.mkdir()
    words = ["-m", "tests.widgets.work_until_killed", image, tiny_model, snapshots]
    killed = Killed(snapshots)
    with subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        try:
            killed.listen(child)
        finally:
            child.kill()
            killed.when = time.monotonic()
    yield killed
    for pid in killed.engines:
        kill_if_ours(pid)


class Killed:
    """What a session has said before its end."""

    def __init__(self, snapshots: Path) -> None:
        self._snapshots = snapshots
        self._said: list[float] = []
        self.engines: list[int] = []
        self.blocks = 0
        self.when = 0.0

    def listen(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            message = json.loads(line)
            if "engines" in message:
                self.engines = message["engines"]
            else:
                self._said.append(time.monotonic())
                self.blocks = message["blocks"]
            if len(self._said) == STROKES:
                return
        raise AssertionError("the session ended by itself")

    def recent(self) -> Any:
        """Return what the strokes were in the last moments, the oldest first."""
        shots = [np.load(self._snapshots / f"{number}.npy") for number in range(STROKES)]
        before = [n for n, t in enumerate(self._said) if t < self.when - LAST_MOMENTS_S]
        first = [np.zeros_like(shots[0])] if not before else []
        return np.stack(first + shots[max(before, default=0) :])


def labels_of(output: Path) -> Any:
    return zarr.open_array(output / "labels" / "tiny" / "0", mode="r")[:]


def blocks_done(output: Path) -> int:
    return follow(output, "tiny").look().blocks_done


def kill_if_ours(pid: int) -> None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return
    if b"napari_unet" in words:
        os.kill(pid, signal.SIGKILL)


# Three engines, two windows and three segmentations; a busy machine has to come to their end.
@pytest.mark.timeout(300)
def test_after_kill_9_the_work_is_back_and_goes_on(
    user: Any,
    make_dock: Any,
    image: Path,
    tiny_model: Path,
    killed: Killed,
    uncut: Callable[[], Any],
    draft_log: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 0 < killed.blocks < SHAPE[0]
    at_work, *idle = killed.engines
    # Engines that wait for a job, or hold a draft, end with their session.
    user.wait_until(lambda: not any(map(user.is_alive, idle)))

    # The engine that works goes on, and is found; held, so that it does not come to its end.
    output = image.parent / "stack.unet.zarr"
    user.wait_until(lambda: blocks_done(output) > killed.blocks)
    os.kill(at_work, signal.SIGSTOP)
    trainer, drafter = (str(FAKE_TRAINER), "good", str(tiny_model)), (str(FAKE_DRAFTER), "good")
    monkeypatch.setitem(ENGINE_ARGUMENTS, "train", trainer)
    monkeypatch.setitem(ENGINE_ARGUMENTS, "draft", (*drafter, str(draft_log)))
    dock = make_dock(arguments=ENGINE_ARGUMENTS["segment"], show=True)
    viewer, box = dock.panel._viewer, dock.panel.unfinished
    viewer.add_image(zarr.open_array(image, mode="r"), name="stack")
    user.wait_until(lambda: any("running" in row.words.text() for row in box.rows))
    (row,) = box.rows
    assert f"process {at_work} on this computer" in row.words.text()
    assert row.stop_button.isVisible()
    assert not row.go_on_button.isVisible()

    # It is killed, too, as without memory: what is done is there, and the rest is offered.
    os.kill(at_work, signal.SIGKILL)
    user.wait_until(lambda: "stopped" in row.words.text())
    assert row.go_on_button.isVisible()
    assert not row.stop_button.isVisible()
    done = labels_of(output)
    blocks = int(np.all(done, axis=(1, 2)).sum())
    assert killed.blocks <= blocks < SHAPE[0]

    # The strokes are back, as they were in the last moments.
    dock.pages.setCurrentIndex(1)
    form = dock.fine_tune.form
    assert form.open_button.isVisible()
    user.click(form.open_button)
    recent, back = killed.recent(), form.annotation.data.copy()
    assert recent[-1].any()
    is_settled = (recent == recent[0]).all(axis=0)
    np.testing.assert_array_equal(back[is_settled], recent[-1][is_settled])
    assert (back == recent).any(axis=0).all()

    # And the run goes on to what it would have been.
    dock.pages.setCurrentIndex(0)
    user.click(row.go_on_button)
    user.wait_until(lambda: not dock.panel.is_running)
    words = dock.panel.message.toPlainText()
    assert words.startswith("Done"), words
    result, wanted = labels_of(output), uncut()
    np.testing.assert_array_equal(result, wanted)
    np.testing.assert_array_equal(done[done > 0], wanted[done > 0])


def paint_alike(layers: tuple[Labels, Labels], rng: np.random.Generator, number: int) -> None:
    """Draw the same stroke on two layers, or take back the last one."""
    if number % 9 == 8:
        for layer in layers:
            layer.undo()
        return
    z = int(rng.integers(28, 32))
    place, label = rng.uniform(40, 470, 2), int(rng.integers(0, 3))
    size = int(rng.integers(2, 30))
    steps = [place := place + rng.uniform(-9, 9, 2) for _ in range(4)]
    for layer in layers:
        layer.brush_size = size
        with layer.block_history():
            for y, x in steps:
                layer.paint((z, y, x), label)


def test_two_hundred_strokes_during_a_run_are_exact(
    user: Any,
    make_dock: Any,
    image: Path,
    tiny_model: Path,
    rng: np.random.Generator,
    qtbot: Any,
) -> None:
    dock = make_dock(arguments=ENGINE_ARGUMENTS["segment"], show=True)
    viewer = dock.panel._viewer
    stack = viewer.add_image(zarr.open_array(image, mode="r"), name="stack")
    dock.panel.form.add_model_file(tiny_model)
    user.choose(dock, region="all slices", output="next to the image")
    classes = (PaintClass("interior", "#0072b2"), PaintClass("membrane", "#e69f00"))
    strokes = new_annotation(viewer, stack, classes)
    plain = Labels(np.zeros(SHAPE, np.uint8))
    user.click(dock.panel.segment_button)
    user.wait_until(lambda: dock.panel.progress_bar.value() > 0)
    beside = 0
    for number in range(200):
        beside += dock.panel.is_running
        paint_alike((strokes, plain), rng, number)
        qtbot.wait(2)
    # How many depends on the machine: a fast one is done with the image before all are painted.
    assert beside >= 20
    if dock.panel.is_running:
        user.click(dock.panel.stop_button)
    keeper = keeper_of(strokes)
    assert keeper is not None
    keeper.flush()
    np.testing.assert_array_equal(strokes.data.copy(), plain.data)
    user.wait_until(lambda: not dock.panel.is_running)
    np.testing.assert_array_equal(strokes.data.copy(), plain.data)
    assert (plain.data == 1).any()
    assert (plain.data == 2).any()

"""Engine processes without napari: none is left behind, and a job that may go on does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_unet.core import train_events
from napari_unet.core.boxes import Box
from napari_unet.core.draft_events import DraftReady, DraftStarted, DraftStopped, StrokeScored
from napari_unet.core.events import (
    AlreadyDone,
    BlockDone,
    Cancelled,
    EngineReady,
    Failed,
    Finished,
    JobStarted,
    Paused,
    PyramidProgress,
    StageChanged,
    TileDone,
    Warned,
    event_to_json,
)
from napari_unet.core.train_events import Judged, PreviewReady, TrainingFinished, TrainingStarted
from napari_unet.widgets._events import EngineEvent, parse_event

BOX = Box((0, 1, 2), (3, 4, 5))
CLASSES = (("interior", "#3b6fb6"), ("membrane", "#e8a33d"))
EVENTS: tuple[EngineEvent, ...] = (
    EngineReady(1.5, "0.1"),
    StageChanged("loading"),
    JobStarted("o", "n", "l", "r", (3, 4, 5), BOX, 1, 2, 3, (1, 64, 64), "cpu", CLASSES),
    TileDone(BOX, True, 1, 27),
    BlockDone(BOX, 1),
    PyramidProgress(1, 2),
    Warned("careful"),
    Paused(True),
    AlreadyDone("o", "n", "l", CLASSES),
    Finished("o", "n", "l", 1.0, 27, 0, 0),
    Cancelled("o", 1, 2),
    Failed("i", "why"),
    TrainingStarted(
        "r", "o", None, CLASSES, ("membrane",), {"membrane": 3}, {"membrane": 1}, "v", "cpu", 1,
        64, None, 60.0,
    ),
    train_events.StepDone(1, 0.5, 0.001, 9.0),
    train_events.Validated(1, {"f1/membrane": 0.5}, True),
    train_events.Saved(1, "best.pt"),
    train_events.Stopped(1, "stopped"),
    PreviewReady(1, "p.npy", BOX, "b.npy"),
    Judged(
        "judging blocks", 12, "mean F1", 0.7, 0.8, 0.05, 0.15, "better", {"membrane": (None, 0.8)},
        "",
    ),
    TrainingFinished("m", "n", "r", "budget", "d", 3, 2, 1.5),
    DraftStarted("m", ("interior", "membrane"), 240, "cpu"),
    DraftReady("d.npy", BOX, 12, 0.4, ("interior", "membrane")),
    StrokeScored(12, 0.71, 0.88, {"membrane": (12, 0.71, 0.88)}),
    DraftStopped(3),
)  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_come_back_as_they_were(event: EngineEvent) -> None:
    import json

    assert parse_event(json.dumps(event_to_json(event)).encode()) == event


@pytest.mark.parametrize(
    "line",
    [b"", b"Downloading ...", b"[1, 2]", b"3", b'{"event": "from_the_future"}', b'{"event": 3}',
     b'{"event": "tile_done", "box": 3}', b'{"event": "warned"}', b"\xff\xfe"],
)  # fmt: skip
def test_what_is_no_event_is_passed_over(line: bytes) -> None:
    assert parse_event(line) is None


def test_a_newer_engine_may_say_more() -> None:
    assert parse_event(b'{"event": "paused", "paused": true, "reason": "night"}') == Paused(True)


SESSION = """
import os, sys
from qtpy.QtCore import QCoreApplication, QObject, QTimer
from napari_unet.core.job import SegmentJob
from napari_unet.widgets import _runner

ending, engine, image, output = sys.argv[1:]
app = QCoreApplication([])
_runner.ENGINE_ARGUMENTS["segment"] = (engine, "slow")
runner = _runner.JobRunner(QObject(app))
seen = []

def end():
    sys.stdout.write(f"{runner.process_id}\\n")
    sys.stdout.flush()
    if ending == "goes on":
        runner.close(let_job_go_on=True)
    if ending == "crashes idle":
        os._exit(1)
    app.quit()

def look(event):
    seen.append(type(event).__name__)
    if ending.endswith("idle"):
        QTimer.singleShot(0, end)
    elif seen[-1] == "EngineReady":
        runner.run(SegmentJob(input=image, model="fake", output=output, name="fake", axes="zyx"))
    elif seen.count("TileDone") == 2:
        QTimer.singleShot(0, end)

runner.reported.connect(look)
runner.warm_up()
app.exec()
"""
"""A napari in miniature: it starts an engine and ends in one of the ways that napari ends."""


@pytest.mark.parametrize("ending", ["ends idle", "crashes idle", "ends", "goes on"])
def test_what_is_left_when_napari_ends(
    user: Any, stored_stack: Any, stack: Any, tmp_path: Path, ending: str
) -> None:
    engine = Path(__file__).parent / "fake_engine.py"
    output = tmp_path / "out.zarr"
    session = subprocess.run(
        [sys.executable, "-c", SESSION, ending, engine, stored_stack.store.root, output],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    pid = int(session.stdout)
    assert user.is_alive(pid) == (ending == "goes on") or ending == "crashes idle"
    user.wait_until(lambda: not user.is_alive(pid))
    if ending == "goes on":
        labels = zarr.open_array(output / "labels" / "fake" / "0", mode="r")
        np.testing.assert_array_equal(labels[:], 1 + (stack > 127))

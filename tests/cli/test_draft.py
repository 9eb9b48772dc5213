"""`napari-unet draft`: driven line by line, as the panel does, and what it makes of other lines."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_unet.app.drafting.control import DraftControl
from napari_unet.cli.control_input import ControlError
from napari_unet.cli.draft import _listen as listen
from napari_unet.cli.draft import obey_draft
from napari_unet.cli.main import app
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.io.annotation_store import create_annotation_store

if TYPE_CHECKING:
    from collections.abc import Iterator

VIEW = '{"command": "viewport", "box": [[1, 0, 0], [2, 90, 70]]}'


def test_wishes_are_passed_on_and_the_newest_count() -> None:
    control = DraftControl()
    obey_draft(control, '{"command": "viewport", "box": [[0, 0, 0], [1, 2, 3]]}')
    obey_draft(control, VIEW)
    for start in (0, 5):
        boxes = [[[0, start, 0], [1, start + 1, 9]]]
        obey_draft(control, json.dumps({"command": "strokes", "boxes": boxes}))
    obey_draft(control, '{"command": "classes", "classes": ["a", "b"], "rename": {"x": "a"}}')
    wishes = control.take()
    assert wishes.view == Box((1, 0, 0), (2, 90, 70))
    assert wishes.strokes == [Box((0, 0, 0), (1, 1, 9)), Box((0, 5, 0), (1, 6, 9))]
    assert (wishes.classes, wishes.rename) == (("a", "b"), {"x": "a"})
    assert control.take().is_empty
    obey_draft(control, '{"command": "pause"}')
    assert control.paused
    obey_draft(control, '{"command": "stop"}')
    assert control.stopped
    assert not control.hung_up


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        '{"command": "explode"}',
        '{"command": ["viewport"]}',
        '{"command": "viewport", "box": [[0, 0], [1, 1]]}',
        '{"command": "viewport", "box": [[5, 0, 0], [1, 9, 9]]}',
        '{"command": "strokes"}',
        '{"command": "strokes", "boxes": [[[0, 0, 0]]]}',
        '{"command": "strokes", "boxes": 3}',
        '{"command": "strokes", "boxes": [[[0, 0, 0], [1, 1, Infinity]]]}',
        '{"command": "classes"}',
        '{"command": "classes", "classes": []}',
        '{"command": "classes", "classes": ["a", "a"]}',
        '{"command": "classes", "classes": ["a"], "rename": {"b": 3}}',
        "[" * 100_000,
    ],
)
def test_anything_else_is_reported_and_changes_nothing(line: str) -> None:
    control = DraftControl()
    with pytest.raises(ControlError):
        obey_draft(control, line)
    assert control.take().is_empty
    assert not control.stopped


def test_a_job_that_cannot_be_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"input": "a", "model": "b", "folder": ".", "classes": ["x", "x"]}))
    with pytest.raises(SystemExit) as ended:
        app(["draft", "--config", str(path)])
    assert ended.value.code == 2
    assert "named twice" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["{}", "[]", '"a"', "garbage"])
def test_a_line_that_is_no_job_is_a_usage_error(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
    with pytest.raises(SystemExit) as ended:
        app(["draft"])
    assert ended.value.code == 2
    assert "error: standard input holds" in capsys.readouterr().err


def test_it_ends_when_what_it_hears_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    control = DraftControl()
    heard = io.TextIOWrapper(io.BytesIO(VIEW.encode() + b"\n\xff\xfe\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", heard)
    monkeypatch.setattr("threading.excepthook", lambda args: None)
    listen(control)
    while not control.stopped:
        control.take(wait=True)
    assert control.hung_up


@pytest.fixture
def engine() -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "napari_unet", "draft", "--config", "-", "--progress", "json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as process:  # type: ignore[call-overload]  # text in pipes
        yield process
        process.kill()


def say(engine: subprocess.Popen[str], line: str) -> None:
    assert engine.stdin is not None
    engine.stdin.write(line + "\n")
    engine.stdin.flush()


def wait_for(engine: subprocess.Popen[str], name: str) -> dict[str, Any]:
    for line in engine.stdout or ():
        event: dict[str, Any] = json.loads(line)
        if event["event"] == name:
            return event
    raise AssertionError(f"the engine ended with {engine.wait()} before {name}")


def test_a_process_drafts_until_nobody_speaks_any_more(
    engine: subprocess.Popen[str], tmp_path: Path, stack_path: str, model: str
) -> None:
    classes = [ClassInfo(name=f"class {k}", color="#000000") for k in (1, 2)]
    store = create_annotation_store(tmp_path / "strokes.zarr", (3, 90, 70), classes)
    wait_for(engine, "engine_ready")
    job = {"input": stack_path, "model": model, "threads": 1, "device": "cpu"}
    paths = {"annotation": str(store.path), "folder": str(tmp_path)}
    say(engine, json.dumps({**job, **paths, "classes": ["class 1", "class 2"]}))
    assert wait_for(engine, "draft_started")["features"] == 4 + 4 + 8
    say(engine, "nonsense")
    say(engine, VIEW)
    before = wait_for(engine, "draft_ready")
    assert (before["learned"], before["box"]) == (0, {"start": [1, 0, 0], "stop": [2, 90, 70]})
    store.write(Box((1, 10, 10), (2, 20, 30)), np.ones((1, 10, 20), np.uint8))
    say(engine, '{"command": "strokes", "boxes": [[[1, 10, 10], [2, 20, 30]]]}')
    after = wait_for(engine, "draft_ready")
    assert after["learned"] == 200
    assert (np.load(Path(after["path"]))[0, 10:20, 10:30] == 1).mean() > 0.8
    assert wait_for(engine, "stroke_scored")["pixels"] == 200
    assert engine.stdin is not None
    engine.stdin.close()
    assert wait_for(engine, "draft_stopped")["drafts"] == 2
    assert engine.wait(10) == 0


def test_a_signal_ends_an_engine_that_waits(
    engine: subprocess.Popen[str], tmp_path: Path, stack_path: str, model: str
) -> None:
    job = {"input": stack_path, "model": model, "threads": 1, "device": "cpu"}
    say(engine, json.dumps({**job, "folder": str(tmp_path), "classes": ["class 1", "class 2"]}))
    say(engine, VIEW)
    wait_for(engine, "draft_ready")
    engine.send_signal(signal.SIGTERM)
    assert wait_for(engine, "draft_stopped")["drafts"] == 1
    assert engine.wait(10) == 130

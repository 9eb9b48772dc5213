"""The command export: exit codes, words, events, and signals."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from tests.results import write_result

from napari_unet.cli.main import app
from napari_unet.io.exporters import content

if TYPE_CHECKING:
    from pathlib import Path


def export(*words: str | Path) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        app(["export", *map(str, words)])
    return int(ended.value.code or 0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    labels = np.arange(3 * 40 * 30).reshape(3, 40, 30) % 3 + 1
    return write_result(tmp_path / "my out.zarr", labels.astype(np.uint8))


def test_every_option_reaches_the_file(
    out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a.tif"
    words = [out, "--format", "tiff", "--output", target, "--name", "tiny"]
    words += ["--region", "1:3,:,5:20", "--background", "membrane"]
    assert export(*words) == 0
    shown = capfd.readouterr()
    assert f"tiny (2 x 40 x 15, uint8) in {target}" in shown.err
    assert shown.out == "", "standard output belongs to programs"
    labels = (np.arange(3 * 40 * 30).reshape(3, 40, 30) % 3 + 1)[1:3, :, 5:20]
    np.testing.assert_array_equal(tifffile.imread(target), np.array([0, 1, 0, 2])[labels])
    assert export(*words) == 2
    assert "--overwrite" in capfd.readouterr().err
    assert export(*words, "--overwrite") == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--format", "gif"], 2, "format: "),
        (["--format", "mrc", "--what", "all"], 2, "what: "),
        (["--format", "mrc", "--progress", "loud"], 2, "loud"),
        (["--format", "mrc", "--channel", "1"], 2, "--what probabilities"),
        (["--format", "png", "--what", "probabilities"], 2, "PNG cannot hold"),
        (["--format", "mrc", "--what", "probabilities"], 3, "no probabilities"),
        (["--format", "mrc", "--what", "probabilities", "--background", "1"], 2, "leave it out"),
        (["--format", "mrc", "--name", "other"], 3, "choose with --name"),
        (["--format", "mrc", "--output", "a.h5"], 2, "change one of them"),
        ([], 2, "--format"),
    ],
)
def test_bad_options_end_with_a_sentence(
    words: list[str], code: int, message: str, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert export(out, *words) == code
    shown = capfd.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err


def test_a_missing_output_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path / "no.zarr", "--format", "tiff") == 3
    assert "no.zarr" in capfd.readouterr().err
    (tmp_path / "empty.zarr").mkdir()
    assert export(tmp_path / "empty.zarr", "--format", "tiff") == 3
    assert "holds no labels" in capfd.readouterr().err


def test_events_as_lines_of_json(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(out, "--format", "hdf5", "--progress", "json") == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [e["event"] for e in events if "progress" not in e["event"]] == [
        "stage_changed",
        "stage_changed",
        "export_finished",
    ]
    end = events[-1]
    assert (end["name"], end["dtype"], end["shape"]) == ("tiny", "uint8", [3, 40, 30])
    assert end["nbytes"] == os.path.getsize(end["output"])
    assert events[-2] == {"event": "export_progress", "done": 3600, "total": 3600}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_nothing(
    number: signal.Signals,
    out: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = content.Content.read

    def read_and_signal(self: content.Content, box: object) -> object:
        os.kill(os.getpid(), number)
        return read(self, box)  # type: ignore[arg-type]

    monkeypatch.setattr(content.Content, "read", read_and_signal)
    assert export(out, "--format", "tiff", "--progress", "none") == 130
    assert "cancelled" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_bar_is_drawn_and_goes(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(out, "--format", "mrc", "--progress", "bar") == 0
    assert "tiny (3 x 40 x 30, int8)" in " ".join(capfd.readouterr().err.split())

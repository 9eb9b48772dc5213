"""The command as a person or a program calls it: output, exit codes, events, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_unet.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "napari_unet"]


def call(*words: str) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        app(list(words))
    return int(ended.value.code or 0)


def segment(*words: str, progress: str = "none") -> int:
    return call("segment", *words, "--progress", progress)


def events_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_several_inputs_one_of_them_bad(
    tmp_path: Path,
    stack: np.ndarray,
    stack_path: str,
    model: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tifffile.imwrite(tmp_path / "b.tif", stack[0])
    out = tmp_path / "many"
    code = segment(
        stack_path,
        str(tmp_path / "no.tif"),
        str(tmp_path / "b.tif"),
        "--model",
        model,
        "--output",
        str(out),
    )
    assert code == 3
    assert "no.tif" in capfd.readouterr().err
    assert sorted(path.name for path in out.glob("*.zarr")) == ["b.zarr", "my stack.zarr"]
    assert (zarr.open_array(out / "b.zarr/labels/tiny/0", mode="r")[:] > 0).all()
    records = sorted(path.name for path in out.glob("*.unet.json"))
    assert records == ["b.tiny.unet.json", "tiny.unet.json"], "no record overwrites another"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--region", "0:1"], 2, "region"),
        (["--device", "gpu"], 2, "device"),
        (["--axes", "abc"], 2, "--axes"),
        (["--rescale", "fast"], 2, "auto, off, or a factor"),
        (["--progress", "loud"], 2, "loud"),
        (["--config", "/no/such.toml"], 2, "such.toml"),
    ],
)
def test_bad_options_end_with_2_and_a_sentence(
    tmp_path: Path,
    stack_path: str,
    model: str,
    options: list[str],
    code: int,
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = ["segment", stack_path, "--model", model, "--output", str(tmp_path / "o.zarr")]
    assert call(*words, "--progress", "none", *options) == code
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_missing_image_ends_with_3(
    tmp_path: Path, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert segment(str(tmp_path / "no.zarr"), "--model", model, "--output", "o.zarr") == 3
    assert "no.zarr" in capfd.readouterr().err


def test_the_same_command_again_says_that_it_is_done(
    tmp_path: Path, stack_path: str, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [stack_path, "--model", model, "--output", str(tmp_path / "o.zarr")]
    assert segment(*words, progress="auto") == 0
    first = capfd.readouterr()
    assert "labels in" in first.err
    assert first.out == "", "standard output belongs to programs"
    assert segment(*words, progress="auto") == 0
    assert "nothing to do" in capfd.readouterr().err
    assert segment(*words, "--probabilities") == 2
    assert "--overwrite" in capfd.readouterr().err


def test_a_tile_size_that_is_not_legal_is_said(
    tmp_path: Path, stack_path: str, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [stack_path, "--model", model, "--output", str(tmp_path / "o.zarr")]
    assert segment(*words, "--tile-size", "33") == 0
    assert "33 was taken to 32" in capfd.readouterr().err


def test_a_saved_config_gives_the_same_labels(tmp_path: Path, stack_path: str, model: str) -> None:
    config = tmp_path / "job.toml"
    words = [stack_path, "--model", model, "--region", "0:1,:,:", "--tile-size", "32"]
    assert segment(*words, "--output", str(tmp_path / "a.zarr"), "--save-config", str(config)) == 0
    assert segment("--config", str(config), "--output", str(tmp_path / "b.zarr")) == 0
    first, second = (
        zarr.open_array(tmp_path / name / "labels/tiny/0", mode="r")[:]
        for name in ("a.zarr", "b.zarr")
    )
    np.testing.assert_array_equal(first, second)
    assert (np.asarray(second[0]) > 0).all()
    assert not np.asarray(second[1:]).any()


def test_a_dry_run_counts_and_writes_nothing(
    tmp_path: Path, stack_path: str, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.zarr"
    words = [stack_path, "--model", model, "--output", str(out), "--tile-size", "32", "--dry-run"]
    assert segment(*words, progress="json") == 0
    (cost,) = events_in(capfd.readouterr().out)
    assert cost["tiles"] == 3 * 3 * 3
    assert cost["pixels"] == 3 * 90 * 70
    assert cost["tile"] == 32
    assert cost["redundancy"] == pytest.approx((72 / 32) ** 2)
    assert segment(*words, progress="auto") == 0
    assert "27 with a write box of 32 x 32" in capfd.readouterr().out
    assert not out.exists()


def test_a_dry_run_says_what_is_to_know(
    tmp_path: Path, stack_path: str, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [stack_path, "--model", model, "--output", str(tmp_path / "o.zarr"), "--dry-run"]
    assert segment(*words, "--rescale", "0.5", "--tile-size", "16", progress="auto") == 0
    assert "write box of 30 x 24 pixels" in capfd.readouterr().out, "90 and 70 in equal parts"
    assert segment(*words, "--tile-size", "33", progress="auto") == 0
    assert "note    tile size 33 was taken to 32" in capfd.readouterr().out


def test_the_bar_shows_and_ends(
    tmp_path: Path, stack_path: str, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [stack_path, "--model", model, "--output", str(tmp_path / "o.zarr")]
    assert segment(*words, progress="bar") == 0
    assert "labels in" in " ".join(capfd.readouterr().err.split())


def test_models_are_listed_and_shown(model: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("models", "list") == 0
    capfd.readouterr()
    assert call("models", "show", model) == 0
    assert "1=class 1, 2=class 2" in capfd.readouterr().out
    assert call("models", "show", model, "--json") == 0
    assert json.loads(capfd.readouterr().out)["architecture"]["depth"] == 2
    assert call("models", "show", "nothing") == 2
    assert "there is no model 'nothing'" in capfd.readouterr().err


def test_the_warm_engine_takes_a_job_and_control_lines(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = {
        "input": stack_path,
        "model": model,
        "output": str(tmp_path / "o.zarr"),
        "tile_size": 16,
        "block_size": 32,
    }
    with subprocess.Popen(
        [*COMMAND, "segment", "--config", "-", "--progress", "json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["event"] == "engine_ready"
        for message in (job, {"command": "pause"}):
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            if json.loads(line) == {"event": "paused", "paused": True}:
                break
        process.stdin.write('nonsense\n{"command": "resume"}\n')
        process.stdin.flush()
        seen = []
        for line in process.stdout:
            seen.append(json.loads(line)["event"])
            if seen.count("tile_done") == 3:
                process.stdin.write('{"command": "stop"}\n')
                process.stdin.flush()
        assert process.wait(30) == 130
        assert seen[0] == "paused"
        assert seen[-1] == "cancelled"
        assert "not understood" in process.stderr.read()


def test_the_warm_engine_leaves_when_no_job_comes() -> None:
    ended = subprocess.run(
        [*COMMAND, "segment", "--config", "-", "--progress", "json"],
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0
    assert [event["event"] for event in events_in(ended.stdout)] == ["engine_ready"]
    assert ended.stderr == ""


def test_a_job_outlives_the_program_that_reads_its_events(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    words = [
        stack_path,
        "--model",
        model,
        "--output",
        str(tmp_path / "o.zarr"),
        "--tile-size",
        "16",
    ]
    with subprocess.Popen(
        [*COMMAND, "segment", *words, "--progress", "json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdin.close()
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    labels = np.asarray(zarr.open_array(tmp_path / "o.zarr/labels/tiny/0", mode="r")[:])
    assert (labels > 0).all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_next_tile(
    tmp_path: Path, stack_path: str, model: str, number: signal.Signals
) -> None:
    words = [
        stack_path,
        "--model",
        model,
        "--output",
        str(tmp_path / "o.zarr"),
        "--tile-size",
        "4",
        "--progress",
        "json",
    ]
    with subprocess.Popen(
        [*COMMAND, "segment", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "tile_done":
                os.kill(process.pid, number)
                break
        last = [json.loads(line) for line in process.stdout][-1]
        assert process.wait(30) == 130
        assert process.stderr.read() == ""
    assert last["event"] == "cancelled"
    assert last["tiles_done"] < last["tiles"]

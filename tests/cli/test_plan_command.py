"""`napari-unet plan`: the options of `segment`, numbers for people and for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from napari_unet.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app(list(words))
    return int(ended.value.code or 0)


@pytest.fixture
def words(tmp_path: Path, stack_path: str, model: str) -> list[str]:
    out = tmp_path / "out.zarr"
    return ["plan", stack_path, "--model", model, "--output", str(out), "--threads", "1"]


def test_it_says_the_numbers_and_the_command(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words, "--block-size", "48", "--workers", "1,4") == 0
    said = capsys.readouterr().out
    for word in ("tiles", "blocks   12", "memory", "disk", "other machines differ", "4 workers"):
        assert word in said
    assert "napari-unet segment" in said
    assert "--block-size 48" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my stack.zarr", "tiny.safetensors"]


def test_it_takes_the_options_and_job_files_of_segment(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.toml").write_text('region = "0:1,:,:"\nprobabilities = true\n')
    options = ["--config", str(tmp_path / "job.toml"), "--probability-type", "float16"]
    assert call(*words, *options, "--no-measure", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["region"].startswith("0:1")
    assert plan["measured"] is None
    assert plan["hours"] == [{"workers": 1, "hours": None}]
    assert plan["command"][-3:] == ["--probabilities", "--probability-type", "float16"]


def test_a_script_is_written_for_the_largest_number_of_workers(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run array.sh"
    options = ["--block-size", "48", "--workers", "2,6", "--no-measure"]
    assert call(*words, *options, "--slurm", str(path), "--json") == 0
    assert "--array=1-6\n" in path.read_text()
    assert json.loads(capsys.readouterr().out)["slurm"] == str(path)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--workers", "many"], 2, "1,8,64"),
        (["--workers", "0"], 2, "from 1 to"),
        (["--config", "-"], 2, "job file"),
        (["--region", "0:1"], 2, "region"),
        (["--model", "no-such-model"], 2, "no-such-model"),
    ],
)
def test_mistakes_are_named(
    words: list[str],
    options: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(*words, *options) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_missing_image_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan") == 2
    assert "IMAGE" in capsys.readouterr().err

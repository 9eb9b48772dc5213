"""``segment --shard`` and ``finish`` as commands: what they print and how they exit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from napari_unet.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def segment(tmp_path: Path, stack_path: str, model: str) -> list[str]:
    """Return the command that segments the small stack."""
    return [
        *("segment", stack_path, "--model", model, "--output", str(tmp_path / "out.zarr")),
        *("--block-size", "48", "--tile-size", "48", "--threads", "1"),
    ]


def test_shards_and_finish_end_with_zero_and_say_what_is_next(
    tmp_path: Path, segment: list[str]
) -> None:
    out = str(tmp_path / "out.zarr")
    first = call(*segment, "--shard", "1/2")
    assert first.exit_code == 0
    assert "shard 1/2: 6 blocks done" in first.stderr
    assert f"napari-unet finish {out}" in first.stderr
    missing = call("finish", out)
    assert missing.exit_code == 3
    assert "6 of 12 blocks of 'tiny' are missing; run the job again with --shard 2/2" in (
        missing.stderr
    )
    assert call(*segment, "--shard", "2/2").exit_code == 0
    finished = call("finish", out, "--name", "tiny", "--progress", "json")
    assert finished.exit_code == 0
    events = [json.loads(line)["event"] for line in finished.stdout.splitlines()]
    assert events == ["stage_changed", "stage_changed", "stage_changed", "finished"]
    assert "already holds" in call("finish", out).stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shard", "3/2"], "there is no shard 3/2"),
        (["--shard", "2"], "i/N"),
        (["--shard", "1/2", "--overwrite"], "delete what the others made"),
        (["--shard", "1/2", "--workers", "2"], "not both"),
        (["--workers", "0"], "workers"),
    ],
)
def test_what_cannot_be_meant_is_refused(segment: list[str], options: list[str], said: str) -> None:
    result = call(*segment, *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_finish_refuses_what_is_not_there(tmp_path: Path) -> None:
    result = call("finish", str(tmp_path / "nothing.zarr"))
    assert result.exit_code == 3
    assert "there is no output" in result.stderr
    assert call("finish", "x", "--progress", "loud").exit_code == 2


def test_a_dry_run_says_how_much_is_the_shards(segment: list[str]) -> None:
    assert "shard   2/5: 2 of these blocks" in call(*segment, "--shard", "2/5", "--dry-run").stdout
    planned = call(*segment, "--shard", "2/5", "--dry-run", "--progress", "json")
    assert json.loads(planned.stdout)["shard_blocks"] == 2

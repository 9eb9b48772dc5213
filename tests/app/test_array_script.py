"""The SLURM script: bash understands it, and each of its jobs runs the right command."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from napari_unet.app.array_script import array_script, write_array_script
from napari_unet.app.foresee import foresee
from napari_unet.app.foreseeing.timing import MeasuredTile
from napari_unet.app.segment import run_job
from napari_unet.cli.main import app
from napari_unet.core.job import SegmentJob
from napari_unet.errors import ConfigError, StorageError
from napari_unet.io.output_state import read_output_state

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.app.foresee import Foresight

FAKE = '#!/bin/bash\nprintf "%s\\n" "$@"\n'


def foresight_of(tmp_path: Path, stack_path: str, model: str, **options: Any) -> Foresight:
    fields = {"input": stack_path, "model": model, "output": str(tmp_path / "out's.zarr")}
    fields |= {"block_size": 48, "name": "found"} | options
    return foresee(SegmentJob.parse(fields, source="test"), measure=False)


def timed(foresight: Foresight, device: str, seconds: float = 600.0) -> Foresight:
    measured = MeasuredTile(device, "here", 4, 1, seconds, None)
    return replace(foresight, measured=measured)


def words_of(script: str, tmp_path: Path, task: int) -> list[str]:
    """Run a script as SLURM runs one job of an array; return what the command is given."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "napari-unet").write_text(FAKE)
    (folder / "napari-unet").chmod(0o755)
    path = tmp_path / "run.sh"
    path.write_text(script)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    environment["SLURM_ARRAY_TASK_ID"] = str(task)
    done = subprocess.run(
        ["bash", str(path)], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_each_job_computes_its_shard_and_job_0_finishes(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    foresight = timed(foresight_of(tmp_path, stack_path, model), "cpu (4 threads)")
    script = array_script(foresight, 3, "run.sh")
    output = str(tmp_path / "out's.zarr")
    words = words_of(script, tmp_path, 2)
    assert words[:2] == ["segment", stack_path]
    assert words[words.index("--output") + 1] == output
    assert words[words.index("--threads") + 1] == "4"
    assert words[words.index("--device") + 1] == "cpu"
    assert words[-2:] == ["--shard", "2/3"]
    assert words_of(script, tmp_path, 0) == ["finish", output, "--name", "found"]


def test_the_commands_make_the_result_of_one_run(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    foresight = timed(foresight_of(tmp_path, stack_path, model, tile_size=48), "cpu (1 threads)")
    foresight = replace(foresight, measured=replace(foresight.measured, threads=1))
    script = array_script(foresight, 2, "run.sh")
    for task in (2, 1, 0):
        result = CliRunner().invoke(app, words_of(script, tmp_path, task))
        assert result.exit_code == 0, result.output
    whole = foresight.plan.job.model_copy(update={"output": str(tmp_path / "w.zarr"), "threads": 1})
    for _ in run_job(whole):
        pass
    outputs = (foresight.plan.job.output, whole.output)
    first, second = (zarr.open_array(f"{out}/labels/found/0", mode="r")[:] for out in outputs)
    assert np.array_equal(first, second)
    state = read_output_state(foresight.plan.job.output, "found")
    assert state is not None
    assert state.state == "complete"
    complete = foresight_of(tmp_path, stack_path, model, tile_size=48)
    with pytest.raises(ConfigError, match="complete already"):
        array_script(complete, 2, "run.sh")


def test_a_gpu_is_asked_for_where_one_was_measured(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    foresight = timed(foresight_of(tmp_path, stack_path, model), "cuda:0 (NVIDIA H100)")
    script = array_script(foresight, 2, "run.sh")
    assert "#SBATCH --gres=gpu:1" in script
    words = words_of(script, tmp_path, 1)
    assert words[words.index("--device") + 1] == "cuda"


@pytest.mark.parametrize(
    ("seconds", "limit"), [(1.0, "0-01:00:00"), (3600.0, "0-18:00:00"), (36000.0, "7-12:00:00")]
)
def test_the_time_limit_has_a_margin(
    tmp_path: Path, stack_path: str, model: str, seconds: float, limit: str
) -> None:
    # 12 blocks of one tile each in one job.
    foresight = timed(foresight_of(tmp_path, stack_path, model, tile_size=48), "cpu", seconds)
    assert f"#SBATCH --time={limit}\n" in array_script(foresight, 1, "run.sh")


def test_unmeasured_hours_get_a_day(tmp_path: Path, stack_path: str, model: str) -> None:
    script = array_script(foresight_of(tmp_path, stack_path, model), 4, "run.sh")
    assert "#SBATCH --time=1-00:00:00\n" in script
    assert "#SBATCH --array=1-4\n" in script
    memory = re.search(r"--mem=(\d+)G", script)
    assert memory
    assert 1 <= int(memory.group(1)) <= 2


def test_the_finishing_job_has_memory_for_the_whole_ledger(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    foresight = foresight_of(tmp_path, stack_path, model)
    many = replace(foresight, cost=replace(foresight.cost, blocks=20_000_000))
    script = array_script(many, 1000, "run.sh")
    finishing, computing = (int(n) for n in re.findall(r"--mem=(\d+)G", script))
    assert computing <= 2
    assert finishing >= 8


def test_a_name_with_a_line_break_does_not_end_the_comment(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    foresight = foresight_of(tmp_path, stack_path, model)
    script = array_script(foresight, 1, "a\nrm -rf b.sh")
    commands = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert not any("rm" in shlex.split(line)[0] for line in commands)


@pytest.mark.parametrize(
    ("options", "shards", "message"),
    [({"overwrite": True}, 2, "--overwrite"), ({}, 13, "13 workers for 12 blocks")],
)
def test_what_shards_cannot_do_is_refused(
    tmp_path: Path,
    stack_path: str,
    model: str,
    options: dict[str, Any],
    shards: int,
    message: str,
) -> None:
    foresight = foresight_of(tmp_path, stack_path, model, **options)
    with pytest.raises(ConfigError, match=message):
        array_script(foresight, shards, "run.sh")


def test_a_script_that_cannot_be_written_is_said(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    with pytest.raises(StorageError, match="script"):
        write_array_script(tmp_path / "no" / "run.sh", foresight_of(tmp_path, stack_path, model), 1)

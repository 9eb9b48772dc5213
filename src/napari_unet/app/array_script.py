"""A batch script for a SLURM cluster: one job per shard of a run, and one that finishes it."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from napari_unet.app.job_files import command_line
from napari_unet.errors import ConfigError, StorageError
from napari_unet.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.app.foresee import Foresight

UNKNOWN_HOURS = 24
"""Time limit of a job whose hours were not measured."""

TIME_MARGIN = 1.5
"""Time limit over the estimate: nodes differ, and a job that is cut off has to wait again."""

MEMORY_MARGIN = 1.25
"""Memory limit over the estimate; a scheduler kills what goes beyond."""

LEDGER_BYTES = 400
"""Memory of an entry of the ledger, with room for putting shards together (measured: 213)."""

WARNING_SECONDS = 120
"""How long before its end a job is told to finish its block and stop."""


def write_array_script(path: Path, foresight: Foresight, shards: int) -> None:
    """Write the script, see `array_script`.

    Raises
    ------
    ConfigError
        If the job cannot be run in shards.
    StorageError
        If the file cannot be written.
    """
    text = array_script(foresight, shards, path.name)
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise StorageError(f"script {path} cannot be written: {error.strerror}") from error


def array_script(foresight: Foresight, shards: int, file_name: str) -> str:
    """Return a batch script whose array has one job per shard, and a job 0 that finishes the run.

    Parameters
    ----------
    foresight : Foresight
        The run.
    shards : int
        Into how many parts the run is divided.
    file_name : str
        What the script will be called, for its comments.

    Raises
    ------
    ConfigError
        If the job replaces its output: each job of the array would do so; if there are more shards
        than blocks; or if the output was begun in another number of shards.
    """
    _require_shards(foresight, shards)
    plan, cost = foresight.plan, foresight.cost
    memory = _gigabytes(cost.memory_bytes + LEDGER_BYTES * cost.blocks // shards)
    objects = 0 if foresight.objects is None else foresight.objects.memory_bytes
    finishing = _gigabytes(max(cost.memory_bytes, objects) + LEDGER_BYTES * cost.blocks)
    # repr: a name with a line break must not end the comment.
    script = repr(file_name)
    lines = [
        "#!/bin/bash",
        f"# {cost.blocks} blocks of {plan.job.input!r}, in {shards} jobs that share one output.",
        "# Compute, then finish once all of them have ended well:",
        f"#   job=$(sbatch --parsable {script})",
        f"#   sbatch --dependency=afterok:$job --array=0 --mem={finishing}G {script}",
        "# If one of them ended early, submit both again: what is done stays done.",
        f"#SBATCH --job-name={plan.name}",
        f"#SBATCH --array=1-{shards}",
        *_resources(foresight, memory),
        f"#SBATCH --time={_time_limit(foresight.hours(shards))}",
        "# Told some time before its end, a job finishes its block and stops.",
        f"#SBATCH --signal=B:TERM@{WARNING_SECONDS}",
        "set -eu",
        "# Load or activate the environment of napari-unet here, if the nodes need it.",
        'if [ "$SLURM_ARRAY_TASK_ID" -eq 0 ]; then',
        f"    exec {shlex.join(finish_command(foresight))}",
        "fi",
        f'exec {shlex.join(shard_command(foresight))} --shard "$SLURM_ARRAY_TASK_ID/{shards}"',
    ]
    return "\n".join(lines) + "\n"


def _require_shards(foresight: Foresight, shards: int) -> None:
    """Refuse what jobs that share an output cannot do."""
    blocks, begun = foresight.cost.blocks, foresight.begun
    if foresight.plan.job.overwrite:
        raise ConfigError(
            "--slurm does not go with --overwrite: every job of the array would begin anew; delete "
            "the old output, or give another --name or --output"
        )
    if shards > blocks:
        raise ConfigError(
            f"{shards} workers for {blocks} blocks: give at most {blocks}, or a smaller "
            "--block-size"
        )
    if begun is not None and begun.state == "complete":
        raise ConfigError(
            f"{foresight.plan.job.output} is complete already: there is nothing to run"
        )
    if begun is not None and begun.shards != shards:
        how = "without shards" if begun.shards is None else f"in {begun.shards} shards"
        remedy = "" if begun.shards is None else f"--workers {begun.shards}, "
        raise ConfigError(
            f"the run was begun {how}, so it cannot go on in {shards} shards: give {remedy}another "
            "--name or another --output"
        )


def finish_command(foresight: Foresight) -> list[str]:
    """Return the command that finishes a run whose shards are done."""
    plan = foresight.plan
    return ["napari-unet", "finish", plan.job.output, "--name", plan.name]


def shard_command(foresight: Foresight) -> list[str]:
    """Return the command that computes a shard, but for its ``--shard``.

    Device and threads are those that were measured: a node without a GPU must fail, not compute
    slowly, and equal threads give equal bytes.
    """
    job, measured = foresight.plan.job, foresight.measured
    device = _device(foresight)
    changed: dict[str, str | int] = {} if device == "auto" else {"device": device}
    if device == "cpu" and measured is not None:
        changed["threads"] = job.threads or measured.threads
    return list(command_line(job.model_copy(update=changed)))


def _device(foresight: Foresight) -> str:
    measured, wanted = foresight.measured, foresight.plan.job.device
    if wanted != "auto" or measured is None:
        return wanted
    return measured.device.split(" ", maxsplit=1)[0].partition(":")[0]


def _resources(foresight: Foresight, memory: int) -> list[str]:
    measured, job = foresight.measured, foresight.plan.job
    threads = job.threads or (measured.threads if measured is not None else 1)
    lines = [f"#SBATCH --cpus-per-task={threads} --mem={memory}G"]
    if _device(foresight).startswith("cuda"):
        lines.append("#SBATCH --gres=gpu:1")
    return lines


def _gigabytes(nbytes: int) -> int:
    return math.ceil(nbytes * MEMORY_MARGIN / 2**30)


def _time_limit(hours: float | None) -> str:
    """Return days-hours:minutes:seconds, in whole hours."""
    limit = UNKNOWN_HOURS if hours is None else max(1, math.ceil(hours * TIME_MARGIN))
    days, rest = divmod(limit, 24)
    return f"{days}-{rest:02}:00:00"

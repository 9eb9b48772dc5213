"""``napari-unet plan``: what a big run will take, before it is begun."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from napari_unet.cli.exit_codes import exit_code
from napari_unet.cli.job_input import STANDARD_INPUT, config_values
from napari_unet.cli.options import JsonOption
from napari_unet.cli.progress import make_reporter
from napari_unet.cli.segment import make_jobs, segment
from napari_unet.errors import ConfigError, UNetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_unet.app.foresee import Foresight
    from napari_unet.core.job import SegmentJob

NOT_OF_A_PLAN = {
    "inputs",
    "save_config",
    "dry_run",
    "progress",
    "workers",
    "shard",
    "scheduler",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "insecure_cluster",
    "cluster",
    "jobs",
}
"""Parameters of `segment` that say how it runs, not what is computed."""

MAX_WORKERS = 100_000


def _own(
    image: Annotated[
        str | None, typer.Argument(metavar="IMAGE", help="Image, as for `segment`.")
    ] = None,
    workers: Annotated[
        str, typer.Option(help="Numbers of workers to give the hours for, e.g. 1,8,64.")
    ] = "1",
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Time one tile on this machine.")
    ] = True,
    as_json: JsonOption = False,
    slurm: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a SLURM script with as many jobs as the largest of --workers.",
        ),
    ] = None,
) -> None:
    """Declare the options that only `plan` has."""


def _with_options_of_segment(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the options of `segment`, too, described as there."""
    joined: dict[str, inspect.Parameter] = {}
    for function, left_out in ((_own, set()), (segment, NOT_OF_A_PLAN)):
        hints = get_type_hints(function, include_extras=True)
        for name, parameter in inspect.signature(function).parameters.items():
            if name not in left_out:
                joined[name] = parameter.replace(
                    annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY
                )
    # typer reads a command's parameters from these two.
    command.__annotations__ = {name: item.annotation for name, item in joined.items()}
    command.__signature__ = inspect.Signature(list(joined.values()))  # type: ignore[attr-defined]  # functions may have it
    return command


@_with_options_of_segment
def plan(**given: Any) -> None:
    """Say what a big run will take: tiles, memory, disk, hours.

    Also says how to start it. Takes the options of `segment`. One tile is timed on this machine;
    nothing is computed for the output, and nothing is written but the script that --slurm names.
    """
    options = {key: value for key, value in given.items() if value is not None}
    own = {name: options.pop(name, None) for name in inspect.signature(_own).parameters}
    options.pop("ctx", None)
    try:
        workers = parse_workers(own["workers"])
        job = _job(options.pop("config", None), options, own["image"])
        foresight = _foresee(job, workers, measure=own["measure"])
        if own["slurm"] is not None:
            from napari_unet.app.array_script import write_array_script

            write_array_script(own["slurm"], foresight, max(workers))
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    if own["as_json"]:
        slurm = None if own["slurm"] is None else str(own["slurm"])
        print(json.dumps(foresight.to_json() | {"slurm": slurm}, indent=2))
        return
    for line in describe(foresight):
        print(line)
    if own["slurm"] is not None:
        script = shlex.quote(str(own["slurm"]))
        print(f"  slurm    sbatch {script}; its first lines say how to finish the run")


def parse_workers(text: str) -> tuple[int, ...]:
    """Return numbers of workers.

    Raises
    ------
    ConfigError
        If they are not positive whole numbers.

    Examples
    --------
    >>> parse_workers("1,8,64")
    (1, 8, 64)
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= MAX_WORKERS for word in words):
        raise ConfigError(
            f"--workers {text!r}: write whole numbers from 1 to {MAX_WORKERS}, such as 1,8,64"
        )
    return tuple(int(word) for word in words)


def _job(config: str | None, options: dict[str, Any], image: str | None) -> SegmentJob:
    if config == STANDARD_INPUT:
        raise ConfigError("--config - is for programs that run jobs; give plan a job file")
    with_file = config_values(config, make_reporter("none"), lambda: None)
    jobs = make_jobs(with_file | options, [] if image is None else [image])
    if not jobs:
        raise ConfigError("IMAGE is missing; see napari-unet plan --help")
    return jobs[0]


def _foresee(job: SegmentJob, workers: tuple[int, ...], *, measure: bool) -> Foresight:
    from napari_unet.app.foresee import foresee

    return foresee(job, workers, measure=measure)


def describe(foresight: Foresight) -> Iterator[str]:
    """Yield the numbers of a run as lines for people."""
    from rich.filesize import decimal

    plan, cost, storage = foresight.plan, foresight.cost, foresight.storage
    _, height, width = plan.grid.tile_shape
    shape = " x ".join(map(str, plan.source.shape[-len(plan.source.spatial_axes) :]))
    yield f"{plan.job.input} with {plan.model.name} -> {plan.job.output}"
    yield f"  image    {shape} voxels of {plan.source.dtype}"
    yield f"  tiles    {cost.tiles:,} with a write box of {height} x {width} pixels"
    yield f"  blocks   {cost.blocks:,}; {cost.pixels / 1e6:,.2f} Mpx to write"
    yield f"  reading  {cost.redundancy:.2f} pixels per pixel written"
    yield f"  memory   about {cost.memory_bytes / 1e9:.1f} GB for each worker"
    yield (
        f"  disk     at most {decimal(storage.labels_bytes)}, with probabilities "
        f"{decimal(storage.probabilities_bytes)}; {decimal(storage.free_bytes)} are free"
    )
    yield f"  files    at most {storage.files:,}; {storage.files_sharded:,} with --shards"
    if foresight.objects is not None:
        objects = foresight.objects
        yield (
            f"  objects  then in {objects.blocks:,} blocks: about "
            f"{objects.memory_bytes / 1e9:.1f} GB of memory, at most "
            f"{decimal(objects.disk_bytes)} of disk, and as much for scratch meanwhile"
        )
    yield from _describe_begun(foresight)
    yield from _describe_time(foresight)
    for note in foresight.notes:
        yield f"  note     {note}"
    yield f"  start    {shlex.join(foresight.to_json()['command'])}"


def _describe_begun(foresight: Foresight) -> Iterator[str]:
    begun = foresight.begun
    if begun is None:
        return
    if begun.state == "complete":
        yield "  done     all of it: the output is complete"
        return
    who = begun.last_run
    by = f", last by process {who['pid']} on {who['host']} since {who['started']}" if who else ""
    failed = f", {begun.blocks_failed:,} failed" if begun.blocks_failed else ""
    yield f"  done     {begun.blocks_done:,} of {foresight.cost.blocks:,} blocks{failed}{by}"


def _describe_time(foresight: Foresight) -> Iterator[str]:
    measured = foresight.measured
    if measured is None:
        yield "  time     not measured"
        return
    reading = (
        "" if measured.reading_seconds is None else f", {measured.reading_seconds:.3f} s to read it"
    )
    yield (
        f"  measured {measured.network_seconds:.3f} s for a tile{reading}: {measured.device} of "
        f"{measured.machine}; other machines differ"
    )
    for workers in foresight.workers:
        hours = foresight.hours(workers)
        if hours is not None:
            name = "1 worker" if workers == 1 else f"{workers} workers, each with a device like it"
            yield f"  time     {_duration(hours)} with {name}"


def _duration(hours: float) -> str:
    """Return a time in words.

    Examples
    --------
    >>> [_duration(hours) for hours in (400, 3, 0.1, 0.001)]
    ['400 h (16.7 days)', '3.0 h', '6.0 min', '4 s']
    """
    if hours >= 48:
        return f"{hours:,.0f} h ({hours / 24:,.1f} days)"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"

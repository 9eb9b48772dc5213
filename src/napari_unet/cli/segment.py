"""``napari-unet segment``: images in, label images out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_unet.cli.early import check_before_loading, check_zarr_name
from napari_unet.cli.exit_codes import CANCELLED, DONE, FAILED, exit_code
from napari_unet.cli.job_input import checked_kind, config_values
from napari_unet.cli.options import (
    AverageOption,
    ChannelOption,
    DeviceOption,
    DryRunOption,
    InputAxesOption,
    LevelOption,
    NormalizationOption,
    PrecisionOption,
    ProgressOption,
    SaveConfigOption,
    Tf32Option,
    ThreadsOption,
    TimeOption,
)
from napari_unet.cli.progress import Reporter, make_reporter
from napari_unet.errors import ConfigError, UNetError

if TYPE_CHECKING:
    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.job import SegmentJob
    from napari_unet.inference.control import JobControl


def segment(
    ctx: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Images: zarr, OME-Zarr, TIFF, PNG, JPEG, .npy, HDF5, MRC, or a folder of slices.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name of a model (see `models list`) or its file.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="OME-Zarr to write; for several inputs a folder with one zarr each."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the label image. [default: the model's]")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="Part to segment, in voxels.", metavar="z0:z1,y0:y1,x0:x1"),
    ] = None,
    axes: InputAxesOption = None,
    channel: ChannelOption = None,
    level: LevelOption = None,
    time: TimeOption = None,
    tile_size: Annotated[
        int | None,
        typer.Option(help="Edge of a tile's write box; taken to the nearest legal value."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Tiles computed together.")] = None,
    block_size: Annotated[
        int | None, typer.Option(help="Edge of a block, the unit of writing.")
    ] = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    tf32: Tf32Option = None,
    average: AverageOption = None,
    rescale: Annotated[
        str | None,
        typer.Option(
            help="Rescale the image to the model's voxel size: auto, off, or a factor (0.5 halves "
            "the image)."
        ),
    ] = None,
    normalization: NormalizationOption = None,
    probabilities: Annotated[
        bool | None, typer.Option("--probabilities", help="Also write class probabilities.")
    ] = None,
    probability_type: Annotated[
        str | None, typer.Option(help="How they are stored: float32 or float16.")
    ] = None,
    output_kind: Annotated[
        str | None,
        typer.Option(
            help="classes, or instances: then also the objects and their table, as `objects` finds "
            "them; probabilities are kept."
        ),
    ] = None,
    shards: Annotated[
        bool | None, typer.Option("--shards", help="One file per block instead of per chunk.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="i/N",
            help="Compute one of N equal parts of the blocks, beside processes that compute the "
            "others; then run `finish`.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that compute blocks at the same time, with GPUs one each. Needs the "
            "extra distributed."
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tls://HOST:PORT",
            help="Compute with the workers of this dask scheduler. Needs the extra distributed.",
        ),
    ] = None,
    tls_ca: Annotated[
        str | None,
        typer.Option(help="Certificate of the authority behind --scheduler. [default: dask's]"),
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(help="Own certificate for --scheduler. [default: dask's]")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(help="Own key for --scheduler. [default: dask's]")
    ] = None,
    insecure_cluster: Annotated[
        bool | None,
        typer.Option(
            "--insecure-cluster",
            help="Allow a --scheduler at tcp:// on another machine: whoever reaches it can run "
            "code as you.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Compute in --jobs of this batch system: slurm, pbs, lsf or sge, as dask's "
            "configuration of it says. Needs the extra distributed."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Jobs to submit to the --cluster, with a worker each.")
    ] = None,
    require_complete: Annotated[
        bool | None,
        typer.Option(
            "--require-complete", help="Refuse an image with chunks that were never written."
        ),
    ] = None,
    overwrite: Annotated[
        bool | None,
        typer.Option("--overwrite", help="Replace an output that was made with other options."),
    ] = None,
    ome_version: Annotated[
        str | None, typer.Option(help="OME-Zarr version to write: 0.5 or 0.4.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="Job file (TOML, JSON or a NAME.unet.json record); options given here win. "
            "- reads one line of JSON from standard input once the engine is loaded."
        ),
    ] = None,
    save_config: SaveConfigOption = None,
    dry_run: DryRunOption = False,
    progress: ProgressOption = "auto",
) -> None:
    """Segment images into OME-Zarr label images.

    Classes are numbered from 1; 0 = not computed. Nothing is overwritten silently: the same command
    on a complete output does nothing, other options are refused.
    """
    own = {"ctx", "inputs", "config", "save_config", "dry_run", "progress"}
    options = {k: v for k, v in ctx.params.items() if k not in own and v is not None}
    try:
        reporter = make_reporter(checked_kind(progress))
        values = config_values(config, reporter, _load_engine) | options
        made = make_jobs(values, inputs or [])
        if save_config is not None:
            _save(save_config, values, inputs or [])
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    if not made:
        raise typer.Exit(DONE)
    try:
        code = _dry_run(made, progress) if dry_run else _run_all(made, reporter, progress)
    finally:
        reporter.close()
    raise typer.Exit(code)


def _load_engine() -> None:
    import napari_unet.app.segment  # noqa: F401  # what counts is that it is loaded


def make_jobs(values: dict[str, Any], inputs: list[str]) -> list[SegmentJob]:
    """Return one checked job per input.

    Parameters
    ----------
    values : dict
        Fields of `SegmentJob` from job file and options; may hold ``input``.
    inputs : list of str
        Inputs given on the command line; they win.

    Raises
    ------
    ConfigError
        If something is missing or wrong, or two inputs would write one output.
    """
    from napari_unet.core.job import SegmentJob

    if not values and not inputs:
        return []
    paths = inputs or [values[key] for key in ("input",) if key in values]
    for what, given in (("INPUT", paths), ("--model", "model" in values)):
        if not given:
            raise ConfigError(f"{what} is missing; see napari-unet segment --help")
    if "output" not in values:
        raise ConfigError("--output is missing; name the OME-Zarr to write, e.g. out.zarr")
    if len(paths) == 1:
        check_zarr_name(values["output"])
        return [SegmentJob.parse(values | {"input": paths[0]}, source="segment")]
    jobs: dict[str, SegmentJob] = {}
    for path in paths:
        stem = Path(path).name.split(".")[0]
        target = str(Path(values["output"]) / f"{stem}.zarr")
        if target in jobs:
            raise ConfigError(
                f"{jobs[target].input} and {path} would both be written to {target}; "
                "give them to separate commands"
            )
        jobs[target] = SegmentJob.parse(
            values | {"input": path, "output": target}, source="segment"
        )
    return list(jobs.values())


def _save(path: Path, values: dict[str, Any], inputs: list[str]) -> None:
    from napari_unet.app.job_files import write_settings_file

    single = {"input": inputs[0]} if len(inputs) == 1 else {}
    write_settings_file(path, values | single)


def _dry_run(jobs: list[SegmentJob], progress: str) -> int:
    codes = []
    for job in jobs:
        try:
            check_before_loading(job)
            from napari_unet.app.device_memory import first_tile_edge
            from napari_unet.app.plan import plan_segment
            from napari_unet.app.segmenting.preparation import open_backend

            backend = open_backend(job)
            edge, remembered = first_tile_edge(job, backend)
            plan = plan_segment(job, edge)
            plan.source.close()
        except UNetError as error:
            print(f"error: {job.input}: {error}", file=sys.stderr)
            codes.append(exit_code(error))
            continue
        if progress == "json":
            _print_costs(job, plan)
            continue
        print(f"{job.input} with {plan.model.name} on {backend.label} -> {job.output}")
        _describe_costs(plan)
        for note in (*plan.notes, *remembered):
            print(f"  note    {note}")
    return _overall(codes, len(jobs))


def _print_costs(job: SegmentJob, plan: SegmentPlan) -> None:
    """Print what a job will cost as a line of JSON."""
    import dataclasses
    import json

    from napari_unet.app.foresee import foreseen_objects
    from napari_unet.app.plan import estimate

    cost, objects = estimate(plan, job.batch_size or 1), foreseen_objects(plan)
    known: dict[str, Any] = {"input": job.input, "tile": plan.grid.tile_shape[-1]}
    known |= dataclasses.asdict(cost)
    if objects is not None:
        known["objects"] = dataclasses.asdict(objects)
    if job.shard is not None:
        known["shard_blocks"] = _shard_blocks(job.shard, cost.blocks)
    print(json.dumps(known))


def _describe_costs(plan: SegmentPlan) -> None:
    """Print what a job will cost in words."""
    from rich.filesize import decimal

    from napari_unet.app.foresee import foreseen_objects
    from napari_unet.app.plan import estimate

    job, (_, height, width) = plan.job, plan.grid.tile_shape
    cost, objects = estimate(plan, job.batch_size or 1), foreseen_objects(plan)
    print(f"  tiles   {cost.tiles} with a write box of {height} x {width} pixels")
    print(f"  blocks  {cost.blocks}; {cost.pixels / 1e6:.2f} Mpx to write")
    if job.shard is not None:
        print(f"  shard   {job.shard}: {_shard_blocks(job.shard, cost.blocks)} of these blocks")
    print(f"  reading {cost.redundancy:.2f} pixels per pixel written")
    print(f"  memory  about {cost.memory_bytes / 1e9:.1f} GB")
    print(f"  disk    at most {decimal(cost.disk_bytes)}")
    if objects is not None:
        print(
            f"  objects then by {plan.model.header.object_defaults().method} in "
            f"{objects.blocks} blocks: about {objects.memory_bytes / 1e9:.1f} GB of memory, at "
            f"most {decimal(objects.disk_bytes)} of disk, and as much for scratch meanwhile"
        )


def _shard_blocks(shard: str, blocks: int) -> int:
    from napari_unet.app.segmenting.shard_files import Shard

    return len(Shard.parse(shard).blocks(blocks))


def _run_all(jobs: list[SegmentJob], reporter: Reporter, progress: str) -> int:
    from napari_unet.cli.control_input import listen, stop_on_signals
    from napari_unet.core.events import Failed
    from napari_unet.inference.control import JobControl

    control = JobControl()
    if progress == "json":
        listen(control)
    codes = []
    with stop_on_signals(control, blocks=True):
        for job in jobs:
            try:
                # A job that was at its end when the signal came is done.
                if control.ending or _is_cut_off(job, reporter, control):
                    return CANCELLED
            except UNetError as error:
                codes.append(exit_code(error))
                path, text = Path(job.input), str(error)
                named = path.name.split(".")[0] in text
                reporter.show(Failed(job.input, text if named else f"{path.name}: {text}"))
            except KeyboardInterrupt:
                return CANCELLED
    return _overall(codes, len(jobs))


def _is_cut_off(job: SegmentJob, reporter: Reporter, control: JobControl) -> bool:
    """Run a job; return whether it was stopped before its end."""
    check_before_loading(job)
    from napari_unet.app.segment import run_job
    from napari_unet.core.events import Cancelled
    from napari_unet.core.objects_events import ObjectsCancelled

    cut_off = False
    for event in run_job(job, control):
        reporter.show(event)
        cut_off = isinstance(event, Cancelled | ObjectsCancelled)
    return cut_off


def _overall(codes: list[int], jobs: int) -> int:
    if not codes:
        return DONE
    return codes[0] if jobs == 1 else FAILED

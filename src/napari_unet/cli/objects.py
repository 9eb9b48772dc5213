"""``napari-unet objects``: from a finished segmentation to numbered objects and their table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_unet.cli.exit_codes import CANCELLED, DONE, exit_code
from napari_unet.cli.job_input import checked_kind, config_values
from napari_unet.cli.options import DryRunOption, ProgressOption, SaveConfigOption
from napari_unet.cli.progress import make_reporter
from napari_unet.errors import ConfigError, UNetError

if TYPE_CHECKING:
    from napari_unet.cli.progress import Reporter
    from napari_unet.core.objects_job import ObjectsJob

TABLES = ("watershed", "link")
"""Options that begin so are fields of the job's tables of these names."""


def objects(
    ctx: typer.Context,
    output: Annotated[
        str | None,
        typer.Argument(metavar="OUT", help="OME-Zarr that `napari-unet segment` wrote."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="Label image of classes in it. [default: the only one]"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the objects. [default: the classes', -objects]")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="components, watershed or interior. [default: the model's]"),
    ] = None,
    dimension: Annotated[
        str | None,
        typer.Option(help="Of stacks: 2d (slices), linked (slices, then linked) or 3d."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Classes that objects are made of.", metavar="NAME,NAME"),
    ] = None,
    boundary: Annotated[str | None, typer.Option(help="Class between objects.")] = None,
    connectivity: Annotated[
        int | None,
        typer.Option(help="Of components: 1 = across faces, 2 = also edges, 3 = also corners."),
    ] = None,
    watershed_threshold: Annotated[
        float | None, typer.Option(help="Boundary probability that ends a seed.")
    ] = None,
    watershed_seeds: Annotated[
        str | None, typer.Option(help="Seeds from maxima of the distance, or from its depth.")
    ] = None,
    watershed_sigma: Annotated[
        float | None, typer.Option(help="Smoothing of the distance, in pixels.")
    ] = None,
    watershed_h: Annotated[
        float | None, typer.Option(help="Least rise of a maximum, in pixels.")
    ] = None,
    watershed_depth: Annotated[
        float | None, typer.Option(help="Distance from which seeds begin, in pixels.")
    ] = None,
    watershed_merge: Annotated[
        float | None, typer.Option(help="Merge pieces with less boundary between them; 0 = none.")
    ] = None,
    link_overlap: Annotated[
        str | None, typer.Option(help="Overlap of slices as iou, or over the smaller one.")
    ] = None,
    link_threshold: Annotated[
        float | None, typer.Option(help="Overlap above which objects are linked.")
    ] = None,
    link_mutual: Annotated[
        bool | None,
        typer.Option("--link-mutual/--no-link-mutual", help="Each must be the other's best."),
    ] = None,
    min_size: Annotated[
        str | None,
        typer.Option(help="Leave out smaller objects: voxels, or a size such as 0.5um3."),
    ] = None,
    fill_holes: Annotated[
        bool | None, typer.Option("--fill-holes", help="Fill the holes of objects.")
    ] = None,
    clear_border: Annotated[
        bool | None, typer.Option("--clear-border", help="Leave out objects at the border.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Part to work on, in voxels.", metavar="z0:z1,y0:y1,x0:x1")
    ] = None,
    block_size: Annotated[int | None, typer.Option(help="Edge of a block in y and x.")] = None,
    workers: Annotated[int | None, typer.Option(help="Blocks or slices done at once.")] = None,
    overwrite: Annotated[
        bool | None,
        typer.Option("--overwrite", help="Replace objects that were made with other options."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="Job file (TOML, JSON or the record of objects); options given here win. "
            "- reads one line of JSON from standard input once everything is loaded."
        ),
    ] = None,
    save_config: SaveConfigOption = None,
    dry_run: DryRunOption = False,
    progress: ProgressOption = "auto",
) -> None:
    """Find, number and measure the objects of a segmentation.

    The network does not run again. Objects are numbered from 1; 0 = background. A table of them is
    written beside, as CSV and Parquet.
    """
    own = {"ctx", "config", "save_config", "dry_run", "progress"}
    options = {k: v for k, v in ctx.params.items() if k not in own and v is not None}
    try:
        reporter = make_reporter(checked_kind(progress))
        values = _joined(config_values(config, reporter, _load), options)
        if not values:
            raise typer.Exit(DONE)
        job = _job(values)
        if save_config is not None:
            from napari_unet.app.job_files import write_settings_file

            write_settings_file(save_config, values)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    try:
        code = _dry_run(job, progress) if dry_run else _run(job, reporter, progress)
    finally:
        reporter.close()
    raise typer.Exit(code)


def _load() -> None:
    import napari_unet.app.objects  # noqa: F401  # what counts is that it is loaded


def _joined(values: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a file, changed by the options; those of tables go into tables."""
    joined = dict(values)
    for key, value in options.items():
        table, _, field = key.partition("_")
        if table in TABLES and field:
            joined[table] = {**joined.get(table, {}), field: value}
        else:
            joined[key] = value
    return joined


def _job(values: dict[str, Any]) -> ObjectsJob:
    from napari_unet.core.objects_job import ObjectsJob

    if "output" not in values:
        raise ConfigError("OUT is missing; name the OME-Zarr that napari-unet segment wrote")
    return ObjectsJob.parse(values, source="objects")


def _dry_run(job: ObjectsJob, progress: str) -> int:
    import dataclasses
    import json

    from rich.filesize import decimal

    from napari_unet.app.objecting.estimate import estimate_objects
    from napari_unet.app.objecting.plan import plan_objects

    try:
        plan = plan_objects(job)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    cost = estimate_objects(plan)
    if progress == "json":
        print(json.dumps({"output": job.output, "name": plan.name} | dataclasses.asdict(cost)))
        return DONE
    print(f"{plan.stored.name} in {plan.job.output} -> {plan.name}")
    print(f"  method  {plan.rules.method} of {', '.join(plan.rules.classes)}, {plan.dimension}")
    print(f"  blocks  {cost.blocks}; {cost.voxels / 1e6:.2f} million voxels")
    print(f"  memory  about {cost.memory_bytes / 1e9:.1f} GB")
    print(f"  disk    at most {decimal(cost.disk_bytes)}, and as much for scratch meanwhile")
    for note in plan.notes:
        print(f"  note    {note}")
    return DONE


def _run(job: ObjectsJob, reporter: Reporter, progress: str) -> int:
    from napari_unet.app.objects import run_objects
    from napari_unet.cli.control_input import listen, stop_on_signals
    from napari_unet.core.events import Failed
    from napari_unet.inference.control import JobControl

    control = JobControl()
    if progress == "json":
        listen(control)
    with stop_on_signals(control):
        try:
            for event in run_objects(job, control):
                reporter.show(event)
        except UNetError as error:
            reporter.show(Failed(job.output, str(error)))
            return exit_code(error)
        except KeyboardInterrupt:
            return CANCELLED
    return CANCELLED if control.stopped else DONE

"""``napari-unet export``: a result as a file that other programs open."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_unet.cli.exit_codes import CANCELLED, DONE, exit_code
from napari_unet.cli.job_input import checked_kind
from napari_unet.cli.options import LabelNameOption, OutputArgument, ProgressOption
from napari_unet.cli.progress import Reporter, make_reporter
from napari_unet.core.export_events import ExportCancelled
from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from napari_unet.core.export_job import ExportJob


def export(
    ctx: typer.Context,
    input: OutputArgument,  # noqa: A002  # the name of the job's field
    format: Annotated[  # noqa: A002  # the same
        str, typer.Option(help="Kind of file: tiff (as ImageJ's), ome-tiff, mrc, hdf5 or png.")
    ],
    what: Annotated[str | None, typer.Option(help="labels or probabilities.")] = None,
    name: LabelNameOption = None,
    channel: Annotated[
        str | None, typer.Option(help="Classes of the probabilities, e.g. 0 or 0,2.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="File to write; for slices as PNG a folder. [default: beside OUT]"),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="Part to export, in voxels.", metavar="z0:z1,y0:y1,x0:x1"),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(help="Number or name of the class that becomes 0; those above it move down."),
    ] = None,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite", help="Replace an output file that is there.")
    ] = None,
    allow_incomplete: Annotated[
        bool | None,
        typer.Option("--allow-incomplete", help="Export a result whose run has not finished."),
    ] = None,
    progress: ProgressOption = "auto",
) -> None:
    """Write a result as TIFF, HDF5, MRC or PNG for other programs.

    Fiji, ilastik, IMOD and Amira read one of them. The values are those of the result, unless
    --background is given; voxel sizes are kept. Nothing is overwritten silently.
    """
    from napari_unet.core.export_job import ExportJob

    values = {k: v for k, v in ctx.params.items() if k != "progress" and v is not None}
    try:
        job = ExportJob.parse(values, source="export")
        reporter = make_reporter(checked_kind(progress))
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    try:
        code = _run(job, reporter)
    finally:
        reporter.close()
    raise typer.Exit(code)


def _run(job: ExportJob, reporter: Reporter) -> int:
    from napari_unet.app.export import run_export
    from napari_unet.cli.control_input import stop_on_signals
    from napari_unet.core.events import Failed
    from napari_unet.inference.control import JobControl

    control, code = JobControl(), DONE
    try:
        with stop_on_signals(control):
            for event in run_export(job, control):
                reporter.show(event)
                if isinstance(event, ExportCancelled):
                    code = CANCELLED
    except UNetError as error:
        name, text = Path(job.input).name, str(error)
        reporter.show(Failed(job.input, text if name in text else f"{name}: {text}"))
        return exit_code(error)
    except KeyboardInterrupt:
        return CANCELLED
    return code

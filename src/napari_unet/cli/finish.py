"""``napari-unet finish``: complete what shards have computed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from napari_unet.cli.exit_codes import CANCELLED, DONE, exit_code
from napari_unet.cli.job_input import checked_kind
from napari_unet.cli.options import LabelNameOption, ProgressOption
from napari_unet.cli.progress import Reporter, make_reporter
from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from napari_unet.inference.control import JobControl


def finish(
    output: Annotated[
        str, typer.Argument(metavar="OUT", help="OME-Zarr that shards were written to.")
    ],
    name: LabelNameOption = None,
    progress: ProgressOption = "auto",
) -> None:
    """Complete an output whose blocks `segment --shard` computed.

    Puts the ledgers together, writes the coarser levels, finds objects if the job asks for them,
    and marks the output complete. Refused while blocks are missing: says which shards to run.
    """
    from napari_unet.inference.control import JobControl

    try:
        reporter = make_reporter(checked_kind(progress))
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    control = JobControl()
    try:
        code = _run(output, name, reporter, control)
    finally:
        reporter.close()
    raise typer.Exit(code)


def _run(output: str, name: str | None, reporter: Reporter, control: JobControl) -> int:
    from napari_unet.app.finish import run_finish
    from napari_unet.cli.control_input import stop_on_signals
    from napari_unet.core.events import Failed

    try:
        with stop_on_signals(control):
            for event in run_finish(output, name, control):
                reporter.show(event)
    except UNetError as error:
        reporter.show(Failed(output, str(error)))
        return exit_code(error)
    except KeyboardInterrupt:
        return CANCELLED
    return CANCELLED if control.ending else DONE

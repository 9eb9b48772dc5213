"""``napari-unet verify``: read a segmentation back, block by block, and repair it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from napari_unet.cli.exit_codes import CANCELLED, DONE, FAILED, exit_code
from napari_unet.cli.job_input import checked_kind
from napari_unet.cli.options import LabelNameOption, OutputArgument, ProgressOption
from napari_unet.cli.progress import Reporter, make_reporter
from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from napari_unet.app.verify import AnyEvent


def verify(
    output: OutputArgument,
    name: LabelNameOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Compute again what is damaged or missing.")
    ] = False,
    progress: ProgressOption = "auto",
) -> None:
    """Check that every block of a segmentation is still as written.

    Needs neither the image nor the model, unless --repair is given: then the job that made it goes
    on.
    """
    try:
        reporter = make_reporter(checked_kind(progress))
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    try:
        code = _run(output, name, reporter, repair=repair)
    finally:
        reporter.close()
    raise typer.Exit(code)


def _run(output: str, name: str | None, reporter: Reporter, *, repair: bool) -> int:
    from napari_unet.app.verify import run_verify
    from napari_unet.cli.control_input import stop_on_signals
    from napari_unet.core.events import Failed
    from napari_unet.inference.control import JobControl

    control, code = JobControl(), FAILED
    try:
        with stop_on_signals(control, blocks=True):
            for event in run_verify(output, name, control, repair=repair):
                reporter.show(event)
                code = _code(event, code)
    except UNetError as error:
        reporter.show(Failed(output, str(error)))
        return exit_code(error)
    except KeyboardInterrupt:
        return CANCELLED
    return CANCELLED if control.ending else code


def _code(event: AnyEvent, before: int) -> int:
    """Return the exit code after an event: that of the last verdict."""
    from napari_unet.core.verify_events import Repaired, Verified

    if isinstance(event, Repaired) or (isinstance(event, Verified) and event.is_right):
        return DONE
    return FAILED if isinstance(event, Verified) else before

"""``napari-unet draft``: repaint what is looked at after each stroke. For programs."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_unet.cli.control_input import ControlError, obey, stop_on_signals
from napari_unet.cli.exit_codes import CANCELLED, DONE, exit_code
from napari_unet.cli.job_input import checked_kind, config_values
from napari_unet.cli.options import ProgressOption
from napari_unet.cli.progress import Reporter, make_reporter
from napari_unet.core.boxes import Box
from napari_unet.errors import ConfigError, TilingError, UNetError

if TYPE_CHECKING:
    from napari_unet.app.drafting.control import DraftControl
    from napari_unet.core.draft_job import DraftJob


def draft(
    config: Annotated[
        str,
        typer.Option(
            help="Settings (TOML or JSON). - reads one line of JSON from standard input once the "
            "engine is loaded."
        ),
    ] = "-",
    progress: ProgressOption = "json",
) -> None:
    """Draft what is looked at, again after each stroke; for programs.

    Reads where the user looks and paints as JSON lines from standard input, until a line says stop
    or the input ends; see docs/reference/draft.md. The panel in napari drives it.
    """
    try:
        reporter = make_reporter(checked_kind(progress))
        values = config_values(config, reporter, _load_engine)
        if not values:
            raise typer.Exit(DONE)
        job = make_draft_job(values)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    try:
        code = _run(job, reporter)
    finally:
        reporter.close()
    raise typer.Exit(code)


def make_draft_job(values: dict[str, Any]) -> DraftJob:
    """Return the checked job.

    Raises
    ------
    ConfigError
        If something is missing or wrong.
    """
    from napari_unet.core.draft_job import DraftJob

    return DraftJob.parse(values, source="draft")


def obey_draft(control: DraftControl, line: str) -> None:
    """Pass one control line on to drafts.

    Parameters
    ----------
    control : DraftControl
        Their ear.
    line : str
        One that any job understands (`napari_unet.cli.control_input.obey`), or ``{"command":
        "strokes", "boxes": [[[z0, y0, x0], [z1, y1, x1]], ...]}``, or ``{"command": "classes",
        "classes": [...], "rename": {...}}``, or ``{"command": "annotation", "path": ...}``.

    Raises
    ------
    ControlError
        If the line says none of these.
    """
    try:
        message: Any = json.loads(line)
        match message["command"]:
            case "viewport":
                control.look_at(_box(message["box"]))
            case "strokes":
                control.change_strokes([_box(box) for box in message["boxes"]])
            case "classes":
                _change_classes(control, message)
            case "annotation":
                path = message["path"]
                control.change_annotation(None if path is None else str(path))
            case _:
                obey(control, line)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, TilingError) as error:
        if isinstance(error, ControlError):
            raise
        raise ControlError(f"control line {line.strip()[:200]!r} is not understood") from error


def _box(corners: Any) -> Box:
    start, stop = corners
    box = Box(tuple(int(a) for a in start), tuple(int(b) for b in stop))
    if len(box.start) != 3:
        raise ValueError(f"a box has the axes z, y and x, not {len(box.start)} of them")
    return box


def _change_classes(control: DraftControl, message: dict[str, Any]) -> None:
    """Pass on new classes that would do for a job, too."""
    unchanged = {"input": "", "model": "", "folder": ""}
    fields = {name: message[name] for name in ("classes", "rename") if name in message}
    try:
        job = make_draft_job(unchanged | fields)
    except ConfigError as error:
        raise ControlError(f"classes cannot be changed: {error}") from error
    control.change_classes(job.classes, job.rename)


def _load_engine() -> None:
    import napari_unet.app.drafting.run  # noqa: F401  # what counts is that it is loaded


def _listen(control: DraftControl) -> None:
    """Obey control lines in the background; at the end of standard input the drafts end."""

    def work() -> None:
        try:
            for line in sys.stdin or ():
                try:
                    obey_draft(control, line)
                except ControlError as error:
                    print(f"warning: {error}", file=sys.stderr, flush=True)
        finally:
            # Who drafts for nobody would live on after a panel that crashed.
            control.hang_up()

    threading.Thread(target=work, name="control-input", daemon=True).start()


def _run(job: DraftJob, reporter: Reporter) -> int:
    from napari_unet.app.drafting.control import DraftControl
    from napari_unet.app.drafting.run import run_draft
    from napari_unet.core.events import Failed

    control = DraftControl()
    _listen(control)
    with stop_on_signals(control):
        try:
            with closing(run_draft(job, control)) as events:
                for event in events:
                    reporter.show(event)
        except UNetError as error:
            reporter.show(Failed(job.input, str(error)))
            return exit_code(error)
        except KeyboardInterrupt:
            return CANCELLED
    return DONE if control.hung_up else CANCELLED

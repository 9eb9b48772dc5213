"""What may be said to a running job, as JSON lines on standard input."""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_unet.core.boxes import Box
from napari_unet.errors import TilingError, UNetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from napari_unet.inference.control import JobControl


class ControlError(UNetError, ValueError):
    """A control line cannot be understood; it is reported and passed over."""


def obey(control: JobControl, line: str) -> None:
    """Pass one control line on to a job.

    Parameters
    ----------
    control : JobControl
        The job's ear.
    line : str
        ``{"command": "stop"}``, ``"pause"``, ``"resume"``, or ``{"command": "viewport", "box":
        [[z0, y0, x0], [z1, y1, x1]]}`` in voxels of the image, half-open.

    Raises
    ------
    ControlError
        If the line says none of these.
    """
    try:
        message: Any = json.loads(line)
        command = message["command"]
        if command == "viewport":
            start, stop = message["box"]
            control.viewport = Box(tuple(int(a) for a in start), tuple(int(b) for b in stop))
            return
        action = {"stop": control.stop, "pause": control.pause, "resume": control.resume}[command]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, TilingError) as error:
        raise ControlError(f"control line {line.strip()[:200]!r} is not understood") from error
    action()


def listen(control: JobControl) -> None:
    """Obey control lines in the background; the end of standard input ends the listening only."""

    def work() -> None:
        for line in sys.stdin:
            try:
                obey(control, line)
            except ControlError as error:
                print(f"warning: {error}", file=sys.stderr, flush=True)

    if sys.stdin is not None and not sys.stdin.isatty():
        threading.Thread(target=work, name="control-input", daemon=True).start()


@contextmanager
def stop_on_signals(control: JobControl, *, blocks: bool = False) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the job at the next step, and another one at once.

    Parameters
    ----------
    control : JobControl
        The job's ear.
    blocks : bool
        Whether the job has blocks: then the first signal lets it finish the block that it is at,
        the second one drops that, and a third one is left to the system, which ends the process
        even in the middle of a long computation or of a write that hangs. Nothing durable is lost
        by that.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if control.stopped:
            raise KeyboardInterrupt
        if blocks and not control.winding_down:
            control.wind_down()
            return
        control.stop()
        for each in before if blocks else ():
            signal.signal(each, signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

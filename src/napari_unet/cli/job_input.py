"""Where a command's settings come from: a file, or a line on standard input of a warm engine."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.cli.progress import ProgressKind, Reporter

STANDARD_INPUT = "-"
"""``--config -``: the job comes as one line of JSON on standard input, when the engine is warm."""


def checked_kind(text: str) -> ProgressKind:
    """Return the value of ``--progress``; raises `ConfigError` if there is no such kind."""
    match text:
        case "auto" | "bar" | "json" | "none":
            return text
    raise ConfigError(f"--progress {text!r} is not one of auto, bar, json, none")


def config_values(
    config: str | None, reporter: Reporter, load_engine: Callable[[], None]
) -> dict[str, Any]:
    """Return the settings of ``--config``; none without it.

    Parameters
    ----------
    config : str or None
        Path, or "-" for standard input.
    reporter : Reporter
        Told when the engine is ready for a job from standard input.
    load_engine : callable
        Imports what the job needs.

    Raises
    ------
    ConfigError
        If they cannot be read. An end of standard input before any line is no error: {}.
    """
    if config is None:
        return {}
    if config == STANDARD_INPUT:
        return _wait_for_job(reporter, load_engine)
    from napari_unet.app.job_files import read_settings_file

    return read_settings_file(Path(config).expanduser())


def _wait_for_job(reporter: Reporter, load_engine: Callable[[], None]) -> dict[str, Any]:
    began = time.monotonic()
    load_engine()
    import napari_unet
    from napari_unet.core.events import EngineReady

    reporter.show(EngineReady(time.monotonic() - began, napari_unet.__version__))
    line = sys.stdin.readline()
    if not line.strip():
        return {}
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"standard input holds no job as a line of JSON: {error}") from error
    if not isinstance(values, dict) or not values:
        # Only an end without a word means that nothing is wanted.
        raise ConfigError(f"standard input holds {line.strip()[:80]!r}, not a job")
    return values

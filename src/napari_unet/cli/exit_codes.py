"""What the command's exit codes mean."""

from __future__ import annotations

from napari_unet.errors import (
    AxesError,
    ConfigError,
    OutputExistsError,
    TilingError,
    UNetError,
)

DONE = 0
"""Everything asked for is there."""

USAGE = 2
"""An option, a job file or their combination cannot be used; nothing was computed."""

FAILED = 3
"""Some inputs failed; the others are done."""

CANCELLED = 130
"""Stopped by Ctrl-C, SIGTERM or the plugin; what was computed is kept."""


def exit_code(error: UNetError) -> int:
    """Return the code for a single input that failed."""
    usage = (AxesError, ConfigError, OutputExistsError, TilingError)
    return USAGE if isinstance(error, usage) else FAILED

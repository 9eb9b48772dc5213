"""What is done while nobody waits, so that it is not done while somebody does."""

from __future__ import annotations

import gc
import threading
from functools import cache
from importlib import import_module

from napari_unet.widgets._napari_private import prepare_labels

FOR_RESULTS = ("zarr", "napari_unet.widgets._levels", "napari_unet.widgets._extra_layers")
"""What shows results; the panel opens without it."""

OFTEN_ENOUGH = 0.5
"""Part of the way to Python's own collection after which it is done beforehand."""


@cache
def prepare_session() -> threading.Thread:
    """Have a thread do, once in a session, what would stop the window at its first result."""
    thread = threading.Thread(target=_prepare, name="prepare-session", daemon=True)
    thread.start()
    return thread


def _prepare() -> None:
    for module in FOR_RESULTS:
        import_module(module)
    prepare_labels()


def tidy() -> bool:
    """Collect garbage where Python is about to do it by itself, and return whether it was done.

    With all that napari has loaded it takes a seventh of a second. Python does it after so many
    new objects, and a layer has many: both together are a gap in which the window is seen to
    stand still.
    """
    # The oldest generation is due after so many collections of the one before it. Python 3.14
    # knows no such number, and no such gap.
    due, count = gc.get_threshold()[2], gc.get_count()[2]
    is_due = gc.isenabled() and 0 < OFTEN_ENOUGH * due <= count
    if is_due:
        gc.collect()
    return is_due

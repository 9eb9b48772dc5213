"""Trying again what a network drive or a busy disk refused for a moment."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeVar

from napari_unet.errors import InputError, StorageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")

PAUSES_S = (0.1, 0.5, 2.0)
"""Seconds before the second, third and fourth attempt."""

_NAMES = ("EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "ECONNRESET", "EHOSTDOWN", "EREMOTEIO", "EBUSY")

TRANSIENT = frozenset(getattr(errno, name) for name in _NAMES if hasattr(errno, name))
"""Error numbers of what often goes away by itself; damaged data has none of them."""


def patiently(action: Callable[[], T], closed: threading.Event) -> T:
    """Return what `action` returns; repeat it while the system refuses for a moment.

    Parameters
    ----------
    action : callable
        Reads or writes; doing it twice must be as good as once.
    closed : threading.Event
        Nothing is repeated once it is set.

    Raises
    ------
    InputError, StorageError
        What the last attempt ran into.
    """
    for pause in PAUSES_S:
        try:
            return action()
        except (InputError, StorageError) as error:
            if not is_transient(error) or closed.wait(pause):
                raise
    return action()


def is_transient(error: BaseException) -> bool:
    """Return whether an error, or what caused it, often goes away by itself."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in TRANSIENT:
            return True
        cause = cause.__cause__
    return False

"""Turning whatever libraries raise on bad data into one error that a person can act on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_unet.errors import InputError, UNetError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DECODED_BYTES = 512 * 2**20
"""Largest chunk, strip or plane that is decoded at once; a hostile file may claim any size."""

_CAUSE_LENGTH = 300


@contextmanager
def input_errors(what: str, remedy: str) -> Iterator[None]:
    """Raise `InputError` for anything that goes wrong inside.

    Parameters
    ----------
    what : str
        The file, chunk or plane, and what is done with it: "stack.tif: plane 3 cannot be read".
    remedy : str
        What the person can do.

    Raises
    ------
    InputError
        For every exception that is not ours already: damaged data makes zarr, tifffile and their
        codecs raise RuntimeError, ValueError, OSError, zlib.error, KeyError and more.
    """
    try:
        yield
    except UNetError:
        raise
    except MemoryError as error:
        raise InputError(f"{what}: not enough memory to decode it; {remedy}") from error
    except Exception as error:
        raise InputError(f"{what}: {describe(error)}; {remedy}") from error


def describe(error: BaseException) -> str:
    """Return a short one-line text of an exception, with its type where the text alone is bare."""
    text = " ".join(str(error).split())
    if len(text) > _CAUSE_LENGTH:
        text = text[:_CAUSE_LENGTH] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check_decoded_size(nbytes: int, what: str) -> None:
    """Refuse what would decode to more than `MAX_DECODED_BYTES`.

    Raises
    ------
    InputError
        Naming the size and the remedy.
    """
    if nbytes > MAX_DECODED_BYTES:
        raise InputError(
            f"{what} decodes to {nbytes / 2**20:.0f} MB at once, more than the "
            f"{MAX_DECODED_BYTES // 2**20} MB that are allowed; store the image in smaller chunks, "
            "for example as OME-Zarr in chunks of 1 x 512 x 512"
        )

"""Where an export goes: beside its final name, which it gets when it is whole."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from napari_unet.errors import OutputExistsError, StorageError, UNetError
from napari_unet.files import rename_new, retry_denied, sync_folder
from napari_unet.io.output_state import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLICE_SUFFIX = ".png"
"""Files of a folder of slices; a folder that holds anything else is never replaced."""


def check_target(target: Path, *, overwrite: bool, folder: bool) -> None:
    """Make sure that a file or folder of this name may be written.

    Parameters
    ----------
    target : Path
        What will be written.
    overwrite : bool
        Whether it may be replaced.
    folder : bool
        Whether it is a folder of slices.

    Raises
    ------
    OutputExistsError
        If it is there and may not be replaced.
    StorageError
        If it is there and is something else than what would be written.
    """
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OutputExistsError(
            f"{target} is there already; give another --output, or --overwrite to replace it"
        )
    if target.is_dir() != folder:
        found = "a folder" if target.is_dir() else "a file"
        raise StorageError(f"{target} is {found}, which is left as it is; give another --output")
    if folder and any(path.suffix != SLICE_SUFFIX for path in target.iterdir()):
        raise StorageError(
            f"{target} holds other files than {SLICE_SUFFIX} slices, so it is not replaced; give "
            "another --output"
        )


@contextmanager
def unfinished(target: Path, *, overwrite: bool, folder: bool = False) -> Iterator[Path]:
    """Give a place beside `target` to write to; it gets its name when all went well.

    Whatever goes wrong, nothing half-written is left, and what was there before is untouched.

    Parameters
    ----------
    target : Path
        What is written. Its folder is made if needed.
    overwrite : bool
        Whether what is there may be replaced.
    folder : bool
        Whether it is a folder, which is made.

    Raises
    ------
    OutputExistsError
        If somebody wrote a file of this name in the meantime.
    StorageError
        If the disk refuses, or is full.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with writing_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if folder:
                part.mkdir()
            yield part
            _sync(part)
            check_target(target, overwrite=overwrite, folder=folder)
            _rename(part, target, overwrite=overwrite)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            # A disk that can only be read refuses this, too; its first refusal is the one to tell.
            with suppress(OSError):
                part.unlink()


@contextmanager
def writing_errors(target: Path) -> Iterator[None]:
    """Raise `StorageError` for what the system refuses inside; our own errors pass.

    Raises
    ------
    StorageError
        With the cause and the remedy.
    """
    try:
        yield
    except UNetError:
        raise
    except (OSError, ValueError, RuntimeError):
        with storage_errors(f"{target} cannot be written"):
            raise


def check_space(target: Path, nbytes: int) -> None:
    """Make sure that a file of this size fits onto the disk, before hours of writing.

    Raises
    ------
    StorageError
        Naming what is needed and what is free.
    """
    folder = next(parent for parent in target.absolute().parents if parent.is_dir())
    with writing_errors(target):
        free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise StorageError(
            f"{target} needs {nbytes / 1e9:.3f} GB, but {free / 1e9:.3f} GB are free; free some "
            "space, choose another --output, or export a --region"
        )


def size_on_disk(target: Path) -> int:
    """Return the bytes of a file, or of all files in a folder of slices."""
    if target.is_dir():
        return sum(path.stat().st_size for path in target.iterdir())
    return target.stat().st_size


def _sync(part: Path) -> None:
    files = list(part.iterdir()) if part.is_dir() else [part]
    for path in files:
        with open(path, "rb+") as stream:
            os.fsync(stream.fileno())
    if part.is_dir():
        sync_folder(part)


def _rename(part: Path, target: Path, *, overwrite: bool) -> None:
    if part.is_dir():
        old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
        if target.exists():
            retry_denied(lambda: os.replace(target, old))
        retry_denied(lambda: os.replace(part, target))
        shutil.rmtree(old, ignore_errors=True)
    elif overwrite:
        retry_denied(lambda: os.replace(part, target))
    else:
        rename_new(part, target)
    sync_folder(target.parent)

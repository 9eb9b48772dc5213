"""Exchanging all of a stored annotation in one step: renumbered labels together with the classes.

Labels and classes lie in many files, which cannot be replaced together. So a new generation of the
store is written beside it, and becomes the store by renames of whole folders::

    strokes.zarr.part   being written; a crash leaves it to be deleted
    strokes.zarr.next   complete: from here on it counts
    strokes.zarr.old    what it has replaced, until it is deleted

Whatever the moment of a crash, `settle` ends with the old generation or the new one, never a mix.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from napari_unet.files import retry_denied, sync_folder
from napari_unet.io.annotation_store import create_annotation_store, storing_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.boxes import Box
    from napari_unet.core.classes import ClassInfo
    from napari_unet.io.annotation_store import AnnotationStore

PART, NEXT, OLD = ".part", ".next", ".old"


def write_next(
    store: AnnotationStore,
    classes: Sequence[ClassInfo],
    origins: Sequence[str | None],
    blocks: Iterable[tuple[Box, npt.NDArray[np.uint8]]],
) -> None:
    """Write the next generation of a store beside it, complete and durable; `settle` switches.

    Parameters
    ----------
    store : AnnotationStore
        The generation before; it stays as it is.
    classes : sequence of ClassInfo
        Those of the next one; the k-th has the label k.
    origins : sequence of (str or None)
        What the model that each class was taken from calls it.
    blocks : iterable of (Box, numpy.ndarray)
        All its blocks with some label; the labels are not compared with the classes.

    Raises
    ------
    StorageError
        If the disk is full or the folder cannot be written.
    """
    part = _beside(store.path, PART)
    with storing_errors(store.path):
        # Of an attempt that failed: whoever holds the lock knows better by now.
        for stale in (part, _beside(store.path, NEXT)):
            shutil.rmtree(stale, ignore_errors=True)
        made = create_annotation_store(
            part, store.shape, classes, origins=origins, block_shape=store.block_shape
        )
        written = []
        for block, labels in blocks:
            made.put(block, labels)
            written.append(block)
        made.make_durable(written)
        sync_folder(part)
        retry_denied(lambda: os.replace(part, _beside(store.path, NEXT)))
        sync_folder(part.parent)


def settle(path: Path) -> None:
    """Make a complete next generation the store, if there is one; what it replaces is set aside.

    Only who holds the lock of the store may do that.

    Raises
    ------
    StorageError
        If a folder cannot be renamed; the store is then the old generation, as before.
    """
    following, old = _beside(path, NEXT), _beside(path, OLD)
    if not following.is_dir():
        return
    with storing_errors(path):
        if path.is_dir():
            # Of an earlier exchange; a folder is no target of a rename unless it is empty.
            shutil.rmtree(old, ignore_errors=True)
            retry_denied(lambda: os.replace(path, old))
        try:
            retry_denied(lambda: os.replace(following, path))
        except OSError:
            if old.is_dir():
                retry_denied(lambda: os.replace(old, path))
            raise
        with contextlib.suppress(OSError):
            # It counts already. Unless the disk comes back, a power cut may bring the old one back.
            sync_folder(path.parent)


def sweep_generations(path: Path) -> None:
    """Delete what is no generation any more, or never became one; what cannot be is left."""
    for suffix in (PART, OLD):
        shutil.rmtree(_beside(path, suffix), ignore_errors=True)


def current_generation(path: Path) -> Path:
    """Return the folder to read, without a lock, in whatever state a crash has left them.

    Between two renames of `settle` there is no store under its own name.
    """
    following = _beside(path, NEXT)
    return path if path.is_dir() or not following.is_dir() else following


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)

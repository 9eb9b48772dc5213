"""Checkpoints: all that a training needs to go on as if it had never stopped.

They are files of the run folder, not models: plain tensors, numbers and dictionaries, read back
with ``weights_only=True``, so that a foreign file cannot run code.
"""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING

import torch

from napari_unet.errors import StorageError
from napari_unet.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

LAST = "last.pt"
"""File name of the newest checkpoint in a run folder."""

BEST = "best.pt"
"""File name of the best averaged weights in a run folder: a state dict of the network."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; after a crash the file is the old one or the new one, never half of it.

    Parameters
    ----------
    path : Path
        Its folder exists.
    state : dict
        Tensors, numbers, texts and dictionaries or lists of them.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    content = io.BytesIO()
    torch.save(state, content)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise StorageError(
            f"the checkpoint {path} cannot be written ({error}); free some space or choose another "
            "run folder, then resume"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `save_checkpoint` wrote.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise StorageError(
            f"the checkpoint {path} cannot be read ({error}); start again without resuming"
        ) from error
    if not isinstance(state, dict):
        raise StorageError(
            f"the checkpoint {path} holds a {type(state).__name__}, not a training; "
            "start again without resuming"
        )
    return state

"""Paths of a training made absolute, so that its run folder works from anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.models import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

_MANY = ("images", "labels")
_FOLDERS = ("root", "run")
_MODELS = ("parent", "output")


def absolute_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a `TrainJob`, unchecked, with absolute paths.

    Models by name, and values that are of the wrong type, stay as they are.

    Examples
    --------
    >>> absolute_paths({"parent": "em-membranes", "images": ["/data/a.tif"]})
    {'parent': 'em-membranes', 'images': ['/data/a.tif']}
    """
    changed = dict(values)
    for key in _MANY:
        if isinstance(changed.get(key), list | tuple):
            changed[key] = [_absolute(str(path)) for path in changed[key]]
    for key in _FOLDERS:
        if isinstance(changed.get(key), str | Path):
            changed[key] = _absolute(str(changed[key]))
    for key in _MODELS:
        if str(changed.get(key, "")).endswith(SUFFIX):
            changed[key] = _absolute(str(changed[key]))
    if isinstance(changed.get("validation"), str):
        changed["validation"] = _absolute_pair(changed["validation"])
    return changed


def split_pair(text: str) -> tuple[str, str] | None:
    """Return the paths of ``IMAGE:LABELS``, which may hold colons; None unless both exist."""
    parts = text.split(":")
    for k in range(1, len(parts)):
        image, labels = ":".join(parts[:k]), ":".join(parts[k:])
        if Path(image).expanduser().exists() and Path(labels).expanduser().exists():
            return image, labels
    return None


def _absolute_pair(text: str) -> str:
    pair = split_pair(text)
    return text if pair is None else ":".join(_absolute(path) for path in pair)


def _absolute(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())

"""What an output of ours says about the label images in it: never guessed from their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.errors import ConfigError, InputError
from napari_unet.io.damage import input_errors
from napari_unet.io.ome_documents import OURS, label_names, read_group

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

StoredKind = Literal["classes", "instances"]
"""What the numbers of a label image of ours mean."""


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """A label image of ours.

    Parameters
    ----------
    path : Path
        Its group ``OUT/labels/NAME``.
    kind : {"classes", "instances"}
        What its numbers mean.
    class_names : tuple of str
        Classes 1, 2, ...; empty for objects.
    probabilities : Path or None
        The group of its probabilities, if there are any.
    """

    path: Path
    kind: StoredKind
    class_names: tuple[str, ...]
    probabilities: Path | None


def find_stored_labels(
    path: Path, name: str | None, wanted: StoredKind | None
) -> StoredLabels | None:
    """Return the label image that a path means if it is an output of ours, else None.

    Parameters
    ----------
    path : Path
        OUT, or ``OUT/labels/NAME``.
    name : str or None
        NAME inside OUT; None = the only one of the wanted kind, or the only one.
    wanted : {"classes", "instances"} or None
        Which kind is taken where there is one of each.

    Raises
    ------
    ConfigError
        If there are several and none is chosen, or there is none of that name.
    InputError
        If it is not finished, or its metadata cannot be read.
    """
    attributes = _ours(path)
    if attributes is None:
        return None
    if _is_label_image(attributes):
        return _described(path, attributes)
    labels = path / "labels"
    listed = _ours(labels) if labels.is_dir() else None
    names = [n for n in label_names(listed or {}) if (labels / n).is_dir()]
    if not names:
        return None
    if name is not None and name not in names:
        raise ConfigError(
            f"{path} holds no label image {name!r}; choose --name from {', '.join(names)}"
        )
    found = [_described(labels / n, _ours(labels / n) or {}) for n in names if name in (None, n)]
    fitting = [each for each in found if wanted in (None, each.kind)] or found
    if len(fitting) > 1:
        raise ConfigError(
            f"{path} holds several label images ({', '.join(names)}); choose one with --name"
        )
    return fitting[0]


def _ours(path: Path) -> dict[str, Any] | None:
    """Return the attributes of a group; None if the path is no group."""
    if not path.is_dir():
        return None
    with input_errors(f"{path}: its metadata cannot be read", "restore it from a copy"):
        group = read_group(path)
    return None if group is None else group[1]


def _is_label_image(attributes: Mapping[str, Any]) -> bool:
    ours = attributes.get(OURS)
    return isinstance(ours, dict) and "state" in ours and path_kind(attributes) is not None


def path_kind(attributes: Mapping[str, Any]) -> StoredKind | None:
    """Return what the numbers of a label image of ours mean; None = it is no label image."""
    ome = attributes.get("ome", attributes)
    if not isinstance(ome, dict) or "image-label" not in ome:
        return None
    ours = attributes.get(OURS)
    kind = ours.get("kind", "classes") if isinstance(ours, dict) else None
    return {"classes": "classes", "objects": "instances"}.get(str(kind))  # type: ignore[return-value]  # of the two above


def _described(path: Path, attributes: Mapping[str, Any]) -> StoredLabels:
    kind, ours = path_kind(attributes), attributes.get(OURS)
    if kind is None or not isinstance(ours, dict):
        raise InputError(
            f"{path} was not made by napari-unet; give the path of its array, and say what its "
            "numbers mean"
        )
    if ours.get("state") != "complete":
        raise InputError(
            f"{path} is not complete: its run was stopped; finish it with the same command first"
        )
    names = _class_names(attributes) if kind == "classes" else ()
    probabilities = path.parent.parent / "probabilities" / path.name
    return StoredLabels(path, kind, names, probabilities if probabilities.is_dir() else None)


def _class_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes 1, 2, ... that a label image names."""
    ome = attributes.get("ome", attributes)
    try:
        named = {
            int(item["label-value"]): item["name"] for item in ome["image-label"]["properties"]
        }
        return tuple(str(named[k]) for k in range(FIRST_CLASS, FIRST_CLASS + len(named)))
    except (KeyError, TypeError, ValueError):
        return ()

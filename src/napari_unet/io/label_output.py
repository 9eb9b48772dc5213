"""Reading back what we wrote: a label image of an output, its classes and its probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.core.classes import ClassInfo
from napari_unet.errors import ConfigError, InputError
from napari_unet.io.image import open_image
from napari_unet.io.ome_documents import label_names, read_group
from napari_unet.io.output_state import holds_our_group, read_output_state, storage_errors
from napari_unet.io.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.job import OmeVersion
    from napari_unet.io.output_state import State

ContentKind = Literal["classes", "objects"]
"""What the labels of an output are: classes, 0 = not computed, or objects, 0 = background."""


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """A label image of ours, as it is on disk.

    Parameters
    ----------
    path : Path
        OUT, the zarr group that holds it.
    name : str
        Its name in there.
    kind : {"classes", "objects"}
        What its labels are.
    state : {"incomplete", "complete"}
        Whether its run has finished.
    classes : tuple of ClassInfo
        The k-th has the label k; empty for objects.
    attributes : dict
        What was given as provenance: ``fingerprint``, ``job``, ``provenance``.
    ome_version : {"0.5", "0.4"}
        OME-Zarr version of OUT.
    """

    path: Path
    name: str
    kind: ContentKind
    state: State
    classes: tuple[ClassInfo, ...]
    attributes: dict[str, Any]
    ome_version: OmeVersion

    @property
    def has_probabilities(self) -> bool:
        """Whether the probabilities of its classes are stored beside it."""
        return self._probabilities_path.is_dir()

    def open_labels(self) -> ImageSource:
        """Return the label image, with all its levels.

        Raises
        ------
        InputError
            If it is damaged.
        """
        return open_image(self.path / "labels" / self.name)

    def open_probabilities(self, classes: Sequence[int]) -> ImageSource:
        """Return the probabilities of classes, one channel each, in the order given.

        Parameters
        ----------
        classes : sequence of int
            Numbers of the classes, from 1.

        Raises
        ------
        InputError
            If there are none, or they are damaged.
        """
        if not self.has_probabilities:
            raise InputError(
                f"{self.path}: {self.name!r} was written without probabilities; segment again with "
                "--probabilities --overwrite"
            )
        channel = ",".join(str(k - 1) for k in classes)
        return open_image(self._probabilities_path, Selection(channel=channel))

    @property
    def _probabilities_path(self) -> Path:
        return self.path / "probabilities" / self.name


def list_labels(path: Path) -> tuple[StoredLabels, ...]:
    """Return the label images that we wrote into OUT, in the order in which it lists them.

    Raises
    ------
    InputError
        If OUT is missing.
    StorageError
        If it was not made by us, or its metadata cannot be read.
    """
    if not holds_our_group(path, "give the folder that napari-unet has written (OUT)"):
        raise InputError(f"{path}: there is no output of napari-unet; check the path")
    with storage_errors(f"{path}: its label images cannot be listed"):
        found = read_group(path / "labels")
    names = label_names(found[1]) if found is not None else []
    return tuple(labels for name in names if (labels := _read(path, name)) is not None)


def find_labels(path: Path, name: str | None, kind: ContentKind) -> StoredLabels:
    """Return a label image of OUT: the one of this name, or the only one of its kind.

    Raises
    ------
    ConfigError
        If there is none or the name leaves it open; lists what there is.
    InputError, StorageError
        As `list_labels` does.
    """
    stored = [labels for labels in list_labels(path) if labels.kind == kind]
    listed = ", ".join(labels.name for labels in stored) or "none"
    if name is not None:
        for labels in stored:
            if labels.name == name:
                return labels
        raise ConfigError(
            f"{path} holds no label image {name!r} of {kind}; there are: {listed}. Choose one of "
            "them with --from"
        )
    if len(stored) != 1:
        problem = "no label image" if not stored else f"{len(stored)} label images"
        remedy = "segment an image first" if not stored else f"choose one with --from: {listed}"
        raise ConfigError(f"{path} holds {problem} of {kind}; {remedy}")
    return stored[0]


def _read(path: Path, name: str) -> StoredLabels | None:
    state = read_output_state(path, name)
    if state is None:
        return None
    with storage_errors(f"{path}: the metadata of {name} cannot be read"):
        found = read_group(path / "labels" / name)
    version, attributes = found if found is not None else (3, {})
    kind: ContentKind = "objects" if state.attributes.get("kind") == "objects" else "classes"
    return StoredLabels(
        path=path,
        name=name,
        kind=kind,
        state=state.state,
        classes=_classes(attributes, f"{path}: {name}") if kind == "classes" else (),
        attributes=state.attributes,
        ome_version="0.5" if version == 3 else "0.4",
    )


def _classes(attributes: dict[str, Any], source: str) -> tuple[ClassInfo, ...]:
    """Return the classes that the label image's metadata name and color."""
    try:
        label = attributes.get("ome", attributes)["image-label"]
        names = {item["label-value"]: item["name"] for item in label["properties"]}
        colors = {item["label-value"]: bytes(item["rgba"][:3]).hex() for item in label["colors"]}
        return tuple(
            ClassInfo.parse({"name": names[k], "color": f"#{colors[k]}"}, source=source)
            for k in range(1, len(names) + 1)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{source}: the names and colors of its classes cannot be read ({error!r}); segment "
            "the image again"
        ) from error

"""Finding what is to be exported: a label image in an output, or the probabilities of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.errors import ConfigError, InputError
from napari_unet.io.damage import input_errors
from napari_unet.io.image import Selection, open_image
from napari_unet.io.ome_documents import OURS, read_group
from napari_unet.io.ome_metadata import ome_attributes

if TYPE_CHECKING:
    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.export_job import ExportJob

_REMEDY = "check that it is the output of napari-unet segment, copied completely"


@dataclass(frozen=True, slots=True)
class Result:
    """What was found.

    Parameters
    ----------
    source : ImageSource
        Labels, or probabilities of the chosen classes.
    name : str
        Name of the label image.
    label_names : tuple of (int, str)
        Class of each value; empty for objects and probabilities.
    channel_names : tuple of str
        Classes of the probabilities; empty for labels.
    incomplete : bool
        Whether its run has not finished.
    """

    source: ImageSource
    name: str
    label_names: tuple[tuple[int, str], ...]
    channel_names: tuple[str, ...]
    incomplete: bool

    @property
    def has_classes(self) -> bool:
        """Whether the values are classes, not objects and not probabilities."""
        return not self.channel_names and self.source.dtype.itemsize == 1


def find_result(job: ExportJob) -> Result:
    """Return what a job exports, opened.

    Raises
    ------
    ConfigError
        If several label images could be meant, or a channel does not exist.
    InputError
        If it is not there, damaged, or incomplete and that is not allowed.
    """
    out = Path(job.input).expanduser()
    folder = out / job.what
    name = job.name or _only_name(out, folder)
    with input_errors(f"{folder / name}: its metadata cannot be read", _REMEDY):
        found = read_group(folder / name)
    if found is None:
        listed = ", ".join(_names(folder)) or "nothing"
        more = ", which segment --probabilities keeps" if job.what == "probabilities" else ""
        raise InputError(
            f"{out} has no {job.what} called {name!r}{more}; it has {listed}; choose with --name"
        )
    attributes = found[1]
    ours = attributes.get(OURS)
    incomplete = isinstance(ours, dict) and ours.get("state") != "complete"
    if incomplete and not job.allow_incomplete:
        raise InputError(
            f"{out}: {name!r} is incomplete: its run has not finished; run the same command again, "
            "or export what is there with --allow-incomplete"
        )
    if job.what == "labels":
        source = open_image(folder / name)
        return Result(source, name, _label_names(attributes), (), incomplete)
    names = _channel_names(folder / name, attributes)
    chosen = _chosen_channels(job, names)
    text = ",".join(str(index) for index in chosen)
    source = open_image(folder / name, Selection(channel=text))
    return Result(source, name, (), tuple(names[index] for index in chosen), incomplete)


def _only_name(out: Path, folder: Path) -> str:
    if not out.is_dir():
        raise InputError(f"{out}: there is no such zarr folder; give the output of a segmentation")
    names = _names(folder)
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"{out} holds no {folder.name}; {_REMEDY}")
    raise ConfigError(
        f"{out} holds several {folder.name}: {', '.join(names)}; choose one with --name"
    )


def _names(folder: Path) -> list[str]:
    """Return the groups in a folder: what is there, whether or not the metadata list it."""
    with input_errors(f"{folder}: its content cannot be read", _REMEDY):
        if not folder.is_dir():
            return []
        inner = [path for path in folder.iterdir() if not path.name.startswith(".")]
        return sorted(path.name for path in inner if path.is_dir() and read_group(path))


def _label_names(attributes: dict[str, Any]) -> tuple[tuple[int, str], ...]:
    label = ome_attributes(attributes).get("image-label")
    entries = label.get("properties") if isinstance(label, dict) else None
    pairs = []
    for entry in entries if isinstance(entries, list) else ():
        value, name = entry.get("label-value"), entry.get("name")
        if isinstance(value, int) and isinstance(name, str):
            pairs.append((value, name))
    return tuple(sorted(pairs))


def _channel_names(path: Path, attributes: dict[str, Any]) -> list[str]:
    omero = ome_attributes(attributes).get("omero")
    entries = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: its metadata name no classes; {_REMEDY}")
    return [str(entry.get("label", number)) for number, entry in enumerate(entries, FIRST_CLASS)]


def _chosen_channels(job: ExportJob, names: list[str]) -> list[int]:
    if job.channel is None:
        return list(range(len(names)))
    chosen = [int(part) for part in job.channel.split(",")]
    if max(chosen) >= len(names) or len(set(chosen)) < len(chosen):
        listed = ", ".join(f"{index} = {name}" for index, name in enumerate(names))
        raise ConfigError(f"--channel {job.channel} must name different channels out of {listed}")
    return chosen

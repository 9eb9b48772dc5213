"""What an object job leaves beside its output: ``NAME.unet.json``, as a segmentation does."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from napari_unet.app.job_files import MAX_FILE_BYTES, RECORD_SUFFIX
from napari_unet.core.objects_job import ObjectsJob
from napari_unet.core.settings import Settings
from napari_unet.errors import ConfigError, StorageError
from napari_unet.files import read_bounded, write_atomically

RECORDED_PACKAGES = (
    "napari-unet",
    "numpy",
    "zarr",
    "connected-components-3d",
    "edt",
    "fastremap",
    "scikit-image",
    "scipy",
)
"""Packages whose versions can change objects."""

TABLES = "tables"
"""Folder in the output that holds the tables: they go where the labels go that they number."""


class ObjectsRecord(Settings):
    """What an object job leaves beside its output.

    Parameters
    ----------
    schema_version : int
        Version of this record.
    kind : {"objects"}
        Tells it from the record of a segmentation.
    state : {"incomplete", "complete"}
        Whether the objects are finished.
    job : ObjectsJob
        Every option, with an absolute path.
    command : tuple of str
        The command line that repeats it.
    output, name, labels : str
        The OME-Zarr group, the label image's name, and its full resolution array.
    source : str
        Name of the label image of classes.
    tables : tuple of str
        Paths of the table, as CSV and as Parquet.
    objects : int
        How many there are.
    provenance : dict
        Method with all its options, versions, times.
    """

    schema_version: Literal[1] = 1
    kind: Literal["objects"] = "objects"
    state: Literal["incomplete", "complete"]
    job: ObjectsJob
    command: tuple[str, ...]
    output: str
    name: str
    labels: str
    source: str
    tables: tuple[str, ...]
    objects: int
    provenance: Annotated[dict[str, Any], Field(default_factory=dict)]


def objects_command(job: ObjectsJob) -> tuple[str, ...]:
    """Return the ``napari-unet objects ...`` command that runs a job, word by word.

    Examples
    --------
    >>> objects_command(ObjectsJob(output="out.zarr", source="em", watershed={"h": 1.0}))
    ('napari-unet', 'objects', 'out.zarr', '--from', 'em', '--watershed-h', '1.0')
    """
    words = ["napari-unet", "objects", job.output]
    defaults = ObjectsJob(output="")
    for field, value in job.model_dump(exclude={"output"}).items():
        if value == getattr(defaults, field):
            continue
        if isinstance(value, dict):
            for key, item in value.items():
                words += _option(f"--{field}-{key}", item)
            continue
        name = "--from" if field == "source" else "--" + field.replace("_", "-")
        words += _option(name, value)
    return tuple(words)


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name if value else name.replace("--", "--no-", 1)]
    return [name, str(value)]


def objects_record_path(output: Path, name: str) -> Path:
    """Return where the record of objects lies: ``OUT.NAME.unet.json`` if another's is in the way.

    Else it is ``NAME.unet.json`` beside the output, as for a segmentation.
    """
    plain = output.parent / f"{name}{RECORD_SUFFIX}"
    try:
        own = not plain.exists() or Path(read_objects_record(plain).output) == output.absolute()
    except ConfigError:
        own = False
    return plain if own else output.parent / f"{output.stem}.{name}{RECORD_SUFFIX}"


def is_objects_record(path: Path) -> bool:
    """Return whether a file is the record of an object job, as far as its ``kind`` tells."""
    try:
        values = json.loads(read_bounded(path, MAX_FILE_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("kind") == "objects"


def read_objects_record(path: Path) -> ObjectsRecord:
    """Return a record; raises `ConfigError` if the file is missing or no record of objects."""
    try:
        values = json.loads(read_bounded(path, MAX_FILE_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"record of objects {path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a record of objects of napari-unet")
    return ObjectsRecord.parse(values, source=str(path))


def write_objects_record(path: Path, record: ObjectsRecord) -> None:
    """Write a record; raises `StorageError` if that fails."""
    try:
        write_atomically(path, record.model_dump_json(indent=2).encode())
    except OSError as error:
        raise StorageError(f"record of objects {path} cannot be written: {error}") from error


def objects_provenance(fingerprint: dict[str, Any], started: str) -> dict[str, Any]:
    """Return what is needed to understand and repeat an object job, ready for JSON."""
    return {
        "started": started,
        "objects": fingerprint,
        "versions": {name: version(name) for name in RECORDED_PACKAGES}
        | {"python": platform.python_version()},
        "platform": platform.platform(),
    }

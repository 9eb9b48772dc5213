"""Jobs on disk: job files that configure a run, and the record that a run leaves.

``NAME.unet.json`` lies beside the output. It holds the job with all options, the
command line that repeats it, versions and hashes; the plugin opens it by drag and drop.
"""

from __future__ import annotations

import datetime
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tomli_w
from pydantic import Field

from napari_unet.core.job import SegmentJob
from napari_unet.core.settings import Settings
from napari_unet.errors import ConfigError, StorageError
from napari_unet.files import read_bounded, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORD_SUFFIX = ".unet.json"
"""What job records end in; the plugin's reader claims it."""

MAX_FILE_BYTES = 2**20
"""A job file or record is a few kilobytes; more is refused unread."""


MAX_DOTS = 64
"""Dots in a line of a TOML file; names of settings have at most one."""


class JobRecord(Settings):
    """What a run leaves beside its output.

    Parameters
    ----------
    schema_version : int
        Version of this record.
    state : {"incomplete", "complete"}
        Whether the output is finished.
    job : SegmentJob
        Every option, with absolute paths.
    command : tuple of str
        The command line that repeats it.
    output, name, labels : str
        The OME-Zarr group, the label image's name, and its full resolution array.
    classes : tuple of (name, color)
        The k-th class has the label k.
    provenance : dict
        Versions, device, model hash, normalization, times.
    """

    schema_version: Literal[1] = 1
    state: Literal["incomplete", "complete"]
    job: SegmentJob
    command: tuple[str, ...]
    output: str
    name: str
    labels: str
    classes: tuple[tuple[str, str], ...]
    provenance: Annotated[dict[str, Any], Field(default_factory=dict)]


def read_settings_file(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML or JSON file, unchecked; a job record gives its job.

    Raises
    ------
    ConfigError
        If the file is missing, too large, or not TOML or JSON.
    """
    try:
        text = read_bounded(path, MAX_FILE_BYTES).decode("utf-8")
        values = json.loads(text) if path.suffix == ".json" else _parse_toml(text)
    except OSError as error:
        raise ConfigError(f"job file {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"job file {path} is not valid TOML or JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"job file {path} holds no table of settings")
    if path.name.endswith(RECORD_SUFFIX):
        values = values.get("job")
        if not isinstance(values, dict):
            raise ConfigError(f"job record {path} holds no job")
    return values


def _parse_toml(text: str) -> dict[str, Any]:
    # A dotted name of n parts takes the standard library memory and time of the order n squared.
    if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        raise ValueError(f"a line has more than {MAX_DOTS} dots; write it as several")
    return tomllib.loads(text)


def write_settings_file(path: Path, values: Mapping[str, Any]) -> None:
    """Write settings as TOML, or JSON if the file's name ends so; unset ones are left out."""
    text = settings_text(values, as_json=path.suffix == ".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise StorageError(f"job file {path} cannot be written: {error.strerror}") from error


def settings_text(values: Mapping[str, Any], *, as_json: bool = False) -> str:
    """Return settings as the text of a job file, TOML or JSON; unset ones are left out."""
    chosen = {key: value for key, value in values.items() if value is not None}
    return json.dumps(chosen, indent=2) if as_json else tomli_w.dumps(chosen)


def utc_now() -> str:
    """Return the time as ISO 8601, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def command_line(job: SegmentJob) -> tuple[str, ...]:
    """Return the ``napari-unet segment ...`` command that runs a job, word by word."""
    words = ["napari-unet", "segment", job.input]
    defaults = SegmentJob(input="", model="", output="")
    for field, value in job.model_dump(exclude={"input"}).items():
        if value is None or value == getattr(defaults, field):
            continue
        option = "--" + field.replace("_", "-")
        words += [option] if value is True else [option, str(value)]
    return tuple(words)


def record_path(output: Path, name: str) -> Path:
    """Return where the record of a label image lies: ``NAME.unet.json`` beside the output.

    Where that file belongs to another output of the same folder, the output's name goes before it:
    nothing is overwritten.
    """
    plain = output.parent / f"{name}{RECORD_SUFFIX}"
    try:
        other = read_record(plain).output if plain.exists() else None
    except ConfigError:
        other = ""
    if other is None or (other and Path(other) == output.absolute()):
        return plain
    return output.parent / f"{output.stem}.{name}{RECORD_SUFFIX}"


def write_record(path: Path, record: JobRecord) -> None:
    """Write a record; raises `StorageError` if that fails."""
    try:
        write_atomically(path, record.model_dump_json(indent=2).encode())
    except OSError as error:
        raise StorageError(f"job record {path} cannot be written: {error.strerror}") from error


def read_record(path: Path) -> JobRecord:
    """Return a record; raises `ConfigError` if the file is missing or not a record."""
    try:
        values = json.loads(read_bounded(path, MAX_FILE_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"job record {path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a job record of napari-unet")
    return JobRecord.parse(values, source=str(path))

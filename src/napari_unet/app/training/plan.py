"""What a training will do, worked out before an image is opened; what a resumed one must match."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from napari_unet.app.model_store import check_new_name
from napari_unet.app.models import COMPANION_SUFFIXES, SUFFIX, find_model, own_models_folder
from napari_unet.app.training.defaults import budget_of
from napari_unet.app.training.run_folder import run_folder
from napari_unet.core.header import ModelName
from napari_unet.core.settings import Settings
from napari_unet.errors import ConfigError, OutputExistsError, StorageError
from napari_unet.files import read_json, write_json_atomically
from napari_unet.io.output_state import check_writable

if TYPE_CHECKING:
    from napari_unet.app.models import ModelEntry
    from napari_unet.core.header import ModelHeader
    from napari_unet.core.train_job import TrainJob

RECORD = "training.json"
"""File of the run folder that holds the `TrainRecord`."""

_NAME: TypeAdapter[str] = TypeAdapter(ModelName)

_OTHER_FORMATS = frozenset({".pt", ".pth", ".onnx", ".zip", ".toml", ".h5", ".ckpt"})
"""Endings that say that a file was meant, not a name."""

_CHANGED = {
    "data": "the images or labels",
    "validation": "the images or labels of --validation",
    "parent": "the model to start from",
    "classes": "the classes",
    "rehearsal": "the rehearsal crops of the model to start from",
}


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """A training job, its names resolved.

    Parameters
    ----------
    job : TrainJob
        What the user asked for.
    run : Path
        Run folder; it exists.
    output : Path
        Model file to be written; it does not exist.
    name : str
        Of the new model.
    parent : ModelEntry or None
        Model to start from.
    budget : float or None
        Seconds in all; None = counted in steps.
    """

    job: TrainJob
    run: Path
    output: Path
    name: str
    parent: ModelEntry | None
    budget: float | None

    @property
    def parent_header(self) -> ModelHeader | None:
        """What the parent says about itself."""
        return None if self.parent is None else self.parent.header


class TrainRecord(Settings):
    """What was decided when a training started; it stays the same when that is resumed.

    Parameters
    ----------
    schema_version : int
        Version of this record.
    data, validation : list of dict
        What identifies each image with its labels.
    parent : str or None
        SHA-256 of the model to start from.
    classes : tuple of str
        Of the new model.
    rehearsal : str or None
        SHA-256 of the file of rehearsal crops; None = nothing is rehearsed.
    output_edge : int
        Edge of a patch's labels, in pixels.
    seconds : float or None
        Time for the steps, of the whole budget.
    selection_pixels, judging_pixels : int
        Bounds of what is read to validate and to judge.
    contradicted : float
        Share of what is painted that the parent had wrong, see `head_start`.
    """

    schema_version: Literal[1] = 1
    data: list[dict[str, Any]] = Field(default_factory=list)
    validation: list[dict[str, Any]] = Field(default_factory=list)
    parent: str | None = None
    classes: tuple[str, ...] = ()
    rehearsal: str | None = None
    output_edge: int = 0
    seconds: float | None = None
    selection_pixels: int = 0
    judging_pixels: int = 0
    contradicted: float = 0.0


def plan_training(job: TrainJob) -> TrainPlan:
    """Return a job with its names resolved; the run folder is made if need be.

    Raises
    ------
    ConfigError
        If the new model's name cannot be used or is taken, or there is no such parent.
    OutputExistsError
        If the model file exists.
    ModelFileError
        If the parent is damaged.
    StorageError
        If the run folder or the model's folder cannot be written.
    """
    output = output_path(job)
    parent = None if job.parent is None else find_model(job.parent)
    run = run_folder(job.output, job.run)
    # Before minutes of work, not after.
    check_writable(output.parent)
    check_writable(run)
    return TrainPlan(job, run, output, output.stem, parent, budget_of(job))


def write_train_record(run: Path, record: TrainRecord) -> None:
    """Keep a record in the run folder; raises `StorageError` if that fails."""
    try:
        write_json_atomically(run / RECORD, record.model_dump(mode="json"))
    except OSError as error:
        raise StorageError(f"{run / RECORD} cannot be written: {error.strerror}") from error


MAX_RECORD_BYTES = 2**26
"""A record names every image; more than 100,000 of them fit."""


def read_train_record(run: Path) -> TrainRecord:
    """Return the record of a run folder.

    Raises
    ------
    ConfigError
        If there is none, or it cannot be read.
    """
    try:
        return TrainRecord.parse(
            read_json(run / RECORD, MAX_RECORD_BYTES), source=str(run / RECORD)
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the training in {run} cannot go on: its {RECORD} cannot be read ({error}); start "
            "again without resuming"
        ) from error


def check_unchanged(before: TrainRecord, now: TrainRecord, run: Path) -> None:
    """Refuse to go on with other data than a training began with.

    Raises
    ------
    ConfigError
        Listing what has changed.
    """
    changed = [
        f"{words} ({_difference(getattr(before, name), getattr(now, name))})"
        for name, words in _CHANGED.items()
        if getattr(before, name) != getattr(now, name)
    ]
    if changed:
        raise ConfigError(
            f"since the training in {run} began, {' and '.join(changed)} changed; bring back what "
            "it began with, or start a new training"
        )


def output_path(job: TrainJob) -> Path:
    """Return the model file that a job will write.

    Raises
    ------
    ConfigError
        If the model's name cannot be used or is taken.
    OutputExistsError
        If the file exists.
    """
    if not job.output.endswith(SUFFIX):
        named = Path(job.output)
        if named.name != job.output or named.suffix in _OTHER_FORMATS:
            bare = named.with_name(named.stem) if named.suffix in _OTHER_FORMATS else named
            raise ConfigError(
                f"--output {job.output!r} is neither a name nor a {SUFFIX} file; write "
                f"{bare}{SUFFIX} for a file, or only {bare.name or 'NAME'} for a name in your "
                "store; napari-unet models export makes other formats"
            )
        check_new_name(job.output)
        return own_models_folder() / f"{job.output}{SUFFIX}"
    path = Path(job.output).expanduser().absolute()
    try:
        _NAME.validate_python(path.stem)
    except ValidationError:
        raise ConfigError(
            f"{path.name!r} cannot be a model's file name; use at most 64 letters, digits, '.', "
            f"'_' and '-' before {SUFFIX}, beginning with a letter or digit"
        ) from None
    if path.name.endswith(COMPANION_SUFFIXES):
        raise ConfigError(
            f"{path.name!r} is the name of a file of crops, not of a model; choose another"
        )
    if path.exists():
        raise OutputExistsError(f"{path} exists, and no model is overwritten; choose another name")
    return path


def _difference(before: object, now: object) -> str:
    if isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            return f"{len(before)} -> {len(now)}"
        pairs = zip(before, now, strict=True)
        return ", ".join(str(new.get("name")) for old, new in pairs if old != new)
    return f"{before} -> {now}"

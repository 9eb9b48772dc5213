"""The run folder: all that a training leaves beside its model, and needs to go on after a crash.

::

    RUN/
      train.toml      every setting; `napari-unet train --config RUN/train.toml` reads it
      command.txt     the command that repeats the training
      training.json   what a resumed training must have in common with this one
      log.jsonl       one event a line, with the seconds of training before it
      curves.png      loss and validation scores over steps
      last.pt         newest checkpoint
      best.pt         best averaged weights so far
      preview.npy     what the weights made of the place that was looked at last
      comparison.npz  small pictures of other places, before and after
      given/          arrays that were given in Python, not as files
"""

from __future__ import annotations

import json
import shlex
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.job_files import read_settings_file, write_settings_file
from napari_unet.app.models import SUFFIX, own_models_folder
from napari_unet.core.events import event_to_json
from napari_unet.core.train_events import Saved, TrainingFinished, TrainingStarted
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import ConfigError, OutputExistsError, StorageError
from napari_unet.files import write_atomically
from napari_unet.training.checkpoint import LAST

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari_unet.core.train_events import TrainEvent

SETTINGS, COMMAND, LOG, CURVES = "train.toml", "command.txt", "log.jsonl", "curves.png"
RECORD, PREVIEW = "training.json", "preview.npy"
COMPARISON = "comparison.npz"

GIVEN = "given"
"""Folder of the run folder that keeps arrays that were given in Python."""

_PARTS = ".*.part"
"""Files that were being written when a run was killed."""

_AGAIN, _NAME_LENGTH = "-again", 64

WORTHLESS_ALONE = frozenset({SETTINGS, COMMAND, LOG, CURVES, RECORD, PREVIEW, COMPARISON, GIVEN})
"""Files that may be replaced as long as there is no checkpoint beside them."""

NO_MATTER = {"output", "run", "device", "threads"}
"""Settings that may differ when a training goes on: they do not decide what is learnt."""

_OF_STEPS = frozenset({"step_done", "validated", "saved", "preview_ready"})


def run_folder(output: str, run: str | None = None) -> Path:
    """Return where the run folder of a training is, or will be.

    Parameters
    ----------
    output : str
        For a file ``NAME.safetensors`` it is ``NAME.run`` beside it; for a name in the user's
        store, ``runs/NAME`` beside the folder of models.
    run : str or None
        The folder itself, which wins.
    """
    if run is not None:
        return Path(run).expanduser().absolute()
    target = Path(output).expanduser()
    if target.suffix == SUFFIX:
        return target.absolute().with_suffix(".run")
    return own_models_folder().parent / "runs" / output


def prepare_run_folder(job: TrainJob, *, resume: bool) -> Path:
    """Return the run folder of a training, with its settings in it: new, or one to go on from.

    A folder of a run that ended before its first checkpoint counts as new.

    Raises
    ------
    OutputExistsError
        If it holds another training and `resume` is False, or a finished one and `resume` is True.
    ConfigError
        If there is nothing to go on from, or the settings have changed since.
    StorageError
        If it cannot be written.
    """
    folder = run_folder(job.output, job.run)
    if resume:
        _check_same(folder, job)
        _check_unfinished(folder, job)
        return folder
    _check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in (folder / LOG, *folder.glob(_PARTS)):
            left.unlink(missing_ok=True)
        write_settings_file(folder / SETTINGS, settings_of(job))
    except OSError as error:
        raise StorageError(
            f"run folder {folder} cannot be made: {error.strerror}; choose another --output or "
            "--run, or ask for the permission"
        ) from error
    return folder


def settings_of(job: TrainJob) -> dict[str, Any]:
    """Return what a job was given, as plain data for a file; defaults are left out."""
    given = job.model_dump(mode="json", exclude_defaults=True)
    return {name: value for name, value in given.items() if value not in ({}, None)}


def stored_job(folder: Path) -> TrainJob:
    """Return the job of a run folder.

    Raises
    ------
    ConfigError
        If there is none, or it cannot be read.
    """
    path = folder / SETTINGS
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds no training to go on with ({SETTINGS} is missing); check --output and "
            "--run, or start without --resume"
        )
    return TrainJob.parse(read_settings_file(path), source=str(path))


def write_command(folder: Path, words: Sequence[str], job: TrainJob) -> None:
    """Keep the command as it was typed, and one that repeats it from the stored settings."""
    again = ["napari-unet", "train", "--config", str(folder / SETTINGS)]
    again += ["--output", _another(job.output), "--run", f"{folder}-again"]
    text = (
        "# as it was given\n"
        f"{shlex.join(words)}\n"
        "# the same again, into another model\n"
        f"{shlex.join(again)}\n"
    )
    _write(folder / COMMAND, text.encode())


def _another(output: str) -> str:
    """Return a name, or a file, like that of a model: legal if that is."""
    path = Path(output)
    if path.suffix != SUFFIX:
        return f"{output[: _NAME_LENGTH - len(_AGAIN)]}{_AGAIN}"
    stem = path.stem[: _NAME_LENGTH - len(_AGAIN)]
    return str(path.with_name(f"{stem}{_AGAIN}{SUFFIX}"))


def record_run(
    events: Generator[TrainEvent],
    folder: Path,
    *,
    resume: bool,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[TrainEvent]:
    """Pass the events of a training on, and keep them in the run folder's log and curves.

    When it goes on from a checkpoint, lines of steps after that checkpoint are taken out first:
    these steps are taken again.

    Parameters
    ----------
    events : generator of TrainEvent
        A training; closed when this is closed.
    folder : Path
        The run folder.
    resume : bool
        Whether it goes on from a checkpoint.
    clock : callable
        Seconds from any start.

    Raises
    ------
    StorageError
        If the log cannot be written.
    """
    path, began = folder / LOG, clock()
    earlier = _last_seconds(path) if resume else 0.0
    with closing(events):
        for event in events:
            if isinstance(event, TrainingStarted) and resume:
                _cut_log(path, event.first_step)
            line = {**event_to_json(event), "seconds": round(earlier + clock() - began, 2)}
            _append(path, json.dumps(line))
            if isinstance(event, Saved | TrainingFinished):
                draw_curves(folder)
            yield event


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the events in a run folder's log; a last line that a crash cut off is left out."""
    path = folder / LOG
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    events = []
    for line in lines:
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events


def draw_curves(folder: Path) -> None:
    """Draw loss, learning rate and validation scores of a run folder's log into ``curves.png``."""
    # Costs half a second to import, which a training of a minute pays once, at its end.
    from matplotlib.figure import Figure

    events = read_log(folder)
    steps = [e for e in events if e.get("event") == "step_done"]
    validated = [e for e in events if e.get("event") == "validated"]
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot([e["step"] for e in steps], [e["loss"] for e in steps], lw=0.5)
    above.set(ylabel="training loss")
    rate = above.twinx()
    rates = [e["learning_rate"] for e in steps]
    rate.plot([e["step"] for e in steps], rates, color="0.6", lw=1)
    rate.set(ylabel="learning rate (gray)", ylim=(0, None))
    names = sorted({n for e in validated for n in e["metrics"] if n.startswith("f1/")})
    for name in ("score", *names):
        known = [e for e in validated if e["metrics"].get(name) is not None]
        label = "mean F1" if name == "score" else f"F1 {name.removeprefix('f1/')}"
        below.plot(
            [e["step"] for e in known], [e["metrics"][name] for e in known], marker=".", label=label
        )
    if validated:
        below.legend(loc="lower right", fontsize="small")
    below.set(xlabel="step", ylabel="score on held-out labels", ylim=(0, 1))
    try:
        figure.savefig(folder / CURVES, dpi=120)
    except OSError as error:
        raise StorageError(f"{folder / CURVES} cannot be written: {error.strerror}") from error


def _check_free(folder: Path) -> None:
    """Refuse a path that is taken by anything but a run without a checkpoint."""
    if not folder.is_dir():
        if folder.exists():
            raise OutputExistsError(f"{folder} is a file, not a run folder; choose another --run")
        return
    free = {*WORTHLESS_ALONE, *(part.name for part in folder.glob(_PARTS))}
    others = sorted(item.name for item in folder.iterdir() if item.name not in free)
    if LAST in others and (folder / SETTINGS).is_file():
        raise OutputExistsError(
            f"{folder} is not empty: it holds an earlier run; go on with --resume, or choose "
            "another --output or --run"
        )
    if others:
        raise OutputExistsError(
            f"{folder} is not empty: it holds {others[0]}, which is of no run that could go on; "
            "choose another --output or --run"
        )


def _check_same(folder: Path, job: TrainJob) -> None:
    before, now = stored_job(folder).model_dump(), job.model_dump()
    changed = [key for key in now if key not in NO_MATTER and now[key] != before[key]]
    if changed:
        details = "; ".join(f"{key}: {before[key]} -> {now[key]}" for key in changed)
        raise ConfigError(
            f"the settings differ from those of the run in {folder} ({details}); resume with the "
            "same ones, or start a new run with another --output"
        )
    if not (folder / LAST).is_file():
        raise ConfigError(
            f"{folder} holds no checkpoint ({LAST}): the training ended before its first; remove "
            "the folder and start again without --resume"
        )


def _check_unfinished(folder: Path, job: TrainJob) -> None:
    """Refuse to go on if that would make the model that is there."""
    ends = [e for e in read_log(folder) if e.get("event") == "training_finished"]
    models = [Path(str(end.get("model"))) for end in ends]
    if models and models[-1].is_file() and job.output == stored_job(folder).output:
        raise OutputExistsError(
            f"the training in {folder} is finished, and its model is {models[-1]}; nothing is left "
            "to do, unless another --output is given"
        )


def _last_seconds(path: Path) -> float:
    seconds = [event.get("seconds", 0.0) for event in read_log(path.parent)]
    return float(max(seconds, default=0.0))


def _cut_log(path: Path, step: int) -> None:
    """Take out what happened after a step, and half a line at the end, if any."""
    kept = [
        event
        for event in read_log(path.parent)
        if event.get("event") not in _OF_STEPS or event.get("step", 0) <= step
    ]
    _write(path, "".join(f"{json.dumps(event)}\n" for event in kept).encode())


def _append(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")
    except OSError as error:
        raise StorageError(f"log {path} cannot be written: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error

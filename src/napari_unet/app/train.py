"""Train a model: from a job to a model file, as a stream of events."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.training.comparison import compare
from napari_unet.app.training.ground import OpenedData
from napari_unet.app.training.paths import absolute_paths
from napari_unet.app.training.plan import plan_training
from napari_unet.app.training.run import TrainingRun
from napari_unet.app.training.run_folder import GIVEN, prepare_run_folder, record_run, run_folder
from napari_unet.core.events import StageChanged
from napari_unet.core.train_events import Judged, Stopped, TrainEvent, TrainingFinished
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import TrainingError
from napari_unet.inference.control import JobControl
from napari_unet.io.output_state import check_writable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import numpy.typing as npt

__all__ = ["TrainEvent", "TrainingResult", "run_training", "train_model"]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came of a training.

    Parameters
    ----------
    model : str
        Path of the model file; give it as `model` to `napari_unet.segment`.
    judged : tuple of Judged
        What the gate said; none if nothing was held out.
    finished : TrainingFinished
        Steps, time, and why it ended.
    """

    model: str
    judged: tuple[Judged, ...]
    finished: TrainingFinished


def train_model(
    images: str | Path | npt.ArrayLike | Sequence[str | Path | npt.ArrayLike],
    labels: str | Path | npt.ArrayLike | Sequence[str | Path | npt.ArrayLike],
    output: str | Path,
    **options: Any,
) -> TrainingResult:
    """Train a model, or fine-tune one, and wait for it.

    To see what happens meanwhile, or to stop it, use `run_training`.

    Parameters
    ----------
    images, labels : path, array, or a list of them
        Pair by pair. An array is kept in the run folder, so that the training can be repeated.
    output : str or path
        Name of the new model in the user's store, or a ``.safetensors`` file to write.
    **options
        Fields of `napari_unet.core.train_job.TrainJob`: ``label_kind``, ``parent``, ``classes``,
        ``minutes`` or ``steps``, ``seed``, ``axes``, ...

    Raises
    ------
    UNetError
        If something cannot be used, read, learnt from or written.
    """
    where = run_folder(str(output), options.get("run"))
    values = options | {
        "images": _kept(images, where, "image"),
        "labels": _kept(labels, where, "labels"),
        "output": str(output),
    }
    job = TrainJob.parse(absolute_paths(values), source="train")
    folder = prepare_run_folder(job, resume=False)
    for path, array in _arrays(images, where, "image") + _arrays(labels, where, "labels"):
        check_writable(path.parent)
        np.save(path, array)
    events = list(record_run(run_training(job), folder, resume=False))
    finished = next((e for e in events if isinstance(e, TrainingFinished)), None)
    if finished is None:
        raise TrainingError("the training ended without a model")
    judged = tuple(event for event in events if isinstance(event, Judged))
    return TrainingResult(finished.model, judged, finished)


def run_training(
    job: TrainJob,
    control: JobControl | None = None,
    *,
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[TrainEvent]:
    """Train a model, yielding what happens.

    ``control.stop()`` ends it after the next step: the best weights are still judged, if that takes
    little, and written as a model. Closing the generator ends it at once; the run folder then holds
    a checkpoint to resume from, and the best weights.

    Parameters
    ----------
    job : TrainJob
        What to do. Its run folder is made if need be.
    control : JobControl or None
        To stop, pause, and say where the user is looking, in voxels of the first image.
    resume : bool
        Go on from the run folder's last checkpoint.
    clock : callable
        Returns seconds that never run backwards.

    Yields
    ------
    TrainEvent
        Ends with `TrainingFinished`; or with `Stopped`, and no model, if it was stopped before the
        first step.

    Raises
    ------
    UNetError
        If something cannot be used, read, learnt from or written.
    """
    run = TrainingRun(job, control or JobControl(), clock)
    yield StageChanged("opening")
    run.plan = plan_training(job)
    with closing(OpenedData.of(job, run.plan.parent_header)) as opened:
        yield from run.prepare(opened, resume=resume)
        if run.is_stopped_early:
            yield Stopped(0, "stopped before the first step; no model was written")
            return
        yield from run.learn(resume=resume)
        yield from run.judge()
        yield from compare(run)
        yield from run.finish()


def _listed(given: Any) -> list[Any]:
    """Return one thing as a list of one."""
    return list(given) if isinstance(given, list | tuple) else [given]


def _kept(given: Any, folder: Path, name: str) -> list[str]:
    """Return the path of each thing that was given; of an array, where it will be kept."""
    return [
        str(item) if isinstance(item, str | Path) else str(folder / GIVEN / f"{name}{k}.npy")
        for k, item in enumerate(_listed(given))
    ]


def _arrays(given: Any, folder: Path, name: str) -> list[tuple[Path, npt.NDArray[Any]]]:
    """Return the arrays that were given, and where each is to be kept."""
    paths = _kept(given, folder, name)
    items = zip(paths, _listed(given), strict=True)
    return [(Path(p), np.asarray(i)) for p, i in items if not isinstance(i, str | Path)]

"""Train a model: from a job to a model file, as a stream of events."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from napari_unet.app.train_ground import OpenedData
from napari_unet.app.train_plan import plan_training
from napari_unet.app.train_run import TrainingRun
from napari_unet.app.training_events import TrainEvent
from napari_unet.core.events import StageChanged
from napari_unet.inference.control import JobControl
from napari_unet.training.events import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_unet.core.train_job import TrainJob

__all__ = ["TrainEvent", "run_training"]


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
        yield from run.finish()

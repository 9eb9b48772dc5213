"""A training that is stopped before anything was validated says which weights are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_unet.app.train import run_training
from napari_unet.core.train_events import StepDone, TrainingFinished, Validated
from napari_unet.core.train_job import TrainJob
from napari_unet.inference.control import JobControl

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("resumed", [False, True])
def test_weights_that_no_validation_chose_are_the_newest(
    tmp_path: Path, rng: np.random.Generator, resumed: bool
) -> None:
    labels = rng.integers(1, 3, (16, 16), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    np.save(tmp_path / "labels.npy", np.where(rng.random(labels.shape) < 0.2, labels, 0))
    np.save(tmp_path / "image.npy", 90 * labels + rng.normal(0, 9, labels.shape))
    job = TrainJob(
        images=(str(tmp_path / "image.npy"),),
        labels=(str(tmp_path / "labels.npy"),),
        label_kind="annotation",
        classes=("dark", "bright"),
        output=str(tmp_path / "new.safetensors"),
        steps=4000,
        threads=1,
        precision="fp32",
        network={"base_channels": 4, "depth": 2},
        sampler={"output_edge": 24},
    )
    if resumed:
        events = run_training(job)
        for event in events:
            if isinstance(event, StepDone):
                events.close()
    control, seen = JobControl(), []
    for event in run_training(job, control, resume=resumed):
        seen.append(event)
        if isinstance(event, StepDone) and event.step == 3:
            control.stop()
    assert all(event.step == 0 for event in seen if isinstance(event, Validated))
    finished = seen[-1]
    assert isinstance(finished, TrainingFinished)
    assert (finished.steps, finished.best_step) == (3, 3)
    assert finished.detail == "stopped by the user"

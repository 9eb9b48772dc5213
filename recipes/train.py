"""Train the bundled model `em-membranes` from nothing.

::

    python recipes/train.py recipes/em_membranes.toml --data FOLDER --run RUN [--resume]

FOLDER holds ``raw.tif`` and ``bodies.tif``. RUN receives ``log.jsonl``, the checkpoint ``last.pt``
and the best averaged weights ``best.pt`` (a state dict of `napari_unet.model.unet.UNet`).
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from em_volume import (
    MEMBRANE,
    membrane_labels,
    predict_slices,
    predictor,
    read_slices,
    standardize,
)

from napari_unet.augment.intensity import bend
from napari_unet.metrics.boundary import boundary_score
from napari_unet.model.unet import UNet
from napari_unet.training.events import Saved, StepDone, Stopped, Validated
from napari_unet.training.loop import LoopSettings, train
from napari_unet.training.sampler import LabeledPlanes, PatchSampler, SamplerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.training.events import TrainingEvent

LOG_EVERY = 25
"""Steps between two lines of the log."""

THRESHOLDS = tuple(round(0.3 + 0.05 * k, 2) for k in range(9))
"""Membrane probabilities that validation also tries, to show what argmax leaves lying."""

DISTURBED = {
    "as_is": lambda image: image,
    "low_contrast": lambda image: 0.75 * image,
    "high_contrast": lambda image: 1.3 * image,
    "darker": lambda image: image - 0.4,
    "brighter": lambda image: image + 0.4,
    "gamma": lambda image: bend(torch.from_numpy(image), 1.4).numpy(),
}
"""Other gray values that validation tries, on images of standard deviation 1."""


def training_stacks(folder: Path, data: Mapping[str, Any]) -> list[LabeledPlanes]:
    """Return the xy, xz and yz planes of the training slices: the voxels are cubes."""
    raw, bodies = read_slices(folder, *data["train"])
    image = standardize(raw)
    return [
        LabeledPlanes(np.moveaxis(image, axis, 0)[None], membrane_labels(bodies, axis), share)
        for axis, share in enumerate(data["shares"])
        if share > 0
    ]


def validation(folder: Path, data: Mapping[str, Any]) -> Callable[[UNet], dict[str, float]]:
    """Return a function that scores a network on the validation slices, as they are and disturbed.

    The score that selects weights is the mean F1 over the disturbances: gray values of another
    stack or microscope are never exactly those of this one.
    """
    first, stop = data["validation"]
    raw, bodies = read_slices(folder, first, stop)
    image = standardize(raw)[:: data["validation_step"]]
    true = membrane_labels(bodies)[:: data["validation_step"]] == MEMBRANE

    def validate(net: UNet) -> dict[str, float]:
        predict = predictor(net)
        found = {k: predict_slices(predict, f(image))[MEMBRANE - 1] for k, f in DISTURBED.items()}
        scores = {name: boundary_score(p > 0.5, true).f1 for name, p in found.items()}
        membrane = found["as_is"]
        argmax = boundary_score(membrane > 0.5, true)
        tried = {t: boundary_score(membrane > t, true).f1 for t in THRESHOLDS}
        best = max(tried, key=lambda t: tried[t])
        return {
            "score": float(np.mean(list(scores.values()))),
            **{f"f1_{name}": f1 for name, f1 in scores.items()},
            "precision": argmax.precision,
            "recall": argmax.recall,
            "plain_f1": boundary_score(membrane > 0.5, true, tolerance=0).f1,
            "best_threshold": best,
            "f1_at_best_threshold": tried[best],
        }

    return validate


def as_record(event: TrainingEvent, mean_loss: float, seconds: float) -> dict[str, Any] | None:
    """Return the line of the log that an event deserves, if any."""
    match event:
        case StepDone(step, _, rate):
            if step % LOG_EVERY:
                return None
            record = {"event": "step", "step": step, "loss": mean_loss, "rate": rate}
        case Validated(step, metrics, is_best):
            record = {"event": "validated", "step": step, **metrics, "best": is_best}
        case Saved(step, path):
            record = {"event": "saved", "step": step, "file": path.name}
        case Stopped(step, reason):
            record = {"event": "stopped", "step": step, "reason": reason}
    rounded = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in record.items()}
    return {**rounded, "seconds": round(seconds, 1)}


def run(config: Mapping[str, Any], data: Path, run_dir: Path, *, resume: bool) -> None:
    """Train as `config` says and log to ``run_dir/log.jsonl``."""
    loop = LoopSettings.parse(config["loop"], source="[loop]")
    torch.manual_seed(loop.seed)
    net = UNet(**config["network"]).to(memory_format=torch.channels_last)
    stacks = training_stacks(data, config["data"])
    sampler = PatchSampler(
        stacks,
        net.architecture.geometry(),
        SamplerSettings.parse(config["sampler"], source="[sampler]"),
    )
    run_dir.mkdir(parents=True, exist_ok=True)
    events = train(
        net,
        sampler.draw,
        loop,
        validate=validation(data, config["data"]),
        run_dir=run_dir,
        resume=resume,
    )
    start, losses = time.monotonic(), []
    with (run_dir / "log.jsonl").open("a" if resume else "w", encoding="utf-8") as log:
        head = {"event": "resumed" if resume else "started", "torch": torch.__version__}
        log.write(json.dumps({**head, "threads": torch.get_num_threads(), "config": config}) + "\n")
        for event in events:
            if isinstance(event, StepDone):
                losses = [*losses, event.loss][-LOG_EVERY:]
            mean_loss = float(np.mean(losses)) if losses else 0.0
            record = as_record(event, mean_loss, time.monotonic() - start)
            if record is not None:
                line = json.dumps(record)
                log.write(line + "\n")
                log.flush()
                print(line, flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of raw.tif, bodies.tif")
    parser.add_argument("--run", type=Path, required=True, help="folder for log and checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from RUN/last.pt")
    parser.add_argument("--threads", type=int, default=2, help="of torch; the result depends on it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    run(config, options.data, options.run, resume=options.resume)


if __name__ == "__main__":
    main()

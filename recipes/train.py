"""Train the bundled model `em-membranes`.

::

    python recipes/train.py RECIPE --data FOLDER --run RUN [--start FILE] [--resume]

RECIPE is ``recipes/em_membranes.toml`` or one like it, FOLDER holds ``raw.tif`` and ``bodies.tif``,
FILE is the model that a recipe with a table ``[start]`` starts from. RUN receives ``log.jsonl``,
the checkpoint ``last.pt`` and the best averaged weights ``best.pt`` (a state dict of
`napari_unet.model.unet.UNet`).
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
    DataSettings,
    average_slabs,
    membrane_labels,
    predict_slices,
    predictor,
    read_slices,
    standardize,
    training_stacks,
    with_neighbors,
)
from scipy import ndimage

from napari_unet.augment.intensity import bend, blur
from napari_unet.core.train_events import Saved, StepDone, Stopped, Validated
from napari_unet.errors import ConfigError
from napari_unet.metrics.boundary import boundary_score
from napari_unet.model.unet import UNet
from napari_unet.model.weights import load_model
from napari_unet.training.loop import LoopSettings, train
from napari_unet.training.sampler import PatchSampler, SamplerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    from em_volume import Predict

    from napari_unet.core.train_events import TrainingEvent

LOG_EVERY = 25
"""Steps between two lines of the log."""

THRESHOLDS = tuple(round(0.3 + 0.05 * k, 2) for k in range(9))
"""Membrane probabilities that validation also tries, to show what argmax leaves lying."""

GRAY_VALUES = {
    "as_is": lambda image: image,
    "low_contrast": lambda image: 0.75 * image,
    "high_contrast": lambda image: 1.3 * image,
    "darker": lambda image: image - 0.4,
    "brighter": lambda image: image + 0.4,
    "gamma": lambda image: bend(torch.from_numpy(image), 1.4).numpy(),
}
"""Other gray values that validation tries, on images of standard deviation 1."""

SHARPNESS = {
    "noisy": lambda image: image + noise_like(image, 0.4),
    "blurred": lambda image: blur(torch.from_numpy(image), 1.2).numpy(),
    "slab": lambda image: average_slabs(image, 3),
}
"""Worse images that validation tries."""

ZOOMS = {"smaller": 0.8, "larger": 1.25}
"""Other pixel sizes that validation tries."""


def noise_like(image: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """Return the same noise each time, of the shape of an image."""
    rng = np.random.default_rng(0)
    return np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)


def predict_zoomed(
    predict: Predict, image: npt.NDArray[np.float32], factor: float
) -> npt.NDArray[np.float32]:
    """Return probabilities (classes, Z, Y, X) that were found at another size of the slices."""
    zoomed = ndimage.zoom(image, (1, 1, factor, factor), order=3, mode="mirror")
    found = predict_slices(predict, zoomed)
    back = [1, 1, *(n / m for n, m in zip(image.shape[2:], zoomed.shape[2:], strict=True))]
    return np.asarray(ndimage.zoom(found, back, order=1, mode="mirror"))


def validation(folder: Path, data: DataSettings) -> Callable[[UNet], dict[str, float]]:
    """Return a function that scores a network on the validation slices, as they are and disturbed.

    The score that selects weights is the mean F1 over the disturbances: gray values, sharpness and
    pixel size of another stack or microscope are never exactly those of this one.
    """
    raw, bodies = read_slices(folder, *data.validation)
    image = standardize(raw)
    kept = slice(None, None, data.validation_step)
    true = membrane_labels(bodies)[kept] == MEMBRANE
    tried = {
        name: with_neighbors(disturb(image), data.context)[:, kept]
        for name, disturb in (GRAY_VALUES | SHARPNESS).items()
    }

    def validate(net: UNet) -> dict[str, float]:
        predict = predictor(net)
        found = {name: predict_slices(predict, planes) for name, planes in tried.items()}
        for name, factor in ZOOMS.items():
            found[name] = predict_zoomed(predict, tried["as_is"], factor)
        membranes = {name: p[MEMBRANE - 1] for name, p in found.items()}
        scores = {name: boundary_score(p > 0.5, true).f1 for name, p in membranes.items()}
        return {
            "score": float(np.mean(list(scores.values()))),
            "gray_score": float(np.mean([scores[name] for name in GRAY_VALUES])),
            **{f"f1_{name}": f1 for name, f1 in scores.items()},
            **argmax_and_thresholds(membranes["as_is"], true),
        }

    return validate


def argmax_and_thresholds(
    membrane: npt.NDArray[np.float32], true: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Return the boundary scores of undisturbed slices: at argmax, and at the best threshold."""
    near = boundary_score(membrane > 0.5, true)
    plain = boundary_score(membrane > 0.5, true, tolerance=0)
    tried = {t: boundary_score(membrane > t, true).f1 for t in THRESHOLDS}
    best = max(tried, key=lambda t: tried[t])
    return {
        "precision": near.precision,
        "recall": near.recall,
        "plain_f1": plain.f1,
        "plain_precision": plain.precision,
        "plain_recall": plain.recall,
        "best_threshold": best,
        "f1_at_best_threshold": tried[best],
    }


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
            record = {"event": "saved", "step": step, "file": Path(path).name}
        case Stopped(step, reason):
            record = {"event": "stopped", "step": step, "reason": reason}
    rounded = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in record.items()}
    return {**rounded, "seconds": round(seconds, 1)}


def new_net(config: Mapping[str, Any], start: Path | None) -> UNet:
    """Return the network of a recipe: random, or with the weights of the model it starts from."""
    wanted = config.get("start")
    if (wanted is None) != (start is None):
        raise ConfigError(
            f"the recipe starts from {wanted or 'nothing'}, the command line from "
            f"{start or 'nothing'}; give --start FILE where the recipe has a table [start]"
        )
    net = UNet(**config["network"])
    if wanted is not None and start is not None:
        loaded = load_model(start, fold=False, expected_sha256=wanted["sha256"])
        net.load_state_dict(loaded.net.state_dict())
    return net


def run(
    config: Mapping[str, Any],
    data: Path,
    run_dir: Path,
    *,
    start: Path | None = None,
    resume: bool = False,
) -> None:
    """Train as `config` says and log to ``run_dir/log.jsonl``."""
    loop = LoopSettings.parse(config["loop"], source="[loop]")
    planes = DataSettings.parse(config["data"], source="[data]")
    torch.manual_seed(loop.seed)
    net = new_net(config, start).to(memory_format=torch.channels_last)
    sampler = PatchSampler(
        training_stacks(data, planes),
        net.architecture.geometry(),
        SamplerSettings.parse(config["sampler"], source="[sampler]"),
    )
    run_dir.mkdir(parents=True, exist_ok=True)
    events = train(
        net,
        sampler.draw,
        loop,
        validate=validation(data, planes),
        run_dir=run_dir,
        resume=resume,
    )
    begin, losses = time.monotonic(), []
    with (run_dir / "log.jsonl").open("a" if resume else "w", encoding="utf-8") as log:
        head = {"event": "resumed" if resume else "started", "torch": torch.__version__}
        log.write(json.dumps({**head, "threads": torch.get_num_threads(), "config": config}) + "\n")
        for event in events:
            if isinstance(event, StepDone):
                losses = [*losses, event.loss][-LOG_EVERY:]
            mean_loss = float(np.mean(losses)) if losses else 0.0
            record = as_record(event, mean_loss, time.monotonic() - begin)
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
    parser.add_argument("--start", type=Path, help="model file that the recipe starts from")
    parser.add_argument("--resume", action="store_true", help="go on from RUN/last.pt")
    parser.add_argument("--threads", type=int, default=2, help="of torch; the result depends on it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    run(config, options.data, options.run, start=options.start, resume=options.resume)


if __name__ == "__main__":
    main()

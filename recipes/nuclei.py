"""Train the bundled model `nuclei` from nothing.

::

    python recipes/nuclei.py recipes/nuclei.toml --data FOLDER --run RUN
    python recipes/nuclei.py recipes/nuclei_refine.toml --data FOLDER --run RUN2 --start RUN/best.pt

FOLDER holds ``index.csv``, ``images`` and ``labels``. RUN receives ``log.jsonl``, the checkpoint
``last.pt`` and the best averaged weights ``best.pt``, a state dict of
`napari_unet.model.unet.UNet`. An interrupted run goes on with ``--resume``.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nuclei_data import (
    NucleiFile,
    NucleiSampler,
    NucleiSettings,
    read_image,
    read_index,
    read_objects,
    split,
    standardize,
)
from train import LOG_EVERY, as_record

from napari_unet.core.tiling import mirror_indices, whole_image_tile
from napari_unet.core.train_events import StepDone
from napari_unet.labels.interior_instances import interior_instances
from napari_unet.metrics.objects import object_score
from napari_unet.model.unet import UNet
from napari_unet.training.loop import LoopSettings, train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

BORDER, INTERIOR = 1, 2
"""Channels of the probabilities; with a gap the interior is the channel 1."""


@torch.inference_mode()
def predict(net: UNet, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return probabilities (classes, Y, X) of a standardized image (3, Y, X), as one tile."""
    shape = (1, *image.shape[1:])
    tile = whole_image_tile(shape, net.architecture.geometry())
    rows, columns = (
        mirror_indices(a, b, n)
        for a, b, n in zip(tile.read.start[1:], tile.read.stop[1:], shape[1:], strict=True)
    )
    mirrored = torch.from_numpy(image[:, rows[:, None], columns[None]])[None]
    logits = net.eval()(mirrored.contiguous(memory_format=torch.channels_last))
    found = torch.softmax(logits, dim=1)[0].numpy()
    return np.ascontiguousarray(found[(slice(None), *tile.crop.slices[1:])])


def instances(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Return the nuclei, from a border class or, with two classes, without one."""
    interior = probabilities[-1]
    border = probabilities[BORDER] if len(probabilities) > INTERIOR else np.zeros_like(interior)
    return interior_instances(border, interior)


def validation(
    folder: Path, files: Sequence[NucleiFile], shares: Mapping[str, float]
) -> Callable[[UNet], dict[str, float]]:
    """Return a function that scores a network on the selection images.

    The score that selects weights is the average precision, a mean over 0.5 to 0.9 and over the
    images of a kind; kinds count with the shares by which training draws them.
    """
    cases = [
        (f.kind, standardize(read_image(folder, f.name)), read_objects(folder, f.name))
        for f in files
    ]

    def validate(net: UNet) -> dict[str, float]:
        found = defaultdict(list)
        for kind, image, true in cases:
            found[kind].append(object_score(instances(predict(net, image)), true))
        metrics: dict[str, float] = {}
        for kind, scores in sorted(found.items()):
            metrics[f"ap_{kind}"] = float(np.mean([s.mean_average_precision for s in scores]))
            metrics[f"f1_{kind}"] = float(np.mean([s.f1() for s in scores]))
        score = sum(shares[kind] * metrics[f"ap_{kind}"] for kind in found)
        return {"score": score / sum(shares[kind] for kind in found), **metrics}

    return validate


def run(
    config: Mapping[str, Any], data: Path, run_dir: Path, *, start: Path | None, resume: bool
) -> None:
    """Train as `config` says, from the weights `start` if given; log to ``run_dir/log.jsonl``."""
    loop = LoopSettings.parse(config["loop"], source="[loop]")
    torch.manual_seed(loop.seed)
    net = UNet(**config["network"]).to(memory_format=torch.channels_last)
    if start is not None:
        net.load_state_dict(torch.load(start, map_location="cpu", weights_only=True))
    parts = split(read_index(data), config["data"]["seed"])
    settings = NucleiSettings.parse(config["sampler"], source="[sampler]")
    sampler = NucleiSampler(data, parts["train"], net.architecture.geometry(), settings)
    run_dir.mkdir(parents=True, exist_ok=True)
    events = train(
        net,
        sampler.draw,
        loop,
        validate=validation(data, parts["select"], settings.kind_shares),
        run_dir=run_dir,
        resume=resume,
    )
    began, losses = time.monotonic(), []
    with (run_dir / "log.jsonl").open("a" if resume else "w", encoding="utf-8") as log:
        head = {"event": "resumed" if resume else "started", "torch": torch.__version__}
        head |= {"threads": torch.get_num_threads(), "config": config}
        head |= {"images": {part: len(files) for part, files in parts.items()}}
        log.write(json.dumps(head) + "\n")
        for event in events:
            if isinstance(event, StepDone):
                losses = [*losses, event.loss][-LOG_EVERY:]
            mean_loss = float(np.mean(losses)) if losses else 0.0
            record = as_record(event, mean_loss, time.monotonic() - began)
            if record is not None:
                line = json.dumps(record)
                log.write(line + "\n")
                log.flush()
                print(line, flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of index.csv")
    parser.add_argument("--run", type=Path, required=True, help="folder for log and checkpoints")
    parser.add_argument("--start", type=Path, help="best.pt of an earlier run to start from")
    parser.add_argument("--resume", action="store_true", help="go on from RUN/last.pt")
    parser.add_argument("--threads", type=int, default=1, help="of torch; the result depends on it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    run(config, options.data, options.run, start=options.start, resume=options.resume)


if __name__ == "__main__":
    main()

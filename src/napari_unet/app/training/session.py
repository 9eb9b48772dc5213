"""A training that is about to begin: network, settings, and what scoring costs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_unet.app.training.classes import parent_class_names
from napari_unet.app.training.crops import find_crops
from napari_unet.app.training.defaults import (
    OUTPUT_EDGE,
    network_settings,
    sampler_settings,
)
from napari_unet.app.training.held_out import Scorer, Scores
from napari_unet.app.training.trained_model import expected_input
from napari_unet.core.receptive import unet_geometry
from napari_unet.model.head import adapt_head
from napari_unet.model.unet import UNet
from napari_unet.model.weights import load_model
from napari_unet.training.precision import choose_precision
from napari_unet.training.retention import Parent
from napari_unet.training.tile_size import (
    TileSizeSettings,
    choose_output_edge,
    free_memory,
    step_seconds,
)
from napari_unet.training.volumes import VolumeSampler

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.app.training.data import TrainingData
    from napari_unet.app.training.ground import TrainingGround
    from napari_unet.app.training.held_out import HeldOutLabels
    from napari_unet.app.training.plan import TrainPlan
    from napari_unet.core.header import InputExpectation
    from napari_unet.core.receptive import NetGeometry
    from napari_unet.inference.device import Backend

PROBE_PIXELS = 2**18
"""Read to find out what scoring costs: some strokes, and the least that a budget pays for."""

SELECTION_SHARE = 0.015
"""Of a budget, for one validation: about ten of them take place."""

JUDGING_SHARE = 0.04
"""Of a budget, for scoring one set of weights on all judging blocks; two sets are scored."""

COMPARISON_SHARE, LEAST_COMPARISON, MOST_COMPARISON = 0.03, 1.0, 2.0
"""Of a budget, for the pictures of other places; in seconds never less and never more than that."""

MAX_SELECTION_PIXELS = 2**22
MAX_JUDGING_PIXELS = 2**24
"""Without a budget: what is read to validate, and to judge. The same on every machine."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """The network that a training begins with.

    Parameters
    ----------
    net : UNet
        On its device, in the classes of the new model.
    expected : InputExpectation
        What images it takes.
    geometry : NetGeometry
        Of it, on volumes.
    backend : Backend
        Where it is validated.
    known : tuple of str
        Classes of the new model that the parent knows; none without a parent.
    parent : Parent or None
        What it answers before it learns; None where it cannot tell two classes apart.
    """

    net: UNet
    expected: InputExpectation
    geometry: NetGeometry
    backend: Backend
    known: tuple[str, ...]
    parent: Parent | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """What scores weights.

    Parameters
    ----------
    selection : Scorer or None
        Chooses the weights; None = nothing was held out.
    judging : Scorer or None
        Compares them with the parent's at the end.
    crops : Scorer or None
        The same, on the regression crops of the parent.
    """

    selection: Scorer | None
    judging: Scorer | None
    crops: Scorer | None

    @property
    def pixels(self) -> int:
        """What is read to judge one set of weights."""
        return sum(s.pixels for s in (self.judging, self.crops) if s is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What the weights before the first step achieve.

    Parameters
    ----------
    selection, judging, crops : Scores or None
        None = not scored.
    seconds_per_pixel : float
        What scoring costs.
    """

    selection: Scores | None
    judging: Scores | None
    crops: Scores | None
    seconds_per_pixel: float


def start_network(plan: TrainPlan, data: TrainingData, backend: Backend) -> Network:
    """Return the network to begin with: the parent's, or a random one.

    Raises
    ------
    ConfigError
        If images, classes or settings do not fit the parent.
    ModelFileError
        If the parent cannot be read.
    """
    job, names = plan.job, [item.name for item in data.classes]
    expected = expected_input(plan, data)
    known: tuple[str, ...] = ()
    # Its own chance: what is drawn here does not depend on what else this process does.
    with torch.random.fork_rng([]):
        torch.manual_seed(job.seed)
        if plan.parent is None:
            channels = len(expected.network_channels())
            net = UNet(**network_settings(job, channels, len(names)).arguments())
        else:
            loaded = load_model(plan.parent.path, fold=False, expected_sha256=plan.parent.sha256)
            called = parent_class_names(job, loaded.header)
            known = tuple(name for name in names if name in called)
            old = [item.name for item in loaded.header.classes]
            net = adapt_head(loaded.net, old, names, job.rename)
    architecture = net.architecture
    geometry = unet_geometry(
        architecture.depth, padding=architecture.padding, context=expected.context
    )
    net = net.to(backend.device)
    outputs = tuple(k for k, name in enumerate(names) if name in known)
    before = Parent.of(net, outputs) if len(outputs) > 1 else None
    return Network(net, expected, geometry, backend, known, before)


def output_edge(plan: TrainPlan, network: Network, data: TrainingData) -> int:
    """Return the edge of a patch's labels, in pixels.

    The job's; without one, with steps the same on every machine, else the largest that the device
    computes fast enough.
    """
    given = plan.job.sampler.get("output_edge")
    image_edge = max(max(volume.source.shape[1:]) for volume in data.volumes)
    if given is None and plan.budget is None:
        given = min(OUTPUT_EDGE, image_edge)
    net, device = network.net, network.backend.device
    precision = choose_precision(plan.job.precision, device)
    return choose_output_edge(
        network.geometry,
        net.architecture.base_channels,
        TileSizeSettings(output_edge=given),
        image_edge=image_edge,
        memory_bytes=free_memory(device),
        measure=lambda edge: step_seconds(net, edge, precision),
    )


def make_judges(plan: TrainPlan, ground: TrainingGround, network: Network) -> Judges:
    """Return what scores weights, not yet bounded in cost.

    Raises
    ------
    ModelFileError
        If the parent's regression crops are damaged.
    """
    names = ground.class_names

    def scorer(blocks: list[HeldOutLabels]) -> Scorer | None:
        found = Scorer(blocks, network.geometry, network.backend, len(names))
        return found if found.num_blocks else None

    crops = None
    if plan.parent is not None:
        shipped = find_crops(plan.parent, "regression")
        crops = None if shipped is None else scorer(shipped.labels_in(names, plan.job.rename))
    return Judges(
        scorer(ground.labels_of(ground.split.selection_blocks)),
        scorer(ground.labels_of(ground.split.judging_blocks)),
        crops,
    )


def bounded(judges: Judges, selection_pixels: int, judging_pixels: int, seed: int) -> Judges:
    """Return judges that read no more than that; crops are few already."""
    selection, judging = judges.selection, judges.judging
    return Judges(
        None if selection is None else selection.limited(selection_pixels, seed),
        None if judging is None else judging.limited(judging_pixels, seed),
        judges.crops,
    )


def pixel_bounds(
    plan: TrainPlan, judges: Judges, net: UNet, clock: Callable[[], float]
) -> tuple[int, int]:
    """Return how much may be read to validate and to judge; with a budget, it is measured."""
    if plan.budget is None:
        return MAX_SELECTION_PIXELS, MAX_JUDGING_PIXELS
    probe = judges.selection or judges.judging
    if probe is None:
        return PROBE_PIXELS, PROBE_PIXELS
    small = probe.limited(PROBE_PIXELS, plan.job.seed)
    began = clock()
    small.score(net)
    per_pixel = max(clock() - began, 1e-6) / small.pixels
    affordable = plan.budget / per_pixel
    return (
        max(round(SELECTION_SHARE * affordable), PROBE_PIXELS),
        max(round(JUDGING_SHARE * affordable), PROBE_PIXELS),
    )


def comparison_seconds(budget: float) -> float:
    """Return how long the pictures of other places may take, of a budget in seconds."""
    return min(max(COMPARISON_SHARE * budget, LEAST_COMPARISON), MOST_COMPARISON)


def score_start(
    judges: Judges, network: Network, clock: Callable[[], float] = time.monotonic
) -> Start:
    """Return what the weights before the first step achieve; a random network is not judged."""
    net, parent = network.net, bool(network.known)
    began = clock()
    selection = None if judges.selection is None else judges.selection.score(net)
    judging = judges.judging.score(net) if judges.judging and parent else None
    crops = judges.crops.score(net) if judges.crops and parent else None
    done = (judges.selection, selection), (judges.judging, judging), (judges.crops, crops)
    pixels = sum(judge.pixels for judge, scores in done if judge and scores)
    seconds = (clock() - began) / pixels if pixels else 0.0
    return Start(selection, judging, crops, seconds)


def make_sampler(
    plan: TrainPlan,
    ground: TrainingGround,
    network: Network,
    output_edge: int,
    class_weights: tuple[float, ...],
) -> VolumeSampler:
    """Return what draws patches.

    Raises
    ------
    ConfigError
        If a setting does not exist or cannot be used.
    """
    volumes = ground.volumes(class_weights)
    settings = sampler_settings(plan.job, output_edge)
    return VolumeSampler(
        volumes,
        network.geometry,
        settings.model_copy(update={"output_edge": output_edge}),
        context=network.expected.context,
        device=network.backend.device,
    )

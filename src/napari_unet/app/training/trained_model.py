"""The file that a training leaves: weights, header, and where all of it comes from."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import secrets
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from napari_unet.app.job_files import utc_now
from napari_unet.core.header import (
    COLOR_CHANNELS,
    InputExpectation,
    ModelHeader,
    ParentModel,
    Provenance,
)
from napari_unet.core.intensities import intensity_ranges, measure_quantiles
from napari_unet.errors import ConfigError, OutputExistsError, StorageError
from napari_unet.files import rename_new
from napari_unet.model.weights import save_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from napari_unet.app.models import ModelEntry
    from napari_unet.app.training.data import TrainingData
    from napari_unet.app.training.plan import TrainPlan
    from napari_unet.core.classes import ClassInfo
    from napari_unet.core.intensities import IntensityRange
    from napari_unet.core.train_events import Judged
    from napari_unet.model.unet import UNet

RECORDED_PACKAGES = ("napari-unet", "torch", "numpy", "scipy")
"""Packages whose versions can change what is learnt."""

MEASURED_IMAGES = 50
"""Images whose gray values are looked at; more, spread evenly, would not be more alike."""

MAX_TEXT = 20_000
"""Characters of a text in the header."""


@dataclass(slots=True)
class TrainingReport:
    """What a training says of itself in the file that it leaves.

    Parameters
    ----------
    settings : mapping
        All settings, resolved, ready for JSON.
    fingerprints : sequence of mapping
        What identifies each image and its labels.
    annotated : mapping
        Voxels of each class that were learnt from.
    validation : str
        What was held out, in a sentence.
    judged : list of Judged
        What the gate said.
    steps, best_step : int
        Steps taken, and the one whose weights were kept.
    rehearsal : str
        What was rehearsed, in a sentence; empty = nothing.
    """

    settings: Mapping[str, Any]
    fingerprints: Sequence[Mapping[str, Any]]
    annotated: Mapping[str, int]
    validation: str
    judged: list[Judged] = field(default_factory=list)
    steps: int = 0
    best_step: int = 0
    rehearsal: str = ""


def expected_input(plan: TrainPlan, data: TrainingData) -> InputExpectation:
    """Return what images the new model wants.

    Channels and context are the parent's; its voxel size is that of the images where they know it,
    and so are its gray values.

    Raises
    ------
    ConfigError
        If images or settings do not fit the parent.
    """
    job, parent = plan.job, plan.parent_header
    size = data.voxel_size
    known: dict[str, Any] = {"intensities": _intensities(data)}
    if size is not None:
        known |= {"voxel_size": (size.y, size.x), "unit": size.unit}
    if parent is None:
        colors = COLOR_CHANNELS if data.num_channels == len(COLOR_CHANNELS) else None
        names = colors or tuple(f"channel {k}" for k in range(data.num_channels))
        return InputExpectation(channels=names, context=job.context or 0, **known)
    expected = parent.input
    if data.num_channels != len(expected.channels):
        raise ConfigError(
            f"the images have {data.num_channels} channel(s), but the model {parent.name} takes "
            f"{len(expected.channels)} ({', '.join(expected.channels)}); choose as many with "
            "--channel, or start from nothing, without --from"
        )
    if job.context not in (None, expected.context):
        raise ConfigError(
            f"--context {job.context} does not fit the model {parent.name}, which sees "
            f"{expected.context} neighboring slice(s) on each side; leave it out, or start from "
            "nothing, without --from"
        )
    _check_network(job.network, parent)
    return expected.model_copy(update=known)


def _intensities(data: TrainingData) -> tuple[IntensityRange, ...] | None:
    """Return where the gray values of the images lie, of some of them where there are many."""
    step = -(-len(data.volumes) // MEASURED_IMAGES)
    return intensity_ranges(measure_quantiles(v.source) for v in data.volumes[::step])


def _check_network(given: Mapping[str, Any], parent: ModelHeader) -> None:
    """Refuse settings of a network that the parent does not have."""
    has = parent.architecture.model_dump(mode="json")
    for name, value in given.items():
        if name not in has or has[name] != value:
            raise ConfigError(
                f"network.{name} = {value} does not fit the model {parent.name}, whose network has "
                f"{has.get(name, 'no such setting')}; leave it out, or start from nothing, without "
                "--from"
            )


def write_model(
    plan: TrainPlan,
    net: UNet,
    classes: Sequence[ClassInfo],
    expected: InputExpectation,
    report: TrainingReport,
) -> Path:
    """Write the model file, which appears at once and complete, and return its path.

    Raises
    ------
    OutputExistsError
        If another program has made a file of that name meanwhile; the model is then kept beside it.
    StorageError
        If it cannot be written.
    """
    parent = plan.parent_header
    begin = "trained from random weights" if parent is None else f"fine-tuned from {parent.name}"
    labels = ", ".join(f"{k} = {item.name}" for k, item in enumerate(classes, start=1))
    header = ModelHeader(
        name=plan.name,
        description=f"{begin}: {labels}",
        architecture=net.architecture,
        classes=tuple(classes),
        input=expected,
        provenance=_provenance(plan, report),
        license="" if parent is None else parent.license,
    )
    part = plan.output.with_name(f".{plan.name}.{secrets.token_hex(4)}.part")
    # fp32: what was judged is, bit by bit, what is stored, and can be trained on without loss.
    save_model(part, net, header, half=False)
    try:
        rename_new(part, plan.output)
    except FileExistsError as error:
        raise OutputExistsError(
            f"{plan.output} was made by another program meanwhile and is not overwritten; the new "
            f"model is {part}: rename it"
        ) from error
    except OSError as error:
        raise StorageError(f"{plan.output} cannot be written: {error.strerror}") from error
    return plan.output


def _provenance(plan: TrainPlan, report: TrainingReport) -> Provenance:
    parent = plan.parent
    scores, conditions = _scores(report)
    return Provenance(
        recipe=_bounded(json.dumps(dict(report.settings), default=str)),
        seed=plan.job.seed,
        data=_bounded(_data_words(report)),
        created=utc_now()[:10],
        versions={name: version(name) for name in RECORDED_PACKAGES}
        | {"python": platform.python_version()},
        scores=scores,
        score_conditions=_bounded(conditions),
        parent=None if parent is None else ParentModel(name=_legal(parent), sha256=parent.sha256),
    )


def _legal(parent: ModelEntry) -> str:
    """Return what the parent is called; a file that was named by hand may have no legal name."""
    legal = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", parent.name)
    return parent.name if legal else parent.header.name


def _data_words(report: TrainingReport) -> str:
    """Return the data in words; its hash covers every image and every label."""
    everything = json.dumps(list(report.fingerprints), sort_keys=True, default=str)
    digest = hashlib.sha256(everything.encode()).hexdigest()
    names = ", ".join(str(item["name"]) for item in report.fingerprints)
    counts = ", ".join(f"{name}: {count}" for name, count in report.annotated.items())
    again = f"rehearsed: {report.rehearsal}; " if report.rehearsal else ""
    return (
        f"{len(report.fingerprints)} image(s); annotated voxels learnt from: {counts}; {again}"
        f"SHA-256 of what identifies images and labels: {digest}; names: {names}"
    )


def _scores(report: TrainingReport) -> tuple[dict[str, float], str]:
    scores: dict[str, float] = {}
    sentences = [f"{report.steps} steps, weights of step {report.best_step}", report.validation]
    for judged in report.judged:
        place = judged.on.replace(" ", "_")
        values = {
            "before": judged.before,
            "after": judged.after,
            "difference_low": judged.low,
            "difference_high": judged.high,
        } | {f"f1/{name}": after for name, (_, after) in judged.classes.items()}
        scores |= {f"{place}/{k}": round(v, 4) for k, v in values.items() if v is not None}
        sentences.append(f"{judged.on}: {judged.note}")
    return scores, ". ".join(text.rstrip(".") for text in sentences if text)


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 4]} ..."

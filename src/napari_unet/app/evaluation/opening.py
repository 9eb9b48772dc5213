"""Opening a pair: what both sides hold decides what can be compared."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.evaluation.components import component_objects
from napari_unet.app.evaluation.opened import OBJECT_CLASSES, OpenedPair
from napari_unet.app.evaluation.prediction import (
    Prediction,
    PredictionRules,
    open_probabilities,
    prediction_rules,
)
from napari_unet.app.evaluation.truth import Truth, TruthRules, truth_rules
from napari_unet.app.pairing import is_annotation_store, open_partner
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box, parse_region
from napari_unet.core.classes import FIRST_CLASS
from napari_unet.core.component_options import ComponentOptions
from napari_unet.errors import AnnotationError, AxesError, ConfigError
from napari_unet.io.annotation_store import open_annotation_store
from napari_unet.io.image import Selection, open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.app.evaluation.opened import Reader
    from napari_unet.app.evaluation.pairs import EvaluationPair
    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Shape
    from napari_unet.core.evaluate_job import EvaluateJob


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Both sides of a pair, opened."""

    truth: Truth
    prediction: Prediction
    shape: Shape
    spatial_axes: str
    voxel_size: VoxelSize


def open_pair(job: EvaluateJob, pair: EvaluationPair) -> OpenedPair:
    """Return a pair opened.

    Raises
    ------
    AnnotationError
        If shapes differ, or images have several channels.
    AxesError, ConfigError, InputError
        If an image cannot be opened, or what is asked for does not go together.
    """
    rules = truth_rules(job, pair.truth)
    asked = prediction_rules(job, pair.prediction, rules)
    with ExitStack() as stack:
        sides = _open_sides(job, pair, (rules, asked), stack)
        counted = _open_masks(job, pair, sides, stack)
        region = Box.of_shape(sides.shape)
        if job.region is not None:
            own = len(sides.spatial_axes)
            part = parse_region(job.region, sides.shape[-own:], sides.spatial_axes)
            lead = sides.shape[: 3 - own]
            region = Box((0,) * len(lead) + part.start, lead + part.stop)
        readers, names, notes = _readers(job, sides, stack)
        files = stack.pop_all()
    return OpenedPair(
        pair.name, sides.shape, region, sides.voxel_size, names, readers, counted, notes, files
    )


def _open_sides(
    job: EvaluateJob,
    pair: EvaluationPair,
    rules: tuple[TruthRules, PredictionRules],
    stack: ExitStack,
) -> _Sides:
    """Open both sides; the one that knows its axes says them for the other."""
    of_truth, of_prediction = rules
    selection = Selection(axes=job.axes, level=job.level, time=job.time)
    names = _class_names(job, of_truth, of_prediction)
    store = open_annotation_store(of_truth.path) if is_annotation_store(of_truth.path) else None
    path = None if of_prediction.kind == "probabilities" else of_prediction.path
    labels: ImageSource | None = None
    truth: ImageSource | None = None
    if store is not None:
        if path is not None:
            labels = stack.enter_context(closing(open_image(path, _plain(selection))))
    elif path is None:
        truth = stack.enter_context(closing(open_image(of_truth.path, _plain(selection))))
    else:
        labels, truth = _open_two(path, of_truth.path, selection, stack)
    known = truth or labels
    shape = store.shape if store is not None else truth.shape if truth is not None else ()
    axes = known.spatial_axes if known is not None else ("yx" if shape[0] == 1 else "zyx")
    shown, channels = _open_shown(job, pair, of_prediction, (names, axes))
    if shown is not None:
        stack.enter_context(closing(shown))
    _check_types(of_prediction, [source for source in (labels, truth) if source is not None])
    for source in (labels, shown):
        if source is not None and source.shape != shape:
            raise AnnotationError(
                f"the prediction {source.name} has the shape {source.shape} (z, y, x), but the "
                f"truth {of_truth.path.name} has {shape}; give a truth of every voxel of this "
                "prediction"
            )
    sizes = [s.levels[0].voxel_size for s in (labels, truth, shown) if s is not None]
    size = next((each for each in sizes if each.unit is not None), VoxelSize())
    return _Sides(
        Truth(of_truth, of_truth.path.name, _numbers_of(store or truth), names),
        Prediction(of_prediction, labels, shown, names, channels),
        shape, axes, size,
    )  # fmt: skip


def _open_two(
    prediction: Path, truth: Path, selection: Selection, stack: ExitStack
) -> tuple[ImageSource, ImageSource]:
    try:
        first = stack.enter_context(closing(open_image(prediction, _plain(selection))))
    except AxesError:
        second = stack.enter_context(closing(open_image(truth, _plain(selection))))
        first = stack.enter_context(closing(open_partner(prediction, selection, second)))
        return first, second
    return first, stack.enter_context(closing(open_partner(truth, selection, first)))


def _open_shown(
    job: EvaluateJob,
    pair: EvaluationPair,
    rules: PredictionRules,
    what: tuple[tuple[str, ...], str],
) -> tuple[ImageSource | None, tuple[int, ...]]:
    """Open the probabilities of a pair, if there are any; their channels are classes."""
    names, axes = what
    given = pair.companions.probabilities
    own = rules.path if rules.kind == "probabilities" else rules.probabilities
    path = given or own
    if path is None or not names:
        return None, ()
    order = (rules.class_names or names) if given is None else names
    positive = None
    if job.positive is not None:
        if job.positive not in names:
            raise ConfigError(
                f"--positive {job.positive} is none of the classes {', '.join(names)}"
            )
        positive = order.index(job.positive) + FIRST_CLASS
    source, channels = open_probabilities(path, len(order), axes, positive)
    return source, tuple(names.index(order[k - FIRST_CLASS]) + FIRST_CLASS for k in channels)


def _class_names(
    job: EvaluateJob, truth: TruthRules, prediction: PredictionRules
) -> tuple[str, ...]:
    """Return the classes of both sides: those of the truth first.

    Raises
    ------
    ConfigError
        If nobody names them, or a class of the truth is none of the prediction's.
    """
    predicted = prediction.class_names or ()
    if truth.holds_objects:
        return predicted
    if prediction.kind == "instances":
        return truth.class_names or job.classes or ()
    names = truth.class_names or job.classes or predicted
    if not names:
        raise ConfigError(
            f"{truth.path} holds an annotation whose classes are not named; name the classes 1, 2, "
            "... with --classes"
        )
    if missing := [name for name in names if predicted and name not in predicted]:
        raise ConfigError(
            f"the truth has the class {missing[0]!r}, but the classes of the prediction "
            f"{prediction.path} are {', '.join(predicted)}; say with --class-values or "
            "--prediction-values which of them it is"
        )
    return (*names, *(name for name in predicted if name not in names))


def _readers(
    job: EvaluateJob, sides: _Sides, stack: ExitStack
) -> tuple[dict[str, Reader], tuple[str, ...], tuple[str, ...]]:
    """Return what is read of each block, the classes of its pixels, and notes.

    Raises
    ------
    ConfigError
        If one side holds objects, the other classes, and it was not said how they are compared.
    """
    truth, prediction = sides.truth, sides.prediction
    has = {"true": truth.rules.holds_objects, "predicted": prediction.rules.kind == "instances"}
    readers: dict[str, Reader] = {}
    notes: list[str] = []
    names: tuple[str, ...] = ()
    if not any(has.values()):
        readers |= {"true_classes": truth.classes, "predicted_classes": prediction.classes}
        names = truth.class_names
        if prediction.probabilities is not None:
            readers["probabilities"] = prediction.class_probabilities
    if has["true"] and has["predicted"]:
        names = OBJECT_CLASSES
        readers |= {
            "true_classes": lambda box: _foreground(truth.objects(box)),
            "predicted_classes": lambda box: _foreground(prediction.objects(box)),
        }
    if not (all(has.values()) or job.components or not any(has.values())):
        raise ConfigError(_unlike(prediction, truth))
    if all(has.values()) or job.components:
        for side, holder in (("true", truth), ("predicted", prediction)):
            if has[side]:
                readers[f"{side}_objects"] = holder.objects
                continue
            options = _component_options(job, holder.class_names)
            spread = (sides.shape, job.block_size)
            readers[f"{side}_objects"] = component_objects(holder.classes, options, spread, stack)
            notes.append(
                f"objects of the {'truth' if side == 'true' else 'prediction'} are the connected "
                f"parts of {', '.join(job.components)}, {job.components_dimension}"
            )
    return readers, names, tuple(notes)


def _component_options(job: EvaluateJob, names: tuple[str, ...]) -> ComponentOptions:
    for name in job.components:
        if name not in names:
            raise ConfigError(
                f"--components {name} is none of the classes {', '.join(names) or '(none)'}"
            )
    return ComponentOptions(
        foreground=tuple(names.index(name) + FIRST_CLASS for name in job.components),
        per_slice=job.components_dimension == "2d",
    )


def _unlike(prediction: Prediction, truth: Truth) -> str:
    kinds = {"classes": "classes", "annotation": "classes", "probabilities": "classes"}
    ours = kinds.get(prediction.rules.kind, "numbered objects")
    theirs = kinds.get(truth.rules.kind, "numbered objects")
    return (
        f"the prediction {prediction.name} holds {ours} and the truth {truth.name} {theirs}, which "
        "cannot be compared as they are; give the objects that `napari-unet objects` makes of a "
        "segmentation, or say --components CLASS to take the connected parts of a class for objects"
    )


def _foreground(objects: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the classes of `OBJECT_CLASSES`."""
    classes: npt.NDArray[np.uint8] = np.where(objects != 0, FIRST_CLASS + 1, FIRST_CLASS)
    return classes.astype(np.uint8)


def _open_masks(
    job: EvaluateJob, pair: EvaluationPair, sides: _Sides, stack: ExitStack
) -> Callable[[Box], npt.NDArray[np.bool_]]:
    """Return whether the voxels of a box count, by the masks of a pair."""
    selection = Selection(axes=job.axes, level=job.level, time=job.time)
    known = next(s for s in (sides.prediction.labels, sides.prediction.probabilities) if s)
    masks: list[tuple[ImageSource, bool]] = []
    for path, wanted in ((pair.companions.ignore, False), (pair.companions.valid, True)):
        if path is None:
            continue
        mask = stack.enter_context(closing(open_partner(path, selection, known)))
        if mask.shape != sides.shape or mask.num_channels != 1:
            raise AnnotationError(
                f"the mask {path.name} has {mask.num_channels} channel(s) of the shape "
                f"{mask.shape}, the truth has the shape {sides.shape}; give a mask of every voxel"
            )
        masks.append((mask, wanted))

    def counted(box: Box) -> npt.NDArray[np.bool_]:
        result = np.ones(box.shape, bool)
        for mask, wanted in masks:
            result &= (mask.read(box)[0] != 0) == wanted
        return result

    return counted


def _numbers_of(source: Any) -> Callable[[Box], npt.NDArray[Any]]:
    """Return the reader (z, y, x) of a label image, or of a stored annotation."""

    def read(box: Box) -> npt.NDArray[Any]:
        numbers: npt.NDArray[Any] = source.read(box)
        return numbers[0] if numbers.ndim == 4 else numbers

    return read


def _check_types(rules: PredictionRules, sources: list[ImageSource]) -> None:
    """Refuse numbers with a fraction where labels are needed."""
    for source in sources:
        if source.dtype.kind == "f":
            hint = (
                "convert them to whole numbers, or say --prediction-kind probabilities"
                if rules.path.name.startswith(source.name)
                else "convert them to whole numbers such as uint8"
            )
            raise AnnotationError(
                f"{source.name}: values of type {source.dtype} are no labels; {hint}"
            )


def _plain(selection: Selection) -> Selection:
    """Return the selection for labels, which have no channels."""
    axes = selection.axes
    if axes is not None:
        axes = axes.lower().replace("c", "")
    return Selection(axes=axes, level=selection.level, time=selection.time)

"""Which image belongs to which labels: what a training is given, found and not opened yet."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_unet.app.pairing import absolute, is_annotation_store, open_partner, pair_by_name
from napari_unet.app.training.classes import label_rules, with_classes
from napari_unet.core.label_kinds import LabelRules, parse_class_values
from napari_unet.errors import AnnotationError, ConfigError, InputError
from napari_unet.io.annotation_store import open_annotation_store
from napari_unet.io.datasets.catalog import read_dataset
from napari_unet.io.image import Selection, open_image
from napari_unet.labels.label_images import annotate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet.core.annotation import Annotation
    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.axes import VoxelSize
    from napari_unet.core.classes import ClassInfo
    from napari_unet.core.train_job import TrainJob
    from napari_unet.io.datasets.pairs import TrainingPair

_SAME_NAME = "an image and its labels need the same name, the suffix aside"


@dataclass(frozen=True, slots=True)
class ImagePair:
    """An image and its labels.

    Parameters
    ----------
    image, labels : Path
        Where they are.
    """

    image: Path
    labels: Path


@dataclass(frozen=True, slots=True)
class OpenedPair:
    """An image and what its labels say, in the classes of the new model.

    Parameters
    ----------
    image : ImageSource
        The image.
    annotation : Annotation
        Its labels.
    objects : ImageSource or None
        The label image itself if it numbers objects whose gaps are to weigh more.
    voxel_size : VoxelSize
        Of the image.
    """

    image: ImageSource
    annotation: Annotation
    objects: ImageSource | None
    voxel_size: VoxelSize

    def close(self) -> None:
        """Release files."""
        self.image.close()
        if self.objects is not None:
            self.objects.close()


def find_pairs(job: TrainJob) -> list[ImagePair] | list[TrainingPair]:
    """Return the pairs that a job names; two folders are paired file by file.

    Raises
    ------
    ConfigError
        If an image is given twice, is its own label image, there is no such data set, or what is
        said of the labels does not go together.
    InputError
        If files of a folder have no partner, or files are missing.
    """
    if job.dataset is not None and job.root is not None:
        return _of_dataset(job, job.dataset, job.root)
    _check_labels_are_told(job)
    pairs: list[ImagePair] = []
    for image, labels in zip(job.images, job.labels, strict=True):
        found = pair_by_name(absolute(image), absolute(labels), remedy=_SAME_NAME)
        pairs += [ImagePair(*pair) for pair in found]
    seen: set[Path] = set()
    for pair in pairs:
        if pair.image == pair.labels:
            raise ConfigError(f"{pair.image} is given as image and as its own labels")
        if pair.image in seen:
            raise ConfigError(f"{pair.image} is given twice as an image; give each image once")
        seen.add(pair.image)
        for path in (pair.image, pair.labels):
            if not path.exists():
                raise InputError(f"{path}: there is no such file or folder; check the path")
    return pairs


def labels_class_names(
    job: TrainJob, pairs: Sequence[ImagePair] | Sequence[TrainingPair]
) -> tuple[str, ...] | None:
    """Return the classes that the labels name themselves, in order; None = only numbers."""
    if job.label_kind == "classes" and job.class_values is not None:
        return parse_class_values(job.class_values).class_names
    if job.label_kind == "instances":
        values = {"kind": "instances", "separation": job.separation}
        return LabelRules.parse(values, source="labels").names
    first = pairs[0]
    if isinstance(first, ImagePair):
        return tuple(item.name for item in painted_classes(pairs)) or None
    return first.rules.names


def painted_classes(
    pairs: Sequence[ImagePair] | Sequence[TrainingPair],
) -> tuple[ClassInfo, ...]:
    """Return the classes, with colors, of the first labels if they are a stored annotation."""
    first = pairs[0]
    if isinstance(first, ImagePair) and is_annotation_store(first.labels):
        return open_annotation_store(first.labels).classes
    return ()


def open_pair(job: TrainJob, pair: ImagePair | TrainingPair, names: Sequence[str]) -> OpenedPair:
    """Return a pair opened, its labels read in the classes `names`.

    Raises
    ------
    AnnotationError
        If the labels do not lie on the image, or are not of their kind.
    AxesError, InputError
        If an image cannot be opened.
    """
    with ExitStack() as stack:
        if isinstance(pair, ImagePair):
            opened = _open_files(job, pair, names, stack)
        else:
            opened = _open_of_set(pair, names, stack)
        stack.pop_all()
    return opened


def selection_of(job: TrainJob) -> Selection:
    """Return which part of the image files is the image."""
    return Selection(
        axes=job.axes, channel=job.channel, level=job.level, time=job.time, colors=True
    )


def _of_dataset(job: TrainJob, name: str, root: str) -> list[TrainingPair]:
    """Return the pairs of a data set; its objects are kept apart as the job says."""
    given = {"--axes": job.axes, "--channel": job.channel, "--time": job.time}
    given["--level"] = job.level or None
    for option, value in given.items():
        if value is not None:
            raise ConfigError(
                f"{option} {value} is for images of your own; the data set {name} knows its own "
                f"images, so leave {option} out"
            )
    pairs = read_dataset(name, root)
    for pair in pairs:
        _check_separation(job, pair.rules.kind, f"the labels of {name}")
    rules = {"separation": job.separation}
    return [
        replace(pair, rules=pair.rules.model_copy(update=rules))
        if pair.rules.kind == "instances"
        else pair
        for pair in pairs
    ]


def _check_labels_are_told(job: TrainJob) -> None:
    """Check that the options that say what labels mean go together, before a file is opened."""
    kind, values = job.label_kind, job.class_values
    if kind == "classes" and values is None:
        raise ConfigError(
            "--class-values is missing: labels of the kind classes need to know which value is "
            "which class; write for example --class-values 0=membrane,255=cell"
        )
    if kind != "classes" and values is not None:
        raise ConfigError(
            f"--class-values {values} is for labels of the kind classes, but their kind is {kind}; "
            "leave it out, or say --label-kind classes"
        )
    if values is not None:
        try:
            parse_class_values(values)
        except AnnotationError as error:
            raise ConfigError(f"--class-values: {error}") from error
    _check_separation(job, kind, "the labels")


def _check_separation(job: TrainJob, kind: str | None, labels: str) -> None:
    if job.separation == "gap" and kind != "instances":
        raise ConfigError(
            f"--separation {job.separation} keeps objects apart, but {labels} are of the kind "
            f"{kind}, which numbers none; leave it out, or say --label-kind instances"
        )


def _open_of_set(pair: TrainingPair, names: Sequence[str], stack: ExitStack) -> OpenedPair:
    """Open a pair of a data set; what is open at the end is the image, and objects."""
    image = stack.enter_context(closing(pair.image.open()))
    labels = stack.enter_context(closing(pair.labels.open()))
    _check_shapes(image, labels)
    if pair.ignore is None:
        annotation = annotate(labels, pair.rules)
    else:
        with closing(pair.ignore.open()) as ignore:
            annotation = annotate(labels, pair.rules, ignore=ignore)
    size = pair.voxel_size or image.levels[0].voxel_size
    objects = _kept_objects(labels, pair.rules)
    return OpenedPair(image, with_classes(annotation, names, pair.name), objects, size)


def _open_files(
    job: TrainJob, pair: ImagePair, names: Sequence[str], stack: ExitStack
) -> OpenedPair:
    """Open a pair of files; what is open at the end is the image, and objects."""
    image = stack.enter_context(closing(open_image(pair.image, selection_of(job))))
    size = image.levels[0].voxel_size
    if is_annotation_store(pair.labels):
        if job.label_kind != "annotation":
            raise ConfigError(
                f"{pair.labels} is a stored annotation, not labels of the kind {job.label_kind}; "
                "say --label-kind annotation"
            )
        annotation = open_annotation_store(pair.labels).load()
        if annotation.shape != image.shape:
            raise _misfit(pair.labels.name, annotation.shape, image)
        annotation = with_classes(annotation, names, pair.labels.name)
        return OpenedPair(image, annotation, None, size)
    labels = stack.enter_context(closing(open_partner(pair.labels, selection_of(job), image)))
    _check_shapes(image, labels)
    rules = label_rules(job, names)
    annotation = with_classes(annotate(labels, rules), names, pair.labels.name)
    return OpenedPair(image, annotation, _kept_objects(labels, rules), size)


def _kept_objects(labels: ImageSource, rules: LabelRules) -> ImageSource | None:
    """Return a label image that is needed further on; any other is closed."""
    if rules.kind == "instances" and rules.separation == "gap":
        return labels
    labels.close()
    return None


def _check_shapes(image: ImageSource, labels: ImageSource) -> None:
    if labels.shape != image.shape:
        raise _misfit(labels.name, labels.shape, image)


def _misfit(name: str, shape: Sequence[int], image: ImageSource) -> AnnotationError:
    return AnnotationError(
        f"the labels {name} have the shape {tuple(shape)} (z, y, x), but the image {image.name} "
        f"has {image.shape}; give labels of every voxel of this image"
    )

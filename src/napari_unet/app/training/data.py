"""What a training learns from, opened: images, annotations, and what identifies both."""

from __future__ import annotations

import hashlib
import itertools
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.resampled import (
    ResampledImage,
    resample_annotation,
    resampled_voxel_size,
)
from napari_unet.app.rescale import Rescaling, decide_rescaling
from napari_unet.app.training.classes import choose_class_names, make_classes
from napari_unet.app.training.pairs import (
    OpenedPair,
    find_pairs,
    labels_class_names,
    open_pair,
    painted_classes,
)
from napari_unet.core.annotation import Annotation
from napari_unet.core.boxes import Box
from napari_unet.core.header import COLOR_CHANNELS
from napari_unet.core.normalization import Normalization, measure_normalization
from napari_unet.core.resampling import Resampling
from napari_unet.errors import TrainingError
from napari_unet.io.image import Selection, wrap_array
from napari_unet.io.repeated_channel import RepeatedChannel
from napari_unet.training.weight_map import (
    PAPER_BORDER_SIGMA,
    border_reach,
    border_weights,
    pixel_weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.axes import VoxelSize
    from napari_unet.core.classes import ClassInfo
    from napari_unet.core.header import ModelHeader
    from napari_unet.core.train_job import TrainJob

HELD_BYTES = 2**28
"""Small images are read whole as long as all of them take no more than this: 256 MB.

A folder may hold more files than may be open at once, and a compressed one would be decoded anew
for every patch.
"""

SMALL_BYTES = 2**25
"""What a small image takes at most: 32 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class LabeledVolume:
    """An image with its annotation.

    Parameters
    ----------
    name : str
        For messages.
    source : ImageSource
        The image.
    annotation : Annotation
        In the classes of the new model; at voxels without a gray value nothing is annotated.
    objects : ImageSource or None
        Label image that numbers objects.
    voxel_size : VoxelSize
        Of the image.
    fingerprint : mapping
        What tells image and annotation from others, ready for JSON.
    removed : int
        Labels that were left out because the image has no gray value there.
    resampling : Resampling or None
        From the image as it is stored to `source`; None = they are the same.
    note : str or None
        What was decided about that, in a sentence.
    """

    name: str
    source: ImageSource
    annotation: Annotation
    objects: ImageSource | None
    voxel_size: VoxelSize
    fingerprint: Mapping[str, Any]
    removed: int = 0
    resampling: Resampling | None = None
    note: str | None = None

    def close(self) -> None:
        """Release files."""
        self.source.close()
        if self.objects is not None:
            self.objects.close()


@dataclass(slots=True, eq=False)
class TrainingData:
    """All volumes of a training; close it to release their files.

    Parameters
    ----------
    classes : tuple of ClassInfo
        Of the new model.
    volumes : list of LabeledVolume
        At least one, all with the same number of channels.
    """

    classes: tuple[ClassInfo, ...]
    volumes: list[LabeledVolume] = field(default_factory=list)

    @property
    def num_channels(self) -> int:
        """Channels of every image."""
        return self.volumes[0].source.num_channels

    @property
    def voxel_size(self) -> VoxelSize | None:
        """Of the first image that knows its own; None = unknown."""
        return next((v.voxel_size for v in self.volumes if v.voxel_size.unit), None)

    @property
    def counts(self) -> dict[str, int]:
        """Annotated voxels of each class, by name."""
        return class_counts(self.classes, [volume.annotation for volume in self.volumes])

    def close(self) -> None:
        """Release all files."""
        for volume in self.volumes:
            volume.close()

    def warnings(self) -> Iterator[str]:
        """Yield what the user should know about the images, in sentences."""
        yield from dict.fromkeys(volume.note for volume in self.volumes if volume.note)
        for volume in self.volumes:
            if volume.removed:
                yield (
                    f"{volume.removed} annotated voxels of {volume.name} are NaN or infinite in "
                    "the image; they are not learnt from"
                )
        sizes = {volume.voxel_size for volume in self.volumes if volume.voxel_size.unit}
        if len(sizes) > 1:
            listed = ", ".join(f"{s.y:g} x {s.x:g} {s.unit}" for s in sorted(sizes, key=str))
            yield f"the images have voxels of different sizes ({listed}); the first one counts"


def open_data(job: TrainJob, parent: ModelHeader | None) -> TrainingData:
    """Return the data of a job, opened, its labels read.

    Parameters
    ----------
    job : TrainJob
        What to learn from.
    parent : ModelHeader or None
        Of the model to start from.

    Raises
    ------
    ConfigError, AnnotationError, AxesError, InputError
        If something is missing or does not fit.
    TrainingError
        If images differ in channels, or an image has no gray values.
    """
    pairs = find_pairs(job)
    names = choose_class_names(job, parent, labels_class_names(job, pairs))
    data = TrainingData(make_classes(job, parent, names, painted_classes(pairs)))
    room = HELD_BYTES
    try:
        for pair in pairs:
            opened = open_pair(job, pair, names)
            with ExitStack() as stack:
                stack.callback(opened.close)
                volume, used = _held(_rescaled(_labeled(opened), job, parent), room)
                stack.pop_all()
            room -= used
            data.volumes.append(volume)
        _repeat_gray(data, parent)
        _check_channels(data)
    except BaseException:
        data.close()
        raise
    return data


def measure(volume: LabeledVolume) -> Normalization:
    """Return offset and scale of a whole volume, as `segment` measures them.

    Raises
    ------
    TrainingError
        If it has no gray value.
    """
    source = volume.source
    if isinstance(source, ResampledImage):
        found = measure_normalization(source.image, resampling=source.resampling)
    else:
        found = measure_normalization(source)
    if found.sample_voxels == 0:
        raise TrainingError(
            f"the image {volume.name} has no finite gray value: all that was read is NaN or "
            "infinite; check how it was made"
        )
    return found


def class_counts(classes: Sequence[ClassInfo], annotations: Sequence[Annotation]) -> dict[str, int]:
    """Return the annotated voxels of each class, by name."""
    totals = np.zeros(len(classes), np.int64)
    for annotation in annotations:
        totals += np.array(annotation.counts)
    return {item.name: int(n) for item, n in zip(classes, totals, strict=True)}


def gap_weights(
    volume: LabeledVolume, class_weights: npt.NDArray[np.floating]
) -> Callable[[Box], npt.NDArray[np.float32]]:
    """Return what gives the paper's weight map of a box: class balance, and force on gaps.

    Parameters
    ----------
    volume : LabeledVolume
        With `objects`.
    class_weights : numpy.ndarray
        w_c, one per class.

    Returns
    -------
    callable
        (1, y, x) float32 of a box of one slice. Objects are read as far around the box as they
        reach, so the weights are those of the whole slice (Ronneberger et al. 2015, eq. 2).
    """
    objects, annotation = volume.objects, volume.annotation
    if objects is None:
        raise TrainingError(f"{volume.name} has no objects to keep apart")
    reach = border_reach(PAPER_BORDER_SIGMA)

    def weights(box: Box) -> npt.NDArray[np.float32]:
        around = Box(
            (box.start[0], box.start[1] - reach, box.start[2] - reach),
            (box.stop[0], box.stop[1] + reach, box.stop[2] + reach),
        ).intersection(Box.of_shape(objects.shape))
        plane = objects.read(around)[0, 0]
        # Numbers in order: an object's number may be a billion, and each one costs memory.
        values, numbered = np.unique(np.append(plane.dtype.type(0), plane), return_inverse=True)
        numbered = numbered[1:].reshape(plane.shape) + (values[0] != 0)
        border = border_weights(numbered)[box.relative_to(around.start).slices[1:]]
        return pixel_weights(annotation.read(box)[0], class_weights, border)[np.newaxis]

    return weights


def _labeled(pair: OpenedPair) -> LabeledVolume:
    annotation, removed = _without_bad(pair)
    if removed and annotation.is_empty:
        raise TrainingError(
            f"the image {pair.image.name} is NaN or infinite wherever it is annotated; annotate "
            "where it has gray values"
        )
    identity = {k: v for k, v in pair.image.identity().items() if k != "path"}
    return LabeledVolume(
        pair.image.name,
        pair.image,
        annotation,
        pair.objects,
        pair.voxel_size,
        {"name": pair.image.name, "image": identity, "labels": _digest(annotation)},
        removed,
    )


def _without_bad(pair: OpenedPair) -> tuple[Annotation, int]:
    """Return the annotation without labels where the image has no gray value, and how many."""
    if pair.image.dtype.kind != "f":
        return pair.annotation, 0
    cleaned, removed = pair.annotation, 0
    for box, labels in pair.annotation.blocks():
        bad = (labels > 0) & ~np.isfinite(pair.image.read(box)).all(axis=0)
        if bad.any():
            cleaned = pair.annotation.copy() if cleaned is pair.annotation else cleaned
            cleaned.write(box, np.where(bad, 0, labels))
            removed += int(bad.sum())
    return cleaned, removed


def _rescaled(volume: LabeledVolume, job: TrainJob, parent: ModelHeader | None) -> LabeledVolume:
    """Return a volume at the voxel size that is learnt at: the parent's, or as the job says."""
    if parent is not None:
        decided = decide_rescaling(job.rescale, volume.voxel_size, parent.input)
    else:
        factor = job.rescale
        decided = Rescaling(None if isinstance(factor, str) or factor == 1 else (factor, factor))
    if decided.factors is None:
        return replace(volume, note=decided.note)
    resampling = Resampling(volume.source.shape, decided.factors)
    objects = volume.objects
    return replace(
        volume,
        source=ResampledImage(volume.source, resampling),
        annotation=resample_annotation(volume.annotation, resampling),
        objects=None if objects is None else ResampledImage(objects, resampling, labels=True),
        voxel_size=resampled_voxel_size(volume.voxel_size, resampling),
        fingerprint={**volume.fingerprint, "rescale": list(decided.factors)},
        resampling=resampling,
        note=decided.note,
    )


def _held(volume: LabeledVolume, room: int) -> tuple[LabeledVolume, int]:
    """Return a volume read into memory, and what it takes, if it is small and there is room."""
    sources = [s for s in (volume.source, volume.objects) if s is not None]
    sizes = [s.num_channels * Box.of_shape(s.shape).size * s.dtype.itemsize for s in sources]
    if max(sizes) > SMALL_BYTES or sum(sizes) > room:
        return volume, 0
    held = [_in_memory(source) for source in sources]
    objects = held[1] if len(held) > 1 else None
    return replace(volume, source=held[0], objects=objects), sum(sizes)


def _in_memory(source: ImageSource) -> ImageSource:
    with closing(source):
        values = source.read(Box.of_shape(source.shape))
        return wrap_array(values, Selection(axes="czyx", channel=_all(values)), name=source.name)


def _all(values: npt.NDArray[Any]) -> str:
    return ",".join(str(k) for k in range(len(values)))


def _repeat_gray(data: TrainingData, parent: ModelHeader | None) -> None:
    """Show gray images as color ones where the others, or the parent, have colors."""
    colors = len(COLOR_CHANNELS)
    if parent is not None:
        needed = parent.input.takes_colors
    else:
        needed = any(v.source.num_channels == colors for v in data.volumes)
    if needed:
        data.volumes = [
            replace(v, source=RepeatedChannel(v.source, colors))
            if v.source.num_channels == 1
            else v
            for v in data.volumes
        ]


def _check_channels(data: TrainingData) -> None:
    for one, other in itertools.pairwise(data.volumes):
        if one.source.num_channels != other.source.num_channels:
            raise TrainingError(
                f"{one.name} has {one.source.num_channels} channel(s), {other.name} has "
                f"{other.source.num_channels}; choose the same ones with --channel"
            )


def _digest(annotation: Annotation) -> str:
    """Return the SHA-256 of what is annotated; how it is divided into blocks does not matter."""
    digest = hashlib.sha256(repr((annotation.shape, annotation.class_names)).encode())
    standard = Annotation(annotation.shape, annotation.class_names)
    for box, labels in annotation.blocks():
        standard.write(box, labels)
    for box, labels in standard.blocks():
        digest.update(repr(box).encode())
        digest.update(labels.tobytes())
    return digest.hexdigest()

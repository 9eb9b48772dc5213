"""What a training stands on: images as the network sees them, and who may look at which labels."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.app.training.data import (
    TrainingData,
    class_counts,
    gap_weights,
    measure,
    open_data,
)
from napari_unet.app.training.held_out import HeldOutLabels, ImageInput
from napari_unet.app.training.paths import split_pair
from napari_unet.errors import AnnotationError, ConfigError, TrainingError
from napari_unet.training.parts import Split, nothing_held_out
from napari_unet.training.split import SplitSettings, split_annotations, split_given
from napari_unet.training.volumes import AnnotatedVolume
from napari_unet.training.weight_map import balance_counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.app.training.rehearsal import Rehearsal
    from napari_unet.core.header import ModelHeader
    from napari_unet.core.receptive import NetGeometry
    from napari_unet.core.train_job import TrainJob
    from napari_unet.training.parts import HeldOutBlock

AUTO, NONE = "auto", "none"
"""Of `TrainJob.validation`; anything else names a pair."""

NOT_ASKED_FOR = "nothing was held out, as was asked for: it runs without a claim"
"""The note of a split that holds nothing out."""


@dataclass(slots=True, eq=False)
class OpenedData:
    """Everything that is learnt from or validated with; close it to release files.

    Parameters
    ----------
    data : TrainingData
        What is annotated.
    given : TrainingData or None
        What was given for validation.
    """

    data: TrainingData
    given: TrainingData | None

    @classmethod
    def of(cls, job: TrainJob, parent: ModelHeader | None) -> OpenedData:
        """Return the data of a job, opened.

        Raises
        ------
        UNetError
            If something is missing, damaged or does not fit.
        """
        pair = _validation_pair(job)
        with ExitStack() as stack:
            data = stack.enter_context(closing(open_data(job, parent)))
            given = None
            if pair is not None:
                names = tuple(item.name for item in data.classes)
                # Options that say what images and labels are hold for the pair, too.
                update = {"images": pair[:1], "labels": pair[1:], "classes": names}
                other = job.model_copy(update=update)
                given = stack.enter_context(closing(open_data(other, parent)))
                _check_other(data, given)
            stack.pop_all()
        return cls(data, given)

    @property
    def parts(self) -> tuple[TrainingData, ...]:
        """The one or two."""
        return (self.data,) if self.given is None else (self.data, self.given)

    def close(self) -> None:
        """Release all files."""
        for part in self.parts:
            part.close()

    def images(self) -> list[ImageInput]:
        """Return all images with their measured normalization, in the order of a split's volumes.

        Raises
        ------
        TrainingError
            If an image has no gray value.
        """
        volumes = [volume for part in self.parts for volume in part.volumes]
        return [ImageInput(volume.source, measure(volume)) for volume in volumes]

    def split(self, job: TrainJob, geometry: NetGeometry) -> Split:
        """Return who may look at which labels."""
        annotations = [volume.annotation for volume in self.data.volumes]
        size = self.data.voxel_size
        settings = SplitSettings(
            halo=geometry.halo[1],
            context=geometry.halo[0],
            anisotropy=1.0 if size is None else size.z / ((size.y + size.x) / 2),
            seed=job.seed,
        )
        if self.given is not None:
            others = [volume.annotation for volume in self.given.volumes]
            return split_given(annotations, others, settings)
        if job.validation == NONE:
            return nothing_held_out(annotations, NOT_ASKED_FOR)
        return split_annotations(annotations, settings)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingGround:
    """Data, normalized and split.

    Parameters
    ----------
    opened : OpenedData
        Images and annotations.
    images : list of ImageInput
        Of every volume.
    split : Split
        Who may look at which labels.
    rehearsal : Rehearsal or None
        What of the parent's labels is learnt again; None = nothing.
    """

    opened: OpenedData
    images: list[ImageInput]
    split: Split
    rehearsal: Rehearsal | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the new model."""
        return tuple(item.name for item in self.opened.data.classes)

    @property
    def annotated(self) -> dict[str, int]:
        """Voxels of each class that are learnt from."""
        return class_counts(self.opened.data.classes, [part.train for part in self.split.volumes])

    @property
    def held_out(self) -> dict[str, int]:
        """Voxels of each class that select and judge."""
        annotations = [part for v in self.split.volumes for part in (v.selection, v.judging)]
        return class_counts(self.opened.data.classes, annotations)

    def labels_of(self, blocks: Sequence[HeldOutBlock]) -> list[HeldOutLabels]:
        """Return held-out blocks with their images."""
        return [HeldOutLabels(self.images[b.volume], b.annotation, b.box) for b in blocks]

    def class_weights(self, power: float) -> tuple[float, ...]:
        """Return the weight of each class in the loss."""
        weights = balance_counts(list(self.annotated.values()), power=power)
        return tuple(float(weight) for weight in weights)

    @property
    def weighs_gaps(self) -> bool:
        """Whether the paper's weight map is used: for objects that background keeps apart.

        With a border class, the class itself keeps them apart.
        """
        return any(volume.objects is not None for volume in self.opened.data.volumes)

    def volumes(self, class_weights: Sequence[float]) -> list[AnnotatedVolume]:
        """Return what patches are drawn from.

        Parameters
        ----------
        class_weights : sequence of float
            If gaps weigh more, they are part of that map, and not of the loss.
        """
        result = []
        numbered = enumerate(self.opened.data.volumes)
        for k, volume in numbered:
            annotation, image = self.split.volumes[k].train, self.images[k]
            if annotation.is_empty:
                continue
            weights = None
            if volume.objects is not None:
                weights = gap_weights(volume, np.array(class_weights))
            result.append(
                AnnotatedVolume(
                    image.source, annotation, image.normalization, pixel_weights=weights
                )
            )
        if self.rehearsal is not None:
            result += self.rehearsal.volumes()
        return result

    def check_learnable(self, parent_names: Sequence[str]) -> Iterator[str]:
        """Yield what the user should know about the annotation, in sentences.

        Parameters
        ----------
        parent_names : sequence of str
            Classes that the parent knows; none without a parent.

        Raises
        ------
        TrainingError
            If nothing can be learnt from it.
        """
        present = [name for name, count in self.annotated.items() if count]
        if len(self.class_names) < 2:
            raise TrainingError(
                f"the only class is {self.class_names[0]}, and one class leaves nothing to tell "
                "apart; name at least two classes"
            )
        if len(present) == 1:
            text = f"only the class {present[0]} is annotated"
            if not parent_names:
                raise TrainingError(
                    f"{text}: a network learns nothing from one class; paint some voxels of "
                    "another, or start --from a model"
                )
            yield f"{text}: the model may unlearn the others; paint some voxels of them, too"
        for name in self.class_names:
            if name not in present and len(present) > 1 and name not in parent_names:
                yield f"the class {name} is not annotated anywhere, so it is not learnt"


def check_annotated(data: TrainingData) -> None:
    """Refuse data without any label.

    Raises
    ------
    AnnotationError
        Naming the labels.
    """
    if all(volume.annotation.is_empty for volume in data.volumes):
        names = ", ".join(volume.name for volume in data.volumes[:3])
        raise AnnotationError(
            f"nothing is annotated in the labels of {names}: all are 0 or ignored; paint some "
            f"voxels of {', '.join(item.name for item in data.classes)}, or check --label-kind"
        )


def _validation_pair(job: TrainJob) -> tuple[str, str] | None:
    """Return image and labels that a job gives to validate with; a path may hold a colon itself."""
    text = job.validation
    if text in (AUTO, NONE):
        return None
    pair = split_pair(text)
    if pair is not None and job.dataset is not None:
        raise ConfigError(
            "a pair to validate with does not go with a data set, whose labels are of another "
            "kind; give auto or none"
        )
    if pair is not None:
        return pair
    raise ConfigError(
        f"validation {text!r} is neither auto nor none, nor the paths of an image and its labels "
        "with a colon between them; check that both exist"
    )


def _check_other(data: TrainingData, given: TrainingData) -> None:
    """Refuse to validate with what is learnt from."""
    for volume in given.volumes:
        for learnt in data.volumes:
            if volume.fingerprint["image"] == learnt.fingerprint["image"]:
                raise ConfigError(
                    f"the image {volume.name} is given to learn from and to validate with; give "
                    "another, or --validation auto to hold out parts of it"
                )
    check_annotated(given)

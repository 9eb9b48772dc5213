"""Rehearsal: while it learns new labels, a fine-tune goes on learning some of the parent's.

A network that is trained on one tissue only forgets the others [1]_. Some crops of what it learned
from, drawn again and again beside the new labels, are a simple remedy and a good one [2]_.

References
----------
.. [1] R. M. French, "Catastrophic forgetting in connectionist networks", Trends in Cognitive
   Sciences 3, 1999.
.. [2] A. Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", arXiv:1902.10486,
   2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.app.training.crops import find_crops
from napari_unet.training.volumes import AnnotatedVolume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.app.training.held_out import HeldOutLabels
    from napari_unet.app.training.plan import TrainPlan


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsal:
    """What a fine-tune rehearses.

    Parameters
    ----------
    crops : tuple of HeldOutLabels
        Images with labels in the classes of the new model, each with some; `box` is the whole.
    unknown : tuple of int
        Classes of the new model, from 1, that these labels do not know.
    share : float
        Probability that a patch is one of theirs, over 0 and under 1.
    sha256 : str
        Of the file that they come from.
    """

    crops: tuple[HeldOutLabels, ...]
    unknown: tuple[int, ...]
    share: float
    sha256: str

    @property
    def note(self) -> str:
        """What is rehearsed, in a sentence."""
        return (
            f"{len(self.crops)} rehearsal crops with a share of {self.share:g} of the patches "
            f"(SHA-256 {self.sha256})"
        )

    def volumes(self) -> list[AnnotatedVolume]:
        """Return what patches are drawn from."""
        return [
            AnnotatedVolume(
                crop.image.source,
                crop.annotation,
                crop.image.normalization,
                unknown=self.unknown,
            )
            for crop in self.crops
        ]


def find_rehearsal(plan: TrainPlan, class_names: Sequence[str], share: float) -> Rehearsal | None:
    """Return what a training rehearses; None = nothing.

    Nothing, if it has no parent, no ancestor brings rehearsal crops, these hold none of the
    classes, or the share is 0.

    Parameters
    ----------
    plan : TrainPlan
        With the parent.
    class_names : sequence of str
        Of the new model, in order. Renamed classes are followed, pixels of dropped ones ignored.
    share : float
        Probability that a patch is rehearsed.

    Raises
    ------
    ModelFileError
        If a file of crops is damaged.
    """
    if plan.parent is None or share == 0:
        return None
    found = find_crops(plan.parent, "rehearsal")
    if found is None:
        return None
    rename = plan.job.rename
    crops = [c for c in found.labels_in(class_names, rename) if not c.annotation.is_empty]
    if not crops:
        return None
    return Rehearsal(tuple(crops), found.unknown(class_names, rename), share, found.sha256)

"""What an evaluation found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.app.evaluation.opened import OBJECT_CLASSES
from napari_unet.metrics.objects import pool

if TYPE_CHECKING:
    from napari_unet.app.evaluation.pairs import PairList
    from napari_unet.app.evaluation.published_values import PaperRow
    from napari_unet.app.evaluation.scores import Family, Score
    from napari_unet.app.evaluation.tally import Measured
    from napari_unet.core.evaluate_job import EvaluateJob
    from napari_unet.metrics.objects import ObjectScore

HEADLINES = ("objects.mean_ap", "slices.adapted_rand_error", "classes.mean_f1", "boundary.f1")
"""What predictions are ranked by: the first of these that there is."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One prediction, measured on all pairs.

    Parameters
    ----------
    pairs : PairList
        What was measured.
    measured : tuple of Measured
        Of each pair.
    families : tuple of Family
        Scores and the counts that they follow from.
    scores : tuple of Score
        Of all pairs together.
    """

    pairs: PairList
    measured: tuple[Measured, ...]
    families: tuple[Family, ...]
    scores: tuple[Score, ...]

    @property
    def label(self) -> str:
        """What the report calls it."""
        return self.pairs.label

    @property
    def objects(self) -> ObjectScore | None:
        """Objects of all pairs together."""
        found = [m.objects for m in self.measured if m.objects is not None]
        return pool(found) if found else None

    def score(self, key: str) -> Score | None:
        """Return a score by its key, if there is one."""
        return next((score for score in self.scores if score.key == key), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ranks, and how far the others are from the first prediction.

    Parameters
    ----------
    key : str
        The score that ranks them, such as "objects.mean_ap".
    ranking : tuple of int
        Runs, the best first.
    differences : tuple of tuple of Score
        For each further run, its scores minus those of the first one, drawn together.
    """

    key: str
    ranking: tuple[int, ...]
    differences: tuple[tuple[Score, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Everything that was found.

    Parameters
    ----------
    job : EvaluateJob
        What was asked for.
    runs : tuple of Run
        The prediction, then those to compare it with.
    comparison : Comparison or None
        Ranks and differences; None with one prediction.
    published : tuple of PaperRow
        Published values beside the measured ones.
    """

    job: EvaluateJob
    runs: tuple[Run, ...]
    comparison: Comparison | None
    published: tuple[PaperRow, ...] = ()

    @property
    def run(self) -> Run:
        """The prediction."""
        return self.runs[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what was left out, and which scores need what."""
        run, first = self.run, self.run.measured[0]
        found = list(dict.fromkeys(note for m in run.measured for note in m.notes))
        if run.pairs.left_out:
            found.append(
                f"{run.pairs.left_out} truths have no prediction and were left out, as "
                "--allow-missing says"
            )
        counted = sum(m.counted for m in run.measured)
        if missing := sum(m.unpredicted for m in run.measured):
            found.append(
                f"{missing} of {counted} voxels that count ({missing / counted:.2%}) have no "
                "prediction; they count as wrong"
            )
        if empty := [m.name for m in run.measured if not m.counted]:
            found.append(f"nothing counts in {', '.join(empty)}")
        if first.objects is None:
            found.append(
                "no object scores: prediction and truth hold classes; --components CLASS takes "
                "connected parts for objects"
            )
        if first.classes is None:
            found.append("no pixel scores: prediction and truth do not hold the same classes")
        elif not first.probabilities:
            needed = (
                "they need classes with probabilities, not objects"
                if first.class_names == OBJECT_CLASSES
                else "the prediction holds no probabilities of these classes (segment "
                "--probabilities, or --probabilities FILE)"
            )
            found.append(f"no ROC, precision-recall and calibration: {needed}")
        units = max((s.interval.units for s in run.scores), default=0)
        if all(s.interval.low is None for s in run.scores):
            found.append(
                f"no intervals: {units} of the {self.units} say something, and 5 are needed"
            )
        return tuple(found)

    @property
    def units(self) -> str:
        """What the bootstrap draws: "images", or "blocks" of the one image."""
        return "images" if len(self.run.measured) > 1 else "blocks"

"""From what was counted to scores with intervals.

Each family of scores is a function of counts that add up, so that one function gives the score of
an image, of all images together, and of every resample of the bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_unet.app.evaluation.tally import COARSE_BINS
from napari_unet.metrics.boundary import BoundaryScore
from napari_unet.metrics.calibration import multiclass_brier_score, reliability
from napari_unet.metrics.classes import Confusion
from napari_unet.metrics.curves import NUM_BINS, ProbabilityCounts
from napari_unet.metrics.intervals import Interval, intervals, paired_intervals
from napari_unet.metrics.objects import AP_THRESHOLDS, ObjectScore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from napari_unet.app.evaluation.tally import Measured

    Array = npt.NDArray[Any]

Better = Literal["higher", "lower"]

PARTITION_METRICS = ("adapted_rand_error", "voi", "voi_split", "voi_merge")
"""Of `PartitionScore`."""

LOWER = frozenset(
    {"error", "balanced_error", "ece", "brier", *PARTITION_METRICS},
)
"""Metrics of which less is better."""


@dataclass(frozen=True, slots=True)
class Score:
    """One number of the report.

    Parameters
    ----------
    family : str
        "classes", "boundary", "probabilities", "objects", "objects_mean", "slices" or "volume".
    metric : str
        Such as "f1".
    of : str
        Class, or threshold of the intersection over union; empty = of all.
    interval : Interval
        Its value and 95 % interval.
    """

    family: str
    metric: str
    of: str
    interval: Interval

    @property
    def key(self) -> str:
        """Name that is unique in a report, such as ``classes.f1.membrane``."""
        return ".".join(part for part in (self.family, self.metric, self.of) if part)

    @property
    def better(self) -> Better:
        """Whether more or less is better."""
        return "lower" if self.metric in LOWER else "higher"


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Scores that follow from the same counts.

    Parameters
    ----------
    name : str
        Of the family.
    metrics : tuple of (str, str)
        Metric and what it is of, of each score.
    units : numpy.ndarray
        (n, ...) counts of each image, or part of the one image.
    statistics : callable
        Returns the scores of added counts, in the order of `metrics`.
    exact : tuple of (float or None) or None
        The scores of everything, where the counts of the units are coarser.
    """

    name: str
    metrics: tuple[tuple[str, str], ...]
    units: Array
    statistics: Callable[[Array], Sequence[float | None]]
    exact: tuple[float | None, ...] | None = None

    def scores(self, resamples: int, seed: int) -> list[Score]:
        """Return all scores of the family with their intervals."""
        told = self.units[self.units.reshape(len(self.units), -1).any(axis=1)]
        if not len(told):
            values = self.statistics(self.units.sum(axis=0))
            found = tuple(Interval(value, None, None, 0) for value in values)
        else:
            found = intervals(told, self.statistics, resamples=resamples, seed=seed)
        if self.exact is not None:
            found = tuple(
                Interval(value, each.low, each.high, each.units)
                for value, each in zip(self.exact, found, strict=True)
            )
        return [
            Score(self.name, metric, of, each)
            for (metric, of), each in zip(self.metrics, found, strict=True)
        ]

    def differences(self, other: Family, resamples: int, seed: int) -> list[Score]:
        """Return `other` - this, of the same units, with intervals."""
        both = np.concatenate([self.units, other.units], axis=-1).reshape(len(self.units), -1)
        told = both.any(axis=1)
        if not told.any():
            return []
        found = paired_intervals(
            self.units[told], other.units[told], self.statistics, resamples=resamples, seed=seed
        )
        return [
            Score(self.name, metric, of, each)
            for (metric, of), each in zip(self.metrics, found, strict=True)
        ]


def families_of(measured: Sequence[Measured]) -> list[Family]:
    """Return the families that all pairs have."""
    names = measured[0].class_names
    found: list[Family] = []
    if all(m.classes is not None for m in measured):
        found.append(_classes(measured, names))
    if any(m.boundary.true or m.boundary.predicted for m in measured):
        found.append(_boundary(measured))
    if all(m.probabilities for m in measured):
        found.append(_probabilities(measured, names))
    if all(m.objects is not None for m in measured):
        found.append(_objects(measured))
        if len(measured) > 1:
            found.append(_object_means(measured))
        found += _partitions(measured)
    return found


def _joined(measured: Sequence[Measured], name: str) -> Array:
    return np.concatenate([m.units[name] for m in measured])


def _classes(measured: Sequence[Measured], names: tuple[str, ...]) -> Family:
    overall = ("accuracy", "error", "balanced_error", "mean_f1", "mean_iou")
    each = ("f1", "iou", "precision", "recall")

    def statistics(counts: Array) -> list[float | None]:
        table = Confusion(counts)
        whole = (
            table.accuracy,
            table.overall_error,
            table.balanced_error,
            table.mean_f1,
            table.mean_iou,
        )
        return [*whole, *(value for metric in each for value in getattr(table, metric))]

    metrics = [(metric, "") for metric in overall]
    metrics += [(metric, name) for metric in each for name in names]
    return Family("classes", tuple(metrics), _joined(measured, "classes"), statistics)


def _boundary(measured: Sequence[Measured]) -> Family:
    def statistics(counts: Array) -> list[float | None]:
        score = BoundaryScore(*(int(n) for n in counts))
        if not score.true and not score.predicted:
            return [None, None, None]
        return [score.f1, score.precision, score.recall]

    metrics = (("f1", ""), ("precision", ""), ("recall", ""))
    return Family("boundary", metrics, _joined(measured, "boundary"), statistics)


def pooled_probabilities(measured: Sequence[Measured]) -> tuple[ProbabilityCounts, ...]:
    """Return the counts of each class and of the winning one, of all pairs."""
    columns = zip(*(m.probabilities for m in measured), strict=True)
    return tuple(ProbabilityCounts.total(column) for column in columns)


def _probabilities(measured: Sequence[Measured], names: tuple[str, ...]) -> Family:
    each = ("auc", "average_precision", "best_f1")

    def of_counts(counts: Sequence[ProbabilityCounts]) -> list[float | None]:
        classes, winning = counts[:-1], counts[-1]
        best = [c.best_f1 for c in classes]
        return [
            *(c.auc for c in classes),
            *(c.average_precision for c in classes),
            *(None if b is None else b.f1 for b in best),
            reliability(winning).expected_error,
            multiclass_brier_score(classes),
        ]

    def statistics(coarse: Array) -> list[float | None]:
        return of_counts([ProbabilityCounts(*_spread(sides)) for sides in coarse])

    metrics = [(metric, name) for metric in each for name in names]
    metrics += [("ece", ""), ("brier", "")]
    exact = tuple(of_counts(pooled_probabilities(measured)))
    units = _joined(measured, "probabilities")
    return Family("probabilities", tuple(metrics), units, statistics, exact)


def _spread(sides: Array) -> Array:
    """Return coarse counts (2, bins) as fine ones, each at the middle of its bin."""
    fine = np.zeros((2, NUM_BINS), np.int64)
    step = NUM_BINS // COARSE_BINS
    fine[:, step // 2 :: step] = sides
    return fine


def _objects(measured: Sequence[Measured]) -> Family:
    metrics = [("f1", "0.5"), ("precision", "0.5"), ("recall", "0.5"), ("mean_ap", "")]
    metrics += [("ap", str(t)) for t in AP_THRESHOLDS]
    metrics += [("mean_matched_iou", "0.5"), ("panoptic_quality", "0.5"), ("seg", "")]

    def statistics(counts: Array) -> list[float | None]:
        return _object_scores(_score_of(counts))

    return Family("objects", tuple(metrics), _joined(measured, "objects"), statistics)


def _object_scores(score: ObjectScore) -> list[float | None]:
    return [
        score.f1(),
        score.precision(),
        score.recall(),
        score.mean_average_precision,
        *(score.average_precision(t) for t in AP_THRESHOLDS),
        score.mean_matched_iou(),
        score.panoptic_quality(),
        score.seg,
    ]


def _score_of(counts: Array) -> ObjectScore:
    """Return the score that the columns of `OBJECT_COLUMNS` stand for."""
    matched = tuple(round(float(n)) for n in counts[4:])
    return ObjectScore(
        true=round(float(counts[0])),
        predicted=round(float(counts[1])),
        matched=matched,
        thresholds=AP_THRESHOLDS,
        matched_iou=(float(counts[2]), *([0.0] * (len(AP_THRESHOLDS) - 1))),
        covered_iou=float(counts[3]),
        split=0,
        merged=0,
    )


def _object_means(measured: Sequence[Measured]) -> Family:
    """Return means of the scores of images, in which a crowded image weighs as an empty one."""
    rows = []
    for each in measured:
        if each.objects is None:
            continue
        score = each.objects
        rows.append(
            [score.f1(), score.mean_average_precision]
            + [score.average_precision(t) for t in AP_THRESHOLDS]
        )
    metrics = [("f1", "0.5"), ("mean_ap", ""), *(("ap", str(t)) for t in AP_THRESHOLDS)]
    return _means("objects_mean", metrics, rows)


def _partitions(measured: Sequence[Measured]) -> list[Family]:
    """Return the agreement of partitions: of slices by themselves, and of whole volumes."""
    single = len(measured) == 1
    rows = [
        [[getattr(score, metric) for metric in PARTITION_METRICS] for score in m.slices]
        for m in measured
    ]
    metrics = [(metric, "") for metric in PARTITION_METRICS]
    slices = rows[0] if single else [list(np.mean(own, axis=0)) for own in rows if own]
    found = [_means("slices", metrics, slices)] if slices else []
    if any(m.shape[0] > 1 for m in measured):
        volumes = [
            [getattr(m.volume, metric) for metric in PARTITION_METRICS]
            for m in measured
            if m.volume is not None
        ]
        found += [_means("volume", metrics, volumes)] if volumes else []
    return found


def _means(name: str, metrics: Sequence[tuple[str, str]], rows: list[list[float]]) -> Family:
    """Return a family whose scores are means over images or slices."""
    units = np.column_stack([np.array(rows, dtype=np.float64), np.ones(len(rows))])

    def statistics(sums: Array) -> list[float | None]:
        return [float(value / sums[-1]) for value in sums[:-1]]

    return Family(name, tuple(metrics), units, statistics)

"""How scores are called and written for people, in the report and on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.app.evaluation.scores import Score
    from napari_unet.metrics.intervals import Interval

FAMILIES = {
    "classes": "Pixels",
    "boundary": "Boundaries",
    "probabilities": "Probabilities",
    "objects": "Objects, all counted as if of one image",
    "objects_mean": "Objects, mean of the images",
    "slices": "Partition, slice by slice",
    "volume": "Partition, whole volume",
}
"""Headings of the families of scores."""

METRICS = {
    "accuracy": "accuracy",
    "error": "pixel error",
    "balanced_error": "balanced error",
    "mean_f1": "mean F1",
    "mean_iou": "mean IoU",
    "f1": "F1",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "auc": "ROC AUC",
    "average_precision": "average precision",
    "best_f1": "best F1 of all thresholds",
    "ece": "expected calibration error",
    "brier": "Brier score",
    "mean_ap": "mean AP, IoU 0.5 to 0.95",
    "ap": "AP",
    "mean_matched_iou": "mean IoU of matched objects",
    "panoptic_quality": "panoptic quality",
    "seg": "SEG (Cell Tracking Challenge)",
    "adapted_rand_error": "adapted Rand error",
    "voi": "variation of information, bits",
    "voi_split": "VOI, splits",
    "voi_merge": "VOI, merges",
}
"""Names of metrics."""

UNDEFINED = "not defined"
"""Where there is nothing to score."""


def name_of(score: Score) -> str:
    """Return what a score is called within its family."""
    name = METRICS.get(score.metric, score.metric)
    if not score.of:
        return name
    if score.family.startswith("objects"):
        return f"{name} at IoU {score.of}"
    return f"{name}, {score.of}"


def number(value: float | None) -> str:
    """Return a score with four digits.

    Examples
    --------
    >>> number(0.123456), number(None), number(0.00035301)
    ('0.1235', 'not defined', '0.000353')
    """
    if value is None:
        return UNDEFINED
    if value != 0 and abs(value) < 0.01:
        return f"{value:.6f}"
    return f"{value:.4f}"


def interval_text(interval: Interval) -> str:
    """Return an interval, empty if there is none."""
    if interval.low is None or interval.high is None:
        return ""
    return f"{number(interval.low)} to {number(interval.high)}"

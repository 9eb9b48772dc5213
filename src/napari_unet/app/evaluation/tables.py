"""The scores as files for programs: ``metrics.json`` in full, ``metrics.csv`` as a long table."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from napari_unet.app.evaluation.scores import families_of, pooled_probabilities
from napari_unet.metrics.calibration import reliability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.app.evaluation.result import Evaluation, Run
    from napari_unet.app.evaluation.scores import Score
    from napari_unet.app.evaluation.tally import Measured
    from napari_unet.metrics.curves import Curve

SCHEMA_VERSION = 1
"""Of ``metrics.json``; raised when a field changes its meaning or goes."""

CURVE_POINTS = 1000
"""Points of a curve that are kept."""

CSV_COLUMNS = (
    "prediction", "image", "family", "metric", "of", "value", "low", "high", "units",
)  # fmt: skip
"""Of ``metrics.csv``; an empty image means all of them together."""


def as_document(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything as JSON: numbers in full, null where something is not defined."""
    comparison = evaluation.comparison
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": version("napari-unet"),
        "job": evaluation.job.model_dump(mode="json"),
        "bootstrap_units": evaluation.units,
        "notes": list(evaluation.notes),
        "predictions": [_prediction(run) for run in evaluation.runs],
        "comparison": None
        if comparison is None
        else {
            "ranked_by": comparison.key,
            "ranking": [evaluation.runs[k].label for k in comparison.ranking],
            "differences": [
                {"prediction": run.label, "minus": evaluation.run.label, "scores": _scores(found)}
                for run, found in zip(evaluation.runs[1:], comparison.differences, strict=True)
            ],
        },
        "published": [
            dataclasses.asdict(row.published)
            | {
                "here": row.measured,
                "same_measure": row.measure,
                "images": row.split,
                "note": row.note,
            }
            for row in evaluation.published
        ],
    }


def as_csv(evaluation: Evaluation) -> str:
    """Return all scores of all images and of all together, one to a line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for run in evaluation.runs:
        for score in run.scores:
            each = score.interval
            numbers = [each.value, each.low, each.high]
            row = [run.label, "", score.family, score.metric, score.of]
            writer.writerow([*row, *("" if n is None else repr(n) for n in numbers), each.units])
        for measured in run.measured:
            for (family, metric, of), value in image_scores(measured).items():
                shown = "" if value is None else repr(value)
                writer.writerow([run.label, measured.name, family, metric, of, shown, "", "", ""])
    return text.getvalue()


def image_scores(measured: Measured) -> dict[tuple[str, str, str], float | None]:
    """Return the scores of one pair: (family, metric, of) -> value."""
    found: dict[tuple[str, str, str], float | None] = {}
    for family in families_of([measured]):
        values = family.exact or family.statistics(family.units.sum(axis=0))
        for (metric, of), value in zip(family.metrics, values, strict=True):
            found[family.name, metric, of] = None if value is None else float(value)
    return found


def _prediction(run: Run) -> dict[str, Any]:
    objects, first = run.objects, run.measured[0]
    tables = [m.classes for m in run.measured if m.classes is not None]
    return {
        "label": run.label,
        "paths": [str(pair.prediction) for pair in run.pairs.pairs],
        "truths": [str(pair.truth) for pair in run.pairs.pairs],
        "left_out": run.pairs.left_out,
        "voxels_counted": sum(m.counted for m in run.measured),
        "voxels_without_prediction": sum(m.unpredicted for m in run.measured),
        "scores": _scores(run.scores),
        "confusion": None
        if not tables
        else {
            "classes": list(first.class_names),
            "counts": sum(table.counts for table in tables).tolist(),  # type: ignore[union-attr]  # at least one
        },
        "objects": None
        if objects is None
        else {
            "true": objects.true,
            "predicted": objects.predicted,
            "matched": dict(zip(map(str, objects.thresholds), objects.matched, strict=True)),
            "split": objects.split,
            "merged": objects.merged,
        },
        "curves": _curves(run) if all(m.probabilities for m in run.measured) else None,
        "images": [
            {
                "name": m.name,
                "shape": list(m.shape),
                "voxels_counted": m.counted,
                "voxels_without_prediction": m.unpredicted,
                "scores": {
                    ".".join(part for part in key if part): value
                    for key, value in image_scores(m).items()
                },
            }
            for m in run.measured
        ],
    }


def _curves(run: Run) -> dict[str, Any]:
    counts = pooled_probabilities(run.measured)
    names = (*run.measured[0].class_names, "")
    found: dict[str, Any] = {}
    for name, each in zip(names, counts, strict=True):
        points = reliability(each).points
        diagram = [[p.probability, p.frequency, p.pixels] for p in points]
        if not name:
            found["winning_class"] = {"reliability": diagram}
            continue
        best = each.best_f1
        found.setdefault("classes", {})[name] = {
            "roc": _points(each.roc),
            "precision_recall": _points(each.precision_recall),
            "best_f1_threshold": None if best is None else best.threshold,
            "reliability": diagram,
        }
    return found


def _points(curve: Curve | None) -> list[list[float | None]] | None:
    """Return [x, y, threshold] of each point; the infinite first threshold is null."""
    if curve is None:
        return None
    thin = curve.thinned(CURVE_POINTS)
    rows = zip(thin.x.tolist(), thin.y.tolist(), thin.thresholds.tolist(), strict=True)
    return [[x, y, t if t <= 1 else None] for x, y, t in rows]


def _scores(scores: Sequence[Score]) -> dict[str, Any]:
    return {
        score.key: {
            "value": score.interval.value,
            "low": score.interval.low,
            "high": score.interval.high,
            "units": score.interval.units,
            "better": score.better,
        }
        for score in scores
    }

"""Published values beside measured ones, and whether both are the same.

A value is comparable if the measure and the images are the same; here each row says both.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.app.evaluation.challenge import challenge_scores
from napari_unet.app.evaluation.published_values import CTC, DRIVE, ISBI2012, PaperRow, Sameness
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.app.evaluation.result import Run
    from napari_unet.core.evaluate_job import EvaluateJob

_HIDDEN = "other images: the truth of the test set is not public"


def paper_rows(job: EvaluateJob, run: Run) -> tuple[PaperRow, ...]:
    """Return the published values that the job asks for, beside the measured ones.

    Raises
    ------
    ConfigError
        If nothing that was measured is like them.
    """
    match job.compare_paper:
        case "isbi2012":
            return _isbi2012(job, run)
        case "ctc":
            return _ctc(run)
        case "drive":
            return _drive(job, run)
    return ()


def _isbi2012(job: EvaluateJob, run: Run) -> tuple[PaperRow, ...]:
    found = challenge_scores(job, run)
    keys = {
        "warping error": "warping_error",
        "Rand error": "rand_error",
        "pixel error": "pixel_error",
    }
    note = "the challenge's program; best of its thresholds"
    if not run.measured[0].probabilities:
        note = "the challenge's program, at the one threshold that classes allow"
    rows = []
    for value in ISBI2012:
        row = PaperRow(value, found[keys[value.measure]], "same", _HIDDEN, note)
        if value.measure == "pixel error":
            open_question = "1 - F; the challenge's page allows the squared distance too"
            row = replace(row, measure="similar", note=f"{note}; {open_question}")
        rows.append(row)
    return tuple(rows)


def _ctc(run: Run) -> tuple[PaperRow, ...]:
    score = run.score("objects.seg")
    if score is None:
        raise ConfigError(
            "--compare-paper ctc needs objects on both sides; give --truth-kind instances and the "
            "objects of the prediction"
        )
    note = "measured: SEG, the challenge's mean intersection over union of true cells"
    return tuple(PaperRow(v, score.interval.value, "same", _HIDDEN, note) for v in CTC)


def _drive(job: EvaluateJob, run: Run) -> tuple[PaperRow, ...]:
    names = run.measured[0].class_names
    if run.measured[0].classes is None or len(names) != 2:
        raise ConfigError(
            "--compare-paper drive needs two classes, such as --class-values "
            "0=background,255=vessel"
        )
    vessel = next((n for n in (job.positive, "vessel", "vessels") if n in names), names[-1])
    other = next(name for name in names if name != vessel)
    keys = {
        "F1": f"classes.f1.{vessel}",
        "sensitivity": f"classes.recall.{vessel}",
        "specificity": f"classes.recall.{other}",
        "accuracy": "classes.accuracy",
    }
    view = bool(job.valid or job.ignore)
    split = drive_split([m.name for m in run.measured])
    rows = []
    for value in DRIVE:
        score = run.score(keys[value.measure])
        in_view = "in the field of view" in value.who
        sameness: Sameness = "same" if view or not in_view else "similar"
        note = "in the field of view" if view else "of whole images: no --valid or --ignore"
        if not in_view:
            note += "; the paper does not say which"
            sameness = "similar"
        rows.append(PaperRow(value, score.interval.value if score else None, sameness, split, note))
    return tuple(rows)


def drive_split(names: list[str]) -> str:
    """Say which images of DRIVE the names of some truths are.

    Examples
    --------
    >>> drive_split([f"{k:02d}_manual1" for k in range(1, 21)])
    'by their names the test images, 01 to 20'
    """
    numbers = {int(m[1]) for name in names if (m := re.match(r"(\d\d)(?!\d)", name))}
    if len(numbers) == len(names) and numbers == set(range(1, 21)):
        return "by their names the test images, 01 to 20"
    if len(numbers) == len(names) and numbers <= set(range(21, 41)):
        return "other images: by their names of the training set, 21 to 40"
    return "other images, or not all of the test images 01 to 20"


def sources(rows: tuple[PaperRow, ...]) -> Mapping[str, int]:
    """Return the sources of some rows and their numbers, from 1."""
    found = dict.fromkeys(row.published.source for row in rows)
    return {source: number for number, source in enumerate(found, start=1)}

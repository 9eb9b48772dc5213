"""Measure predictions against truths: from a job to scores, and a report."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.app.evaluation.comparison import compare
from napari_unet.app.evaluation.measuring import MeasuringRules, measure
from napari_unet.app.evaluation.opening import open_pair
from napari_unet.app.evaluation.pairs import find_pair_lists
from napari_unet.app.evaluation.published import paper_rows
from napari_unet.app.evaluation.report_files import check_folder, write_report
from napari_unet.app.evaluation.result import Evaluation, Run
from napari_unet.app.evaluation.scores import families_of
from napari_unet.core.evaluate_events import PairProgress
from napari_unet.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_unet.app.evaluation.pairs import PairList
    from napari_unet.app.evaluation.tally import Measured
    from napari_unet.core.evaluate_job import EvaluateJob

__all__ = ["Evaluation", "evaluate", "run_evaluation"]


def evaluate(job: EvaluateJob) -> Evaluation:
    """Return what `run_evaluation` returns, and wait for it.

    Raises
    ------
    UNetError
        As `run_evaluation` does.
    """
    steps = run_evaluation(job)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Evaluation = end.value
            return result


def run_evaluation(job: EvaluateJob) -> Generator[PairProgress, None, Evaluation]:
    """Measure predictions against truths, yielding what is done.

    Parameters
    ----------
    job : EvaluateJob
        What to measure.

    Yields
    ------
    PairProgress
        After every block.

    Returns
    -------
    Evaluation
        All scores. If the job names an output, its report lies there.

    Raises
    ------
    AnnotationError
        If images do not fit each other, hold values that they should not, or nothing counts.
    AxesError, ConfigError, InputError
        If images cannot be opened, or the options do not go together.
    OutputExistsError, StorageError
        If there is a report already, or it cannot be written.
    """
    if job.output is not None:
        check_folder(Path(job.output).expanduser(), overwrite=job.overwrite)
    lists = find_pair_lists(job)
    total, begun = sum(len(each.pairs) for each in lists), 0
    runs: list[Run] = []
    for each in lists:
        measured = yield from _measure_all(job, each, (begun, total))
        begun += len(each.pairs)
        _check_counted(measured)
        families = families_of(measured)
        scores = [s for family in families for s in family.scores(job.resamples, job.seed)]
        runs.append(Run(each, tuple(measured), tuple(families), tuple(scores)))
    comparison = compare(runs, job.resamples, job.seed)
    evaluation = Evaluation(job, tuple(runs), comparison, paper_rows(job, runs[0]))
    if job.output is not None:
        write_report(evaluation, Path(job.output).expanduser())
    return evaluation


def _measure_all(
    job: EvaluateJob, pairs: PairList, progress: tuple[int, int]
) -> Generator[PairProgress, None, list[Measured]]:
    begun, total = progress
    rules = MeasuringRules.of(job, pairs=len(pairs.pairs))
    found: list[Measured] = []
    for number, pair in enumerate(pairs.pairs, start=begun + 1):
        with closing(open_pair(job, pair)) as opened:
            for step in measure(opened, rules):
                if isinstance(step, float):
                    yield PairProgress(pairs.label, pair.name, number, total, step)
                else:
                    found.append(step)
    return found


def _check_counted(measured: list[Measured]) -> None:
    """Refuse to score nothing.

    Raises
    ------
    AnnotationError
        If no voxel of any truth counts, or the pairs do not have the same classes.
    """
    if not any(each.counted for each in measured):
        raise AnnotationError(
            f"no voxel of the truth {measured[0].name} counts: all are ignored or not annotated; "
            "check --ignore, --valid, --region and the values of the truth"
        )
    names = {each.class_names for each in measured}
    if len(names) > 1:
        shown = "; ".join(", ".join(each) for each in sorted(names))
        raise AnnotationError(
            f"the pairs do not have the same classes ({shown}); evaluate them one by one"
        )

"""``napari-unet evaluate``: predictions against a truth, a table and a report out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from napari_unet.cli.exit_codes import CANCELLED, DONE, exit_code
from napari_unet.cli.options import ImagesAxesOption, LevelOption, TimeOption
from napari_unet.errors import ConfigError, UNetError

if TYPE_CHECKING:
    from napari_unet.app.evaluate import Evaluation
    from napari_unet.core.evaluate_job import EvaluateJob

GREEDY = "--compare"
"""An option that takes all words up to the next option."""


class EvaluateCommand(TyperCommand):
    """A command whose ``--compare B C`` means ``--compare B --compare C``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of a command line."""
        return super().parse_args(ctx, spread(args))


def spread(words: list[str]) -> list[str]:
    """Return the words of a command line with the greedy option before each of its values.

    Examples
    --------
    >>> spread(["A", "T", "--compare", "B", "C", "--seed", "1"])
    ['A', 'T', '--compare', 'B', '--compare', 'C', '--seed', '1']
    """
    result: list[str] = []
    values = 0
    inside = False
    for word in words:
        if word.startswith("-"):
            inside, values = word == GREEDY, 0
            if inside:
                continue
        if inside:
            result.append(GREEDY)
            values += 1
        result.append(word)
    # Without a value the option itself is left, for the message of the parser.
    return [*result, GREEDY] if inside and not values else result


def evaluate(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PREDICTION TRUTH...",
            help="Images, or two folders whose files are paired by name; more pairs may follow.",
        ),
    ] = None,
    truth_kind: Annotated[
        str | None,
        typer.Option(help="What the numbers of the truth mean: classes, instances or annotation."),
    ] = None,
    class_values: Annotated[
        str | None,
        typer.Option(help="For classes: which value is what.", metavar="0=interior,1=membrane"),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="For an annotation: names of the classes 1, 2, ...", metavar="NAME,NAME"),
    ] = None,
    prediction_kind: Annotated[
        str | None,
        typer.Option(
            help="What a prediction is that does not say it: classes, instances or "
            "probabilities. [default: as the truth]"
        ),
    ] = None,
    prediction_values: Annotated[
        str | None,
        typer.Option(help="Which class each number of the prediction is.", metavar="1=a,2=b"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Label image in outputs of segment. [default: the only one]")
    ] = None,
    probabilities: Annotated[
        str | None, typer.Option(help="Image, or folder, with the probability of each class.")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="Class that an image with one probability is of.")
    ] = None,
    components: Annotated[
        str | None,
        typer.Option(
            help="Take connected parts of these classes for objects.", metavar="NAME,NAME"
        ),
    ] = None,
    components_dimension: Annotated[
        str | None,
        typer.Option(help="Of stacks: 3d (through slices) or 2d (each slice by itself)."),
    ] = None,
    ignore: Annotated[
        str | None, typer.Option(help="Mask, or folder: what is not 0 there counts nowhere.")
    ] = None,
    valid: Annotated[
        str | None, typer.Option(help="Mask, or folder: what is 0 there counts nowhere.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Image, or folder, that the crops of the report show.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Part that counts, in voxels.", metavar="z0:z1,y0:y1,x0:x1")
    ] = None,
    axes: ImagesAxesOption = None,
    channel: Annotated[
        str | None, typer.Option(help="Channels of --images to show, e.g. 0 or 0,1,2.")
    ] = None,
    level: LevelOption = None,
    time: TimeOption = None,
    tolerance: Annotated[
        str | None, typer.Option(help="Of boundaries: pixels, or a length. [default: 2]")
    ] = None,
    boundary: Annotated[
        str | None, typer.Option(help="Class that is itself a boundary, e.g. membrane.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="More predictions of the same truth: --compare B C.", metavar="B C..."),
    ] = None,
    compare_paper: Annotated[
        str | None, typer.Option(help="Show published values: isbi2012, ctc or drive.")
    ] = None,
    allow_missing: Annotated[
        bool | None,
        typer.Option("--allow-missing", help="Leave out truths that have no prediction."),
    ] = None,
    output: Annotated[str | None, typer.Option(help="Folder of the report.")] = None,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite", help="Replace a report that is there.")
    ] = None,
    block_size: Annotated[int | None, typer.Option(help="Edge of what is read at a time.")] = None,
    resamples: Annotated[int | None, typer.Option(help="Of the bootstrap. [default: 2000]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the bootstrap. [default: 0]")] = None,
    progress: Annotated[str, typer.Option(help="auto or none.")] = "auto",
) -> None:
    """Measure predictions against a truth, and write a report.

    Of pixels, boundaries, objects and partitions. Prints a table; with --output also writes
    report.html, metrics.json and metrics.csv.
    """
    own = {"ctx", "paths", "progress"}
    options = {k: v for k, v in ctx.params.items() if k not in own and v not in (None, [], ())}
    try:
        job = make_job(paths or [], options)
        evaluation = _run(job, quiet=_is_quiet(progress))
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    except KeyboardInterrupt as stop:
        raise typer.Exit(CANCELLED) from stop
    _print_table(evaluation)
    raise typer.Exit(DONE)


def make_job(paths: list[str], options: dict[str, Any]) -> EvaluateJob:
    """Return the checked job.

    Raises
    ------
    ConfigError
        If something is missing or wrong.
    """
    from napari_unet.core.evaluate_job import EvaluateJob

    if len(paths) < 2 or len(paths) % 2:
        raise ConfigError(
            f"{len(paths)} paths do not make pairs; give PREDICTION TRUTH, once for each pair, "
            "before the options"
        )
    values = dict(options)
    for key in ("classes", "components"):
        if key in values:
            values[key] = [part.strip() for part in values[key].split(",")]
    values |= {"predictions": paths[::2], "truths": paths[1::2]}
    return EvaluateJob.parse(values, source="evaluate")


def _is_quiet(progress: str) -> bool:
    if progress not in {"auto", "none"}:
        raise ConfigError(f"--progress {progress!r} is not one of auto, none")
    return progress == "none"


def _run(job: EvaluateJob, *, quiet: bool) -> Evaluation:
    from napari_unet.app.evaluate import run_evaluation

    steps = run_evaluation(job)
    live = not quiet and sys.stderr.isatty()
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            if live:
                print(file=sys.stderr)
            result: Evaluation = end.value
            return result
        if live:
            done = f"{step.number}/{step.total} {step.pair} {step.share:4.0%}"
            print(f"\r{done[:78]:<78}", end="", file=sys.stderr, flush=True)


def _print_table(evaluation: Evaluation) -> None:
    from napari_unet.app.evaluation.words import FAMILIES, interval_text, name_of, number

    run = evaluation.run
    images = len(run.measured)
    print(f"{run.label}: {images} {'images' if images > 1 else 'image'}")
    family = ""
    for score in run.scores:
        if score.family != family:
            family = score.family
            print(FAMILIES[family])
        span = interval_text(score.interval)
        shown = f"  ({span})" if span else ""
        print(f"  {name_of(score):<34} {number(score.interval.value):>12}{shown}")
    if (objects := run.objects) is not None:
        print(
            f"  {objects.true} true, {objects.predicted} predicted, {objects.matched[0]} matched, "
            f"{objects.split} split, {objects.merged} merged"
        )
    if (found := evaluation.comparison) is not None:
        _print_ranking(evaluation, found.key)
    for row in evaluation.published:
        print(
            f"  {row.published.measure}: {row.published.who} {row.published.value:g}, here "
            f"{number(row.measured)} ({row.measure} measure; {row.split})"
        )
    for note in evaluation.notes:
        print(f"note: {note}")
    if evaluation.job.output is not None:
        print(f"report: {evaluation.job.output}/report.html")


def _print_ranking(evaluation: Evaluation, key: str) -> None:
    from napari_unet.app.evaluation.words import interval_text, number

    found = evaluation.comparison
    if found is None:
        return
    print(f"Ranked by {key}")
    for place, index in enumerate(found.ranking, start=1):
        run = evaluation.runs[index]
        score = run.score(key)
        line = f"  {place}. {run.label}: {number(score.interval.value if score else None)}"
        if index:
            differences = found.differences[index - 1]
            other = next((each.interval for each in differences if each.key == key), None)
            if other is not None:
                span = interval_text(other)
                line += f"; minus {evaluation.run.label} {number(other.value)}"
                line += f" ({span})" if span else ""
        print(line)

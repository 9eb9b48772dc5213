"""``napari-unet suggest``: where to paint next."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_unet.cli.describe_suggest import describe_place
from napari_unet.cli.exit_codes import CANCELLED, DONE, FAILED, exit_code
from napari_unet.cli.job_input import checked_kind
from napari_unet.cli.options import (
    ChannelOption,
    DeviceOption,
    ImageArgument,
    LevelOption,
    ProgressOption,
    ThreadsOption,
    TimeOption,
)
from napari_unet.cli.progress import Reporter, make_reporter
from napari_unet.core.suggest_events import PlacesRanked
from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from napari_unet.core.suggest_job import SuggestJob

NOT_OF_A_JOB = {"ctx", "image", "as_json", "progress"}
"""Parameters that say how it is shown."""


def suggest(
    ctx: typer.Context,
    image: ImageArgument,
    model: Annotated[str, typer.Option(help="Name of the model that is to learn, or its file.")],
    compare_with: Annotated[
        str | None, typer.Option(help="Another model, such as the parent: say where they differ.")
    ] = None,
    annotation: Annotated[
        str | None,
        typer.Option(help="Stored strokes of the image: places that hold some are left out."),
    ] = None,
    scope: Annotated[str | None, typer.Option(help="volume, or slice: then give --slice.")] = None,
    slice_number: Annotated[
        int | None, typer.Option("--slice", help="Slice to search in, from 0.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="Part to search in, in voxels.", metavar="z0:z1,y0:y1,x0:x1"),
    ] = None,
    count: Annotated[int | None, typer.Option(help="Places to suggest. [default: 10]")] = None,
    edge: Annotated[
        int | None, typer.Option(help="About how wide a place is, in voxels. [default: 96]")
    ] = None,
    rank_by: Annotated[
        str | None,
        typer.Option(
            help="What comes first: random, entropy, margin, disagreement (with --compare-with) or "
            "mixed. [default: random]"
        ),
    ] = None,
    windows: Annotated[
        int | None,
        typer.Option(help="Most parts of a tile's size that are looked at. [default: 60]"),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Longest time of the search. [default: 20]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all chance. [default: 0]")] = None,
    axes: Annotated[str | None, typer.Option(help="Axes of the image, e.g. zyx.")] = None,
    channel: ChannelOption = None,
    level: LevelOption = None,
    time: TimeOption = None,
    rescale: Annotated[
        str | None, typer.Option(help="As in `segment`: auto, off, or a factor.")
    ] = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the places as JSON.")] = False,
    progress: ProgressOption = "auto",
) -> None:
    """Suggest where to paint next, the best places first.

    Nothing is written. A whole volume is sampled, so the answer takes seconds for any size.
    """
    names = {"slice_number": "slice"}
    options = {
        names.get(key, key): value
        for key, value in ctx.params.items()
        if key not in NOT_OF_A_JOB and value is not None
    }
    try:
        reporter = make_reporter(checked_kind(progress))
        job = _job(options | {"input": image})
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    try:
        code, ranked = _run(job, reporter)
    finally:
        reporter.close()
    if ranked is not None and progress != "json":
        _print(ranked, as_json=as_json)
    raise typer.Exit(code)


def _job(values: dict[str, Any]) -> SuggestJob:
    from napari_unet.core.suggest_job import SuggestJob

    return SuggestJob.parse(values, source="suggest")


def _run(job: SuggestJob, reporter: Reporter) -> tuple[int, PlacesRanked | None]:
    from napari_unet.app.suggest import run_suggest
    from napari_unet.cli.control_input import stop_on_signals
    from napari_unet.core.events import Failed
    from napari_unet.inference.control import JobControl

    control = JobControl()
    ranked: PlacesRanked | None = None
    try:
        with stop_on_signals(control):
            for event in run_suggest(job, control):
                reporter.show(event)
                ranked = event if isinstance(event, PlacesRanked) else ranked
    except UNetError as error:
        reporter.show(Failed(job.input, str(error)))
        return exit_code(error), None
    except KeyboardInterrupt:
        return CANCELLED, None
    if ranked is None:
        return CANCELLED, None
    # A search that finds nothing has said why.
    return DONE if ranked.places else FAILED, ranked


def _print(ranked: PlacesRanked, *, as_json: bool) -> None:
    """Print the places, for people or for programs."""
    if as_json:
        from napari_unet.core.events import event_to_json

        print(json.dumps(event_to_json(ranked), indent=2))
        return
    for place in ranked.places:
        print(describe_place(place))

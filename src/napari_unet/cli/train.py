"""``napari-unet train``: images and labels in, a model out."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_unet.cli.exit_codes import CANCELLED, DONE, exit_code
from napari_unet.cli.job_input import STANDARD_INPUT, checked_kind, config_values
from napari_unet.cli.options import (
    ChannelOption,
    DeviceOption,
    ImagesAxesOption,
    LevelOption,
    ProgressOption,
    TimeOption,
)
from napari_unet.cli.progress import Reporter, make_reporter
from napari_unet.errors import ConfigError, UNetError

if TYPE_CHECKING:
    from napari_unet.core.train_job import TrainJob


def train(
    ctx: typer.Context,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--image", metavar="PATH", help="Image, or folder of images; once for each --labels."
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels", metavar="PATH", help="Labels of the --image in the same place, or folder."
        ),
    ] = None,
    label_kind: Annotated[
        str | None,
        typer.Option(help="What its numbers mean: classes, instances or annotation."),
    ] = None,
    class_values: Annotated[
        str | None,
        typer.Option(help="For classes: which value is what.", metavar="0=membrane,255=cell"),
    ] = None,
    separation: Annotated[
        str | None,
        typer.Option(help="For instances: keep objects apart by a border (class) or a gap."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of a public data set instead of --image and --labels.")
    ] = None,
    root: Annotated[str | None, typer.Option(help="Folder the data set was unpacked into.")] = None,
    parent: Annotated[
        str | None, typer.Option("--from", help="Model to fine-tune: name or file.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Classes of the new model, in order, separated by commas."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(help="Give a class of the parent another name.", metavar="OLD=NEW"),
    ] = None,
    color: Annotated[
        list[str] | None, typer.Option(help="Color of a class.", metavar="NAME=#rrggbb")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Name of the new model, or .safetensors file to write."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Run folder. [default: beside the file, or in the user's data folder]"),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to take.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time budget instead, scoring included.")
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(help="auto (hold out parts), none, or another pair IMAGE:LABELS."),
    ] = None,
    axes: ImagesAxesOption = None,
    channel: ChannelOption = None,
    level: LevelOption = None,
    time: TimeOption = None,
    rescale: Annotated[
        str | None,
        typer.Option(help="Learn at the parent's voxel size: auto, off, or a factor."),
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Neighboring slices on each side that the model sees.")
    ] = None,
    device: DeviceOption = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all chance.")] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="Settings (TOML or JSON, such as train.toml of a run folder); options given here "
            "win. - reads one line of JSON from standard input once the engine is loaded."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run folder's last checkpoint.")
    ] = False,
    progress: ProgressOption = "auto",
) -> None:
    """Train a model from nothing, or fine-tune one --from another.

    Nothing is overwritten: neither a model nor a run folder. Held-out parts of the labels tell
    whether the new model is better.
    """
    own = {"ctx", "config", "resume", "progress"}
    options = {k: v for k, v in ctx.params.items() if k not in own and v not in (None, [], ())}
    try:
        reporter = make_reporter(checked_kind(progress))
        values = config_values(config, reporter, _load_engine)
        if config == STANDARD_INPUT and not values:
            raise typer.Exit(DONE)
        job = make_job(values | as_fields(options), resume=resume)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    try:
        code = _run(job, reporter, resume=resume, listen_to_input=progress == "json")
    finally:
        reporter.close()
    raise typer.Exit(code)


def as_fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return command line options as fields of `TrainJob`.

    Raises
    ------
    ConfigError
        If an OLD=NEW or NAME=COLOR is not one.
    """
    fields = dict(options)
    if "classes" in fields:
        fields["classes"] = [name.strip() for name in fields["classes"].split(",")]
    for option, field in (("rename", "rename"), ("color", "colors")):
        pairs = [text.partition("=") for text in fields.pop(option, ())]
        if bad := [name for name, equals, value in pairs if not (equals and name and value)]:
            raise ConfigError(f"--{option} {bad[0]!r} is not two names with = between; see --help")
        if pairs:
            fields[field] = {name.strip(): value.strip() for name, _, value in pairs}
    return fields


def make_job(values: dict[str, Any], *, resume: bool) -> TrainJob:
    """Return the checked job; for a run to resume, what its folder says need not be said again.

    Raises
    ------
    ConfigError
        If something is missing or wrong.
    """
    from napari_unet.app.training.paths import absolute_paths
    from napari_unet.core.train_job import TrainJob

    values = absolute_paths(values)
    if "output" not in values and not (resume and "run" in values):
        raise ConfigError("--output is missing; name the new model, or a .safetensors file")
    if resume:
        from napari_unet.app.training.run_folder import run_folder, settings_of, stored_job

        folder = run_folder(values.get("output", ""), values.get("run"))
        stored = settings_of(stored_job(folder))
        for one, other in (("steps", "minutes"), ("minutes", "steps")):
            if one in values:
                stored.pop(other, None)
        values = stored | values
    return TrainJob.parse(values, source="train")


def _load_engine() -> None:
    import napari_unet.app.train  # noqa: F401  # what counts is that it is loaded


def _run(job: TrainJob, reporter: Reporter, *, resume: bool, listen_to_input: bool) -> int:
    from napari_unet.app.train import run_training
    from napari_unet.app.training.plan import output_path
    from napari_unet.app.training.run_folder import prepare_run_folder, record_run, write_command
    from napari_unet.cli.control_input import listen, stop_on_signals
    from napari_unet.core.events import Failed
    from napari_unet.inference.control import JobControl

    control = JobControl()
    if listen_to_input:
        listen(control)
    with stop_on_signals(control):
        try:
            if not resume:
                # Before a run folder is made for a model that cannot be.
                output_path(job)
            folder = prepare_run_folder(job, resume=resume)
            if not resume:
                write_command(folder, ["napari-unet", *sys.argv[1:]], job)
            events = record_run(run_training(job, control, resume=resume), folder, resume=resume)
            with closing(events):
                for event in events:
                    reporter.show(event)
        except UNetError as error:
            reporter.show(Failed(job.output, str(error)))
            return exit_code(error)
        except KeyboardInterrupt:
            return CANCELLED
    return CANCELLED if control.stopped else DONE

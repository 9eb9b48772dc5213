"""``napari-unet seams``: whether tiles agree, on a part of an image."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_unet.cli.exit_codes import DONE, FAILED, exit_code
from napari_unet.cli.options import (
    AverageOption,
    ChannelOption,
    DeviceOption,
    ImageArgument,
    InputAxesOption,
    JsonOption,
    LevelOption,
    NormalizationOption,
    PrecisionOption,
    Tf32Option,
    ThreadsOption,
    TimeOption,
)
from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from napari_unet.app.seam_check import SeamReport


def seams(
    ctx: typer.Context,
    image: ImageArgument,
    model: Annotated[str, typer.Option(help="Name of a model (see `models list`) or its file.")],
    region: Annotated[
        str | None,
        typer.Option(
            help="Where to look: the middle of this part, in voxels. [default: of the image]",
            metavar="z0:z1,y0:y1,x0:x1",
        ),
    ] = None,
    axes: InputAxesOption = None,
    channel: ChannelOption = None,
    level: LevelOption = None,
    time: TimeOption = None,
    tile_size: Annotated[
        int | None, typer.Option(help="Edge of the small tiles' write boxes. [default: 128]")
    ] = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    tf32: Tf32Option = None,
    average: AverageOption = None,
    rescale: Annotated[
        str | None, typer.Option(help="Rescale the image: auto, off, or a factor.")
    ] = None,
    normalization: NormalizationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare small tiles with one pass over a part of an image.

    They must not differ: then no seam is seen in a result, however large. The part is the middle of
    the region, one slice, at most 768 pixels wide and high. Nothing is written.
    """
    own = {"image", "as_json"}
    options = {key: value for key, value in ctx.params.items() if value is not None}
    try:
        report = _check(image, {key: v for key, v in options.items() if key not in own})
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    print(json.dumps(report.to_json()) if as_json else describe(report))
    raise typer.Exit(DONE if report.holds else FAILED)


def _check(image: str, options: dict[str, Any]) -> SeamReport:
    from napari_unet.app.seam_check import check_seams
    from napari_unet.core.job import SegmentJob

    return check_seams(SegmentJob.parse({"output": "", **options, "input": image}, source="seams"))


def describe(report: SeamReport) -> str:
    """Return what was found, in words."""
    _, height, width = report.region.shape
    verdict = "tiles agree" if report.holds else "TILES DO NOT AGREE"
    if report.tiles == 1:
        verdict = "nothing to compare, for the image is a single tile"
    z, y, x = report.place
    return (
        f"{report.input} with {report.model}: {verdict}\n"
        f"  compared    {height} x {width} pixels from z {report.region.start[0]}, "
        f"y {report.region.start[1]}, x {report.region.start[2]}, on {report.device}\n"
        f"  tiles       {report.tiles}, of {report.tile_shape[1]} x {report.tile_shape[2]} pixels, "
        "against one pass\n"
        f"  difference  at most {report.largest_difference:.2g} of a probability, at z {z}, y {y}, "
        f"x {x}; arithmetic alone makes up to {report.tolerance:g}\n"
        f"  classes     {report.differing_pixels:,} of {report.pixels:,} pixels get another one"
    )

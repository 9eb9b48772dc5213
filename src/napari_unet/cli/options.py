"""Options that several commands have, with the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AverageOption = Annotated[
    str | None, typer.Option(help="Average over versions of the input: none, mirror, rotate or d4.")
]
ChannelOption = Annotated[str | None, typer.Option(help="Channels to use, e.g. 0 or 0,2.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")]
ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="Image, as for `segment`.")]
ImagesAxesOption = Annotated[str | None, typer.Option(help="Axes of the images, e.g. zyx.")]
InputAxesOption = Annotated[str | None, typer.Option(help="Axes of the input, e.g. zyx.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")]
LabelNameOption = Annotated[
    str | None, typer.Option(help="Name of the label image. [default: the only one]")
]
LevelOption = Annotated[int | None, typer.Option(help="Level of a pyramid, 0 = full resolution.")]
NormalizationOption = Annotated[
    str | None,
    typer.Option(help="Use these intensities instead of measured ones.", metavar="MEAN,STD"),
]
OutputArgument = Annotated[
    str, typer.Argument(metavar="OUT", help="OME-Zarr that a segmentation was written to.")
]
PrecisionOption = Annotated[str | None, typer.Option(help="fp32, bf16 or fp16.")]
ProgressOption = Annotated[str, typer.Option(help="auto, bar, json or none.")]
SaveConfigOption = Annotated[
    Path | None, typer.Option(help="Write the options to a job file first.")
]
Tf32Option = Annotated[bool | None, typer.Option("--tf32", help="Allow TF32 on NVIDIA GPUs.")]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads of the network.")]
TimeOption = Annotated[int | None, typer.Option(help="Time point, from 0.")]

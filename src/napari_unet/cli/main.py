"""The command's entry point. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from napari_unet.cli.demo import demo
from napari_unet.cli.doctor import doctor
from napari_unet.cli.draft import draft
from napari_unet.cli.evaluate import EvaluateCommand, evaluate
from napari_unet.cli.export import export
from napari_unet.cli.finish import finish
from napari_unet.cli.models import models_app
from napari_unet.cli.objects import objects
from napari_unet.cli.plan import plan
from napari_unet.cli.seams import seams
from napari_unet.cli.segment import segment
from napari_unet.cli.suggest import suggest
from napari_unet.cli.train import train
from napari_unet.cli.verify import verify

HELP = """U-Net segmentation of microscopy images that may be far larger than memory.

Begin with `napari-unet demo`, then `napari-unet segment --help` for an image of yours. In napari
the same is under Layers > Segment > Segment with U-Net.
"""

EPILOG = "Exit codes: 0 all done, 2 usage, 3 some inputs failed, 130 cancelled."

app = typer.Typer(
    name="napari-unet",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
)
# In the order in which they are needed, as --help lists them.
app.command()(demo)
app.command(epilog=EPILOG)(segment)
app.command(epilog=EPILOG)(objects)
app.command(epilog=EPILOG)(export)
app.command(epilog=EPILOG, cls=EvaluateCommand)(evaluate)
app.command(epilog=EPILOG)(train)
app.command(epilog=EPILOG)(suggest)
app.command(epilog=EPILOG)(plan)
app.command(epilog=EPILOG)(finish)
app.command(epilog=EPILOG)(verify)
app.command(epilog=EPILOG)(seams)
app.command()(doctor)
app.command(epilog=EPILOG)(draft)
app.add_typer(models_app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        import napari_unet

        print(napari_unet.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options of the command itself."""


def main() -> None:
    """Run the command and exit with its code."""
    # Threads that spin while they wait take the cores from those they wait for: beside two other
    # busy programs on two cores a training step took ten times as long. Read when OpenMP is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()

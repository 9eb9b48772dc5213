"""``napari-unet demo``: the main job on the bundled sample, in one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_unet.cli.exit_codes import exit_code
from napari_unet.errors import UNetError


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to write to.")] = Path("demo"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
) -> None:
    """Segment the bundled sample, and draw a picture of the result.

    Writes a label zarr, its record and the picture overlay.png, and says how to open them.
    """
    from napari_unet.app.demo import run_demo
    from napari_unet.cli.progress import make_reporter

    reporter = make_reporter("auto")
    try:
        result = run_demo(folder, device, reporter.show)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    finally:
        reporter.close()
    print(f"image    {result.image}")
    print(f"labels   {result.labels}")
    print(f"overlay  {result.overlay}")
    print("The overlay opens in any image viewer. Image and labels open in napari with")
    print(f'  napari "{result.record}"')
    print('where the panel is installed, which the extra "all" of this package brings.')

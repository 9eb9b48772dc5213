"""``napari-unet models``: which models there are and what they say about themselves."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from napari_unet.cli.exit_codes import exit_code
from napari_unet.errors import UNetError

models_app = typer.Typer(help="List and show models.", no_args_is_help=True, rich_markup_mode=None)


@models_app.command("list")
def list_models() -> None:
    """List the models that can be given to --model."""
    from napari_unet.app.models import list_models as all_models

    for entry in all_models():
        classes = ", ".join(f"{k}={c.name}" for k, c in entry.header.labels().items())
        print(f"{entry.name:20} {entry.origin:8} {classes:32} {entry.header.description}")


@models_app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of a model, or its file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the header as JSON.")] = False,
) -> None:
    """Show a model's card: classes, input, provenance, scores, license."""
    from napari_unet.app.models import find_model

    try:
        entry = find_model(name)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error
    header = entry.header
    if as_json:
        print(json.dumps(header.summary() | {"sha256": entry.sha256}, indent=2))
        return
    net = header.architecture
    size = " x ".join(f"{v:g}" for v in header.input.voxel_size or ())
    print(f"{entry.name}: {header.description}")
    print(f"  file       {entry.path}")
    print(f"  sha256     {entry.sha256}")
    print(f"  classes    {', '.join(f'{k}={c.name}' for k, c in header.labels().items())}")
    print(f"  input      {', '.join(header.input.channels)}; {size} {header.input.unit or ''}")
    print(f"  network    depth {net.depth}, {net.base_channels} base channels, norm {net.norm}")
    print(f"  data       {header.provenance.data}")
    print(f"  recipe     {header.provenance.recipe}, seed {header.provenance.seed}")
    print(f"  measured   {header.provenance.score_conditions}")
    for key, value in header.provenance.scores.items():
        print(f"             {key} = {value:.4f}")
    print(f"  license    {header.license}")

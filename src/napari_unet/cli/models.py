"""``napari-unet models``: which models there are, what they say, and how they come and go."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from napari_unet.cli.exit_codes import exit_code
from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.app.models import ModelEntry, ModelInventory

models_app = typer.Typer(
    help="List, show, rename, remove, import and export models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="Name of a model, or its file.")]
OwnName = Annotated[str, typer.Argument(help="Name of one of your own models.")]


@models_app.command("list")
def list_models() -> None:
    """List the models that --model takes, and files that are damaged."""
    from napari_unet.app.models import take_inventory

    inventory = take_inventory()
    classes = [
        ", ".join(f"{k}={c.name}" for k, c in entry.header.labels().items())
        for entry in inventory.models
    ]
    wide = max(map(len, classes), default=0)
    for entry, names in zip(inventory.models, classes, strict=True):
        print(f"{entry.name:20} {entry.origin:8} {names:{wide}}  {entry.header.description}")
    for item in inventory.damaged:
        print(f"{item.name:20} {item.origin:8} damaged: {item.reason}")
    _warn(inventory)


@models_app.command("show")
def show(
    name: Name,
    as_json: Annotated[bool, typer.Option("--json", help="Print the header as JSON.")] = False,
) -> None:
    """Show a model's card: classes, origin, scores, license."""
    from napari_unet.app.models import find_model

    with _errors():
        entry = find_model(name)
    if as_json:
        print(json.dumps(entry.header.summary() | {"sha256": entry.sha256}, indent=2))
    else:
        _print_card(entry)


@models_app.command("rename")
def rename(
    old: OwnName,
    new: Annotated[str, typer.Argument(help="Its new name, which no model may have.")],
) -> None:
    """Give one of your own models another name."""
    from napari_unet.app.model_store import rename_model

    with _errors():
        entry = rename_model(old, new)
    print(f"{old} is now {entry.name}: {entry.path}")


@models_app.command("remove")
def remove(
    name: OwnName,
    yes: Annotated[
        bool, typer.Option("--yes", help="Even if other models were fine-tuned from it.")
    ] = False,
) -> None:
    """Delete one of your own models."""
    from napari_unet.app.model_store import remove_model

    with _errors():
        path = remove_model(name, even_if_parent=yes)
    print(f"removed {path}")


@models_app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="A .safetensors model file, a bioimage.io package of ours (.zip), or a .pth or "
            ".pt state dict."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Hash that the file must have.")] = None,
    architecture: Annotated[
        str | None, typer.Option(help="State dict: arguments of the network, as JSON.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="State dict: a model of the same network, or its file.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="State dict: names of the classes, such as a,b.")
    ] = None,
) -> None:
    """Copy a model file among your own models; nothing in it is run."""
    with _errors():
        from napari_unet.app.model_exchange import StateDictOptions, import_model

        names = tuple(part.strip() for part in classes.split(",")) if classes else ()
        options = StateDictOptions(architecture, like, names)
        entry = import_model(file, name=name, sha256=sha256, options=options)
    print(f"imported {entry.name}: {entry.path}")
    print(f"sha256 {entry.sha256}")


@models_app.command("export")
def export(
    name: Name,
    output: Annotated[
        Path, typer.Argument(help="The file to write: .safetensors, .zip or .onnx; must not exist.")
    ],
    kind: Annotated[
        str, typer.Option("--format", help="safetensors, bioimageio or onnx.")
    ] = "safetensors",
    author: Annotated[
        list[str] | None, typer.Option(help="bioimageio: who made it; may be repeated.")
    ] = None,
) -> None:
    """Write a model as a file for others, or for other programs."""
    with _errors():
        from napari_unet.app.model_exchange import export_model

        path = export_model(name, output, kind, authors=tuple(author or ()))
    print(f"wrote {path}")


@contextmanager
def _errors() -> Iterator[None]:
    """Print an error of ours as one sentence and exit with its code."""
    try:
        yield
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from error


def _warn(inventory: ModelInventory) -> None:
    from napari_unet.app.models import SHARED_FOLDERS

    for entry in inventory.hidden:
        print(
            f"note: {str(entry.path)!r} is hidden by another model {entry.name!r}; "
            "rename one of them, or give its path to --model",
            file=sys.stderr,
        )
    for folder in inventory.missing_folders:
        print(
            f"warning: {SHARED_FOLDERS} names {str(folder)!r}, which is no folder that can be "
            "listed; correct the variable, or ask who keeps it",
            file=sys.stderr,
        )


def _print_card(entry: ModelEntry) -> None:
    from napari_unet.app.model_card import card_lines

    print(f"{entry.name}: {entry.header.description}")
    for name, text in card_lines(entry):
        if text:
            print(f"  {name:10} {text}")
